"""One of our strategies as a generation node of Ax. Imports ax: loaded on first use only."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ax.core.arm import Arm
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.generator_run import GeneratorRun
from ax.core.parameter import ChoiceParameter, DerivedParameter, FixedParameter, Parameter, RangeParameter
from ax.core.search_space import SearchSpace
from ax.generation_strategy.external_generation_node import ExternalGenerationNode
from ax.storage.json_store.registry import CORE_DECODER_REGISTRY, CORE_ENCODER_REGISTRY

from nas_bo.architecture import Architecture
from nas_bo.ax import packing
from nas_bo.ax.lowering import architecture, parameters, params
from nas_bo.ax.wanted import history, problem
from nas_bo.errors import HostError, NasBoError, SearchError
from nas_bo.space import Space
from nas_bo.strategies.strategy import Strategy, fresh, generator
from nas_bo.trial import State, Trial, front

NAME = "nas_bo"
MORE = 16  # suggestions asked for when the first one cannot be used
TRIES = 200  # random architectures, or draws of foreign parameters, before giving up
NEAR_FRONT = 0.5  # probability that foreign parameters are drawn around those of a trial on the front
SPREAD = 0.1  # standard deviation of such a step, in widths of the range
KEEP = 0.8  # probability that such a step keeps the value of a choice


class NasBoNode(ExternalGenerationNode):  # type: ignore[misc]
    """Hands the experiment to a strategy as problem and history, and its suggestion to Ax.

    Ax validates nothing that a node returns and replaces a repeated candidate silently by a Sobol point; so every
    candidate is checked here against the space, the experiment's search space, and all earlier arms.
    Nothing is kept between calls but what Ax sets before each of them.
    """

    def __init__(self, space: type[Space], strategy: Strategy, objectives: Sequence[Any] = ()) -> None:
        super().__init__(name=NAME)
        self.space, self.strategy, self.objectives = space, strategy, tuple(objectives)
        self._ours = frozenset(config.name for config in parameters(space))
        self._fixed: Mapping[str, Any] = {}

    def update_generator_state(self, experiment: Experiment, data: Data) -> None:
        missing = sorted(self._ours - set(experiment.search_space.parameters))
        if missing:
            raise HostError(
                f"the Ax experiment has no parameter {missing[0]!r} (and {len(missing) - 1} more of "
                f"{len(self._ours)} are "
                f"missing), so it was not configured for {self.space.title}; use "
                "client.configure_experiment(parameters=[*nas_bo.ax.parameters(space), ...])"
            )
        self._experiment = experiment
        self._problem = problem(self.space, experiment, self.objectives)
        self._history = history(self._problem, experiment, data)

    def _gen(self, experiment: Experiment, *args: Any, **kwargs: Any) -> GeneratorRun:
        fixed = kwargs.get("fixed_features")
        self._fixed = {} if fixed is None else dict(fixed.parameters)
        ours = sorted(self._ours & set(self._fixed))
        if ours:
            raise HostError(
                f"fixed_parameters={{{ours[0]!r}: ...}} cannot be obeyed: a strategy suggests whole architectures of "
                f"{self.space.title}. Derive a space with that field replaced by a constant; your own parameters "
                "can be fixed"
            )
        return super()._gen(experiment, *args, **kwargs)

    def get_next_candidate(self, pending_parameters: list[dict[str, Any]]) -> dict[str, Any]:
        taken = set(self._experiment.arms_by_signature)
        trials = list(self._history)
        for pending in pending_parameters:
            signature = Arm(parameters=pending).signature
            if signature not in taken:
                taken.add(signature)
                try:
                    arch = architecture(self.space, pending)
                except NasBoError:  # suggested by another node, for parameters that are not ours
                    continue
                trials.append(Trial(arch, state=State.RUNNING, number=len(trials)))
        rng = generator("ax", getattr(self.strategy, "seed", 0), len(trials))
        search_space = self._experiment.search_space
        foreign = set(search_space.parameters) - self._ours
        for arch in self._suggestions(trials, rng, bool(foreign)):
            mine = params(self.space, arch)
            for _ in range(TRIES if foreign else 1):
                found = {**mine, **self._foreign(search_space, trials, rng)} if foreign else mine
                if Arm(parameters=found).signature not in taken and search_space.check_membership(found):
                    return found
        raise SearchError(
            f"nothing is left to suggest in {self.space.title}: all architectures that its rules, the limits and "
            "the parameter "
            f"constraints of the Ax experiment admit are among its {len(trials)} trials, or these rules admit "
            "almost nothing. "
            "Stop here, widen the space, or loosen the constraints"
        )

    def _suggestions(self, trials: list[Trial], rng: random.Random, repeat: bool) -> Iterator[Architecture]:
        """The strategy's choice; where Ax cannot use it, its further ones, and then random ones.

        With `repeat`, architectures that were tried already come last, since other parameters can still vary.
        """
        seen = {t.architecture.id for t in trials}
        for n in (1, MORE):
            for arch in self.strategy.suggest(self._problem, trials, n):
                inside = self.space.contains(arch)
                if not inside:
                    raise SearchError(
                        f"the strategy {self.strategy!r} suggested {arch!r}, which does not belong to "
                        f"{self.space.title}: "
                        f"{inside.reason}. Correct the strategy; nas_bo.testing has a conformance suite for it"
                    )
                if arch.id not in seen:
                    seen.add(arch.id)
                    yield arch
        for _ in range(TRIES):
            another = fresh(self._problem, seen, rng)
            if another is None:
                break
            seen.add(another.id)
            yield another
        if repeat:
            again = [t.architecture for t in front(trials, self._problem.columns)] or [t.architecture for t in trials]
            yield from rng.sample(again, len(again))

    def _foreign(self, search_space: SearchSpace, trials: list[Trial], rng: random.Random) -> dict[str, Any]:
        """Values for the parameters of the experiment that are not ours.

        Half of the time uniform (log-uniform on a log scale), otherwise a step away from a trial on the front.
        """
        near: Mapping[str, Any] = {}
        best = front(trials, self._problem.columns)
        if best and rng.random() < NEAR_FRONT:
            chosen = best[int(rng.random() * len(best))]
            near = next(
                arm.parameters
                for arm in self._experiment.trials[chosen.number].arms
                if architecture(self.space, arm.parameters).id == chosen.architecture.id
            )
        found: dict[str, Any] = {}
        derived: list[DerivedParameter] = []
        waiting = [p for name, p in search_space.top_level_parameters.items() if name not in self._ours]
        while waiting:
            parameter = waiting.pop(0)
            if isinstance(parameter, DerivedParameter):
                derived.append(parameter)
                continue
            value = self._fixed.get(parameter.name)
            if value is None:
                value = _draw(parameter, near.get(parameter.name), rng)
            found[parameter.name] = value
            if parameter.is_hierarchical:
                waiting += [search_space.parameters[name] for name in parameter.dependents.get(value, [])]
        for parameter in derived:
            found[parameter.name] = parameter.compute({**near, **found})
        return found


def _draw(parameter: Parameter, near: Any, rng: random.Random) -> Any:
    """A value of one parameter, a step from `near` where that is given."""
    if parameter.is_disabled:
        return parameter.default_value
    if isinstance(parameter, FixedParameter):
        return parameter.value
    if isinstance(parameter, ChoiceParameter):
        if near is not None and rng.random() < KEEP:
            return near
        return parameter.values[int(rng.random() * len(parameter.values))]
    if not isinstance(parameter, RangeParameter):
        raise HostError(
            f"the parameter {parameter!r} of the Ax experiment is of a kind that nas_bo does not know how to draw"
        )
    forth, back = (math.log, math.exp) if parameter.log_scale else (float, float)
    low, high = forth(parameter.lower), forth(parameter.upper)
    at = rng.random() if near is None else rng.gauss((forth(near) - low) / (high - low), SPREAD)
    value = min(parameter.upper, max(parameter.lower, back(low + at * (high - low))))
    return parameter.cast(round(value) if parameter.python_type is int else value)


def _to_json(node: NasBoNode) -> dict[str, Any]:
    state = {"space": node.space, "strategy": node.strategy, "objectives": node.objectives}
    return {"__type": NasBoNode.__name__, "state": packing.to_text(state)}


def _from_json(state: str, **_: Any) -> NasBoNode:
    return NasBoNode(**packing.from_text(state))


CORE_ENCODER_REGISTRY[NasBoNode] = _to_json
CORE_DECODER_REGISTRY[NasBoNode.__name__] = _from_json

__all__ = ["NasBoNode"]
