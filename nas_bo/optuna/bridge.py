"""Spaces as define-by-run suggestions, outcomes as constraints and attributes, trials as ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_bo.architecture import Architecture
from nas_bo.errors import HostError, NasBoError, SpaceError
from nas_bo.optuna.coding import check_exact
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.space.domain import Choice, Domain, Integer
from nas_bo.spelling import Told, Values, answering
from nas_bo.trial import PREFIX, Column, State, Trial, from_attributes, not_finite

STATES = {
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.INFEASIBLE,
    TrialState.FAIL: State.FAILED,
    TrialState.RUNNING: State.RUNNING,
}


class EvaluationFailed(NasBoError, RuntimeError):
    """Raised by `conclude` for a failed trial, so that Optuna records it as FAIL; pass it to ``optimize(catch=...)``."""


def distributions(space: type[Space]) -> dict[str, BaseDistribution]:
    """Every parameter that `space` can ever have, inactive ones included, as Optuna distributions by flat name."""
    return {path: _distribution(domain) for path, domain in space.domains().items()}


def suggest(trial: optuna.Trial, space: type[Space]) -> Architecture:
    """The architecture that `trial` asks for: one ``suggest_*`` per active decision, whatever the study's sampler.

    Every rule of the space is reported to the study as a constraint ``rule:<name>``, in a fixed order.

    Raises:
        optuna.TrialPruned: the point breaks a rule (samplers that do not know about rules propose such points).
        HostError: the trial fixes a parameter to a value outside the space, or earlier trials of the study have a
            parameter of the same name that is another one.
    """
    try:
        arch = space.decide(lambda path, domain: _suggest(trial, path, domain))
    except SpaceError as error:
        raise HostError(
            f"trial {trial.number} does not fit the space {space.title}: {error}. Was it enqueued for another space?"
        ) from error
    broken = space.violations(arch)
    for name in sorted(rule.name for rule in space.rules()):
        _constrain(trial, f"rule:{name}", float(name in broken))
    if broken:
        raise optuna.TrialPruned(f"violates rule:{', rule:'.join(broken)}")
    return arch


def architecture(space: type[Space], params: Mapping[str, Any]) -> Architecture:
    """The architecture of a trial's `params`; the user's own parameters among them are skipped.

    Raises:
        SpaceError: a value is missing or outside its domain.
    """
    return space.architecture(params, strict=False)


def conclude(trial: optuna.Trial, outcome: Trial) -> list[float]:
    """Tell `trial` what became of its architecture and return the values for Optuna.

    Sets every constraint of the outcome in its fixed order and keeps how each number was obtained as user attributes.

    Raises:
        optuna.TrialPruned: the outcome was not evaluated to the end: it is infeasible, or was stopped.
        EvaluationFailed: the outcome failed; its reason is the message.
    """
    record(trial, outcome)
    if outcome.state in (State.INFEASIBLE, State.STOPPED):
        raise optuna.TrialPruned(outcome.reason)
    if outcome.state is not State.COMPLETE:
        raise EvaluationFailed(outcome.reason)
    return list(outcome.values.values())


def unknown(trial: optuna.Trial, constraints: Sequence[str]) -> None:
    """Set every constraint that was not evaluated to 0: samplers want the same keys, in one order, on every trial."""
    for name in constraints:
        _constrain(trial, name, 0.0)


def record(trial: optuna.Trial, outcome: Trial, label: str | None = None) -> None:
    """The part of `conclude` that only writes: constraints, values at rungs and user attributes.

    The rungs of the first objective that has any are the trial's intermediate values, at steps in percent of its budget;
    not of a trial that ends early in a study of several objectives, on which Optuna's own TPESampler would raise ever after.
    """
    rungs = next((found for name in outcome.info if (found := outcome.rungs(name))), {})
    if outcome.state is not State.COMPLETE and len(trial.study.directions) > 1:
        rungs = {}
    for share, value in rungs.items():
        # not `trial.report`, which refuses studies of several objectives
        trial.storage.set_trial_intermediate_value(trial._trial_id, round(100 * share), value)
    for name, amount in outcome.violations.items():
        _constrain(trial, name, amount)
    for key, text in outcome.attributes().items():
        trial.set_user_attr(key, text)
    if label is not None:
        trial.set_user_attr(f"{PREFIX}label", label)


def objective(problem: Problem) -> Callable[[optuna.Trial], list[float]]:
    """`problem` as an Optuna objective: ``study.optimize(objective(problem), n_trials=50, catch=EvaluationFailed)``."""

    def evaluate(trial: optuna.Trial) -> list[float]:
        try:
            arch = suggest(trial, problem.space)
        except optuna.TrialPruned:
            unknown(trial, problem.constraint_names)
            raise
        return conclude(trial, problem.evaluate(arch))

    return evaluate


def columns(study: Study) -> tuple[Column, ...]:
    """The objectives of a study: names from `set_metric_names` (or value_0, ...), directions from the study."""
    names = study.metric_names or [f"value_{i}" for i in range(len(study.directions))]
    return tuple(
        Column(name, direction="maximize" if d == optuna.study.StudyDirection.MAXIMIZE else "minimize")
        for name, d in zip(names, study.directions, strict=True)
    )


def history(
    study: Study,
    space: type[Space],
    cols: Sequence[Column],
    below: int | None = None,
    remembered: dict[int, Trial] | None = None,
) -> list[Trial]:
    """The study's trials as trials of nas_bo, in number order; those that hold no architecture of `space` are left out.

    Args:
        below: only trials with a smaller number.
        remembered: finished trials read before, by number; those read now are added.
    """
    found = []
    for frozen in study.get_trials(deepcopy=False):
        if below is not None and frozen.number >= below:
            continue
        ours = remembered.get(frozen.number) if remembered is not None else None
        if ours is None:
            ours = from_frozen(frozen, space, cols)
            if remembered is not None and ours is not None and frozen.state.is_finished():
                remembered[frozen.number] = ours
        if ours is not None:
            found.append(ours)
    return found


def from_frozen(trial: FrozenTrial, space: type[Space], cols: Sequence[Column]) -> Trial | None:
    """One Optuna trial as a trial of nas_bo; None while it is waiting, or when its parameters are not an architecture of `space`."""
    if trial.state not in STATES:
        return None
    try:
        ours = tuple((name, value) for name, value in trial.params.items() if name in space.decisions())
        arch = _architecture(space, ours)  # type: ignore[arg-type]
    except SpaceError:
        return None
    own = from_attributes(trial.user_attrs)
    values: Mapping[str, float] = {}
    if trial.state is TrialState.COMPLETE and trial.values is not None:
        values = {c.name: float(v) for c, v in zip(cols, trial.values, strict=True)}
    elif isinstance(own.get("values"), dict):
        values = own["values"]
    info = own.get("info", {})
    state = state_of(trial, own)
    violations = own.get("violations") or dict(trial.constraints)  # a trial evaluated twice keeps its first constraints
    reason = own.get("reason") or str(trial.user_attrs.get(f"{PREFIX}reason", ""))
    if trial.state is TrialState.COMPLETE:
        reason = reason or not_finite(values)
    values = answering(values, cols)
    info = Told(info) if isinstance(values, Values) else info
    return Trial(arch, values, violations, state, reason, info, trial.number, own.get("seconds", 0.0))


def state_of(trial: FrozenTrial, own: Mapping[str, Any]) -> State:
    """The state of a trial that is not waiting; `own` is what its attributes hold (`from_attributes`).

    One whose values are not all finite has failed, whatever Optuna calls it.
    """
    if trial.state is TrialState.COMPLETE and not all(map(math.isfinite, trial.values or ())):
        return State.FAILED
    stopped = own.get("state") == State.STOPPED.value and all(v <= 0 for v in trial.constraints.values())
    return State.STOPPED if trial.state is TrialState.PRUNED and stopped else STATES[trial.state]


def counts(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """How many trials are in which state, each counted as in a report; "pruned" are infeasible and stopped ones."""
    states = [state_of(t, from_attributes(t.user_attrs)) for t in trials if t.state in STATES]
    return {
        "finished": states.count(State.COMPLETE),
        "pruned": states.count(State.INFEASIBLE) + states.count(State.STOPPED),
        "failed": states.count(State.FAILED),
        "running": states.count(State.RUNNING),
        "waiting": len(trials) - len(states),
    }


@lru_cache(maxsize=20_000)
def _architecture(space: type[Space], params: tuple[tuple[str, Any], ...]) -> Architecture:
    return space.architecture(dict(params), strict=False)


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.values)
    if isinstance(domain, Integer):
        check_exact(domain)
        return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def _suggest(trial: optuna.Trial, path: str, domain: Domain) -> Any:
    try:
        return _suggest_within(trial, path, domain)
    except ValueError as error:
        if not any(text in str(error) for text in ("dynamic value space", "different distribution kind")):
            raise
        raise HostError(
            f"trial {trial.number}: earlier trials of the study {trial.study.study_name!r} have a parameter {path!r} with other "
            f"values, and Optuna wants them to stay the same ({error}). Rename that field of the space, or start another study"
        ) from error


def _suggest_within(trial: optuna.Trial, path: str, domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return trial.suggest_categorical(path, domain.values)
    if isinstance(domain, Integer):
        check_exact(domain)
        return trial.suggest_int(path, domain.low, domain.high, step=domain.step, log=domain.log)
    return trial.suggest_float(path, domain.low, domain.high, log=domain.log)


def _constrain(trial: optuna.Trial, name: str, amount: float) -> None:
    if name not in trial.constraints:  # a second value would be ignored with a warning
        trial.set_constraint(name, amount)
