"""What an Ax experiment wants and has seen, as a `Problem` and `Trial`s. Imports ax: loaded on first use only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.outcome_constraint import OutcomeConstraint
from ax.core.trial_status import TrialStatus

from nas_bo.architecture import Architecture
from nas_bo.ax.inferred.study_space import View
from nas_bo.ax.reading import Seen, Terms, Wanted, limit, seen, trial_record
from nas_bo.ax.reading import objectives as wanted_of
from nas_bo.errors import HostError, NasBoError
from nas_bo.objective import Composed, Objective, Predicting, Steering, as_objective, value_of
from nas_bo.problem import Problem, column
from nas_bo.space import Space
from nas_bo.space.extend import Projected
from nas_bo.spelling import other_name, spelled
from nas_bo.study import TrialRecord
from nas_bo.trial import Direction, State, Trial


@dataclass(eq=False)
class Told:
    """A number that Ax knows by name: a metric or a weighted sum of metrics; `given` is what the user said about it."""

    name: str
    terms: Terms
    direction: Direction = "minimize"
    unit: str = ""
    cost: Literal["analytic", "measured", "trained"] = "trained"
    at_most: float | None = None
    at_least: float | None = None
    given: Projected | None = None
    passes_on = True

    def __call__(self, arch: Architecture, /) -> float:
        if self.given is None:
            raise HostError(
                f"{self.name!r} is known to nas_bo only by its values in the Ax experiment; pass the objective itself to "
                "generation(..., objectives=[...]) to have it computed"
            )
        return self.given(arch)

    def __post_init__(self) -> None:
        if isinstance(self.given, Predicting):
            self.predict = self.given.predict
        if isinstance(self.given, Composed):
            self.parts = self.given.parts
        if isinstance(self.given, Steering):
            self.steer = self.given.steer

    def __reduce__(self) -> tuple[object, ...]:  # what is offered is found again
        return type(self), tuple(vars(self)[one.name] for one in fields(self))

    def within(self, sign: float, bound: float) -> Told:
        """With one more limit: at most `bound` for sign +1, at least for -1; the tighter one counts."""
        if sign > 0:
            return replace(self, at_most=bound if self.at_most is None else min(self.at_most, bound))
        return replace(self, at_least=bound if self.at_least is None else max(self.at_least, bound))

    def known_as(self, objective: Objective, view: View) -> Told:
        """The same, computed by `objective`, which knows architectures of the user's space only."""
        given = column(objective)
        mine = replace(self, unit=given.unit, cost=given.cost, given=Projected(objective, view.project))
        mine = mine if given.at_most is None else mine.within(1.0, given.at_most)
        return mine if given.at_least is None else mine.within(-1.0, given.at_least)


class AxProblem(Problem):
    """A `Problem` whose values come from an experiment, with limits also on metrics that are not objectives.

    Attributes:
        told: the reported objectives, in the order of Ax's objective string.
        limited: what is constrained without being an objective.
    """

    def __init__(self, space: type[Space], told: Sequence[Told], limited: Sequence[Told]) -> None:
        super().__init__(space, told, limited)
        self.told, self.limited = tuple(told), tuple(limited)

    def on(self, space: type[Space]) -> AxProblem:
        """The same wishes in a space of the same decisions."""
        return self if space is self.space else AxProblem(space, self.told, self.limited)

    def parts(
        self, arch: Architecture, metrics: Mapping[str, float], info: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, float]:
        """What is known about the parts of objectives: computed, a metric of the same name, or kept by `tell`."""
        kept: dict[str, float] = {}
        for told in (*self.told, *self.limited):
            kept |= info.get(told.name, {}).get("parts", {})
        found: dict[str, float] = {}
        for part in self.every:
            if not isinstance(part, Told):
                with suppress(Exception):  # one that raises is not known
                    reported = metrics.get(part.name, kept.get(part.name, math.nan))
                    found[part.name] = float(value_of(part, arch) if part.cost == "analytic" else reported)
        return {name: value for name, value in found.items() if math.isfinite(value)}


def problem(
    view: View, experiment: Experiment, objectives: Sequence[Objective | Callable[[Architecture], float]]
) -> AxProblem:
    """The problem of an experiment; `objectives` are those that the user can compute.

    Raises:
        HostError: no optimization config, a bound relative to a baseline, an objective that the experiment does not
            know or that points the other way.
    """
    config = experiment.optimization_config
    if config is None:
        raise HostError(
            "the Ax experiment has no objective yet; call client.configure_optimization(objective=...) first"
        )
    told = {name: Told(name, terms, direction) for name, terms, direction in wanted_of(config)}
    limited: dict[str, Told] = {}
    for constraint in config.all_constraints:
        item, sign, bound = _limit(constraint)
        home = told if item.name in told else limited
        home[item.name] = home.get(item.name, item).within(sign, bound)
    for given in map(as_objective, objectives):
        name = spelled(given.name, [*told, *limited])
        if name in told and told[name].direction != given.direction:
            raise HostError(
                f"the objective {name!r} says {given.direction}, the Ax experiment says {told[name].direction}; in Ax a minus "
                f"sign minimises: objective='-{name}, ...'"
            )
        if name in told:
            told[name] = told[name].known_as(given, view)
        elif name in limited or (given.cost == "analytic" and column(given).limits()):
            limited[name] = limited.get(name, Told(name, ((name, 1.0),))).known_as(given, view)
        else:
            raise HostError(
                f"generation() was given the objective {name!r}, but the Ax experiment knows "
                f"{', '.join([*told, *limited])}; give "
                "it the metric's name, add it to configure_optimization, or give it a limit (at_most=, at_least=)"
            )
    return AxProblem(view.space, list(told.values()), list(limited.values()))


def _limit(constraint: OutcomeConstraint) -> tuple[Told, float, float]:
    if constraint.relative:
        raise HostError(
            f"the outcome constraint {constraint.expression!r} is relative to a baseline; strategies of nas_bo need the number "
            "itself: measure the baseline once and write the bound in the metric's own unit"
        )
    terms, sign, bound = limit(constraint)
    name = terms[0][0] if len(terms) == 1 else " + ".join(f"{w:g}*{m}" for m, w in terms)
    return Told(name, terms), sign, bound


def history(wanted: AxProblem, view: View, experiment: Experiment, data: Data) -> list[Trial]:
    """The trials of the experiment, one per arm, in order. Arms outside the space and stale trials are left out."""
    by_trial: dict[int, dict[str, Seen]] = {}
    for (index, arm), one in seen(data, curves=False).items():
        by_trial.setdefault(index, {})[arm] = one
    found = []
    metrics = metrics_of(experiment)
    for index, trial in experiment.trials.items():
        if trial.status is TrialStatus.STALE:
            continue
        there = by_trial.get(index, {})
        for arm in trial.arms:
            try:
                arch = view.architecture(arm.parameters)
            except NasBoError:
                continue
            record = trial_record(trial, arm, there, Wanted())
            _check_names(record, metrics, there.get(arm.name, Seen()).last)
            if record.arch_id != view.project(arch).id:  # what was noted is of another arm
                record = replace(record, reason="", info={}, seconds=0.0)
            found.append(_trial(wanted, arch, record, there.get(arm.name, Seen()).last))
    return found


def _check_names(record: TrialRecord, metrics: Sequence[str], there: Mapping[str, float]) -> None:
    """Of a trial that was completed with the other name of the loss, by a client that does not look at names."""
    for name in there:
        wanted = spelled(name, metrics)
        if record.ended == "complete" and name not in metrics and wanted != name and wanted not in there:
            raise HostError(other_name(record.number, name, wanted))


def _trial(wanted: AxProblem, arch: Architecture, record: TrialRecord, metrics: Mapping[str, float]) -> Trial:
    values = {}
    for item in (*wanted.told, *wanted.limited):
        if all(math.isfinite(metrics.get(name, math.nan)) for name, _ in item.terms):
            values[item.name] = sum(w * metrics[name] for name, w in item.terms)
        elif item.cost == "analytic":
            with suppress(Exception):  # one that raises, or is beyond a part's limit, leaves the trial without it
                values[item.name] = float(item(arch))
    reason, info = record.reason, record.info
    told = [t for t in (*wanted.told, *wanted.limited) if isinstance(t, Steering) or t in wanted.limited]
    missing = [t.name for t in wanted.told if t.name not in values]
    violations: Mapping[str, float] = {}
    with suppress(Exception):  # a rule that raises
        violations = wanted.violations(arch, {**wanted.parts(arch, metrics, info), **values})
    info = {**info, **{t.name: {"value": values[t.name], **info.get(t.name, {})} for t in told if t.name in values}}
    own = {c.name: values[c.name] for c in wanted.columns if c.name in values}
    if record.state is State.RUNNING:
        return Trial(arch, state=State.RUNNING, number=record.number)
    if record.ended == "abandoned":
        state, reason = State.INFEASIBLE, reason or "abandoned"
    elif record.ended == "failed":
        state, reason = State.FAILED, reason or "failed"
    elif missing:
        broken = [name for name, amount in violations.items() if amount > 0]
        state = State.INFEASIBLE if broken else State.FAILED
        reason = reason or (f"violates {', '.join(broken)}" if broken else f"no finite value of {', '.join(missing)}")
    else:
        state = State.COMPLETE
    return Trial(arch, own, violations, state, reason, info, record.number, record.seconds)


def metrics_of(experiment: Experiment) -> list[str]:
    """The metrics that a complete trial has."""
    config = experiment.optimization_config
    return [] if config is None else sorted(config.metric_names)
