"""Evaluations that fail where a model is too large, of which nobody is told why: a strategy that learns from values alone goes there again."""

from __future__ import annotations

import math

import numpy as np

from nas_bo.problem import Problem
from nas_bo.space import Space, choice, integer, real
from nas_bo.strategies import Bayes, Random
from nas_bo.trial import State, Trial


class Script(Space):
    width = choice(64, 128, 256, 512)
    depth = integer(1, 12)
    batch = choice(8, 16, 32, 64)
    ratio = choice(1, 2, 4)
    lr = real(1e-4, 1e-1, log=True)
    decay = real(0.0, 1.0)
    norm = choice("rms", "layer")
    act = choice("gelu", "silu", "relu2")


def memory(arch) -> float:
    return float(arch.batch * arch.width * arch.depth * (1 + arch.ratio))


def loss(arch) -> float:
    """Larger is better, so the best that runs is next to what does not."""
    rate = abs(math.log(arch.lr * arch.width**0.3 / 0.03))
    return 5.0 - 0.3 * math.log(memory(arch)) + 0.15 * rate + 0.1 * arch.decay


PROBLEM = Problem(Script, [loss])


def searched(strategy, most, count=28):
    """(share of the trials that failed, the best value)."""
    trials: list[Trial] = []
    for number in range(count):
        (arch,) = strategy.suggest(PROBLEM, trials, 1)
        failed = memory(arch) > most
        values = {} if failed else {"loss": loss(arch)}
        state = State.FAILED if failed else State.COMPLETE
        trials.append(Trial(arch, values, state=state, reason="killed" if failed else "", number=number))
    there = [t.values["loss"] for t in trials if t.values]
    return 1 - len(there) / count, min(there, default=9.0)


def test_where_evaluations_fail_is_learned():
    most = float(np.quantile([memory(Script.sample(seed)) for seed in range(200)], 0.3))
    ours = [searched(Bayes(seed=seed, candidates=400), most) for seed in range(3)]
    drawn = [searched(Random(seed=seed), most) for seed in range(3)]
    assert np.mean([share for share, _ in ours]) < 0.6 < np.mean([share for share, _ in drawn])
    assert np.mean([best for _, best in ours]) < np.mean([best for _, best in drawn])
