"""The distribution over architectures: draws, rules, and gradients of expectations."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from nas_bo.strategies import ProxylessNAS
from nas_bo.strategies.one_shot.relaxation import Relaxation, expectation_gradient, relaxation_of
from tests.strategies.one_shot.cases import (
    Little,
    Ruled,
    Tree,
    a_run,
    differences,
    everything,
    probability,
    some_logits,
)


def test_probabilities_are_a_distribution_over_the_tree_and_draws_follow_it():
    relaxation = Relaxation(Tree, fixed=("lr",))
    logits = some_logits(relaxation)
    logits[relaxation.slices["lr"]] = 0
    draws = everything(relaxation)
    p = probability(relaxation, logits, draws)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    table = {tuple(d.cells.items()): v for d, v in zip(draws, p, strict=True)}
    rng, n = random.Random(3), 4000
    counts: dict = {}
    for _ in range(n):
        key = tuple(relaxation.draw(relaxation.probabilities(logits), rng).cells.items())
        counts[key] = counts.get(key, 0) + 1
    kinds = {}
    for key, value in table.items():  # by all but the cells of the real decision
        kinds[key[:-1]] = kinds.get(key[:-1], 0.0) + value
    for key, value in kinds.items():
        seen = sum(c for k, c in counts.items() if k[:-1] == key) / n
        assert abs(seen - value) < 5 * math.sqrt(value / n) + 2 / n


def test_the_most_probable_architecture_takes_the_largest_logit_of_every_decision():
    relaxation = relaxation_of(Little)
    logits = np.zeros(relaxation.size)
    for path, cell in {
        "depth": 1,
        "width": 1,
        "layers.0.mixer": 1,
        "layers.1.mixer": 0,
        "layers.1.mixer.conv.kernel": 1,
    }.items():
        logits[relaxation.slices[path].start + cell] = 2.0
    arch = relaxation.most_probable(relaxation.probabilities(logits))
    assert arch.flat["width"] == 12 and len(arch.layers) == 2
    assert arch.layers[0].mixer.kind == "skip" and arch.layers[1].mixer.kernel == 4


def test_rules_are_kept_by_draws():
    relaxation = relaxation_of(Ruled)
    rng = random.Random(0)
    for _ in range(200):
        assert not Ruled.violations(relaxation.draw(relaxation.probabilities(np.array([0, 0, 3.0, 0, 3.0])), rng).arch)


@pytest.mark.parametrize("space", [Little, Ruled])
def test_the_gradient_of_an_expectation_is_unbiased(space):
    """Two samples: the mean of the estimate over all pairs of architectures is the exact gradient, rules or not."""
    relaxation = Relaxation(space)
    logits = some_logits(relaxation, 1)
    draws = [d for d in everything(relaxation) if not space.violations(d.arch)]
    values = np.random.default_rng(2).normal(size=len(draws))

    def expectation(at):
        p = probability(relaxation, at, draws)
        return float(p @ values / p.sum())

    p = probability(relaxation, logits, draws)
    p = p / p.sum()
    chosen, active = relaxation.indicators(draws)
    scores = chosen - active * relaxation.probabilities(logits)
    mean = np.zeros(relaxation.size)
    for i, j in itertools.product(range(len(draws)), repeat=2):
        mean += p[i] * p[j] * expectation_gradient(values[[i, j]], scores[[i, j]])
    assert mean == pytest.approx(differences(expectation, logits), abs=1e-8)


def test_samples_of_a_mixture_serve_every_distribution_in_it():
    run = a_run(ProxylessNAS(lambdas=(0, 0.5, 1), ignore=()), Little)
    run.logits = [some_logits(run.relaxation, seed) for seed in range(3)]
    draws = everything(run.relaxation)
    table = {
        tuple(d.cells.items()): v for d, v in zip(draws, np.random.default_rng(5).normal(size=len(draws)), strict=True)
    }
    estimates = {index: [] for index in range(3)}
    for _ in range(40):
        pool = run.pool([0, 1, 2], 64)
        values = np.array([table[tuple(d.cells.items())] for d in pool.draws])
        for index in range(3):
            assert pool.weights[index].max() <= 3 + 1e-9
            estimates[index].append(expectation_gradient(values, run.scores(pool, index), pool.weights[index]))
    for index, found in estimates.items():
        exact = differences(
            lambda at: float(probability(run.relaxation, at, draws) @ list(table.values())), run.logits[index]
        )
        error = np.std(found, axis=0) / math.sqrt(len(found))
        assert np.all(np.abs(np.mean(found, axis=0) - exact) < 5 * error + 0.01)
