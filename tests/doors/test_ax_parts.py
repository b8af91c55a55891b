"""Objectives made of parts in an Ax experiment: their limits count, and the noise of measured parts is not followed."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("ax")

from ax.api.client import Client
from ax.api.configs import RangeParameterConfig

from nas_bo import ax as nas_ax
from nas_bo.architecture import Architecture
from nas_bo.objectives import Weighted
from nas_bo.problem import Value
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.strategies import NSGA2, Bayes
from nas_bo.strategies.strategy import guide
from nas_bo.trial import State, Trial
from tests.doors.test_ax_study_space import Spy

logging.getLogger("ax").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


class Stack(Space):
    depth = integer(1, 6)
    width = choice(8, 16, 24, 32)
    layers = repeat(depth, heads=choice(1, 2, 4))


@dataclass(frozen=True)
class Weights:
    at_most: float | None = None
    name: str = "weights"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "analytic"

    def __call__(self, arch: Architecture) -> float:
        assert set(arch.tree) == {"depth", "width", "layers"}, "parts know the user's space only"
        return float(arch.width * arch.depth)


@dataclass(frozen=True)
class Delay:
    at_most: float | None = None
    name: str = "delay_ms"
    unit: str = "ms"
    direction: str = "minimize"
    cost: str = "measured"

    def predict(self, arch: Architecture) -> float:
        return float(arch.depth)

    def __call__(self, arch: Architecture) -> Value:
        return Value(arch.depth + 100.0, how="measured")  # noise beyond measure


@dataclass(frozen=True)
class Loss:
    name: str = "loss"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "trained"

    def __call__(self, arch: Architecture) -> float:
        return 3.0 - math.log(arch.width)


def weighted(**limits: float) -> Weighted:
    parts = [(1.0, Loss()), (0.1, Delay(limits.get("delay"))), (0.0, Weights(limits.get("weights")))]
    return Weighted(parts, name="score")


def a_client(objective: str, given: list[Any], strategy: Any, more: bool) -> Client:
    client = Client(random_seed=0)
    own = [RangeParameterConfig("lr", (0.0, 1.0), "float")] if more else []
    client.configure_experiment(parameters=[*nas_ax.parameters(Stack), *own])
    client.configure_optimization(objective=objective)
    client.set_generation_strategy(nas_ax.generation(Stack, strategy, given))
    return client


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("strategy", [NSGA2(seed=0, population=4, startup=3), Bayes(startup=3, candidates=60)])
def test_candidates_keep_the_exact_limits_of_parts(strategy: Any, more: bool) -> None:
    client = a_client("-score", [weighted(weights=64.0)], strategy, more)
    for _ in range(10):
        ((index, params),) = client.get_next_trials(1).items()
        arch = nas_ax.architecture(Stack, params)
        assert Weights()(arch) <= 64.0
        client.complete_trial(index, {"score": Loss()(arch)})


@pytest.mark.parametrize("more", [False, True])
def test_limits_of_parts_and_what_is_measured_of_them(more: bool) -> None:
    spy, given = Spy(), weighted(weights=128.0, delay=3.0)
    client = a_client("-score", [given], spy, more)
    suggested = client.get_next_trials(3)
    archs = {index: nas_ax.architecture(Stack, params) for index, params in suggested.items()}
    told = {0: 2.0, 1: 5.0}
    for index, delay in told.items():
        info = {"score": {"parts": {"loss": 1.0, "delay_ms": delay, "weights": Weights()(archs[index])}}}
        nas_ax.tell(client, index, Trial(archs[index], {"score": 1.0 + 0.1 * delay}, info=info))
    client.complete_trial(2, {"score": 1.5})  # nothing is known of its parts but what can be computed
    client.get_next_trials(1)

    assert {"weights<=128", "delay_ms<=3"} <= set(spy.problem.constraint_names)
    assert spy.problem.exact_constraints == {"weights<=128"}
    first, second, third = spy.trials[:3]
    assert first.feasible and first.violations["delay_ms<=3"] == 0.0
    assert not second.feasible and second.violations["delay_ms<=3"] == 2.0
    assert third.feasible and third.violations["weights<=128"] == 0.0


@pytest.mark.parametrize("more", [False, True])
def test_the_noise_of_measured_parts_is_not_followed(more: bool) -> None:
    spy = Spy()
    client = a_client("-score", [weighted()], spy, more)
    archs = {i: nas_ax.architecture(Stack, params) for i, params in client.get_next_trials(3).items()}
    for index in (0, 1):
        value = weighted()(archs[index])
        nas_ax.tell(client, index, Trial(archs[index], {"score": float(value)}, info={"score": value.info}))
    client.complete_trial(2, {"score": 7.0})
    client.get_next_trials(1)
    for trial in spy.trials[:2]:
        arch = archs[trial.number]
        (value,) = guide(spy.problem, trial)
        assert value == pytest.approx(Loss()(arch) + 0.1 * arch.depth)
        assert trial.values["score"] == pytest.approx(value + 10.0)
    assert guide(spy.problem, spy.trials[2]) == pytest.approx([7.0]), "without the parts it is what was told"


def test_objectives_without_parts_have_no_steering() -> None:
    spy = Spy()
    client = a_client("-score, -loss", [Loss()], spy, more=False)
    client.get_next_trials(1)
    assert not any(hasattr(o, "steer") for o in spy.problem.objectives)
    assert all(getattr(o, "predict", None) is None for o in spy.problem.objectives)
    assert spy.problem.objectives[1](Stack.sample(0)) == Loss()(Stack.sample(0))
    assert {t.state for t in spy.trials} <= {State.RUNNING}
