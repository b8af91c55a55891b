"""Small spaces for searches by gradients, and what enumeration says of their distributions."""

from __future__ import annotations

import itertools
import random

import numpy as np

from nas_bo.model import attention, conv, dense, linear_attention, moe, skip
from nas_bo.model.data import Corpus
from nas_bo.space import Space, choice, integer, real, repeat, require
from nas_bo.strategies.one_shot.alternation import Run

TEXT = np.frombuffer(b"".join(b"abc%d the cat sat on the mat; " % (i % 97) for i in range(2000)), np.uint8)
CORPUS = Corpus("cats", TEXT[:40_000], TEXT[40_000:48_000], 256, 40_000, 8_000)
SHORT = {"tokens": 4_000, "updates": 4, "lambdas": (0.0, 0.5)}


class Tree(Space):
    depth = integer(1, 2)
    layers = repeat(depth, mixer=choice(attention(heads=choice(1, 2)), conv(kernel=choice(2, 3, 4)), skip()))
    lr = real(1e-3, 1e-2)


class Ruled(Space):
    a = choice(1, 2, 3)
    b = choice(1, 2)

    @require
    def not_both(arch):
        return arch.a + arch.b < 5


class Little(Space):
    depth = integer(1, 2)
    width = choice(8, 12)
    layers = repeat(depth, mixer=choice(conv(kernel=choice(2, 4)), skip()), mlp=dense(ratio=choice(1, 2)))


class Wide(Space):
    """Everything that a gradient-based search has to live with."""

    depth = choice(2, 1)
    width = choice(8, 12)
    norm = choice("rms", "layer")
    layers = repeat(
        depth,
        mixer=choice(attention(heads=choice(1, 2), kv_group=1), linear_attention(heads=2), conv(kernel=3), skip()),
        mlp=choice(dense(ratio=choice(1, 2), gated=choice(True, False)), moe(experts=choice(2, 4), top_k=1), skip()),
    )


class Same(Space):
    depth = integer(1, 2)
    width = choice(8, 12)
    mixer = conv(kernel=choice(2, 4))
    mlp = skip()


class Parallel(Space):
    width = 8
    parallel = choice(True, False)
    layers = repeat(2, mixer=conv(kernel=choice(2, 4)), mlp=dense(ratio=1))


def a_run(search, space, cost=None):
    price = None if cost is None else lambda arch: float(cost(arch))
    return Run(search, search.method(), space, CORPUS, price, "cpu")


def some_logits(relaxation, seed=0):
    return np.random.default_rng(seed).normal(size=relaxation.size)


def everything(relaxation):
    """All draws of a finite space, rules aside."""
    found = {}
    for cells in itertools.product(*(range(c.count) for c in relaxation.cells.values())):
        draw = relaxation.decide(np.zeros(0), random.Random(0), dict(zip(relaxation.cells, cells, strict=True)))
        found[tuple(draw.cells.items())] = draw
    return list(found.values())


def probability(relaxation, logits, draws):
    chosen, _ = relaxation.indicators(draws)
    return np.exp(chosen @ np.log(relaxation.probabilities(logits)))


def differences(function, at, step=1e-5):
    found = np.zeros(len(at))
    for i in range(len(at)):
        up, down = at.copy(), at.copy()
        up[i] += step
        down[i] -= step
        found[i] = (function(up) - function(down)) / (2 * step)
    return found


def batch(run):
    return run.batch_of(run.held_out, 0)
