"""From trials to a `Predicted`: the examples, the columns, the model without and the model with proxies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypedDict, Union, runtime_checkable

import numpy as np

from nas_bo import provenance
from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.objective import Objective
from nas_bo.objectives.predicted_card import Card, measures
from nas_bo.objectives.predicted_inputs import Inputs, Proxy, proxy_name, read_proxy
from nas_bo.problem import column
from nas_bo.space import Space
from nas_bo.spelling import UNIT, spelled
from nas_bo.surrogate.committee import Committee
from nas_bo.surrogate.conformal import CrossConformal
from nas_bo.surrogate.prior import Mean, OnPrior
from nas_bo.surrogate.regressor import Blocks, Regressor
from nas_bo.trial import ObjectiveSpec, Trial
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.objectives.predicted import Predicted

FEWEST = 6  # architectures; fewer leave nothing to check the model by
WIDE = 3.0  # positive targets whose largest is so many times the smallest are learned as logarithms
Trials: TypeAlias = Union[Trial, "HoldsTrials", Sequence["Trials"]]
PACKAGES = ("nas_bo", "numpy", "scipy", "scikit-learn", "torch")


@dataclass(frozen=True)
class Example:
    """One architecture, the mean of its target, and of the proxies that some trial of it has."""

    arch: Architecture
    value: float
    proxies: Mapping[str, float]


@dataclass(frozen=True)
class Learned:
    """A model of one set of columns, from architectures to the target in its own unit.

    Attributes:
        n: architectures learned from.
        earlier: an earlier predictor, whose value is the first column.
        sign: -1 where the target is maximised: models minimise.
        logarithm: whether the model works on logarithms.
    """

    inputs: Inputs
    conformal: CrossConformal
    n: int
    earlier: Predicted | None
    sign: float
    logarithm: bool

    def values(self, archs: Sequence[Architecture], measured: np.ndarray | None = None) -> np.ndarray:
        """(m,) in the target's unit; `measured` (m, proxies)."""
        return self._undo(self.conformal.predict(table(self, archs, measured)))

    def intervals(
        self, archs: Sequence[Architecture], measured: np.ndarray, level: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Value, low and high, (m,) each."""
        columns = table(self, archs, measured)
        low, high = (self._undo(end) for end in self.conformal.interval(columns, level))
        return self._undo(self.conformal.predict(columns)), np.minimum(low, high), np.maximum(low, high)

    def _undo(self, found: np.ndarray) -> np.ndarray:
        return self.sign * found if not self.logarithm else np.exp(np.minimum(self.sign * found, 700.0))


@dataclass(frozen=True)
class Plan:
    """What does not differ between the model without and the model with proxies."""

    target: ObjectiveSpec
    model: Regressor
    inputs: Inputs
    logarithm: bool
    about: Mapping[str, object] = field(default_factory=dict)


class FitOptions(TypedDict, total=False):
    """What `Predicted.fit` takes by name, see there."""

    model: Regressor | None
    proxies: Sequence[Proxy]
    earlier: Trials | Predicted | None
    known: Sequence[Objective]
    vocab_size: int
    ignore: Sequence[str]
    about: Mapping[str, object] | None


@dataclass(frozen=True)
class FitSettings:
    """What `Predicted.fit` was asked for; its fields are described there."""

    model: Regressor | None = None
    proxies: tuple[Proxy, ...] = ()
    earlier: Trials | Predicted | None = None
    known: tuple[Objective, ...] = ()
    vocab_size: int = 256
    ignore: tuple[str, ...] = ()
    about: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        for name in ("proxies", "known", "ignore"):
            object.__setattr__(self, name, tuple(vars(self)[name]))
        if self.model is None:
            object.__setattr__(self, "model", Committee())

    @property
    def regressor(self) -> Regressor:
        return Committee() if self.model is None else self.model


@dataclass(frozen=True)
class Fitted:
    """What a predictor is made of.

    Attributes:
        base, base_card: the model without proxies, and what it is worth.
        full, card: the model with them, where there are some; else None and the same card.
        truth: the target, where it was given as an objective.
    """

    target: ObjectiveSpec
    space: type[Space]
    settings: FitSettings
    examples: tuple[Example, ...]
    base: Learned
    base_card: Card
    full: Learned | None
    card: Card
    earlier: Predicted | None
    truth: Objective | None


def fitted(
    trials: object,
    target: str | Objective | ObjectiveSpec,
    space: type[Space],
    settings: FitSettings,
    earlier: Predicted | None,
) -> Fitted:
    """See `Predicted.fit`; `earlier` is the predictor that `settings.earlier` became."""
    found, columns = gather(trials)
    named = described(target, columns or {name for trial in found for name in trial.values})
    rows = collect(found, named.name, settings.proxies, space)
    if earlier is not None and earlier.space.fingerprint() != space.fingerprint():
        raise ObjectiveError(
            f"the earlier predictor is of the space {earlier.space.title}, this one of {space.title}: they must be the same"
        )
    truth = None if isinstance(target, (str, ObjectiveSpec)) else target
    return build(rows, named, space, settings, earlier, truth)


@runtime_checkable
class HoldsTrials(Protocol):
    """A `Result`, or whatever else knows its trials and the columns of their values."""

    @property
    def trials(self) -> Sequence[Trial]: ...
    @property
    def columns(self) -> Sequence[ObjectiveSpec]: ...


def gather(trials: object) -> tuple[list[Trial], list[ObjectiveSpec]]:
    """All trials in whatever holds them, and the columns that a `Result` knows."""
    if isinstance(trials, Trial):
        return [trials], []
    if isinstance(trials, HoldsTrials):
        return list(trials.trials), list(trials.columns)
    if isinstance(trials, (list, tuple)):
        found: list[Trial] = []
        columns: list[ObjectiveSpec] = []
        for item in trials:
            more, told = gather(item)
            found += more
            columns += told
        return found, columns
    raise ObjectiveError(
        f"trials come as a Result, as Trials or as a list of these, not as {type(trials).__name__}; of an Optuna study "
        "nas_bo.optuna.history(study, space, columns) makes trials"
    )


def described(target: str | Objective | ObjectiveSpec, known: Iterable[ObjectiveSpec | str]) -> ObjectiveSpec:
    known = list(known)
    wanted = (
        ObjectiveSpec(target)
        if isinstance(target, str)
        else target
        if isinstance(target, ObjectiveSpec)
        else column(target)
    )
    name = spelled(wanted.name, known) if wanted.unit in ("", UNIT) else wanted.name
    there = next((c for c in known if isinstance(c, ObjectiveSpec) and c.name == name), None)
    return there if there is not None and isinstance(target, str) else replace(wanted, name=name)


def collect(trials: Sequence[Trial], target: str, proxies: tuple[Proxy, ...], space: type[Space]) -> list[Example]:
    """One example per architecture that has the target."""
    names = [proxy_name(p) for p in proxies]
    if len(set(names)) < len(names) or target in names:
        raise ObjectiveError(
            f"the proxies {', '.join(names)} must have different names, none that of the target {target!r}"
        )
    found: dict[str, tuple[Architecture, list[float], dict[str, list[float]]]] = {}
    for trial in trials:
        value = trial.values.get(target)
        if value is None or not math.isfinite(value):
            continue  # not evaluated so far, or it failed
        if trial.architecture.id not in found:
            # of the space, so that decisions are found by their names; another space's architecture raises SpaceError
            found[trial.architecture.id] = space.architecture(trial.architecture), [], {}
        _, values, measured = found[trial.architecture.id]
        values.append(float(value))
        for proxy, name in zip(proxies, names, strict=True):
            number = read_proxy(proxy, trial)
            if number is not None:
                if not math.isfinite(number):
                    raise ObjectiveError(
                        f"the proxy {name!r} of architecture {trial.architecture.id} is {number}, not a finite number; leave "
                        "it out of the trial where it failed"
                    )
                measured.setdefault(name, []).append(number)
    if len(found) < FEWEST:
        there = sorted({name for t in trials for name in t.values})
        raise ObjectiveError(
            f"{counted(len(trials), 'trial')} have {counted(len(found), 'different architecture')} with a value of {target!r}; a predictor needs "
            f"at least {FEWEST}, and about 30 to be of use (values in these trials: {', '.join(there) or 'none'})"
        )
    return [
        Example(arch, float(np.mean(values)), {name: float(np.mean(numbers)) for name, numbers in measured.items()})
        for arch, values, measured in found.values()
    ]


def build(
    rows: Sequence[Example],
    target: ObjectiveSpec,
    space: type[Space],
    settings: FitSettings,
    earlier: Predicted | None,
    truth: Objective | None = None,
    cards: Mapping[str, Card] | None = None,
) -> Fitted:
    """The models of examples; with `cards` nothing is cross-validated again."""
    values = np.array([row.value for row in rows])
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        raise ObjectiveError(
            f"{target.name!r} is {values[0]:g} for all {counted(len(rows), 'architecture')}: nothing can be learned"
        )
    logarithm = bool(values.min() > 0 and values.max() > WIDE * values.min())
    archs = [row.arch for row in rows]
    inputs = Inputs(space, archs, settings.vocab_size, settings.ignore, settings.known)
    if cards and not set(inputs.names) <= set(
        cards["base"].columns
    ):  # a file of 0.1, before places in depth were columns
        inputs = Inputs(space, archs, settings.vocab_size, settings.ignore, settings.known, profile=False)
    plan = Plan(target, settings.regressor, inputs, logarithm, settings.about or {})
    base, base_card = learn(plan, rows, (), earlier, (cards or {}).get("base"))
    full, card = None, base_card
    names = tuple(proxy_name(p) for p in settings.proxies)
    if names:
        complete = usable(rows, names)
        full, card = learn(plan, complete, names, earlier, (cards or {}).get("full"))
    return Fitted(target, space, settings, tuple(rows), base, base_card, full, card, earlier, truth)


def usable(rows: Sequence[Example], names: tuple[str, ...]) -> list[Example]:
    """The examples that have every proxy."""
    complete = [row for row in rows if all(name in row.proxies for name in names)]
    if len(complete) < FEWEST:
        counts = ", ".join(f"{name}: {sum(name in row.proxies for row in rows)}" for name in names)
        raise ObjectiveError(
            f"{counted(len(rows), 'architecture has', 'architectures have')} the target, {len(complete)} of them every proxy ({counts}); at least {FEWEST} are needed, so leave "
            "out the proxy that most of them lack"
        )
    for name in names:
        column = [row.proxies[name] for row in complete]
        if max(column) == min(column):
            raise ObjectiveError(f"the proxy {name!r} is {column[0]:g} for every architecture; leave it out")
    return complete


def learn(
    plan: Plan, rows: Sequence[Example], names: tuple[str, ...], earlier: Predicted | None, card: Card | None
) -> tuple[Learned, Card]:
    """One model and its card. An earlier predictor is used where the cross-validated error is no larger with it."""
    sign = plan.target.sign
    values = sign * np.array([math.log(row.value) if plan.logarithm else row.value for row in rows])
    archs = [row.arch for row in rows]
    measured = np.array([[row.proxies[name] for name in names] for row in rows]).reshape(len(rows), len(names))

    def learned(
        before: Predicted | None, more_than_a_line: bool = True
    ) -> tuple[Learned, np.ndarray, Blocks, Regressor]:
        shape = Learned(plan.inputs, None, len(rows), before, sign, plan.logarithm)  # type: ignore[arg-type]
        columns = table(shape, archs, measured)
        more = columns.shape[1] - len(plan.inputs.names)
        blocks = tuple(end + more for end in plan.inputs.blocks)
        model: Regressor = plan.model if before is None else OnPrior(plan.model if more_than_a_line else Mean())
        conformal = CrossConformal(model, columns, values, blocks)
        return Learned(plan.inputs, conformal, len(rows), before, sign, plan.logarithm), columns, blocks, model

    if card is not None:  # read from a file: what was found better then
        used = card.earlier.get("used", False)
        return learned(earlier if used else None, not card.earlier.get("line", False))[0], card
    undo: Callable[[np.ndarray], np.ndarray] = (lambda v: np.exp(sign * v)) if plan.logarithm else np.asarray
    best = learned(None)
    told: dict[str, object] = {}
    if earlier is not None:
        tried = [best, learned(earlier), learned(earlier, more_than_a_line=False)]
        errors = [float(np.sqrt(((undo(one[0].conformal.held_out) - undo(values)) ** 2).mean())) for one in tried]
        at = 2 if errors[2] <= errors[1] else 1  # few trials: the line alone has the least to learn
        told = {"target": earlier.card.target, "n": earlier.card.n, "about": dict(earlier.card.about), "line": at == 2}
        told |= {"used": errors[at] <= errors[0], "rmse_with": errors[at], "rmse_without": errors[0]}
        best = tried[at] if told["used"] else best
    found, columns, blocks, model = best
    size = columns[:, len(columns[0]) - len(plan.inputs.names)] if plan.inputs.sized else None
    figures = measures(model, columns, values, blocks, found.conformal.held_out, size, undo)
    more = [*(["earlier prediction"] if found.earlier else []), *names]
    return found, Card(
        target=plan.target.name,
        unit=plan.target.unit,
        n=len(rows),
        model=repr(plan.model),
        logarithm=plan.logarithm,
        proxies=names,
        earlier=told,
        columns=(*more, *plan.inputs.names),
        versions=provenance.versions(PACKAGES),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        about=dict(plan.about),
        **figures,
    )


def table(learned: Learned, archs: Sequence[Architecture], measured: np.ndarray | None) -> np.ndarray:
    """(m, columns): the earlier prediction, the proxies, then what follows from the architectures."""
    parts = [learned.inputs(archs)]
    if measured is not None and measured.shape[1]:
        parts.insert(0, measured)
    if learned.earlier is not None:
        before = learned.earlier.base.values(archs)
        if learned.logarithm:
            before = np.log(np.maximum(before, 1e-300))
        parts.insert(0, before[:, None])
    return np.concatenate(parts, axis=1)
