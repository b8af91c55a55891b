"""`Sampler`: a nas_bo strategy as an Optuna sampler, on our spaces and on any other."""

from __future__ import annotations

import hashlib
import logging
import math
import random
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from operator import attrgetter
from typing import Any, Literal, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_bo.architecture import Architecture
from nas_bo.errors import HostError, SearchError
from nas_bo.execution import preflight
from nas_bo.optuna.bridge import distributions
from nas_bo.optuna.coding import check_exact, exact, fitting
from nas_bo.optuna.inferred.study_space import Evidence, View, flat_view
from nas_bo.optuna.reading import columns
from nas_bo.problem import Objective, Problem, Reported, as_objective
from nas_bo.seeds import Seed, whole_seed
from nas_bo.space import Space
from nas_bo.space.extend import Projected
from nas_bo.space.space import is_space
from nas_bo.space.steer import steered
from nas_bo.strategies.strategy import Strategy
from nas_bo.strategies.variation import build
from nas_bo.trial import State, Trial
from nas_bo.wording import counted

STARTING = timedelta(seconds=60)  # how long a running trial may take to ask for its parameters
MOST_PROBLEMS = 64  # with other parameters fixed each, remembered per study
MOST_STARTING = 15  # trials starting at the same moment that get proposals of the strategy; the rest are drawn

_log = logging.getLogger(__name__)


class Sampler(BaseSampler):
    """A nas_bo strategy as an Optuna sampler.

    With a `space` all of its active parameters are proposed together from the first trial on, conditional ones
    included. Without one, the parameters of all complete trials are searched, and what is there under which condition
    is learned from them: lists such as ``n_head_0``, ``n_head_1``, ... whose length is another parameter, and
    parameters that exist for some values of another. In both cases the user's own parameters (``lr``) are proposed
    together with the rest once a complete trial had them; what is asked for without a proposal is drawn at random.
    What is fixed in advance (``enqueue_trial``, `PartialFixedSampler`) stays, and the rest is searched given it.

    The sampler keeps no state: everything is rebuilt from the study, so it may be replaced, resumed, shared by
    threads and used by several processes. The same seed and the same trials give the same proposal. It never raises
    in the middle of an objective: a strategy that fails is logged once, and the trial is drawn at random.

    Random start-up trials belong to the strategy (``NSGA2(startup=10)``), so there is no ``n_startup_trials``.

    Args:
        space: the search space that the objective passes to `suggest`.
        strategy: any object with ``suggest(problem, trials, n)``; by default "auto": `Bayes`, beyond some thousands of trials
            `NSGA2` (see `nas_bo.strategies.auto`).
        seed: seed of the independent draws, and of the default strategy; None for another one every time.
        objectives: the objectives in the order of the study's directions, where the strategy may use what is known
            about them without evaluating (parameter counts, predicted latencies). They get architectures of `space`.
        limits: objectives of `space` that are not values of the study, only kept within their ``at_most`` / ``at_least``.
        constraints_func: as in Optuna's own samplers, which deprecate it: called after every trial, returns one number
            for each constraint, above 0 where it is violated. `optuna.trial.Trial.set_constraint` says the same.

    Raises:
        HostError: a strategy or space that is none, or objectives or limits without a space.
    """

    def __init__(
        self,
        space: type[Space] | None = None,
        strategy: Strategy | Literal["auto"] | None = None,
        *,
        seed: Seed = 0,
        objectives: Sequence[Objective] | None = None,
        limits: Sequence[Objective] = (),
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        seed = whole_seed(seed, "Sampler", HostError)
        if strategy is None or strategy == "auto":
            from nas_bo.strategies import Auto

            strategy = Auto(seed=seed)
        if isinstance(strategy, type) or not isinstance(strategy, Strategy):
            raise HostError(f"Sampler(strategy={strategy!r}): a strategy has a method suggest(problem, trials, n)")
        if space is not None and not is_space(space):
            raise HostError(f"Sampler(space={space!r}): pass a class that derives from nas_bo.Space, or None")
        if space is not None:
            distributions(space)  # refuses what Optuna cannot hold
        if space is None and (objectives is not None or limits):
            raise HostError(
                "Sampler(objectives=..., limits=...) are functions of architectures: name their space as well"
            )
        self.space, self.strategy, self.seed = space, strategy, seed
        self.objectives = None if objectives is None else [as_objective(o) for o in objectives]
        self.limits = [as_objective(o) for o in limits]
        if space is not None and self.objectives:
            preflight.check(Problem(space, self.objectives, self.limits), "Sampler", again=True)
        if constraints_func is not None and not callable(constraints_func):
            raise HostError(f"Sampler(constraints_func={constraints_func!r}): pass a function of a finished trial")
        self.constraints_func = constraints_func
        self._forget()

    def _forget(self) -> None:
        self._evidence: WeakKeyDictionary[Study, Evidence] = WeakKeyDictionary()
        self._said: set[str] = set()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update({"constraints_func": None, **state})
        self._forget()

    # ---- what Optuna asks ---------------------------------------------------------------------------------------

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        try:
            return dict(self._view(study, trial).offered)  # a copy: PartialFixedSampler removes from it
        except Exception as error:
            self._warn(f"the parameters of the study could not be arranged ({type(error).__name__}: {error})")
            return {} if self.space is None else distributions(self.space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, object]:
        if not search_space:
            return {}
        try:  # whatever happens: nothing may be raised in the middle of the user's objective
            view = self._view(study, trial)
            ours = search_space == view.offered
            if not ours and any(view.offered.get(name) != dist for name, dist in search_space.items()):
                view = flat_view(search_space)
            with view.asking:
                chosen = view.propose(trial.number, self._choose(study, trial, view))
            proposed = view.params(chosen)
        except Exception as error:
            self._warn(f"no proposal could be made ({type(error).__name__}: {error}); drawing at random")
            return {}
        found = {name: proposed.pop(name) for name in list(proposed) if name in search_space}
        if proposed:  # values of parameters that no trial had so far
            self._known(study).hint(trial.number, proposed)
        if not ours:  # somebody who asks for these parameters in particular wants all of them
            found |= {
                name: self.sample_independent(study, trial, name, dist)
                for name, dist in search_space.items()
                if name not in found
            }
        return found

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> object:
        hints = self._known(study).hints.get(trial.number, {})
        if param_name in hints:
            with suppress(ValueError):
                return fitting(param_distribution, hints[param_name])
        own = RandomSampler(seed=self._integer_seed(trial.number, param_name))
        drawn = own.sample_independent(study, trial, param_name, param_distribution)
        if not isinstance(param_distribution, IntDistribution):
            return drawn
        held = exact(param_distribution, drawn)
        if held is None:
            check_exact(param_distribution, param_name)
        return drawn if held is None else held

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        if self.constraints_func is None or state not in (TrialState.COMPLETE, TrialState.PRUNED):
            return
        found = [float(amount) for amount in self.constraints_func(trial)]
        if any(math.isnan(amount) for amount in found):
            raise HostError(
                f"constraints_func gave {found!r} for trial {trial.number}: NaN is not an amount of a violation"
            )
        _whole(study)._storage.set_trial_system_attr(trial._trial_id, "constraints", found)

    # ---- a proposal ---------------------------------------------------------------------------------------------

    def _choose(self, study: Study, trial: FrozenTrial, view: View) -> Architecture:
        """An architecture for `trial`: what the strategy proposes, or a random one, with what the user fixed."""
        rng = random.Random(self._integer_seed(trial.number, ""))
        fixed = view.fixed(_fixed(study, trial))
        arch = None
        try:
            arch = self._ask(study, trial, view, fixed)
        except Exception as error:
            self._warn(
                f"{type(self.strategy).__name__} could not propose ({type(error).__name__}: {error}); drawing at random "
                "instead"
            )
        if arch is None:
            arch = view.space.sample(rng)
        return build(view.space, {**arch.flat, **fixed}, rng) if fixed else arch

    def _ask(self, study: Study, trial: FrozenTrial, view: View, fixed: Mapping[str, object]) -> Architecture | None:
        problem = self._problem(study, view, steered(view.space, {path: (value,) for path, value in fixed.items()}))
        memory = view.memory(problem.columns)
        before = _before(study, trial)
        # what has ended is the same at every ask; a pruner may show a part of the study only
        settled = view.settled.setdefault(problem.columns, []) if _whole(study) is study else []
        history = [ours for ours in settled[: len(before)] if ours is not None]
        starting = 0  # trials of other threads and processes that ask in this moment; they get the proposals before those of the strategy
        for place, frozen in enumerate(before[len(settled) :], len(settled)):
            ours = view.trial(frozen, problem.columns, memory)
            if ours is None and frozen.state is TrialState.RUNNING:
                if _starts_with(frozen, trial):
                    starting += 1
                else:  # it asks late for some parameters, or died
                    ours = view.trial(frozen, problem.columns, memory, partly=True)
            if place == len(settled) and frozen.state.is_finished():
                settled.append(ours)
            if ours is not None:
                history.append(ours)
        for number, arch in view.proposed.items():
            if number > trial.number:  # another thread of this process was faster
                history.append(Trial(arch, {}, {}, State.RUNNING, number=number))
        if starting > MOST_STARTING:
            return None
        proposals = self.strategy.suggest(problem, history, starting + 1)
        if not proposals:
            self._warn("every architecture of the space has been proposed; repeating at random")
            return None
        proposal = proposals[-1]
        if not isinstance(proposal, Architecture):
            raise SearchError(f"a strategy suggests architectures, not {proposal!r}")
        return proposal

    def _problem(self, study: Study, view: View, space: type[Space]) -> Problem:
        cols = columns(_whole(study))
        made = view.problems.get((cols, space))
        if made is not None:
            return made
        objectives: list[Objective] = [Reported(c.name, direction=c.direction) for c in cols]
        if self.objectives is not None:
            if len(self.objectives) != len(cols):
                raise HostError(
                    f"the sampler was given {counted(len(self.objectives), 'objective')}, but the study has {counted(len(cols), 'direction')}"
                )
            objectives = list(self.objectives)
            for told, column in zip(objectives, cols, strict=True):
                if told.direction != column.direction:
                    raise HostError(
                        f"the objective {told.name!r} of the sampler says {told.direction}, the study says "
                        f"{column.direction}; set its direction"
                    )
            objectives = [Projected(o, view.project) for o in objectives]
        if len(view.problems) >= MOST_PROBLEMS:
            view.problems.clear()
        limits = [Projected(o, view.project) for o in self.limits]
        return view.problems.setdefault((cols, space), Problem(space, objectives, limits))

    def _known(self, study: Study) -> Evidence:
        return self._evidence.setdefault(_whole(study), Evidence(self.space))

    def _view(self, study: Study, trial: FrozenTrial) -> View:
        """What exists when is learned from all trials, also where a pruner shows those of one bracket only."""
        return self._known(study).view(_before(_whole(study), trial))

    def _integer_seed(self, number: int, name: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{number}/{name}".encode()).digest()[:4], "big")

    def _warn(self, message: str) -> None:
        if message not in self._said and len(self._said) < 100:
            self._said.add(message)
            _log.warning(message)


def _before(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """The trials with smaller numbers; Optuna gives them in the order of their numbers."""
    trials = study.get_trials(deepcopy=False)
    return trials[: bisect_left(trials, trial.number, key=attrgetter("number"))]


@runtime_checkable
class _PartOfStudy(Protocol):
    """What Optuna's Hyperband passes on instead of a study."""

    _study: Study


def _whole(study: Study) -> Study:
    """The study itself, where a pruner such as Hyperband passes on a part of it, made again for every question."""
    return study._study if isinstance(study, _PartOfStudy) else study


def _fixed(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that are fixed in advance: enqueued with the trial, or by Optuna's wrapper around the sampler."""
    found = dict(trial.system_attrs.get("fixed_params", {}))
    outer: BaseSampler | None = study.sampler
    while isinstance(outer, PartialFixedSampler):  # the outermost decides
        found = {**outer._fixed_params, **found}
        outer = outer._base_sampler
    return found


def _starts_with(other: FrozenTrial, trial: FrozenTrial) -> bool:
    """Whether `other` began so short a time before `trial` that it may still be asking for its parameters."""
    if other.datetime_start is None or trial.datetime_start is None:
        return True
    return trial.datetime_start - other.datetime_start < STARTING
