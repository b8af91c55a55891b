"""Spaces as define-by-run suggestions, and problems as objectives of Optuna."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas_bo import moved
from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import HostError, SpaceError
from nas_bo.optuna.changes import Changes, write_changes
from nas_bo.optuna.coding import check_exact
from nas_bo.optuna.writing import conclude, constrain, unknown
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.space.domain import Choice, Domain, Integer
from nas_bo.study import architecture_of


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
        known = _all_known(trial, space)
        arch = space.decide(lambda path, domain: _suggest(trial, path, domain)) if known is None else known
    except SpaceError as error:
        raise HostError(
            f"trial {trial.number} does not fit the space {space.title}: {error}. Was it enqueued for another space?"
        ) from error
    broken = space.violations(arch)
    constrain(trial, {f"rule:{name}": float(name in broken) for name in sorted(rule.name for rule in space.rules())})
    if broken:
        raise optuna.TrialPruned(f"violates rule:{', rule:'.join(broken)}")
    return arch


def architecture(space: type[Space], params: Mapping[str, object]) -> Architecture:
    """The architecture of a trial's `params`; the user's own parameters among them are skipped.

    Raises:
        SpaceError: a value is missing or outside its domain.
    """
    return space.architecture(params, strict=False)


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


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.values)
    if isinstance(domain, Integer):
        check_exact(domain)
        return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def _all_known(trial: optuna.Trial, space: type[Space]) -> Architecture | None:
    """The architecture of a trial whose parameters are all fixed, as those of a search are, or all proposed together, as our sampler does.

    They are written at once, where ``suggest_*`` makes a distribution and copies of the trial for each of them. None where one is left to
    be suggested.
    """
    if type(trial) is not optuna.Trial:
        return None
    there, known = trial._cached_frozen_trial, _distributions(space)
    before = {path: value for path, value in there.params.items() if path in known}
    arch = _within(space, before or trial._fixed_params)
    if before:
        same = arch is not None and all(there.distributions[path] == known[path] for path in arch.flat)
        return arch if same else None
    if arch is None:
        arch = _within(space, _proposed(trial, known))
    if arch is None:
        return None
    values = {path: (known[path].to_internal_repr(value), known[path]) for path, value in arch.flat.items()}
    try:
        write_changes(trial.storage, trial._trial_id, Changes(params=values))
    except ValueError:  # of which one?
        for path, (internal, dist) in values.items():
            with _staying_the_same(trial, path):
                trial.storage.set_trial_param(trial._trial_id, path, internal, dist)
    there.distributions.update({path: known[path] for path in values})
    there.params.update(arch.flat)
    return arch


def _within(space: type[Space], params: Mapping[str, object]) -> Architecture | None:
    try:
        return architecture_of(space, params) if params else None
    except (SpaceError, TypeError):  # TypeError: an enqueued value that a parameter cannot have
        return None


def _proposed(trial: optuna.Trial, known: Mapping[str, BaseDistribution]) -> dict[str, object]:
    """What ``suggest_*`` would find for parameters of the space: fixed, the only value, or proposed by the study's sampler."""
    proposed = trial.relative_params
    offered = trial.relative_search_space or {}
    only = {path: _distribution_value(dist) for path, dist in known.items() if dist.single()}
    ours = {path: value for path, value in proposed.items() if path in known and offered.get(path) == known[path]}
    return {**ours, **only, **trial._fixed_params}


def _distribution_value(dist: BaseDistribution) -> object:
    """The one value of a distribution that has one."""
    if isinstance(dist, CategoricalDistribution):
        return dist.choices[0]
    return dist.low if isinstance(dist, (IntDistribution, FloatDistribution)) else None


@lru_cache(maxsize=64)
def _distributions(space: type[Space]) -> dict[str, BaseDistribution]:
    return distributions(space)


@contextmanager
def _staying_the_same(trial: optuna.Trial, path: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if not any(text in str(error) for text in ("dynamic value space", "different distribution kind")):
            raise
        raise HostError(
            f"trial {trial.number}: earlier trials of the study {trial.study.study_name!r} have a parameter {path!r} with other "
            f"values, and Optuna wants them to stay the same ({error}). Rename that field of the space, or start another study"
        ) from error


def _suggest(trial: optuna.Trial, path: str, domain: Domain) -> Primitive:
    with _staying_the_same(trial, path):
        return _suggest_within(trial, path, domain)


def _suggest_within(trial: optuna.Trial, path: str, domain: Domain) -> Primitive:
    if isinstance(domain, Choice):
        return trial.suggest_categorical(path, domain.values)
    if isinstance(domain, Integer):
        check_exact(domain)
        return trial.suggest_int(path, domain.low, domain.high, step=domain.step, log=domain.log)
    return trial.suggest_float(path, domain.low, domain.high, log=domain.log)


if not TYPE_CHECKING:  # names that were here in version 0.1

    def __getattr__(name: str) -> object:
        return moved.value(__name__, name)
