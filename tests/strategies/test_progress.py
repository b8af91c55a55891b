"""Guided strategies beat random search on a problem with interactions: per-layer choices, loss against size."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from nas_bo.pareto import hypervolume
from nas_bo.problem import Function, Problem
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.strategies import NSGA2, Bayes, Random, Reinforce


class Layers(Space):
    depth = integer(2, 10)
    width = choice(64, 128, 256, 512)
    layers = repeat(depth, mixer=choice("attention", "conv", "skip"), ratio=choice(1, 2, 3, 4))


def millions(arch):
    cost = {"attention": 4.0, "conv": 2.0, "skip": 0.0}
    return 1e-6 * sum(arch.width**2 * (cost[layer.mixer] + 2 * layer.ratio) for layer in arch.layers) + 0.01


def loss(arch):
    """Convolutions help early and attention late; doing the same twice in a row is worth less; returns diminish."""
    power, before = 0.0, ""
    for i, layer in enumerate(arch.layers):
        late = (i + 0.5) / len(arch.layers)
        use = {"attention": 0.4 + late, "conv": 1.2 - late, "skip": 0.0}[layer.mixer]
        power += use * (0.6 if layer.mixer == before else 1.0) + 0.5 * math.log(layer.ratio) * (0.5 + use)
        before = layer.mixer
    return 2.0 + 3.0 / (1.0 + power) + 12.0 / math.sqrt(arch.width)


PROBLEM = Problem(Layers, [loss, Function(millions, "millions", cost="analytic")])


@cache
def reached(strategy, evaluations):
    trials = []
    for _ in range(evaluations):
        trials += [PROBLEM.evaluate(arch) for arch in strategy.suggest(PROBLEM, trials, 1)]
    points = np.array([[t.values["loss"], math.log(t.values["millions"])] for t in trials])
    return hypervolume(points, np.array([5.0, math.log(40)]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "evaluations"),
    # regularized evolution and local search must do so sooner: see test_evolution.py
    [(NSGA2, 100), (Reinforce, 150), (Bayes, 40)],
)
def test_beats_random(kind, evaluations):
    settings = {"candidates": 600} if kind is Bayes else {}
    guided = [reached(kind(seed=s, **settings), evaluations) for s in range(3 if kind is Bayes else 5)]
    random = [reached(Random(seed=s), evaluations) for s in range(5)]
    assert np.mean(guided) > np.mean(random) + np.std(random) / 5**0.5
