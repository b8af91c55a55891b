"""The contract `Objective`: a number of an architecture; what one may offer beyond that, each as a small contract of its own.

No base class is needed. An objective that offers more has the method or attribute of the contract, and nothing else to do::

    class Mine:
        name, unit, direction, cost = "mine", "ms", "minimize", "measured"

        def __call__(self, arch): ...
        def predict(self, arch): ...  # `Predicting`: strategies steer by it

Each contract below says who asks for it, when, and what happens without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from nas_bo.architecture import Architecture
from nas_bo.chance import KnowsChance
from nas_bo.errors import ObjectiveError, Unsupported
from nas_bo.once import once
from nas_bo.trial import Direction, ObjectiveSpec

if TYPE_CHECKING:
    from nas_bo.space import Space
    from nas_bo.trial import Trial

Cost: TypeAlias = Literal["analytic", "measured", "trained"]
ORDER: tuple[Cost, ...] = ("analytic", "measured", "trained")  # cheap before expensive


@runtime_checkable
class Objective(Protocol):
    """A number of an architecture. No base class is needed.

    `__call__` returns the value in `unit`; a `Value` may carry how it was obtained. Where `cost` is "analytic" the architecture
    alone decides the value: it is computed once per architecture and process, an exception as well.
    """

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def direction(self) -> Direction: ...
    @property
    def cost(self) -> Cost: ...

    def __call__(self, arch: Architecture, /) -> float: ...


Say: TypeAlias = Callable[[str, int, int], None]
"""What is done, how much of it, and of how much."""


# ---- what an objective may offer -------------------------------------------------------------------------------------


@runtime_checkable
class AtMost(Protocol):
    """A hard limit in the objective's own unit; an architecture beyond it is not evaluated further. None: without a limit."""

    @property
    def at_most(self) -> float | None: ...


@runtime_checkable
class AtLeast(Protocol):
    """A hard limit from below, as `AtMost`."""

    @property
    def at_least(self) -> float | None: ...


@runtime_checkable
class Predicting(Protocol):
    """A deterministic estimate in the same unit that costs microseconds; strategies steer by it instead of by the noisy
    measurement, so that the same seed gives the same search. Computed once per architecture and process."""

    def predict(self, arch: Architecture, /) -> float: ...


@runtime_checkable
class Conditioned(Protocol):
    """What must not change while a study continues (corpus fingerprint, budget, ...); plain data. Called before the search
    starts, so this is also where bad configuration raises."""

    def conditions(self) -> Mapping[str, object]: ...


@runtime_checkable
class Remarking(Protocol):
    """Remarks for the reader of the results, such as what of a corpus was not read. They are kept with the study; unlike
    conditions they may differ when it continues."""

    def remarks(self) -> Mapping[str, object]: ...


@runtime_checkable
class ChecksArchitecture(Protocol):
    """Raises when the model that the objective will build of an architecture cannot be built. Cheap: called for a few
    random architectures before the first trial (`nas_bo.execution.preflight`)."""

    def check_architecture(self, arch: Architecture, /) -> None: ...


@runtime_checkable
class ChecksSpace(Protocol):
    """Raises when the objective does not support a space; called when a problem is made."""

    def check_space(self, space: type[Space], /) -> None: ...


@runtime_checkable
class Retrainable(Protocol):
    """The same quality measured at `factor` times the budget, for re-training the winners; None where no part can be."""

    def larger(self, factor: float, /) -> Objective | None: ...


@runtime_checkable
class Composed(Protocol):
    """An objective made of others: its parts are evaluated within it, and their limits count as well."""

    @property
    def parts(self) -> Iterable[Objective]: ...


@runtime_checkable
class Steering(Protocol):
    """The value without the noise of its measured parts, from what `info` of a trial kept of them."""

    def steer(self, arch: Architecture, info: Mapping[str, object], /) -> float: ...


@runtime_checkable
class Staged(Protocol):
    """The evaluation rung by rung instead of at once, so that it can be stopped early. After each rung it yields the share of
    the budget that is spent and the value so far; the last share is 1, or that of `AtFidelity`. A generator that is closed in
    between has been stopped."""

    def stages(self, arch: Architecture, /) -> Iterator[tuple[float, float]]: ...


@runtime_checkable
class CorrectsEarly(Protocol):
    """What has to be taken off a value at a rung before it is compared with those of others there, since not all have as much still to
    gain; learned from trials that ended. Without it values at rungs are compared as they are."""

    def early_correction(self, trials: Sequence[Trial], /) -> Callable[[Architecture, float], float]:
        """(architecture, share of the budget) -> what to take off."""


@runtime_checkable
class AtFidelity(Protocol):
    """The value is taken after this share of the whole budget; 1 without it."""

    @property
    def fidelity(self) -> float: ...


@runtime_checkable
class Resumable(Protocol):
    """A run that was stopped is continued from a folder, not trained again; without a folder it is None."""

    @property
    def checkpoints(self) -> str | None: ...


@runtime_checkable
class ReadsText(Protocol):
    """The text that it is measured on, a `nas_bo.model.data.Corpus`; models that are trained for it are trained on that."""

    def corpus(self) -> Any: ...  # of a room, which the core does not know


@runtime_checkable
class GivesModel(Protocol):
    """The training behind a value, a `nas_bo.model.training.TrainingResult` with its model: bitwise the
    weights that a call evaluates. It can be registered."""

    def trained(self, arch: Architecture, /) -> Any: ...  # of a room, which the core does not know


@runtime_checkable
class ChecksSource(Protocol):
    """Called by a search once, before its first trial and before anything is measured: what an objective reads (a trained model, a text) is
    looked at, which may take seconds."""

    def check_source(self) -> None:
        """Raise ObjectiveError, or another NasBoError, where no trial could mean anything."""


@runtime_checkable
class Ready(Protocol):
    """Called by a search before its first trial (`nas_bo.objectives.measuring`)."""

    def ready(self, space: type[Space], profile: object, say: Say, /) -> None:
        """Find out about this machine what makes measurements of architectures of `space` repeatable.

        Args:
            profile: `nas_bo.profile`, for what takes more than a few seconds; None in a short search, which does without.
        """


@runtime_checkable
class Remeasured(Protocol):
    """Called at the end of a search for the front and the baselines: what is drawn side by side was measured side by side."""

    def remeasure(self, archs: Sequence[Architecture], say: Say, /) -> list[Value | Unsupported]:
        """Values of all, measured in turn with each other, in their order."""


@runtime_checkable
class PassesOn(Protocol):
    """An objective that only asks another one, which remembers: its own values are not kept a second time.

    Attributes:
        passes_on: true.
    """

    passes_on: bool


@dataclass(frozen=True)
class Term:
    """One way in which a block can be, and what it adds to a value.

    Attributes:
        choice: its decisions, flat names and values.
        added: in the unit of the objective, to the value of the whole model.
        measured: whether it was evaluated, and not read between two that were.
    """

    choice: tuple[tuple[str, Any], ...]
    added: float
    measured: bool = True


@runtime_checkable
class Additive(Protocol):
    """An estimate that is a sum over blocks, of a space around one model: a strategy can find its best architecture exactly."""

    def terms(self, space: type[Space], /) -> Mapping[str, Sequence[Term]]:
        """Block ("layers.3.mlp") -> all that it can be, as in the whole model first; under "" one term without decisions, the value
        of the whole model."""


OFFERS: Mapping[str, type] = {
    "at_most": AtMost,
    "at_least": AtLeast,
    "predict": Predicting,
    "conditions": Conditioned,
    "remarks": Remarking,
    "check_architecture": ChecksArchitecture,
    "check_space": ChecksSpace,
    "larger": Retrainable,
    "parts": Composed,
    "steer": Steering,
    "stages": Staged,
    "fidelity": AtFidelity,
    "checkpoints": Resumable,
    "corpus": ReadsText,
    "trained": GivesModel,
    "chance": KnowsChance,
    "check_source": ChecksSource,
    "ready": Ready,
    "remeasure": Remeasured,
    "terms": Additive,
}
"""Attribute -> contract. `isinstance` looks for attributes that are there, not for those that `__getattr__` makes (from Python
3.12 on), so an objective that wraps another one sets what that one offers."""


# ---- values ----------------------------------------------------------------------------------------------------------

# (objective name, share of the budget spent, values so far) -> whether the evaluation continues. The values, in their own
# units and directions, are those that are known without measuring, those measured before, and the objective's own so far.
Judge = Callable[[str, float, Mapping[str, float]], bool]


class Value(float):
    """A float that knows how it was obtained: ``Value(2.43, how="trained", seed=0)``; `info` is JSON-safe."""

    info: dict[str, Any]

    def __new__(cls, value: float, **info: object) -> Value:
        made = super().__new__(cls, value)
        made.info = info
        return made

    def __reduce__(self) -> tuple[object, ...]:
        return _value, (float(self), self.info)


@runtime_checkable
class Informed(Protocol):
    """A number that knows how it was obtained, as `Value` does."""

    @property
    def info(self) -> Mapping[str, Any]: ...


class LimitViolated(Exception):
    """Raised inside an objective made of parts when one part is beyond its limit; `values` are the parts so far."""

    def __init__(self, values: Mapping[str, float]) -> None:
        super().__init__("a part is beyond its limit")
        self.values = dict(values)


def _value(value: float, info: dict[str, object]) -> Value:
    return Value(value, **info)


@dataclass(frozen=True)
class Function:
    """A user's own callable as an objective: minimised, evaluated last, unless its attributes say otherwise."""

    function: Callable[[Architecture], float]
    name: str
    unit: str = ""
    direction: Direction = "minimize"
    cost: Cost = "trained"
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        for name, contract in OFFERS.items():
            if name not in ("at_most", "at_least") and isinstance(self.function, contract):
                object.__setattr__(self, name, getattr(self.function, name))

    def __reduce__(self) -> tuple[object, ...]:  # what is passed on is found again
        return type(self), tuple(vars(self)[one.name] for one in fields(self))

    def __call__(self, arch: Architecture, /) -> float:
        return self.function(arch)


@dataclass(frozen=True)
class Reported:
    """An objective whose values a host reports (an Optuna study, an Ax experiment): known by name, never called."""

    name: str
    unit: str = ""
    direction: Direction = "minimize"
    cost: Cost = "trained"
    at_most: float | None = None
    at_least: float | None = None

    def __call__(self, arch: Architecture, /) -> float:
        raise ObjectiveError(f"the objective {self.name!r} is reported by the host and cannot be evaluated here")


def value_of(objective: Objective, arch: Architecture) -> float:
    """The value of an objective; of an analytic one, computed once for each architecture in this process.

    Raises: whatever the objective raises, again each time.
    """
    if objective.cost != "analytic" or isinstance(objective, PassesOn):
        return objective(arch)
    found: float = once(owner_of(objective), objective, arch, name=f"the analytic objective {objective.name!r}")
    return found


def estimate_of(objective: Predicting, arch: Architecture) -> float:
    """What the `predict` of an objective says, computed once for each architecture in this process."""
    if isinstance(objective, PassesOn):
        return objective.predict(arch)
    name = f"the estimate predict() of {objective.name!r}" if isinstance(objective, Objective) else ""
    found: float = once(owner_of(objective), objective.predict, arch, "predict", name)
    return found


def owner_of(objective: object) -> object:
    """Whose values they are: a function of the user's own, however often it was made an objective."""
    return objective.function if isinstance(objective, Function) else objective


@runtime_checkable
class SaysName(Protocol):
    """Under which name a callable is to appear."""

    @property
    def name(self) -> str: ...


@runtime_checkable
class Defined(Protocol):
    """A function: its name is that of its definition."""

    __name__: str


@runtime_checkable
class SaysUnit(Protocol):
    @property
    def unit(self) -> str: ...


@runtime_checkable
class SaysDirection(Protocol):
    @property
    def direction(self) -> Direction: ...


@runtime_checkable
class SaysCost(Protocol):
    @property
    def cost(self) -> Cost: ...


SAID: Mapping[str, type] = {
    "unit": SaysUnit,
    "direction": SaysDirection,
    "cost": SaysCost,
    "at_most": AtMost,
    "at_least": AtLeast,
}
"""What a function may say about its value, each by an attribute of it."""


def as_objective(objective: Objective | Callable[[Architecture], float]) -> Objective:
    """An objective from an objective or from any callable with a name.

    Attributes ``unit``, ``direction``, ``cost``, ``at_most``, ``at_least`` of a callable are used where it has them.

    Raises:
        ObjectiveError: not callable, no usable name, or an attribute with an impossible value.
    """
    if not callable(objective):
        raise ObjectiveError(
            f"the objective {objective!r} is not callable; pass an objective or a function of the architecture"
        )
    if isinstance(objective, type):
        raise ObjectiveError(
            f"the objective {objective.__name__} is a class; pass an instance, {objective.__name__}(...)"
        )
    name = objective.name if isinstance(objective, SaysName) and objective.name else None
    if name is None and isinstance(objective, Defined):
        name = objective.__name__
    if not isinstance(name, str) or not name or name == "<lambda>":
        raise ObjectiveError(
            "an objective needs a name to appear under in tables and trackers: use a named function, or give the object a `name`"
        )
    made: Objective
    if isinstance(objective, Objective):
        made = objective
    else:
        said = {one: getattr(objective, one) for one, contract in SAID.items() if isinstance(objective, contract)}
        made = Function(objective, name, **said)
    if made.direction not in ("minimize", "maximize"):
        raise ObjectiveError(f"objective {name!r}: direction is {made.direction!r}; it is 'minimize' or 'maximize'")
    if made.cost not in ORDER:
        raise ObjectiveError(f"objective {name!r}: cost is {made.cost!r}; it is one of {', '.join(ORDER)}")
    sides: tuple[tuple[str, object], ...] = (
        ("at_most", made.at_most if isinstance(made, AtMost) else None),
        ("at_least", made.at_least if isinstance(made, AtLeast) else None),
    )
    for side, bound in sides:
        if bound is not None and (
            isinstance(bound, bool) or not isinstance(bound, (int, float)) or not math.isfinite(bound)
        ):
            raise ObjectiveError(f"objective {name!r}: {side}={bound!r} is not a finite number")
    return made


def with_parts(objectives: Iterable[Objective]) -> Iterator[Objective]:
    """Each of them, followed by the parts that it is made of."""
    for objective in objectives:
        yield objective
        if isinstance(objective, Composed):
            yield from with_parts(objective.parts)


def spec_of(objective: Objective) -> ObjectiveSpec:
    """What is known about an objective without the objective."""
    at_most = objective.at_most if isinstance(objective, AtMost) else None
    at_least = objective.at_least if isinstance(objective, AtLeast) else None
    return ObjectiveSpec(objective.name, objective.unit, objective.direction, objective.cost, at_most, at_least)


def info_of(value: float) -> Mapping[str, Any]:
    """How a value was obtained; {} of a plain number."""
    return value.info if type(value) not in (float, int) and isinstance(value, Informed) else {}
