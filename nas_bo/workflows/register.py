"""The architectures that a person would take from a search, trained as its front was re-trained and put into MLflow's registry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo import foreign_recipe, serialization
from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError, SearchError
from nas_bo.export import folder
from nas_bo.export.token_roles import files_of
from nas_bo.foreign_recipe import Allow
from nas_bo.objective import GivesModel, Retrainable, Say, with_parts
from nas_bo.objectives.measuring import silent
from nas_bo.objectives.validation_loss import ValidationLoss
from nas_bo.report import vocabulary
from nas_bo.trial import ObjectiveSpec, Trial
from nas_bo.workflows.result import Result

if TYPE_CHECKING:
    from nas_bo.mlflow import Tracker
    from nas_bo.mlflow.registry import Registered

ALIASES = ("knee", "fastest", "best_quality")
OF_A_PARAMETER = 16  # bytes while it is trained: weight, gradient and two moments, in float32


def picks(result: Result, wanted: Sequence[str] = ALIASES) -> dict[str, Trial]:
    """Alias -> trial.

    ``fastest`` is best in the first measured objective (else in the first that is not trained), ``best_quality`` in the first
    trained one (else in the first). Anything else is read by `nas_bo.workflows.pick`; the letters and digits of the text make the alias.

    Raises:
        SearchError: no trial is feasible, there is no such alias or trial, or the study has nothing that is fast.
    """
    found: dict[str, Trial] = {}
    for word in wanted:
        if word == "knee":
            found[word] = result.knee()
        elif word in ("fastest", "best_quality"):
            found[word] = result.best(_column(result.columns, word).name)
        else:
            trial = result.pick(word)
            found[f"trial_{word}" if word.isdigit() else _alias(word)] = trial
    return found


def _alias(text: str) -> str:
    """``bits_per_byte where latency_ms<=2`` as ``bits_per_byte_where_latency_ms_at_most_2``: what MLflow allows in an alias."""
    signs = {"<=": "at most", "≤": "at most", ">=": "at least", "≥": "at least", "<": "below", ">": "above"}
    text = re.sub("|".join(signs), lambda found: f" {signs[found[0]]} ", text)
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:120]


def _column(columns: Sequence[ObjectiveSpec], word: str) -> ObjectiveSpec:
    if word == "best_quality":
        return next((c for c in columns if c.cost == "trained"), columns[0])
    for cost in ("measured", "analytic"):
        for c in columns:
            if c.cost == cost:
                return c
    raise SearchError("the study measures nothing but quality, so no trial is the fastest; pick knee or best_quality")


def register(
    result: Result,
    name: str,
    *,
    track: Tracker | str | Path | None = None,
    wanted: Sequence[str] = ALIASES,
    allow: Allow = (),
    say: Say = silent,
) -> list[Registered]:
    """Train the picks as the end of the search re-trains its front, bit for bit, and register them as `name`.

    One version per architecture, under all of its aliases.

    Args:
        track: a tracking URI or a `nas_bo.mlflow.Tracker`, as for `search`.
        wanted: see `picks`.
        allow: modules of yours that the study may import, or a `nas_bo.foreign_recipe.Allowed` with files and budgets as well.
        say: called with what is trained next, how many have been, and of how many.

    Returns:
        A `nas_bo.mlflow.Registered` for every version.

    Raises:
        SearchError: the study cannot be trained again from what it kept.
        HostError: the store cannot be written.
    """
    from nas_bo.mlflow import Tracker
    from nas_bo.mlflow.registry import publish

    if result.study is None:
        raise SearchError(
            f"the result {result.title!r} has no study, and so no objective that can be trained again; load it from its storage"
        )
    if result.record is not None and not result.record.about:
        raise SearchError(
            f"the study {result.title!r} was not made by nas_bo, so that nobody knows how its models are trained; register "
            "models of a search of nas_bo"
        )
    chosen = picks(result, wanted)
    objective = trainable(result, allow)
    for trial in chosen.values():
        check_size(trial.architecture, vocabulary(result.record.about if result.record is not None else {}))
    tracker = (
        Tracker(uri=None if track is None else str(track)) if track is None or isinstance(track, (str, Path)) else track
    )
    tracker.check()
    factor = 1.0 if result.record is None else result.record.factor or 1.0
    again = objective.larger(float(factor))
    known = {r.id: r.values for r in result.retrained}
    by_arch: dict[str, tuple[Trial, list[str]]] = {}
    for alias, trial in chosen.items():
        by_arch.setdefault(trial.architecture.id, (trial, []))[1].append(alias)
    path = again.tokenizer if isinstance(again, ValidationLoss) else None
    tokenizer = files_of(None if path is None else Path(path))
    made: list[Registered] = []
    for arch_id, (trial, aliases) in by_arch.items():
        say(f"training {result.label(trial)} for {', '.join(aliases)}", len(made), len(by_arch))
        trained = again.trained(trial.architecture)
        values = {again.name: trained.bits_per_byte}
        about = {
            "objective": serialization.describe(again),
            "factor": factor,
            "tokens": trained.tokens,
            "seed": again.seed,
            **_text_of(again),
        }
        before = known.get(arch_id, {}).get(again.name)
        if before is not None:
            about["re-trained in the search"] = {"value": before, "same": before == trained.bits_per_byte}
        files = folder.files(trained.model, trial.architecture, {"values": values, **about}, again.ignore)
        with tracker.opened(result.study) as session:
            made.append(publish(session, name, trial, aliases, {**files, **tokenizer}, values, result.label(trial)))
    return made


def _text_of(objective: object) -> dict[str, object]:
    """What a folder says about text and tokenizer, where the objective is of nas_bo."""
    if not isinstance(objective, ValidationLoss):
        return {}
    corpus = objective.corpus()
    return {"corpus": {"name": corpus.name, "sha256": corpus.fingerprint}, "tokenizer": corpus.tokenizer}


def trainable(result: Result, allow: Allow = ()) -> Any:
    """The objective whose training gives weights, built again from what the study kept.

    Raises:
        SearchError: there is none, it cannot be built, or it asks for a file or a budget that is not allowed
            (`nas_bo.foreign_recipe`), before anything is opened.
    """
    about = {} if result.record is None else result.record.about
    factor = 1.0 if result.record is None else float(result.record.factor or 1.0)
    described = about.get("recipe", {}).get("objectives", [])
    reasons = []
    for data in described:
        try:
            built = foreign_recipe.rebuild(data, allow, f"the study {result.title!r}", factor)
        except NasBoError as error:
            reasons.append(str(error))
            continue
        for part in with_parts([built]):
            if isinstance(part, GivesModel) and isinstance(part, Retrainable):
                return part
    why = f": {'; '.join(dict.fromkeys(reasons))}" if reasons else "; only ValidationLoss trains a decoder of nas_bo"
    raise SearchError(f"the study {result.title!r} has no objective that can be trained again{why}")


def check_size(arch: Architecture, vocab_size: int) -> None:
    """Raise SearchError where an architecture of our decoder cannot be trained in the memory of this machine."""
    import psutil

    from nas_bo.model import counts

    try:
        needed = OF_A_PARAMETER * counts.parameters(arch, vocab_size)
    except NasBoError:  # of a model of the user's own, or one that its objectives refuse
        return
    there = psutil.virtual_memory().total
    if needed > there:
        raise SearchError(
            f"the architecture needs {needed / 2**30:,.0f} GiB to be trained, and this machine has {there / 2**30:,.0f}; "
            "train it on a larger one"
        )
