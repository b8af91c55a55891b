"""Bayes goes on sensibly after histories that hold something absurd: the regret is at most half as large again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from nas_bo.architecture import Architecture
from nas_bo.pareto import hypervolume
from nas_bo.problem import Function, Problem
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.strategies import Bayes
from nas_bo.trial import State, Trial

POINT = np.array([4.5, 8.0])
BEST = 16.0954  # the hypervolume of the front of all 1,800 architectures
TRIALS = 18
SEEDS = (0, 1)


class Layers(Space):
    width = choice(1, 2, 3, 4, 5)
    layers = repeat(integer(2, 5), mixer=choice("attention", "conv", "skip"))


class Single(Space):
    """The same with choices that are none."""

    family = choice("gpt")
    width = choice(1, 2, 3, 4, 5)
    rate = integer(3, 3)
    layers = repeat(integer(2, 5), mixer=choice("attention", "conv", "skip"), norm=choice("rms"))


def loss(arch: Architecture) -> float:
    worth = {"attention": 1.0, "conv": 0.7, "skip": 0.1}
    power = sum(worth[layer.mixer] * (1.2 if i % 2 else 0.9) for i, layer in enumerate(arch.layers))
    return 1.0 + 3.0 / (1.0 + 0.6 * power) + 0.8 / arch.width


def cost(arch: Architecture) -> float:
    each = {"attention": 1.0, "conv": 0.5, "skip": 0.05}
    return 0.3 * arch.width + sum(each[layer.mixer] for layer in arch.layers)


def problem(space: type[Space] = Layers, *more: Callable[[Architecture], float]) -> Problem:
    return Problem(space, [Function(loss, "loss"), Function(cost, "ms"), *(Function(f, f.__name__) for f in more)])


def absurd(trials: list[Trial]) -> list[Trial]:
    first = trials[1]
    return [trials[0], replace(first, values={**first.values, "loss": 1e12}), *trials[2:]]


def absurdly_good(trials: list[Trial]) -> list[Trial]:
    first = trials[1]
    return [trials[0], replace(first, values={**first.values, "loss": -1e12}), *trials[2:]]


def same(trials: list[Trial]) -> list[Trial]:
    return [trials[0]] * 300 + trials[1:]


def constant(arch: Architecture) -> float:
    return 1.0


def again(arch: Architecture) -> float:
    return loss(arch)


def regret(problem: Problem, spoil: Callable[[list[Trial]], list[Trial]] | None, seed: int) -> float:
    strategy, trials = Bayes(seed=seed, candidates=120), list[Trial]()
    while len(trials) < TRIALS:
        shown = trials if spoil is None or len(trials) < 9 else spoil(trials)
        trials.append(problem.evaluate(strategy.suggest(problem, shown, 1)[0]))
    assert all(t.state is State.COMPLETE for t in trials)
    return 1 - hypervolume(np.array([[t.values["loss"], t.values["ms"]] for t in trials]), POINT) / BEST


@cache
def clean() -> float:
    return float(np.mean([regret(problem(), None, seed) for seed in SEEDS]))


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        (problem(), absurd),
        (problem(), absurdly_good),
        (problem(), same),
        (problem(Layers, constant), None),
        (problem(Layers, again), None),
        (problem(Single), None),
    ],
    ids=[
        "an absurd value",
        "an absurdly good value",
        "identical trials",
        "a constant objective",
        "an objective twice",
        "choices of one value",
    ],
)
def test_regret_is_at_most_half_as_large_again(what, spoil, caplog):
    spoiled = float(np.mean([regret(what, spoil, seed) for seed in SEEDS]))
    assert spoiled < 1.5 * clean() + 0.005
    assert not [r for r in caplog.records if r.levelname == "WARNING"]
