"""Predictors as JSON files: examples and settings instead of fitted state, so no version can misread them; a few
predictions show whether the model that is fitted from them here is the one that was saved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.foreign_document import reading, text_of
from nas_bo.objective import Objective
from nas_bo.objectives.predicted_card import Card
from nas_bo.objectives.predicted_fit import Example, FitSettings, Fitted, build
from nas_bo.objectives.predicted_inputs import Proxy, Rung, proxy_name
from nas_bo.space import Space
from nas_bo.surrogate.boosting import GradientBoosting
from nas_bo.surrogate.committee import Committee
from nas_bo.surrogate.ensemble import MLPEnsemble
from nas_bo.surrogate.gaussian import GP
from nas_bo.surrogate.regressor import Regressor
from nas_bo.surrogate.ridge import Ridge
from nas_bo.surrogate.trees import RandomTrees
from nas_bo.trial import ObjectiveSpec

if TYPE_CHECKING:
    from nas_bo.objectives.predicted import Predicted

SCHEMA = 1  # version of the file
PROBES = 8  # examples whose predictions are kept
SAME = 0.05  # how far they may lie from those of a model fitted again, of the cross-validated error
OURS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Committee, GP, Ridge, RandomTrees, GradientBoosting, MLPEnsemble)
}


@dataclass(frozen=True)
class Given:
    """What a file names but does not hold: a model of the user's own, and the objectives that were given to `fit`."""

    model: Regressor | None
    proxies: Mapping[str, Objective]
    known: tuple[Objective, ...]


def data(predicted: Predicted) -> dict[str, object]:
    """What it is made of: everything but cards and probes."""
    learned, base = predicted.full or predicted.base, predicted.base_card
    model = predicted.model
    told: dict[str, object] = {
        "schema": SCHEMA,
        "space": {"title": predicted.space.title, "fingerprint": predicted.space.fingerprint()},
        "target": {"name": base.target, "unit": predicted.unit, "direction": predicted.direction},
        "model": {"name": type(model).__name__, "settings": asdict(model) if is_dataclass(model) else {}},
        "vocab_size": learned.inputs.vocab_size,
        "ignore": list(learned.inputs.ignore),
        "known": [o.name for o in learned.inputs.known],
        "proxies": [_proxy(p) for p in predicted.proxies],
        "examples": [
            {"flat": dict(row.arch.flat), "value": row.value, "proxies": dict(row.proxies)}
            for row in predicted.examples
        ],
        "earlier": None if predicted.earlier is None else data(predicted.earlier),
    }
    if learned.inputs.profile:  # not in files of 0.1, whose fingerprints stay
        told["profile"] = True
    return told


def _proxy(proxy: Proxy) -> object:
    return {"of": proxy.of, "share": proxy.share} if isinstance(proxy, Rung) else proxy_name(proxy)


def save(predicted: Predicted, path: str | Path) -> Path:
    """See `Predicted.save`."""
    path = Path(path)
    cards = {"full": predicted.card.to_dict(), "base": predicted.base_card.to_dict()}
    told = {**data(predicted), "name": predicted.name, "cards": cards, "probes": probes(predicted)}
    before, earlier = predicted.earlier, []
    while before is not None:  # cards of earlier predictors, the nearest first
        earlier.append(before.base_card.to_dict())
        before = before.earlier
    if earlier:
        told["earlier_cards"] = earlier
    try:
        path.write_text(json.dumps(told, indent=1, default=_plain))
    except OSError as error:
        raise ObjectiveError(f"the predictor cannot be written to {str(path)!r}: {error.strerror}") from error
    return path


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def probes(predicted: Predicted) -> list[list[float]]:
    """[value, low, high] of the first examples, with their proxies."""
    rows = predicted.examples[:PROBES]
    found = predicted.estimate([row.arch for row in rows], [row.proxies for row in rows])
    return [[e.value, e.low, e.high] for e in found]


@reading("the file of a predictor", ObjectiveError)
def load(
    path: str | Path, space: type[Space], make: Callable[[Fitted], Predicted], given: Given, *, refit: bool
) -> Predicted:
    """See `Predicted.load`; `make` makes a predictor of what was fitted."""
    try:
        told = json.loads(text_of(path))
    except OSError as error:
        raise ObjectiveError(f"the predictor {str(path)!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ObjectiveError(
            f"{str(path)!r} is not JSON ({error}); expected a file written by Predicted.save"
        ) from error
    if not isinstance(told, dict) or "examples" not in told or "schema" not in told:
        raise ObjectiveError(f"{str(path)!r} is not a predictor; expected a file written by Predicted.save")
    if told["schema"] != SCHEMA:
        raise ObjectiveError(
            f"the predictor {str(path)!r} has schema version {told['schema']!r}, this version of nas_bo reads {SCHEMA}: "
            "upgrade nas_bo, or fit it again"
        )
    if told["space"]["fingerprint"] != space.fingerprint():
        raise ObjectiveError(
            f"the predictor {str(path)!r} was fitted on the space {told['space']['title']} ({told['space']['fingerprint']}), "
            f"not on {space.title} ({space.fingerprint()}): what it learned does not hold there; fit one on trials of this space"
        )
    try:
        cards = None if refit else {k: Card.from_dict(v) for k, v in told["cards"].items()}
        before = [] if refit else [Card.from_dict(card) for card in told.get("earlier_cards", [])]
        found = _read(told, space, make, given, cards, before)
    except (KeyError, TypeError, AttributeError) as error:
        raise ObjectiveError(f"the predictor {str(path)!r} is damaged: {type(error).__name__} {error}") from error
    if not refit:
        _compare(found, told["probes"], str(path))
    return found


def _read(
    told: Mapping[str, Any],
    space: type[Space],
    make: Callable[[Fitted], Predicted],
    given: Given,
    cards: Mapping[str, Card] | None,
    before: list[Card],
) -> Predicted:
    name, settings, model, known = told["model"]["name"], told["model"]["settings"], given.model, given.known
    if model is None:
        if name not in OURS:
            raise ObjectiveError(
                f"the predictor's model is {name}, which is not one of nas_bo's; pass model={name}(...)"
            )
        kind = OURS[name]
        model = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
    elif type(model).__name__ != name:
        raise ObjectiveError(f"the predictor's model is {name}, not {type(model).__name__}")
    if [o.name for o in known] != told["known"]:
        raise ObjectiveError(
            f"the predictor has the known objectives {told['known']}; pass the same as known=[...], not {[o.name for o in known]}"
        )
    earlier = None
    if told["earlier"] is not None:
        of_earlier = {"base": before[0], "full": before[0]} if before else None
        less = Given(None if name in OURS else model, {}, known)
        earlier = _read(told["earlier"], space, make, less, of_earlier, before[1:])
    made: list[Proxy] = [Rung(**p) if isinstance(p, dict) else given.proxies.get(p, p) for p in told["proxies"]]
    rows = [Example(space.architecture(row["flat"]), row["value"], row["proxies"]) for row in told["examples"]]
    fit = FitSettings(
        model,
        tuple(made),
        earlier,
        known,
        told["vocab_size"],
        tuple(told["ignore"]),
        cards["base"].about if cards else {},
    )
    return make(build(rows, ObjectiveSpec(**told["target"]), space, fit, earlier, None, cards))


def _compare(found: Predicted, then: list[list[float]], path: str) -> None:
    now = np.array(probes(found))
    away = float(np.abs(now - np.array(then)).max()) if now.shape == np.shape(then) else math.inf
    if not away <= SAME * found.card.rmse + 1e-9:
        made = ", ".join(f"{k} {v}" for k, v in found.card.versions.items())
        raise ObjectiveError(
            f"the predictor {path!r}, fitted here from its own examples, is up to {away:.3g} away from what it predicted when "
            f"it was saved (allowed is {SAME:g} of its error {found.card.rmse:.3g}; it was made with {made}); pass refit=True "
            "to take what it predicts here, with a new card"
        )
