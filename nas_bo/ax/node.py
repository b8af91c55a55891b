"""One of our strategies as a generation node of Ax. Imports ax: loaded on first use only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ax.core.arm import Arm
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.generator_run import GeneratorRun
from ax.generation_strategy.external_generation_node import ExternalGenerationNode
from ax.generation_strategy.transition_criterion import TransitionCriterion
from ax.storage.json_store.registry import CORE_DECODER_REGISTRY, CORE_ENCODER_REGISTRY

from nas_bo import measurement_lock
from nas_bo.architecture import Architecture, Primitive
from nas_bo.ax import packing
from nas_bo.ax.inferred.study_space import View, view
from nas_bo.ax.lowering import parameters
from nas_bo.ax.problem import AxProblem, history, problem
from nas_bo.errors import NasBoError, SearchError
from nas_bo.objective import Objective
from nas_bo.space import Space
from nas_bo.strategies.strategy import Seeded, Strategy, admissible, fresh, generator, seen_ids
from nas_bo.strategies.variation import build
from nas_bo.trial import State, Trial
from nas_bo.wording import counted

Wanted = Objective | Callable[[Architecture], float]
NAME = "nas_bo"
MORE = 16  # suggestions asked for when the first one cannot be used
TRIES = 200  # random architectures before giving up


class NasBoNode(ExternalGenerationNode):  # type: ignore[misc]
    """Hands the experiment to a strategy as problem and history, and its suggestion to Ax.

    Ax validates nothing that a node returns and replaces a repeated candidate silently by a Sobol point; so every
    candidate is checked here against the space, the experiment's search space, and all earlier arms.
    Nothing is kept between calls but what Ax sets before each of them, and memos that change no result.
    """

    def __init__(
        self, space: type[Space] | None, strategy: Strategy, objectives: Sequence[Wanted] = (), **more: object
    ) -> None:
        super().__init__(name=NAME, **more)
        self.space, self.strategy, self.objectives = space, strategy, tuple(objectives)
        if space is not None:
            parameters(space)  # raises where Ax cannot hold it
        self._fixed: Mapping[str, Primitive] = {}
        self._seen_as: tuple[str, View] | None = None

    def update_generator_state(self, experiment: Experiment, data: Data) -> None:
        self._experiment = experiment
        self._view = self._view_of(experiment)
        self._problem = problem(self._view, experiment, self.objectives)
        self._history = history(self._problem, self._view, experiment, data)

    def _view_of(self, experiment: Experiment) -> View:
        """The same view, and so the same space, as long as the search space stays the same."""
        key = repr((experiment.search_space, [p.default_value for p in experiment.search_space.parameters.values()]))
        if self._seen_as is None or self._seen_as[0] != key:
            self._seen_as = key, view(experiment.search_space, self.space)
        return self._seen_as[1]

    def _gen(self, experiment: Experiment, *args: object, **kwargs: Any) -> GeneratorRun:
        fixed = kwargs.get("fixed_features")
        self._fixed = {} if fixed is None else dict(fixed.parameters)
        return super()._gen(experiment, *args, **kwargs)

    def get_next_candidate(self, pending_parameters: list[dict[str, Primitive]]) -> dict[str, Primitive]:
        wanted = self._problem.on(self._view.fixed(self._fixed))
        taken = set(self._experiment.arms_by_signature)
        trials = list(self._history)
        for pending in pending_parameters:
            signature = Arm(parameters=pending).signature
            if signature not in taken:
                taken.add(signature)
                try:
                    arch = self._view.architecture(pending)
                except NasBoError:  # suggested by another node, for parameters that are not of nas_bo
                    continue
                trials.append(Trial(arch, state=State.RUNNING, number=len(trials)))
        for arch in self._suggestions(wanted, trials):
            found = self._view.params(arch)
            if Arm(parameters=found).signature not in taken and self._experiment.search_space.check_membership(found):
                return found
        with_fixed = f" with {self._fixed!r}" if self._fixed else ""
        raise SearchError(
            f"nothing is left to suggest in {wanted.space.title}{with_fixed}: all architectures that its rules, the "
            f"limits and the parameter constraints of the Ax experiment admit are among its {counted(len(trials), 'trial')}, or "
            "these rules admit almost nothing. Stop here, widen the space, or loosen the constraints"
        )

    def _suggestions(self, wanted: AxProblem, trials: list[Trial]) -> Iterator[Architecture]:
        """The strategy's choice; where Ax cannot use it, its further ones, and then random ones."""
        rng = generator("ax", self.strategy.seed if isinstance(self.strategy, Seeded) else 0, len(trials))
        seen = seen_ids(trials)
        for n in (1, MORE):
            with measurement_lock.working():  # as in `search`: no fit during a measurement of a runner's processes
                proposed = self.strategy.suggest(wanted, trials, n)
            for arch in proposed:
                self._check(arch)
                arch = build(wanted.space, arch.flat, rng)  # a strategy that ignores what is fixed is repaired
                if arch.id not in seen and admissible(wanted, arch):
                    seen.add(arch.id)
                    yield arch
        for _ in range(TRIES):
            another = fresh(wanted, seen, rng)
            if another is None:
                return
            seen.add(another.id)
            yield another

    def _check(self, arch: Architecture) -> None:
        inside = self._view.space.contains(arch)
        if not inside:
            raise SearchError(
                f"the strategy {self.strategy!r} suggested {arch!r}, which does not belong to {self._view.space.title}: "
                f"{inside.reason}. Correct the strategy; nas_bo.testing has a conformance suite for it"
            )


def _to_json(node: NasBoNode) -> dict[str, object]:
    state = {"space": node.space, "strategy": node.strategy, "objectives": node.objectives}
    found = {"__type": NasBoNode.__name__, "state": packing.to_text(state)}
    return {**found, "transition_criteria": list(node.transition_criteria)} if node.transition_criteria else found


def _from_json(state: str, transition_criteria: list[TransitionCriterion] | None = None, **_: object) -> NasBoNode:
    return NasBoNode(**packing.from_text(state), transition_criteria=transition_criteria)


CORE_ENCODER_REGISTRY[NasBoNode] = _to_json
CORE_DECODER_REGISTRY[NasBoNode.__name__] = _from_json
