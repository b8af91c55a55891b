"""One absurd value, objectives that say nothing, the same trial a thousand times: proposals stay as good as without.

`Bayes` has tests of its own."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from nas_bo.problem import Function, Problem
from nas_bo.space import Space, choice, integer, option, real
from nas_bo.strategies import NSGA2, LocalSearch, RegularizedEvolution, Reinforce
from nas_bo.strategies.history import absurd
from tests.strategies.cases import evaluated

STRATEGIES = (NSGA2, RegularizedEvolution, LocalSearch, Reinforce)
BEFORE, AFTER, SEEDS = 20, 20, 2


class Mixed(Space):
    shape = choice(
        option("tree", depth=integer(1, 15), rate=real(1e-4, 1.0, log=True)), option("line", slope=real(0.0, 1.0))
    )
    width = choice(8, 16, 32, 64, 128, 256)
    alpha = real(1e-3, 1e3, log=True)


class WithOneValued(Mixed):
    """The same with choices of one value."""

    constant = choice("only")
    number = integer(3, 3)


def loss(arch):
    flat = arch.flat
    if flat["shape"] == "tree":
        base = abs(flat["shape.tree.depth"] - 9) / 14 + abs(math.log10(flat["shape.tree.rate"]) + 2.5) / 4
    else:
        base = 0.5 + abs(flat["shape.line.slope"] - 0.3)
    return 1.0 + base + abs(math.log2(flat["width"]) - 6) / 5 + abs(math.log10(flat["alpha"]) - 1) / 6


def cost(arch):
    return math.log2(arch.flat["width"]) / 8 + 0.1


def level(arch):
    return 4.0


def same(arch):
    return loss(arch)


def spoiled_by(value):
    """A history of which one trial, neither the best nor the worst, has an absurd loss."""
    return lambda trials: [
        replace(t, values={**t.values, "loss": value}) if i == 7 else t for i, t in enumerate(trials)
    ]


def thousand(trials):
    return [*trials, *[trials[3]] * 1000]


ONE, TWO = [loss], [loss, Function(cost, "cost")]
SPOILED = {
    "absurdly good": (ONE, spoiled_by(-1e12)),
    "absurdly bad": (ONE, spoiled_by(1e12)),
    "absurdly good, two objectives": (TWO, spoiled_by(-1e12)),
    "absurdly bad, two objectives": (TWO, spoiled_by(1e12)),
    "one objective is constant": ([loss, Function(level, "level")], list),
    "two objectives are the same": ([loss, Function(same, "same")], list),
    "a thousand identical trials": (ONE, thousand),
}


def regret(kind, objectives, spoil, space=Mixed, seeds=SEEDS):
    """Of the mean over seeds, the excess loss of the best of the next trials (two objectives: of loss plus cost)."""
    problem, found = Problem(space, objectives), []
    for seed in range(seeds):
        drawn = evaluated(Problem(Mixed, objectives), BEFORE, seed=seed + 1)
        constants = {"constant": "only", "number": 3} if space is WithOneValued else {}
        archs = [space.architecture({**t.architecture.flat, **constants}) for t in drawn]
        trials = spoil([problem.evaluate(arch) for arch in archs])
        for _ in range(AFTER):
            trials = [*trials, *map(problem.evaluate, kind(seed=seed).suggest(problem, trials, 1))]
        new = [t.architecture for t in trials[-AFTER:]]
        found.append(
            min(loss(a) + (cost(a) if len(objectives) > 1 and objectives[1].name == "cost" else 0.0) for a in new)
        )
    return float(np.mean(found)) - 1.0


@cache
def without(kind, two):
    return regret(kind, TWO if two else ONE, list)


@pytest.mark.parametrize("kind", STRATEGIES)
@pytest.mark.parametrize("spoiled", SPOILED)
def test_a_bad_history_costs_little(kind, spoiled):
    objectives, spoil = SPOILED[spoiled]
    limit = 1.5 * without(kind, objectives is TWO) + 0.05
    assert regret(kind, objectives, spoil) <= limit


@pytest.mark.parametrize("kind", STRATEGIES)
def test_choices_of_one_value_cost_nothing(kind):
    clean = regret(kind, ONE, list, seeds=5)
    assert regret(kind, ONE, list, WithOneValued, seeds=5) <= 1.5 * clean + 0.05


def test_absurd_is_only_what_no_scale_explains():
    values = np.geomspace(1e-5, 1e2, 40)[:, None]
    assert not absurd(values).any()
    assert absurd(np.vstack([values, [[-1e12]], [[1e12]]])).tolist() == [False] * 40 + [True, True]
    assert not absurd(np.ones((30, 2))).any() and not absurd(np.zeros((0, 2))).any()
    assert not absurd(np.array([[0.0], [1.0], [1e12]])).any()  # three say nothing
