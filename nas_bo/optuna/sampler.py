"""`Sampler`: a nas_bo strategy as an Optuna sampler, on our spaces and on any other."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_bo.architecture import Architecture
from nas_bo.errors import HostError, NasBoError, SpaceError
from nas_bo.optuna.bridge import STATES, columns, distributions, from_frozen
from nas_bo.problem import Objective, Problem, Reported
from nas_bo.space import Space, choice, integer, real
from nas_bo.space.domain import Domain
from nas_bo.trial import Column, Trial

_log = logging.getLogger(__name__)


class Sampler(BaseSampler):
    """A nas_bo strategy as an Optuna sampler.

    With a `space` all of its active parameters are proposed together from the first trial on, conditional ones
    included; parameters of the user's own beside them are drawn independently. Without one, the parameters that all
    finished trials have in common are searched as a flat space, the rest independently.

    The sampler keeps no state: everything is rebuilt from the study, so it may be replaced, resumed, shared by
    threads and used by several processes. The same seed and the same finished trials give the same proposal.

    Args:
        space: the search space that the objective passes to `suggest`.
        strategy: any object with ``suggest(problem, trials, n)``; by default `NSGA2`.
        seed: seed of the independent draws, and of the default strategy.
        objectives: the objectives in the order of the study's directions, where the strategy may use what is known
            of them without evaluating (parameter counts, predicted latencies).
    """

    def __init__(
        self,
        space: type[Space] | None = None,
        strategy: Any = None,
        *,
        seed: int = 0,
        objectives: Sequence[Objective] | None = None,
    ) -> None:
        if strategy is None:
            from nas_bo.strategies import NSGA2

            strategy = NSGA2(seed=seed)
        if not hasattr(strategy, "suggest"):
            raise HostError(f"Sampler(strategy={strategy!r}): a strategy has a method suggest(problem, trials, n)")
        if space is not None and not hasattr(space, "decide"):
            raise HostError(f"Sampler(space={space!r}): pass a class that derives from nas_bo.Space, or None")
        self.space, self.strategy, self.seed, self.objectives = space, strategy, seed, objectives
        self._distributions = distributions(space) if space is not None else None
        self._warned = False

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if self._distributions is not None:
            return dict(self._distributions)
        return optuna.search_space.IntersectionSearchSpace().calculate(study)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        view = (
            _Own(self.space)
            if self.space is not None and search_space == self._distributions
            else _Foreign(search_space)
        )
        try:
            return self._propose(study, trial, view)
        except NasBoError as error:  # never out of the middle of the user's objective
            self._warn(f"{type(self.strategy).__name__} could not propose ({error}); drawing at random instead")
            return view.params(view.space.sample(self._integer_seed(trial.number, "")))

    def _propose(self, study: Study, trial: FrozenTrial, view: _Own | _Foreign) -> dict[str, Any]:
        cols = columns(study)
        objectives = list(self.objectives or [Reported(c.name, direction=c.direction) for c in cols])
        if len(objectives) != len(cols):
            raise HostError(
                f"the sampler was given {len(objectives)} objectives, but the study has {len(cols)} directions"
            )
        problem = Problem(view.space, objectives)
        trials, unknown = [], 0
        for frozen in study.get_trials(deepcopy=False):
            if frozen.number >= trial.number:
                continue
            ours = view.trial(frozen, problem.columns)
            if ours is not None:
                trials.append(ours)
            elif frozen.state is TrialState.RUNNING:
                unknown += 1  # started a moment ago by another thread or process; it gets the proposals before ours
        proposals = self.strategy.suggest(problem, trials, unknown + 1)
        if not proposals:
            self._warn("every architecture of the space has been proposed; repeating at random")
            return view.params(view.space.sample(self._integer_seed(trial.number, "")))
        return view.params(proposals[-1])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        own = RandomSampler(seed=self._integer_seed(trial.number, param_name))
        return own.sample_independent(study, trial, param_name, param_distribution)

    def _integer_seed(self, number: int, name: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{number}/{name}".encode()).digest()[:4], "big")

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(message)


class _Own:
    """A study seen through the space that the user named."""

    def __init__(self, space: type[Space]) -> None:
        self.space = space

    def trial(self, frozen: FrozenTrial, cols: Sequence[Column]) -> Trial | None:
        return from_frozen(frozen, self.space, cols)

    def params(self, arch: Architecture) -> dict[str, Any]:
        return dict(arch.flat)


class _Foreign:
    """A study seen through a flat space made of Optuna's own distributions; categoricals stand by their index."""

    def __init__(self, search_space: dict[str, BaseDistribution]) -> None:
        self._names = {f"p{i}": name for i, name in enumerate(sorted(search_space))}
        self._dists = search_space
        fields: dict[str, Any] = {field: _domain(search_space[name]) for field, name in self._names.items()}
        self.space = Space.of("OptunaParameters", **fields)

    def trial(self, frozen: FrozenTrial, cols: Sequence[Column]) -> Trial | None:
        if not all(frozen.distributions.get(name) is not None for name in self._names.values()):
            return None
        flat = {}
        for field, name in self._names.items():
            if not self._dists[name]._contains(self._dists[name].to_internal_repr(frozen.params[name])):
                return None
            flat[field] = _encode(self._dists[name], frozen.params[name])
        try:
            arch = self.space.architecture(flat)
        except SpaceError:
            return None
        values = {}
        if frozen.state is TrialState.COMPLETE and frozen.values is not None:
            values = {c.name: float(v) for c, v in zip(cols, frozen.values, strict=True)}
        if frozen.state not in STATES:
            return None
        return Trial(arch, values, dict(frozen.constraints), STATES[frozen.state], number=frozen.number)

    def params(self, arch: Architecture) -> dict[str, Any]:
        return {name: _decode(self._dists[name], arch.flat[field]) for field, name in self._names.items()}


def _domain(dist: BaseDistribution) -> Domain:
    if isinstance(dist, CategoricalDistribution):
        return choice(*range(len(dist.choices)), ordered=False)
    if isinstance(dist, IntDistribution):
        return integer(dist.low, dist.high, step=dist.step, log=dist.log)
    assert isinstance(dist, FloatDistribution)
    if dist.step is not None:
        return integer(0, round((dist.high - dist.low) / dist.step))
    return real(dist.low, dist.high, log=dist.log)


def _encode(dist: BaseDistribution, value: Any) -> Any:
    if isinstance(dist, CategoricalDistribution):
        return int(dist.to_internal_repr(value))
    if isinstance(dist, FloatDistribution) and dist.step is not None:
        return round((value - dist.low) / dist.step)
    return value


def _decode(dist: BaseDistribution, value: Any) -> Any:
    if isinstance(dist, CategoricalDistribution):
        return dist.choices[value]
    if isinstance(dist, FloatDistribution) and dist.step is not None:
        return min(dist.high, dist.low + value * dist.step)
    return value
