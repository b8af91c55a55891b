"""Reinforce: it learns, it is a function of the history, and it lives with every history and every kind of decision."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search_efficiency.problems import synthetic
from nas_bo.problem import Function, Problem
from nas_bo.space import Space, choice, integer, option, real, repeat
from nas_bo.strategies import Random, Reinforce
from nas_bo.strategies.policy import CELLS, Cells, policy_of
from nas_bo.strategies.reinforce import _advantages, _Training
from nas_bo.trial import Trial
from tests.strategies import cases

ROOT = Path(__file__).parents[2]
QUICK = Reinforce(seed=5, startup=4)


class Deep(Space):
    depth = integer(4, 12)
    width = choice(128, 256, 384, 512)
    lr = real(1e-4, 1e-2, log=True)
    layers = repeat(
        depth,
        mixer=choice(option("attention", heads=choice(2, 4, 8, 16)), option("conv", kernel=choice(3, 7, 15)), "skip"),
        ratio=choice(1, 2, 3, 4),
    )


def millions(arch):
    per_layer = [
        (0 if y.mixer == "skip" else 4 if y.mixer.kind == "attention" else 2) + 2 * y.ratio for y in arch.layers
    ]
    return 1e-6 * arch.width**2 * sum(per_layer)


def quality(arch):
    """Attention with as many heads as the width wants, convolutions with small kernels, and a good learning rate."""
    power = 0.0
    for layer in arch.layers:
        kind = "skip" if layer.mixer == "skip" else layer.mixer.kind
        if kind == "attention":
            power += 1.2 - 0.2 * abs(math.log2(layer.mixer.heads * 64 / arch.width))
        elif kind == "conv":
            power += 0.8 - 0.1 * math.log2(layer.mixer.kernel / 3)
        power += 0.3 * math.log(layer.ratio)
    return 2.0 + 3.0 / (1.0 + power) + 8.0 / math.sqrt(arch.width) + 0.2 * (math.log10(arch.lr) + 3) ** 2


def run(strategy, problem, evaluations):
    trials = []
    while len(trials) < evaluations:
        trials += [problem.evaluate(arch) for arch in strategy.suggest(problem, trials, 1)]
    return trials


def ids(strategy, problem, trials, n=2):
    return [arch.id for arch in strategy.suggest(problem, trials, n)]


def test_learns_one_objective():
    problem = Problem(Deep, [quality])
    guided, chance = (
        np.array([[t.values["quality"] for t in run(kind(seed=s), problem, 80)] for s in range(3)])
        for kind in (Reinforce, Random)
    )
    assert guided[:, 50:].mean() < chance.mean() - 0.7 * chance.std()
    assert guided.min(1).mean() < chance.min(1).mean()


def test_the_memory_changes_no_result(monkeypatch):
    problem, trials = cases.two(cases.Nested), cases.evaluated(cases.two(cases.Nested), 12)
    remembered = ids(QUICK, problem, trials, 4)
    monkeypatch.setattr("nas_bo.strategies.policy.REMEMBERED", 2)
    policy_of(cases.Nested)._scores.clear()
    assert ids(QUICK, problem, trials, 4) == remembered


def test_seed_history_and_results_matter():
    problem = cases.two(cases.Nested)
    trials = cases.evaluated(problem, 12)
    assert ids(Reinforce(seed=1, startup=4), problem, trials, 4) != ids(QUICK, problem, trials, 4)
    turned = [Trial(t.architecture, {**t.values, "loss": -t.values["loss"]}) for t in trials]
    assert ids(QUICK, problem, turned, 4) != ids(QUICK, problem, trials, 4)
    assert ids(Reinforce(seed=5, startup=13), problem, turned, 1) == ids(
        Reinforce(seed=5, startup=13), problem, trials, 1
    )


def test_equal_rewards_leave_the_policy_uniform():
    problem = Problem(Deep, [quality])
    trials = [Trial(t.architecture, {"quality": 1.0}) for t in run(Random(), problem, 20)]
    advantages = _advantages(np.ones((20, 1)), np.zeros(20), random.Random(0))
    assert not _Training(policy_of(Deep), trials, advantages, QUICK).parameters(advantages).any()


def test_infeasible_is_worse_than_feasible_and_failed_is_worst():
    points = np.array([[3.0], [math.nan], [1.0], [math.nan], [math.nan], [math.nan]])
    broken = np.array([0.0, 2.0, 0.0, math.inf, 0.5, 0.0])  # the last one is complete, but without values
    found = _advantages(points, broken, random.Random(0))
    assert list(np.argsort(-found, kind="stable")) == [2, 0, 4, 1, 3, 5]
    assert found[3] == found[5]


def test_trials_of_another_space_are_passed_over():
    problem = cases.one(cases.Nested)
    trials = cases.evaluated(problem, 8)
    foreign = [Trial(t.architecture, t.values) for t in cases.evaluated(cases.one(Deep), 4)]
    assert len(QUICK.suggest(problem, [*trials, *foreign], 2)) == 2


def test_only_the_best_and_the_latest_are_replayed():
    problem = Problem(Deep, [quality])
    trials, settings = run(Random(), problem, 12), Reinforce(replayed=6)
    advantages = np.array([5.0, 4.0, 3.0, *[-1.0] * 9])
    parameters = _Training(policy_of(Deep), trials, advantages, settings).parameters(advantages)
    kept = [*range(3), *range(9, 12)]
    again = _Training(policy_of(Deep), [trials[i] for i in kept], advantages[kept], settings).parameters(
        advantages[kept]
    )
    assert parameters.any() and np.allclose(parameters, again)


@pytest.mark.parametrize("domain", [
    choice("a", "b", "c"), choice(*range(40)), choice(1, 5, 9), integer(3, 3), integer(0, 6, step=3), integer(1, 100),
    integer(1, 1000, log=True), real(0.0, 1.0), real(1e-5, 1e-1, log=True), real(2.0, 2.0),
])  # fmt: skip
def test_cells_cover_a_domain(domain):
    cells, rng = Cells(domain), random.Random(0)
    for cell in range(cells.count):
        for _ in range(20):
            value = domain.canonical(cells.value(cell, rng))
            assert abs(cells.of(value) - cell) <= (0 if cells.exact else 1) or domain in (real(2.0, 2.0),)
    values = [domain.sample(rng) for _ in range(400)]
    assert {cells.of(v) for v in values} <= set(range(cells.count))
    assert cells.exact or cells.count == CELLS


def test_real_decisions_move_to_the_good_end():
    class Rates(Space):
        lr = real(1e-5, 1e-1, log=True)
        mix = real(0.0, 1.0)

    problem = Problem(Rates, [Function(lambda a: abs(math.log10(a.lr) + 1.5) + a.mix, "far")])
    late = run(Reinforce(), problem, 60)[40:]
    assert np.median([math.log10(t.architecture.lr) for t in late]) == pytest.approx(-1.5, abs=0.4)
    assert np.median([t.architecture.mix for t in late]) < 0.25


def test_a_large_space_keeps_its_policy_small():
    class Wide(Space):
        layers = repeat(24, **{f"f{i}": choice(*range(20)) for i in range(4)})

    problem = cases.one(Wide)
    assert len(policy_of(Wide).scale) < 20_000
    assert len(QUICK.suggest(problem, cases.evaluated(problem, 6), 2)) == 2


class Places(Space):
    edges = repeat(6, op=choice("a", "b", "c", "d", "e"))


def wrong(arch):
    """How many of the places do not have the operation that is best there."""
    return sum(edge.op != best for edge, best in zip(arch.edges, "abcdea", strict=True))


def test_what_differs_from_place_to_place_is_learned():
    problem = Problem(Places, [wrong])
    found = {kind: [least(kind(seed=s), problem, "wrong") for s in range(6)] for kind in (Reinforce, Random)}
    assert np.mean(found[Reinforce]) < 1 < np.mean(found[Random])


def least(strategy, problem, name):
    return min(t.values[name] for t in run(strategy, problem, 50))


def test_draws_that_are_screened_find_more_than_those_that_are_not():
    case = synthetic("mixed")
    found = {
        screen: [least(Reinforce(seed=s, screen=screen), case.problem(s), "loss") for s in range(6)]
        for screen in (1, 16)
    }
    assert np.mean(found[16]) < np.mean(found[1])
