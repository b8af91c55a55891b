"""Estimates of the loss of many architectures and of its gradient, against enumeration."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch

from nas_bo.objectives import Parameters
from nas_bo.strategies import GDAS, Darts, ProxylessNAS
from nas_bo.strategies.one_shot.darts import Plan
from nas_bo.strategies.one_shot.gdas import Alternatives
from nas_bo.strategies.one_shot.relaxation import expectation_gradient, relaxation_of
from nas_bo.supernet.mixture import PARTS, mixed_losses
from nas_bo.supernet.swaps import swaps
from tests.strategies.one_shot.cases import (
    CORPUS,
    Little,
    Parallel,
    Same,
    Wide,
    a_run,
    batch,
    differences,
    everything,
    probability,
    some_logits,
)


def test_single_paths_give_the_gradient_of_the_expected_loss_of_networks_that_can_be_built():
    run = a_run(ProxylessNAS(lambdas=(0,), paths=500), Little)
    run.logits = [some_logits(run.relaxation)]
    tokens, targets = batch(run)
    draws = everything(run.relaxation)
    with torch.no_grad():
        losses = np.array([float(run.net.loss(tokens, targets, d.arch)[1]) for d in draws])
    exact = differences(lambda at: float(probability(run.relaxation, at, draws) @ losses), run.logits[0])
    loss, found = run.method.losses(run, run.pool([0], 500), tokens, targets)[0]
    assert loss == pytest.approx(float(probability(run.relaxation, run.logits[0], draws) @ losses), abs=0.02)
    assert np.linalg.norm(found - exact) < 0.35 * np.linalg.norm(exact)
    assert found @ exact > 0.94 * np.linalg.norm(found) * np.linalg.norm(exact)


def test_a_mixture_with_all_weight_on_one_option_is_that_network():
    for space in (Little, Wide):
        run = a_run(Darts(lambdas=(0,)), space)
        plan, tokens_targets = Plan(run.relaxation), batch(run)
        assert plan.depth == "depth" and plan.mixed >= {"depth", "layers.0.mixer"} and "width" not in plan.mixed
        for seed in range(6):
            draw = run.relaxation.draw(run.relaxation.probabilities(run.logits[0]), random.Random(seed))
            logits = np.full(run.relaxation.size, -40.0)
            for path, cell in draw.cells.items():
                logits[run.relaxation.slices[path].start + cell] = 40.0
            complete = plan.completed(draw, run.relaxation.probabilities(logits), random.Random(0))
            with torch.no_grad():
                mixed, _ = plan.loss(run.net, complete, torch.tensor(logits, dtype=torch.float32), *tokens_targets)
                alone = run.net.loss(*tokens_targets, draw.arch)[1]
            assert float(mixed) == pytest.approx(float(alone), abs=2e-5)


def test_a_mixture_is_of_the_same_weights_whatever_was_mixed_before():
    """Operations that are counted within their kind would be others in every draw, and the first draw decided for all."""
    run = a_run(Darts(lambdas=(0,)), Wide)
    plan, p = Plan(run.relaxation), run.probabilities(0)
    draws = [run.relaxation.decide(p, random.Random(seed), {"width": 0, "norm": 0}) for seed in range(4)]
    draws = [plan.completed(draw, p, random.Random(0)) for draw in draws]
    found = []
    for draw in draws:  # they differ in what is mixed only
        with torch.no_grad():
            found.append(float(plan.loss(run.net, draw, torch.zeros(run.relaxation.size), *batch(run))[0]))
    with torch.no_grad():  # by a plan that has seen no other
        fresh = Plan(run.relaxation).loss(run.net, draws[-1], torch.zeros(run.relaxation.size), *batch(run))[0]
    assert float(fresh) == pytest.approx(found[0], abs=1e-6)
    assert len({draw.arch.id for draw in draws}) == 4 and found == pytest.approx([found[0]] * len(found), abs=1e-6)


@pytest.mark.parametrize("space", [Little, Wide])
@pytest.mark.parametrize("leave", [0, 1])
def test_swaps_are_the_derivatives_of_gates_between_operations(space, leave):
    run = a_run(GDAS(lambdas=(0,)), space)
    run.net.double()
    plan, (tokens, targets) = Plan(run.relaxation), batch(run)
    for seed in range(3):
        draw = plan.completed(
            run.relaxation.draw(run.probabilities(0), random.Random(seed)), run.probabilities(0), random.Random(1)
        )
        path = run.net.spec(draw.arch)
        exits, _, layers = plan.options(run.net, draw)
        blocks = [{part: list(dict.fromkeys(block for _, block in layer[part])) for part in PARTS} for layer in layers]
        losses, changes = swaps(run.net, tokens, targets, path, blocks, exits, leave)
        gates, options = [], []
        for index, layer in enumerate(blocks):
            options.append({})
            for part in PARTS:
                own = getattr(path.layers[index], part)
                some = [torch.tensor(float(b == own), dtype=torch.float64, requires_grad=True) for b in layer[part]]
                specs = []
                for block in layer[part]:
                    changed = path.layers[index]._replace(**{part: block})
                    specs.append(path._replace(layers=(*path.layers[:index], changed, *path.layers[index + 1 :])))
                options[-1][part] = list(zip(some, specs, strict=True))
                gates += some
        exact, _ = mixed_losses(run.net, tokens, targets, options, exits)
        slopes = torch.autograd.grad(exact[leave], gates, allow_unused=True)
        wanted = torch.stack([torch.zeros(()) if slope is None else slope for slope in slopes])
        assert losses.tolist() == pytest.approx(exact.tolist(), abs=1e-9)
        assert changes.tolist() == pytest.approx(wanted.tolist(), abs=1e-9)
        assert changes.abs().max() > 1e-4
        for spec, loss in zip(exits, losses, strict=True):
            with torch.no_grad():
                assert float(loss) == pytest.approx(float(run.net.loss(tokens, targets, spec)[1]), abs=1e-6)


def test_alternatives_give_the_gradient_of_what_every_decision_alone_would_change():
    run = a_run(GDAS(lambdas=(0,)), Little)
    relaxation, plan, (tokens, targets) = run.relaxation, Plan(run.relaxation), batch(run)
    at = some_logits(relaxation, 2)
    draw = relaxation.draw(relaxation.probabilities(at), random.Random(3))
    found = Alternatives(run, plan, draw, tokens, targets)
    assert found.paths == set(relaxation.cells)  # depth and width exactly, blocks to first order

    def expected(logits):
        return float(found.shares(relaxation.probabilities(logits)) @ np.array(found.changes))

    assert found.gradient(relaxation.probabilities(at)) == pytest.approx(differences(expected, at), abs=1e-6)
    place = relaxation.slices["width"].start + draw.cells["width"]
    other = relaxation.slices["width"].start + 1 - draw.cells["width"]
    with torch.no_grad():
        swapped = run.net.loss(tokens, targets, plan.changed(draw, {"width": 1 - draw.cells["width"]}).arch)[1]
    assert found.changes[found.rows.index([place])] == found.value
    assert found.changes[found.rows.index([other])] == pytest.approx(float(swapped), abs=1e-6)
    assert all(weight.requires_grad and weight.grad is None for weight in run.net.parameters())


def test_the_gradient_of_mixtures_is_that_of_their_expected_loss():
    """What is mixed by automatic differentiation, what is sampled (the width) by the score function: the mean over all
    pairs of samples against central differences of the whole."""
    run = a_run(Darts(lambdas=(0,), samples=2), Little)
    relaxation, plan = run.relaxation, Plan(run.relaxation)
    at = 0.5 * some_logits(relaxation, 4)
    run.logits = [at]
    tokens, targets = batch(run)
    run.net.double()
    ones = {}
    for cell in range(2):
        draw = relaxation.decide(relaxation.probabilities(at), random.Random(0), {"width": cell, "depth": 1})
        ones[cell] = plan.completed(draw, relaxation.probabilities(at), random.Random(0))

    def loss(logits, cell):
        with torch.no_grad():
            return float(plan.loss(run.net, ones[cell], torch.tensor(logits), tokens, targets)[0])

    def expected(logits):
        p = relaxation.probabilities(logits)[relaxation.slices["width"]]
        return p[0] * loss(logits, 0) + p[1] * loss(logits, 1)

    exact = differences(expected, at, 1e-3)
    p = relaxation.probabilities(at)[relaxation.slices["width"]]
    mean = np.zeros(relaxation.size)
    chosen, active = relaxation.indicators([ones[0], ones[1]])
    scores = (chosen - active * relaxation.probabilities(at)) * relaxation.learned(plan.mixed)
    values, gradients = run.method.gradients(run, at, [ones[0], ones[1]], tokens, targets)
    for i, j in itertools.product(range(2), repeat=2):
        mean += p[i] * p[j] * (gradients[[i, j]].mean(0) + expectation_gradient(values[[i, j]], scores[[i, j]]))
    assert np.abs(exact).max() > 1e-4
    assert mean == pytest.approx(exact, abs=2e-2 * np.abs(exact).max())
    assert all(weight.requires_grad and weight.grad is None for weight in run.net.parameters())


@pytest.mark.parametrize("space", [Same, Parallel])
def test_what_cannot_be_mixed_is_sampled(space):
    plan = Plan(relaxation_of(space))
    if space is Same:
        assert plan.mixed == frozenset() and plan.depth is None
    for kind in (Darts, GDAS, ProxylessNAS):
        found = kind(lambdas=(0.0, 1.0), tokens=4_000, updates=4).search(space, CORPUS, cost=Parameters())
        assert len(found.front) == 2 and all(map(space.contains, found.front))
