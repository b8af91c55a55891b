"""Guards against collapse."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from nas_bo.model import conv, dense, skip
from nas_bo.objectives import Parameters
from nas_bo.space import Space, choice, repeat
from nas_bo.strategies import Darts, ProxylessNAS
from nas_bo.strategies.one_shot.collapse import FINISHED, WINDOW, Guard, largest_eigenvalue
from nas_bo.strategies.one_shot.darts import Plan
from nas_bo.strategies.one_shot.relaxation import relaxation_of
from tests.strategies.one_shot.cases import (
    CORPUS,
    Little,
    a_run,
    batch,
)


def test_the_largest_eigenvalue_of_a_quadratic_function():
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    matrix = turned @ np.diag([5.0, 2.0, 1.0, 0.5, -1.0, 0.0]) @ turned.T
    value, vector = largest_eigenvalue(lambda x: matrix @ x, np.zeros(6), rng.normal(size=6), 30)
    assert value == pytest.approx(5, rel=0.02) and np.abs(vector @ turned[:, 0]) == pytest.approx(1, rel=0.02)
    assert largest_eigenvalue(lambda x: 0 * x, np.zeros(6), np.ones(6), 3)[0] == 0


def test_eigenvalues_of_a_search_are_those_of_the_exact_hessian():
    run = a_run(Darts(lambdas=(0,), iterations=1), Little)
    run.net.double()
    plan, p = Plan(run.relaxation), run.probabilities(0)
    cells = {path: int(p[at].argmax()) for path, at in run.relaxation.slices.items()}
    draw = plan.completed(run.relaxation.decide(p, random.Random(0), cells), p, random.Random(0))
    hessian = torch.autograd.functional.hessian(
        lambda x: plan.loss(run.net, draw, x, *batch(run))[0], torch.tensor(run.logits[0])
    ).numpy()
    values, vectors = np.linalg.eigh(hessian)
    for at in (0, -1):
        run.method._vectors[0] = vectors[:, at]
        assert run.method.eigenvalue(run, 0) == pytest.approx(values[at], rel=0.02)


def looks(guard, eigenvalues, skips=0.0, pull=0.0, size=0):
    rng = np.random.default_rng(0)
    for number, value in enumerate(eigenvalues):
        gradients = rng.normal(size=(10, size)) * 1e-3 - pull * guard._skip
        back = guard.look(0, np.full(size, float(number)), skips, gradients, value)
        if back is not None:
            return number, back
    return None, None


def test_a_jump_of_the_eigenvalue_stops_and_goes_back():
    relaxation = relaxation_of(Little)
    guard = Guard(relaxation, (0.0, 1.0), 0.9)
    number, back = looks(guard, [1.0] * 6 + [2.0] * 6, size=relaxation.size)
    assert number in (6, 7) and back[0] == number - WINDOW
    undecided = Guard(relaxation, (0.0,), 0.9)
    for value in [1.0] * 6 + [2.0] * 6:
        nothing = np.zeros((3, relaxation.size))
        assert undecided.look(0, np.zeros(relaxation.size), 0.0, nothing, value, entropy=0.97) is None
    assert guard.live() == [1] and "eigenvalue" in guard.reasons[0] and guard.reasons[1] == FINISHED
    steady = Guard(relaxation, (0.0,), 0.9)
    assert looks(steady, [1.0, 1.2] * 8, size=relaxation.size) == (None, None)


def test_skips_that_the_loss_asks_for_are_a_collapse_and_those_that_the_cost_asks_for_are_not():
    relaxation = relaxation_of(Little)
    guard = Guard(relaxation, (0.1,), 0.9)
    number, back = looks(guard, [None] * 9, skips=0.95, pull=0.1, size=relaxation.size)
    assert number == WINDOW - 1 and back is not None and "collapse" in guard.reasons[0] and not guard.live()
    guard = Guard(relaxation, (0.1,), 0.9)
    assert looks(guard, [None] * 9, skips=0.95, pull=-0.1, size=relaxation.size) == (None, None)
    assert guard.live() == [0] and "the cost explains" in guard.reasons[0]


def test_a_dear_block_is_skipped_for_its_cost_and_the_result_says_so(caplog):
    class Optional(Space):
        width = 8
        layers = repeat(2, mixer=choice(conv(kernel=2), skip()), mlp=choice(dense(ratio=1), skip()))

    search = ProxylessNAS(lambdas=(5.0,), tokens=10_000, updates=40, most_skips=0.6, rate=0.3, paths=4)
    found = search.search(Optional, CORPUS, cost=lambda arch: Parameters()(arch) - 8 * 256)
    assert all(layer.mlp.kind == "skip" for layer in found.front[0].layers)
    assert found.history[-1].skips > 0.6 and "skips" in found.stopped_because[0]
