"""Search by gradients: estimates against enumeration, guards against collapse, the course of a search, the strategy."""

from __future__ import annotations

import itertools
import json
import logging
import math
import pickle
import random
import subprocess
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_bo.errors import CheckpointError, ModelError, SearchError, TrainingDiverged
from nas_bo.model import attention, conv, dense, linear_attention, moe, skip
from nas_bo.model.data import Corpus
from nas_bo.model.schedule import DEFAULTS
from nas_bo.objectives import Flops, Latency, Parameters
from nas_bo.problem import Function, Problem, Reported
from nas_bo.space import Space, choice, integer, real, repeat, require
from nas_bo.strategies import GDAS, Darts, ProxylessNAS, Strategy
from nas_bo.strategies.one_shot import result_store
from nas_bo.strategies.one_shot.alternation import Run, parted
from nas_bo.strategies.one_shot.collapse import FINISHED, WINDOW, Guard, largest_eigenvalue
from nas_bo.strategies.one_shot.darts import Plan
from nas_bo.strategies.one_shot.gdas import Alternatives
from nas_bo.strategies.one_shot.gradient import agreement
from nas_bo.strategies.one_shot.relaxation import Relaxation, expectation_gradient, relaxation_of
from nas_bo.supernet.mixture import PARTS, mixed_losses
from nas_bo.supernet.swaps import swaps
from tests.processes import Python

TEXT = np.frombuffer(b"".join(b"abc%d the cat sat on the mat; " % (i % 97) for i in range(2000)), np.uint8)
CORPUS = Corpus("cats", TEXT[:40_000], TEXT[40_000:48_000], 256, 40_000, 8_000)


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
    return Run(search, space, CORPUS, price, "cpu")


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


# ---- the distribution ---------------------------------------------------------------------------------------------


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


# ---- estimates of the loss ----------------------------------------------------------------------------------------


def batch(run):
    return run.batch_of(run.held_out, 0)


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


# ---- guards -------------------------------------------------------------------------------------------------------


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


# ---- searches -----------------------------------------------------------------------------------------------------

SHORT = {"tokens": 4_000, "updates": 4, "lambdas": (0.0, 0.5)}


@pytest.mark.parametrize("kind", [Darts, GDAS, ProxylessNAS])
def test_a_search_over_the_whole_vocabulary(kind):
    steps = []
    search = kind(**SHORT, seed=3)
    found = search.search(Wide, CORPUS, cost=Latency(), progress=lambda step, of: steps.append((step, of)))
    assert len(found.front) == 2 and all(map(Wide.contains, found.front))
    assert found.stopped_because == (FINISHED, FINISHED)
    assert found.tokens[0] == 7 * 512 and found.tokens[1] > 0 and steps[-1] == (7, 7)
    assert {look.weight for look in found.history} == {0.0, 0.5}
    assert all(math.isfinite(look.loss) and look.cost > 0 and 0 <= look.entropy <= 1 for look in found.history)
    assert [bool(one) for one in found.eigenvalues] == [kind is Darts] * 2
    assert sum(found.distribution(Wide, 0)["layers.1.mixer"].values()) == pytest.approx(1, abs=1e-5)
    again = kind(**SHORT, seed=3).search(Wide, CORPUS, cost=Latency())
    assert again.logits == found.logits and again.front == found.front
    other = kind(**SHORT, seed=4).search(Wide, CORPUS, cost=Latency())
    assert other.logits != found.logits
    assert agreement(Wide, [found, again]) == pytest.approx((1, 1), abs=1e-9)
    assert all(0 < value < 1 for value in agreement(Wide, [found, other]))


def test_a_higher_lambda_finds_what_costs_less():
    search = ProxylessNAS(tokens=15_000, updates=40, lambdas=(0.0, 3.0), rate=0.3, paths=4)
    found = search.search(Little, CORPUS, cost=Parameters())
    assert Parameters()(found.front[1]) < Parameters()(found.front[0])
    costs = {weight: [look.cost for look in found.history if look.weight == weight] for weight in (0.0, 3.0)}
    assert costs[3.0][-1] < 0.8 * costs[0.0][-1]


def test_the_validation_text_is_never_looked_at():
    blind = replace(CORPUS, validation=np.zeros(0, np.uint8))
    search = ProxylessNAS(**SHORT)
    assert search.search(Little, blind, cost=Flops()).logits == search.search(Little, CORPUS, cost=Flops()).logits


def test_the_training_text_is_parted(tmp_path):
    left, right = parted(CORPUS, 0.25)
    assert len(left.train) + len(right.train) == 40_000 and abs(len(right.train) - 10_000) <= 20
    assert np.array_equal(left.train[:1500], TEXT[:1500]) and np.array_equal(right.train[:500], TEXT[1500:2000])
    np.save(tmp_path / "t.npy", TEXT)
    mapped = replace(CORPUS, train=np.load(tmp_path / "t.npy", mmap_mode="r"))
    assert all(isinstance(part.train, np.memmap) for part in parted(mapped, 0.2))
    with pytest.raises(SearchError, match="1,024"):
        parted(CORPUS, 0.001)


def test_a_divergence_lowers_the_rate_once_and_then_says_so(monkeypatch, caplog):
    monkeypatch.setitem(DEFAULTS, "lr", 1e8)
    with caplog.at_level(logging.WARNING), pytest.raises(TrainingDiverged, match="diverged"):
        ProxylessNAS(**SHORT).search(Little, CORPUS, cost=Flops())
    assert "half the learning rate" in caplog.text


# ---- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda: Darts(lambdas=()), lambda: Darts(lambdas=(-1,)), lambda: Darts(lambdas=(0.1, 0.1)), lambda: Darts(tokens=0),
    lambda: Darts(samples=1), lambda: Darts(iterations=-1), lambda: Darts(seed=0.5), lambda: Darts(held_out=0),
    lambda: ProxylessNAS(paths=1), lambda: ProxylessNAS(explore=2), lambda: ProxylessNAS(rate=math.inf),
    lambda: GDAS(paths=1), lambda: GDAS(explore=-1), lambda: ProxylessNAS(updates=0), lambda: ProxylessNAS(warmup=-1), lambda: ProxylessNAS(lambdas=math.nan),
])  # fmt: skip
def test_wrong_settings_are_refused(make):
    with pytest.raises(SearchError, match=r"must be|number|probability"):
        make()


def test_one_lambda_may_be_given_as_a_number():
    assert Darts(lambdas=0.5).lambdas == (0.5,)


def test_what_cannot_be_searched_is_refused_before_anything_is_spent():
    class Own(Space):
        width = 8
        layers = repeat(1, mixer=conv(kernel=2), mlp=skip())
        colour = choice("red", "blue")

    with pytest.raises(ModelError, match="colour"):
        ProxylessNAS(lambdas=(0,)).search(Own, CORPUS)
    free = ProxylessNAS(lambdas=(0,), ignore=("colour",), tokens=4_000, updates=3).search(Own, CORPUS)
    assert free.distribution(Own, 0)["colour"] == {"red": 0.5, "blue": 0.5}
    with pytest.raises(SearchError, match="cost"):
        ProxylessNAS(lambdas=(0.1,)).search(Little, CORPUS)
    with pytest.raises(SearchError, match="predict"):
        ProxylessNAS(lambdas=(0.1,)).search(Little, CORPUS, cost=Reported("ms", cost="measured"))
    with pytest.raises(SearchError, match="finite"):
        ProxylessNAS(lambdas=(0.1,)).search(Little, CORPUS, cost=lambda arch: math.nan)
    with pytest.raises(SearchError, match="agreement"):
        agreement(Little, [])


# ---- the strategy -------------------------------------------------------------------------------------------------


class Loss:
    """An objective that has a text, as `ValidationLoss` does."""

    name, unit, direction, cost = "loss", "bits", "minimize", "trained"

    def corpus(self):
        return CORPUS

    def __call__(self, arch):
        return 3.0 - 0.01 * arch.width


def problem(space=Little, **limits):
    return Problem(space, [Loss(), Function(Parameters(), "parameters", cost="analytic", **limits)])


def ids(strategy, of, trials, n):
    return [arch.id for arch in strategy.suggest(of, trials, n)]


@pytest.mark.parametrize("kind", [Darts, GDAS, ProxylessNAS])
def test_it_is_a_pure_strategy_that_trains_once(kind):
    strategy, of = kind(**SHORT), problem()
    assert isinstance(strategy, Strategy)
    copy = pickle.loads(pickle.dumps(strategy))
    assert copy == strategy
    with pytest.raises(FrozenInstanceError):
        strategy.seed = 1
    trained = result_store.result_of(strategy, of)
    first = strategy.suggest(of, [], 3)
    assert first[0] == trained.front[0] and first[1] in (trained.front[1], first[1])
    trials = [of.evaluate(arch) for arch in first]
    more = ids(strategy, of, trials, 3)
    assert not {arch.id for arch in first} & set(more) and len(set(more)) == 3
    assert ids(copy, problem(), list(trials), 3) == more
    assert result_store.result_of(copy, problem()) is trained  # known by its content


def test_limits_are_kept_and_a_space_is_exhausted():
    strategy, of = ProxylessNAS(**SHORT), problem(at_most=2600.0)
    allowed = {a.id for a in Little.enumerate() if Parameters()(a) <= 2600}
    trials = []
    while found := strategy.suggest(of, trials, 4):
        trials += [of.evaluate(arch) for arch in found]
        assert len(trials) <= len(allowed)
    assert {t.architecture.id for t in trials} == allowed


def test_without_a_cost_the_search_is_for_quality(caplog):
    of = Problem(Little, [Loss()])
    with caplog.at_level(logging.WARNING):
        assert len(ProxylessNAS(**SHORT).suggest(of, [], 2)) == 2
    assert "quality alone" in caplog.text


def test_processes_share_one_search_through_a_file(tmp_path, monkeypatch):
    path = tmp_path / "kept" / "darts.json"
    strategy = ProxylessNAS(**SHORT, seed=11, checkpoint=str(path))
    trained = result_store.result_of(strategy, problem())
    monkeypatch.setattr(result_store, "_memory", type(result_store._memory)())
    read = result_store.result_of(strategy, problem())
    assert read is not trained and read.net is None and trained.net is not None
    assert replace(read, history=()) == replace(trained, history=()) and len(read.history) == len(trained.history)
    with pytest.raises(CheckpointError, match="the setting seed differ"):
        ProxylessNAS(**SHORT, seed=12, checkpoint=str(path)).suggest(problem(), [], 1)
    content = json.loads(path.read_text())
    for damaged in ("{", "[]", json.dumps({**content, "format": 99}), json.dumps({**content, "result": {}})):
        path.write_text(damaged)
        monkeypatch.setattr(result_store, "_memory", type(result_store._memory)())
        with pytest.raises(CheckpointError, match="delete"):
            strategy.suggest(problem(), [], 1)


WORKER = """
import logging, sys
from nas_bo.strategies import ProxylessNAS
from tests.strategies import test_darts as t
found = ProxylessNAS(**t.SHORT, checkpoint=sys.argv[1]).suggest(t.problem(), [], 2)
print([a.id for a in found], t.store.result_of(ProxylessNAS(**t.SHORT, checkpoint=sys.argv[1]), t.problem()).net is not None)
"""


def test_of_two_processes_one_trains_and_the_other_reads(tmp_path):
    root = Path(__file__).parents[3]
    both = [Python("-c", WORKER, tmp_path / "one.json", stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(2)]
    said = [one.communicate()[0].strip() for one in both]
    assert said[0].rpartition(" ")[0] == said[1].rpartition(" ")[0] != ""
    assert sorted(one.rpartition(" ")[2] for one in said) == ["False", "True"]


def test_it_works_in_optuna_and_ax():
    import optuna
    from ax.api.client import Client

    from nas_bo import ax as nas_ax
    from nas_bo.optuna import Sampler, suggest

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    strategy = ProxylessNAS(tokens=4_000, updates=4, lambdas=(0.0,), data=_file())
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=Sampler(Little, strategy))

    def objective(trial):
        arch = suggest(trial, Little)
        return 3.0 - 0.01 * arch.width, Parameters()(arch)

    study.optimize(objective, n_trials=3)
    assert len({json.dumps(t.params, sort_keys=True) for t in study.trials}) == 3

    client = Client()
    client.configure_experiment(parameters=nas_ax.parameters(Little))
    client.configure_optimization(objective="-loss, -parameters")
    client.set_generation_strategy(nas_ax.generation(Little, strategy))
    for index, params in client.get_next_trials(max_trials=2).items():
        arch = nas_ax.architecture(Little, params)
        assert Little.contains(arch)
        client.complete_trial(index, raw_data={"loss": 1.0, "parameters": Parameters()(arch)})


def _file():
    import tempfile

    path = Path(tempfile.gettempdir()) / "nas_bo_test_darts.txt"
    path.write_bytes(TEXT.tobytes())
    return str(path)


def test_the_command_line_knows_them():
    from nas_bo.cli.resolve import _strategy

    assert _strategy("darts", 3) == Darts(seed=3) and _strategy("proxylessnas", 4) == ProxylessNAS(seed=4)
    assert _strategy("gdas", 5) == GDAS(seed=5)
