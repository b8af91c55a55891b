"""Problem: what is searched (a space) and what is wanted (objectives and limits)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError, ObjectiveError, Unsupported
from nas_bo.objective import (
    ORDER,
    AtFidelity,
    ChecksSpace,
    Composed,
    Conditioned,
    Function,
    Judge,
    LimitViolated,
    Objective,
    PassesOn,
    Predicting,
    Remarking,
    Reported,
    Staged,
    Steering,
    Value,
    as_objective,
    estimate_of,
    info_of,
    owner_of,
    spec_of,
    value_of,
    with_parts,
)
from nas_bo.safe_text import printable, told
from nas_bo.spelling import answering
from nas_bo.trial import State, Trial

if TYPE_CHECKING:
    from nas_bo.space import Space

column = spec_of  # its name in version 0.1
__all__ = [
    "ORDER", "Function", "Judge", "LimitViolated", "Objective", "PassesOn", "Problem", "Remarking", "Reported",
    "Value", "as_objective", "column", "estimate_of", "owner_of", "value_of",
]  # with the names that were here in version 0.1  # fmt: skip


@runtime_checkable
class _Closing(Protocol):
    def close(self) -> None: ...


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
        every: the objectives and limits, each followed by its parts.
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
        from nas_bo.space.space import is_space

        if not is_space(space):
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
        self.columns = tuple(spec_of(o) for o in self.objectives)
        for limit in self.limits:
            if not spec_of(limit).limits():
                raise ObjectiveError(f"the limit {limit.name!r} has neither at_most nor at_least; give it one")
        for proxy in self.proxies:
            if spec_of(proxy).limits():
                raise ObjectiveError(f"the proxy {proxy.name!r} has a limit; give it to limits=[...] instead")
        names = [o.name for o in (*self.objectives, *self.limits, *self.proxies)]
        twice = [n for n in names if names.count(n) > 1]
        if twice:
            raise ObjectiveError(
                f"two objectives are named {twice[0]!r}; names must differ (most objectives take name=...)"
            )
        self.every = tuple(with_parts((*self.objectives, *self.limits)))
        for objective in self.evaluated():
            if isinstance(objective, ChecksSpace):
                objective.check_space(space)
        self._limited = [spec_of(o) for o in self.every]
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
            elif isinstance(objective, Predicting):
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
            if isinstance(objective, Steering):
                values[objective.name] = objective.steer(trial.architecture, trial.info.get(objective.name, {}))
        return np.array([c.sign * values[c.name] for c in self.columns])

    def bounds(self) -> dict[str, tuple[str, float, float]]:
        """Limit -> the objective or part that it bounds, sign and bound (see `ObjectiveSpec.limits`)."""
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
        exact = {c.name for c in self._limited if c.limits()}
        return not any(v > 0 for v in self.violations(arch, self.analytic(arch, exact)).values())

    def analytic(self, arch: Architecture, names: Collection[str] | None = None) -> dict[str, float]:
        """The values of analytic objectives, limits and parts (those in `names`); one beyond a part's limit is left out."""
        found = {}
        for objective in self.every:
            if objective.cost == "analytic" and (names is None or objective.name in names):
                with suppress(LimitViolated):
                    found[objective.name] = float(value_of(objective, arch))
        return found

    def evaluated(self) -> tuple[Objective, ...]:
        """Objectives, limits and the parts of either, and proxies: all that is called with an architecture."""
        return (*self.every, *self.proxies)

    def conditions(self) -> dict[str, dict[str, Any]]:
        """What must not change while a study continues, by objective."""
        evaluated = (*self.objectives, *self.limits, *self.proxies)
        return {o.name: dict(o.conditions()) for o in evaluated if isinstance(o, Conditioned)}

    def remarks(self) -> dict[str, dict[str, object]]:
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
            return ended(State.FAILED, _line(_said(error)), {})
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
                    if (judge is None and not self.staged) or not isinstance(objective, Staged):
                        value, stopped = value_of(objective, arch), False
                    elif judge is None:
                        value, stopped = _run(objective, arch, rungs, None)
                    else:  # what is known takes the place of what was measured: noise stops nothing
                        before = {**values, **self.known(arch)}
                        value, stopped = _run(objective, arch, rungs, partial(_ask, judge, objective.name, before))
                    number = float(value)
                except LimitViolated as stop:
                    values |= stop.values
                    violations = self.violations(arch, values)
                    broken = [name for name, amount in violations.items() if amount > 0]
                    return ended(State.INFEASIBLE, _line("violates " + ", ".join(broken)), violations)
                except Unsupported as stop:
                    return ended(State.INFEASIBLE, _line(f"{objective.name}: {_said(stop)}"), violations)
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
                    **info_of(value),
                    **({"rungs": rungs} if rungs else {}),
                }
                if stopped:
                    text = f"stopped at {rungs[-1][0]:.0%} of the budget of {objective.name}, at {number:.5g}"
                    return ended(State.STOPPED, text, violations)
                values[objective.name] = number
                told = info_of(value)
                parts = told.get("parts", {}) if told and isinstance(objective, Composed) else {}
                violations = self.violations(arch, {**values, **parts})
            broken = [name for name, amount in violations.items() if amount > 0]
            if broken and len(values) < len(todo):
                return ended(State.INFEASIBLE, _line("violates " + ", ".join(broken)), violations)
        info |= {proxy.name: _estimate(proxy, arch) for proxy in proxies}
        return ended(State.COMPLETE, "", violations)


def _run(
    objective: Staged, arch: Architecture, rungs: list[list[float]], go_on: Callable[[float, float], bool] | None
) -> tuple[float, bool]:
    """The value after the last stage that was reached, and whether `go_on` ended it there.

    What it was at the rungs is added to `rungs`, as far as it was finite; what is not finite at a rung ends it as well.
    """
    share, value, end = 0.0, math.nan, float(objective.fidelity) if isinstance(objective, AtFidelity) else 1.0
    with ExitStack() as stack:
        stages = iter(objective.stages(arch))
        if isinstance(stages, _Closing):
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
    return {"value": number, "seconds": round(time.perf_counter() - began, 4), **info_of(value)}


def _said(error: Exception) -> str:
    return told(error)


def _line(text: str) -> str:
    text = printable(" ".join(text.split()))
    return text if len(text) <= 500 else text[:499] + "…"
