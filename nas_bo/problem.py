"""Problem: what is searched (a space) and what is wanted (objectives and limits). The contract `Objective` is here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError, ObjectiveError, Unsupported
from nas_bo.once import once
from nas_bo.spelling import answering
from nas_bo.trial import Column, Direction, State, Trial

if TYPE_CHECKING:
    from nas_bo.space import Space

ORDER = ("analytic", "measured", "trained")  # cheap before expensive


@runtime_checkable
class Objective(Protocol):
    """A number of an architecture. No base class is needed.

    `__call__` returns the value in `unit`; a `Value` may carry how it was obtained. Where `cost` is "analytic" the architecture
    alone decides the value: it is computed once per architecture and process, an exception as well. Optional attributes:

    * ``at_most``, ``at_least``: hard limits, in the same unit;
    * ``predict(arch) -> float``: a deterministic estimate in the same unit that costs microseconds; strategies steer by
      it instead of by the noisy measurement, so that the same seed gives the same search. Computed once as well;
    * ``conditions() -> dict``: what must not change while a study continues (corpus fingerprint, budget, ...);
      called before the search starts, so this is also where bad configuration raises;
    * ``remarks() -> dict``: what a reader of the results should know and what may change (see `Remarking`);
    * ``check_architecture(arch)``: raises when the model that the objective will build of it cannot be built; cheap, called for
      a few random architectures before the first trial (`nas_bo.execution.preflight`);
    * ``check_space(space)``: raises when the objective does not support that space; called when a problem is made;
    * ``larger(factor) -> Objective``: the same quality measured at a larger budget, for re-training winners;
    * ``chance() -> float``: the value of guessing; what is no better is never the knee (`nas_bo.chance.KnowsChance`);
    * ``parts``: the objectives that it is made of; their limits count as well;
    * ``steer(arch, info) -> float``: the value without the noise of its measured parts, from what `info` kept of them;
    * ``stages(arch) -> Iterator[(share, value)]``: the evaluation rung by rung instead of at once. After each rung it
      yields the share of the budget that is spent and the value so far; the last share is 1, or the objective's
      ``fidelity`` where it has one. A generator that is closed in between has been stopped.
    """

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def direction(self) -> Direction: ...
    @property
    def cost(self) -> Literal["analytic", "measured", "trained"]: ...

    def __call__(self, arch: Architecture, /) -> float: ...


@runtime_checkable
class Remarking(Protocol):
    """An objective with remarks for the reader of its results, such as what of a corpus was not read. They are kept with the
    study; unlike conditions they may differ when it continues."""

    def remarks(self) -> Mapping[str, Any]: ...


# (objective name, share of the budget spent, values so far) -> whether the evaluation continues. The values, in their own
# units and directions, are those that are known without measuring, those measured before, and the objective's own so far.
Judge = Callable[[str, float, Mapping[str, float]], bool]


class Value(float):
    """A float that knows how it was obtained: ``Value(2.43, how="trained", seed=0)``; `info` is JSON-safe."""

    info: dict[str, Any]

    def __new__(cls, value: float, **info: Any) -> Value:
        made = super().__new__(cls, value)
        made.info = info
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _value, (float(self), self.info)


class LimitViolated(Exception):
    """Raised inside an objective made of parts when one part is beyond its limit; `values` are the parts so far."""

    def __init__(self, values: Mapping[str, float]) -> None:
        super().__init__("a part is beyond its limit")
        self.values = dict(values)


def _value(value: float, info: dict[str, Any]) -> Value:
    return Value(value, **info)


@dataclass(frozen=True)
class Function:
    """A user's own callable as an objective: minimised, evaluated last, unless its attributes say otherwise."""

    function: Callable[[Architecture], float]
    name: str
    unit: str = ""
    direction: Direction = "minimize"
    cost: Literal["analytic", "measured", "trained"] = "trained"
    at_most: float | None = None
    at_least: float | None = None

    def __call__(self, arch: Architecture, /) -> float:
        return self.function(arch)

    def __getattr__(self, name: str) -> Any:
        if name in (
            "predict",
            "conditions",
            "remarks",
            "larger",
            "steer",
            "stages",
            "chance",
        ):  # what the wrapped object may offer
            return getattr(self.__dict__.get("function"), name)
        raise AttributeError(name)


@dataclass(frozen=True)
class Reported:
    """An objective whose values a host reports (an Optuna study, an Ax experiment): known by name, never called."""

    name: str
    unit: str = ""
    direction: Direction = "minimize"
    cost: Literal["analytic", "measured", "trained"] = "trained"
    at_most: float | None = None
    at_least: float | None = None

    def __call__(self, arch: Architecture, /) -> float:
        raise ObjectiveError(f"the objective {self.name!r} is reported by the host and cannot be evaluated here")


@runtime_checkable
class PassesOn(Protocol):
    """An objective that only asks another one, which remembers: its own values are not kept a second time.

    Attributes:
        passes_on: true.
    """

    passes_on: bool


def value_of(objective: Objective, arch: Architecture) -> float:
    """The value of an objective; of an analytic one, computed once for each architecture in this process.

    Raises: whatever the objective raises, again each time.
    """
    if objective.cost != "analytic" or isinstance(objective, PassesOn):
        return objective(arch)
    found: float = once(owner_of(objective), objective, arch, name=f"the analytic objective {objective.name!r}")
    return found


def estimate_of(objective: Objective, arch: Architecture) -> float:
    """What the `predict` of an objective says, computed once for each architecture in this process."""
    predict: Callable[[Architecture], float] = objective.predict  # type: ignore[attr-defined]
    if isinstance(objective, PassesOn):
        return predict(arch)
    found: float = once(owner_of(objective), predict, arch, "predict", f"the estimate predict() of {objective.name!r}")
    return found


def owner_of(objective: Any) -> object:
    """Whose values they are: a function of the user's own, however often it was made an objective."""
    return objective.function if isinstance(objective, Function) else objective


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
    name = getattr(objective, "name", None) or getattr(objective, "__name__", None)
    if not isinstance(name, str) or not name or name == "<lambda>":
        raise ObjectiveError(
            "an objective needs a name to appear under in tables and trackers: use a named function, or give the object a `name`"
        )
    made: Any = objective
    if not all(hasattr(objective, a) for a in ("name", "unit", "direction", "cost")):
        settings = ("unit", "direction", "cost", "at_most", "at_least")
        made = Function(objective, name, **{a: getattr(objective, a) for a in settings if hasattr(objective, a)})
    if made.direction not in ("minimize", "maximize"):
        raise ObjectiveError(f"objective {name!r}: direction is {made.direction!r}; it is 'minimize' or 'maximize'")
    if made.cost not in ORDER:
        raise ObjectiveError(f"objective {name!r}: cost is {made.cost!r}; it is one of {', '.join(ORDER)}")
    for side in ("at_most", "at_least"):
        bound = getattr(made, side, None)
        if bound is not None and (
            isinstance(bound, bool) or not isinstance(bound, (int, float)) or not math.isfinite(bound)
        ):
            raise ObjectiveError(f"objective {name!r}: {side}={bound!r} is not a finite number")
    checked: Objective = made
    return checked


def _with_parts(objectives: Iterable[Objective]) -> Iterator[Objective]:
    for objective in objectives:
        yield objective
        yield from _with_parts(getattr(objective, "parts", ()))


def column(objective: Objective) -> Column:
    bounds = {side: getattr(objective, side, None) for side in ("at_most", "at_least")}
    return Column(objective.name, objective.unit, objective.direction, objective.cost, **bounds)


class Problem:
    """A space and at least one objective.

    Args:
        limits: objectives that are not optimised, only kept within their ``at_most`` / ``at_least``.
        proxies: cheap objectives that say something about the others: evaluated in every trial before anything is
            trained and kept in its `info`, never part of the front. One that raises costs no trial. `Bayes` learns what
            they are worth.
        staged: look at the rungs of objectives with `stages` also where no judge asks (a look costs a held-out evaluation).

    Attributes:
        objectives: in the order given; values, columns and fronts follow it.
        columns: their descriptions, plain data.
        constraint_names: rules, then limits, each sorted: the fixed order in which they are given to hosts.
        exact_constraints: those among them that `admissible` decides before anything is spent.

    Raises:
        ObjectiveError: no objective, two of the same name, or one that is not an objective.
        SpaceError: `space` is not a space.
    """

    def __init__(
        self,
        space: type[Space],
        objectives: Sequence[Objective | Callable[[Architecture], float]],
        limits: Sequence[Objective | Callable[[Architecture], float]] = (),
        proxies: Sequence[Objective | Callable[[Architecture], float]] = (),
        staged: bool = False,
    ) -> None:
        from nas_bo.errors import SpaceError

        if not (hasattr(space, "decide") and hasattr(space, "violations")):
            raise SpaceError(f"{space!r} is not a search space; pass a class that derives from nas_bo.Space")
        if callable(objectives) or not isinstance(objectives, Sequence) or isinstance(objectives, str):
            raise ObjectiveError("objectives must be a list, even when there is only one")
        if not objectives:
            raise ObjectiveError(
                "a problem needs at least one objective; for example objectives=[ValidationLoss(), Latency()]"
            )
        self.space = space
        self.objectives = tuple(as_objective(o) for o in objectives)
        self.limits = tuple(as_objective(o) for o in limits)
        self.proxies = tuple(as_objective(o) for o in proxies)
        self.staged = staged
        self.columns = tuple(column(o) for o in self.objectives)
        for limit in self.limits:
            if not column(limit).limits():
                raise ObjectiveError(f"the limit {limit.name!r} has neither at_most nor at_least; give it one")
        for proxy in self.proxies:
            if column(proxy).limits():
                raise ObjectiveError(f"the proxy {proxy.name!r} has a limit; give it to limits=[...] instead")
        names = [o.name for o in (*self.objectives, *self.limits, *self.proxies)]
        twice = [n for n in names if names.count(n) > 1]
        if twice:
            raise ObjectiveError(
                f"two objectives are named {twice[0]!r}; names must differ (most objectives take name=...)"
            )
        self._every = tuple(_with_parts((*self.objectives, *self.limits)))
        for objective in (*self._every, *self.proxies):
            if hasattr(objective, "check_space"):
                objective.check_space(space)
        self._limited = [column(o) for o in self._every]
        bounds = sorted({limit for c in self._limited for limit in c.limits()})
        rules = sorted(f"rule:{r.name}" for r in space.rules())
        self.constraint_names = (*rules, *bounds)
        analytic = (limit for c in self._limited if c.cost == "analytic" for limit in c.limits())
        self.exact_constraints = frozenset((*rules, *analytic))

    def known(self, arch: Architecture) -> dict[str, float]:
        """What is known without measuring or training: analytic objectives exactly, others by their `predict`."""
        found = {}
        for objective in self.objectives:
            if objective.cost == "analytic":
                with suppress(LimitViolated):
                    found[objective.name] = float(value_of(objective, arch))
            elif getattr(objective, "predict", None) is not None:
                found[objective.name] = float(estimate_of(objective, arch))
        return found

    def guide(self, trial: Trial) -> np.ndarray | None:
        """The values that strategies steer by, to be minimised: (objectives,); None for a trial without them.

        Known values take the place of measured ones, so the search does not follow the noise of a measurement.
        """
        if trial.state is not State.COMPLETE:
            return None
        values = {**trial.values, **self.known(trial.architecture)}
        for objective in self.objectives:
            if hasattr(objective, "steer"):
                values[objective.name] = objective.steer(trial.architecture, trial.info.get(objective.name, {}))
        return np.array([c.sign * values[c.name] for c in self.columns])

    def bounds(self) -> dict[str, tuple[str, float, float]]:
        """Limit -> the objective or part that it bounds, sign and bound (see `Column.limits`)."""
        return {name: (c.name, *bound) for c in self._limited for name, bound in c.limits().items()}

    def violations(self, arch: Architecture, values: Mapping[str, float]) -> dict[str, float]:
        """Every constraint by name: how far it is violated; 0 when satisfied or when its value is not there yet."""
        broken = set(self.space.violations(arch))
        found = {f"rule:{r.name}": float(r.name in broken) for r in self.space.rules()}
        for c in self._limited:
            for name, (sign, bound) in c.limits().items():
                found[name] = max(0.0, sign * (values[c.name] - bound)) if c.name in values else 0.0
        return {name: found[name] for name in self.constraint_names}

    def admissible(self, arch: Architecture) -> bool:
        """Whether no rule, and no limit on a known objective, is violated: checked before anything is spent."""
        if not self.constraint_names:
            return True
        exact = {o.name: o for o in self._every if column(o).limits()}
        return not any(v > 0 for v in self.violations(arch, self.analytic(arch, exact)).values())

    def analytic(self, arch: Architecture, names: Collection[str] | None = None) -> dict[str, float]:
        """The values of analytic objectives, limits and parts (those in `names`); one beyond a part's limit is left out."""
        found = {}
        for objective in self._every:
            if objective.cost == "analytic" and (names is None or objective.name in names):
                with suppress(LimitViolated):
                    found[objective.name] = float(value_of(objective, arch))
        return found

    def evaluated(self) -> tuple[Objective, ...]:
        """Objectives, limits and the parts of either, and proxies: all that is called with an architecture."""
        return (*self._every, *self.proxies)

    def conditions(self) -> dict[str, dict[str, Any]]:
        """What must not change while a study continues, by objective."""
        evaluated = (*self.objectives, *self.limits, *self.proxies)
        return {o.name: dict(o.conditions()) for o in evaluated if hasattr(o, "conditions")}

    def remarks(self) -> dict[str, dict[str, Any]]:
        """What the reader of the results should know, by objective; only of those that have something to say."""
        evaluated = (*self.objectives, *self.limits, *self.proxies)
        said = {o.name: dict(o.remarks()) for o in evaluated if isinstance(o, Remarking)}
        return {name: remarks for name, remarks in said.items() if remarks}

    def evaluate(self, arch: Architecture, judge: Judge | None = None) -> Trial:
        """Evaluate cheap objectives first; a violated rule or limit ends it before anything more expensive starts.

        With a `judge` (or `staged`) an objective with `stages` is evaluated rung by rung; what it was at each rung is kept
        in its `info` as "rungs", pairs of a share and a value. After each rung `judge` says whether it continues; where
        not, the trial is STOPPED.

        Never raises for what an objective does: an exception or a value that is not finite makes a FAILED trial with
        its reason. KeyboardInterrupt and other exits pass through.
        """
        start = time.perf_counter()
        values: dict[str, float] = {}
        info: dict[str, dict[str, Any]] = {}

        def ended(state: State, reason: str, violations: Mapping[str, float]) -> Trial:
            ordered = {c.name: values[c.name] for c in self.columns if c.name in values}
            told = answering(ordered, self.columns)
            return Trial(arch, told, violations, state, reason, info, None, time.perf_counter() - start)

        try:
            violations = self.violations(arch, values)
        except NasBoError as error:  # a rule that raises
            return ended(State.FAILED, str(error), {})
        todo = sorted((*self.objectives, *self.limits), key=lambda o: ORDER.index(o.cost))
        proxies = list(self.proxies)
        for objective in [None, *todo]:
            if objective is not None and objective.cost == "trained":
                for proxy in proxies:
                    info[proxy.name] = _estimate(proxy, arch)
                proxies.clear()
            if objective is not None:
                began = time.perf_counter()
                rungs: list[list[float]] = []
                try:
                    if not hasattr(objective, "stages") or (judge is None and not self.staged):
                        value, stopped = value_of(objective, arch), False
                    elif judge is None:
                        value, stopped = _run(objective, arch, rungs, None)
                    else:  # what is known takes the place of what was measured: noise stops nothing
                        told = {**values, **self.known(arch)}
                        value, stopped = _run(objective, arch, rungs, partial(_ask, judge, objective.name, told))
                    number = float(value)
                except LimitViolated as stop:
                    values |= stop.values
                    violations = self.violations(arch, values)
                    broken = [name for name, amount in violations.items() if amount > 0]
                    return ended(State.INFEASIBLE, _line("violates " + ", ".join(broken)), violations)
                except Unsupported as stop:
                    return ended(State.INFEASIBLE, _line(f"{objective.name}: {stop}"), violations)
                except Exception as error:
                    if rungs:
                        info[objective.name] = {"rungs": rungs}
                    return ended(State.FAILED, _line(f"{objective.name}: {_said(error)}"), violations)
                if not math.isfinite(number):
                    if rungs:
                        info[objective.name] = {"rungs": rungs}
                    return ended(State.FAILED, f"{objective.name} is {number}, not a finite number", violations)
                kept: dict[str, Any] = {} if objective in self.objectives or stopped else {"value": number}
                info[objective.name] = {
                    **kept,
                    "seconds": round(time.perf_counter() - began, 4),
                    **getattr(value, "info", {}),
                    **({"rungs": rungs} if rungs else {}),
                }
                if stopped:
                    text = f"stopped at {rungs[-1][0]:.0%} of the budget of {objective.name}, at {number:.5g}"
                    return ended(State.STOPPED, text, violations)
                values[objective.name] = number
                parts = getattr(value, "info", {}).get("parts", {}) if hasattr(objective, "parts") else {}
                violations = self.violations(arch, {**values, **parts})
            broken = [name for name, amount in violations.items() if amount > 0]
            if broken and len(values) < len(todo):
                return ended(State.INFEASIBLE, _line("violates " + ", ".join(broken)), violations)
        info |= {proxy.name: _estimate(proxy, arch) for proxy in proxies}
        return ended(State.COMPLETE, "", violations)


def _run(
    objective: Any, arch: Architecture, rungs: list[list[float]], go_on: Callable[[float, float], bool] | None
) -> tuple[float, bool]:
    """The value after the last stage that was reached, and whether `go_on` ended it there.

    What it was at the rungs is added to `rungs`, as far as it was finite; what is not finite at a rung ends it as well.
    """
    share, value, end = 0.0, math.nan, float(getattr(objective, "fidelity", 1.0))
    with ExitStack() as stack:
        stages = iter(objective.stages(arch))
        if hasattr(stages, "close"):
            stack.enter_context(closing(stages))  # what is abandoned in between is closed at once
        for share, value in stages:
            if share >= end:
                continue
            if not math.isfinite(float(value)):
                return value, False
            rungs.append([float(share), float(value)])
            if go_on is not None and not go_on(float(share), float(value)):
                return value, True
    if share != end:
        raise ObjectiveError(f"its stages ended at the share {share:g} of the budget; the last share must be {end:g}")
    return value, False


def _ask(judge: Judge, name: str, told: Mapping[str, float], share: float, value: float) -> bool:
    return judge(name, share, {**told, name: value})


def _estimate(proxy: Objective, arch: Architecture) -> dict[str, Any]:
    """What a proxy says, for `info`; one that raises or gives no finite number says why instead."""
    began = time.perf_counter()
    try:
        value = value_of(proxy, arch)
        number = float(value)
    except Exception as error:
        return {"error": _line(_said(error))}
    if not math.isfinite(number):
        return {"error": f"it is {number}, not a finite number"}
    return {"value": number, "seconds": round(time.perf_counter() - began, 4), **getattr(value, "info", {})}


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, NasBoError) else f"{type(error).__name__}: {error}"


def _line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 500 else text[:499] + "…"
