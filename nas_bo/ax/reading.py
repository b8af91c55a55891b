"""Ax experiments as records: the one place that reads their objective, their trials and their data. Imports ax.

Of a trial, metrics that are objectives are its values; the others, standard errors, progressions and what generated the point
are its `nas_bo.study.Further`.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import ParamSpec, TypeVar

from ax.api.client import Client
from ax.core.arm import Arm
from ax.core.base_trial import BaseTrial
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.objective import Objective as AxObjective
from ax.core.optimization_config import OptimizationConfig
from ax.core.outcome_constraint import OutcomeConstraint
from ax.core.trial_status import TrialStatus
from ax.core.types import ComparisonOp

from nas_bo.study import Further, StudyRecord, TrialRecord, no_study, understood
from nas_bo.trial import Direction, ObjectiveSpec, State

P = ParamSpec("P")
R = TypeVar("R")
Terms = tuple[tuple[str, float], ...]  # (metric, weight): the value is their weighted sum

ENDED = {
    TrialStatus.COMPLETED: ("complete", State.COMPLETE),
    TrialStatus.FAILED: ("failed", State.FAILED),
    TrialStatus.EARLY_STOPPED: ("pruned", State.STOPPED),
    TrialStatus.ABANDONED: ("abandoned", State.INFEASIBLE),
}


# ---- what it wants -----------------------------------------------------------------------------------------------


def objectives(config: OptimizationConfig) -> list[tuple[str, Terms, Direction]]:
    """Name, terms and direction of every objective, in the order of Ax's objective string."""
    found: list[tuple[str, Terms, Direction]] = []
    names = config.objective.metric_name_to_signature
    for part in config.objective.expression.split(","):
        sub = AxObjective(expression=part.strip(), metric_name_to_signature=names)
        terms = tuple(zip(sub.metric_names, (float(w) for _, w in sub.metric_weights), strict=True))
        if len(terms) == 1:
            name, weight = terms[0]
            found.append((name, ((name, 1.0),), "minimize" if weight < 0 else "maximize"))
        else:
            found.append((sub.expression, terms, "maximize"))
    return found


def limit(constraint: OutcomeConstraint) -> tuple[Terms, float, float]:
    """Terms, sign and bound of a constraint that is not relative; it is violated by ``sign * (value - bound)`` where that is
    positive. Of one metric the weight is 1."""
    weights = (float(w) for _, w in constraint.metric_weights)
    terms: Terms = tuple(zip(constraint.metric_names, weights, strict=True))
    sign, bound = (1.0 if constraint.op is ComparisonOp.LEQ else -1.0), float(constraint.bound)
    if len(terms) > 1:
        return terms, sign, bound
    ((name, weight),) = terms
    return ((name, 1.0),), math.copysign(1.0, weight) * sign, bound / weight


@dataclass(frozen=True)
class Wanted:
    """The objectives of an experiment with what each consists of, and its limits: (name, terms, sign, bound)."""

    columns: Sequence[ObjectiveSpec] = ()
    terms: Sequence[Terms] = ()
    limits: Sequence[tuple[str, Terms, float, float]] = ()


def wanted(experiment: Experiment) -> Wanted:
    config = experiment.optimization_config
    if config is None:
        return Wanted()
    found = objectives(config)
    columns, terms = (
        [ObjectiveSpec(name, direction=direction) for name, _, direction in found],
        [t for _, t, _ in found],
    )
    limits = []
    for constraint in config.all_constraints:
        if constraint.relative:
            continue  # relative to a status quo, which Ax knows
        parts, sign, bound = limit(constraint)
        text = " + ".join(m if w == 1 else f"{w:g}*{m}" for m, w in parts)
        limits.append((f"{text}{'<=' if sign > 0 else '>='}{bound:g}", parts, sign, bound))
        for j, column in enumerate(columns):
            if terms[j] == parts:
                columns[j] = replace(column, at_most=bound) if sign > 0 else replace(column, at_least=bound)
    return Wanted(columns, terms, limits)


# ---- what it has seen --------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """The data of one arm of a trial: metric -> last value, the same where it is final, its standard error, and (step, value) on the way."""

    last: dict[str, float] = field(default_factory=dict)
    final: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def seen(data: Data, curves: bool = True) -> dict[tuple[int, str], Seen]:
    """Trial and name of an arm -> what was seen of it.

    Args:
        curves: all progressions; else what Ax takes for the values.
    """
    frame = data.full_df if curves else data.df
    steps = "step" in frame.columns
    if steps:  # a final value, which has no step, comes last
        frame = frame.sort_values("step", na_position="last", kind="stable")
    names = ["trial_index", "arm_name", "metric_name", "mean", "sem", *(["step"] if steps else [])]
    found: dict[tuple[int, str], Seen] = {}
    for index, arm, metric, mean, sem, *step in zip(*(frame[name] for name in names), strict=True):
        one = found.setdefault((int(index), str(arm)), Seen())
        one.last[metric] = float(mean)
        if step and not _missing(step[0]):
            one.curves.setdefault(metric, []).append((int(step[0]), float(mean)))
            continue
        one.final[metric] = float(mean)
        if not _missing(sem) and sem > 0:
            one.errors[metric] = float(sem)
    return found


def trial_record(trial: BaseTrial, arm: Arm | None, there: Mapping[str, Seen], wants: Wanted) -> TrialRecord:
    """A trial as Ax stores it, with what nas_bo noted of it.

    Args:
        arm: whose parameters and values it has; None of a batch, whose arms have values of their own.
        there: name of an arm -> its data.
    """
    one = Seen() if arm is None else there.get(arm.name, Seen())
    ended, state = ENDED.get(trial.status, ("", State.RUNNING))
    values = {c.name: sum(w * one.last[m] for m, w in t) for c, t in zip(wants.columns, wants.terms, strict=True)
              if all(m in one.last for m, _ in t)}  # fmt: skip
    violations = {
        name: max(0.0, sign * (sum(w * one.last[m] for m, w in terms) - bound))
        for name, terms, sign, bound in wants.limits
        if all(math.isfinite(one.last.get(m, math.nan)) for m, _ in terms)
    }
    metrics = {m for terms in wants.terms for m, _ in terms}
    whole = state is not State.COMPLETE or metrics <= {m for s in there.values() for m in s.last}
    reason = str(trial.status_reason or "")
    if state is State.COMPLETE and len(values) < len(wants.columns):
        state, reason = State.FAILED, reason or "no finite value of every objective"
    runs = trial.generator_runs
    batch = [{"arm": a.name, "parameters": a.parameters, "values": there.get(a.name, Seen()).last} for a in trial.arms]
    more = Further(
        curves=one.curves,
        metrics=one.final,
        errors=one.errors,
        seconds={name: s for run in runs for name, s in (("generate", run.gen_time), ("fit", run.fit_time)) if s is not None},
        # the second says when Ax has replaced a repeated point by one of its own
        notes={tag: str(note) for run in runs
               for tag, note in (("ax.node", run._generation_node_name), ("ax.generator", run._generator_key)) if note},
        arms=batch if len(batch) > 1 else (),
    )  # fmt: skip
    made = TrialRecord(
        trial.index, state, ended, {} if arm is None else arm.parameters, values, violations,
        started=trial.time_run_started or trial.time_created, finished=trial.time_completed, further=more, whole=whole,
    )  # fmt: skip
    return understood(made, {str(k): v for k, v in (trial.run_metadata or {}).items()}, wants.columns, reason)


class AxSource:
    """An Ax experiment as a `nas_bo.study.Source`."""

    def __init__(self, experiment: Experiment, client: Client | None = None) -> None:
        self._experiment, self._client = experiment, client

    @cached_property
    def _wants(self) -> Wanted:
        return wanted(self._experiment)

    def head(self) -> StudyRecord:
        """Without a key before there is an objective."""
        name = str(self._experiment._name or "ax")  # `name` raises where there is none
        if self._experiment.optimization_config is None:
            return StudyRecord(name, "", ())
        began = self._experiment.time_created.isoformat(timespec="seconds")
        key = hashlib.sha256(f"{name}\n{began}".encode()).hexdigest()[:12]
        nodes = [r._generation_node_name for t in self._experiment.trials.values() for r in t.generator_runs]
        return StudyRecord(name, key, self._wants.columns, sampler=str(next((n for n in reversed(nodes) if n), "ax")))

    def ended(self, without: Collection[int] = ()) -> list[TrialRecord]:
        those = [t for i, t in sorted(self._experiment.trials.items()) if t.status in ENDED and i not in without]
        return self._records(those) if those else []

    def trial(self, given: object) -> TrialRecord | None:
        found = self._experiment.trials.get(given) if isinstance(given, int) else given
        return self._records([found])[0] if isinstance(found, BaseTrial) and found.status in ENDED else None

    def running(self) -> int:
        return sum(
            t.status not in ENDED and t.status is not TrialStatus.STALE for t in self._experiment.trials.values()
        )

    @contextmanager
    def follow(self, look: Callable[[], None], every: float) -> Iterator[None]:
        if self._client is None:
            raise no_study(self._experiment)
        with follow(self._client, look, every):
            yield

    def _records(self, trials: Sequence[BaseTrial]) -> list[TrialRecord]:
        by_trial: dict[int, dict[str, Seen]] = {}
        for (index, arm), one in seen(self._experiment.lookup_data(trial_indices=[t.index for t in trials])).items():
            by_trial.setdefault(index, {})[arm] = one
        return [
            trial_record(t, t.arms[0] if len(t.arms) == 1 else None, by_trial.get(t.index, {}), self._wants)
            for t in trials
        ]


def source(study: object) -> AxSource:
    """See `nas_bo.study.source`."""
    if isinstance(study, Client):
        return AxSource(study._experiment, study)
    if isinstance(study, Experiment):
        return AxSource(study)
    raise no_study(study)


ENDING = ("complete_trial", "mark_trial_failed", "mark_trial_abandoned", "mark_trial_early_stopped", "attach_baseline")


@contextmanager
def follow(client: Client, look: Callable[[], None], every: float) -> Iterator[None]:
    """Call `look` after every call of the client that may end a trial, and every so many seconds in ``run_trials``."""

    def after(real: Callable[P, R]) -> Callable[P, R]:
        @wraps(real)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return real(*args, **kwargs)
            finally:
                look()

        return called

    def poll(real: Callable[P, R]) -> Callable[P, R]:
        @wraps(real)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            ended = threading.Event()

            def until_ended() -> None:
                while not ended.wait(every):
                    look()

            thread = threading.Thread(target=until_ended, name="nas_bo.mlflow.ax", daemon=True)
            thread.start()
            try:
                return real(*args, **kwargs)
            finally:
                ended.set()
                thread.join()
                look()

        return called

    changed = {name: after(getattr(client, name)) for name in ENDING} | {"run_trials": poll(client.run_trials)}
    for name, call in changed.items():
        setattr(client, name, call)
    try:
        yield
    finally:
        for name in changed:
            delattr(client, name)


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
