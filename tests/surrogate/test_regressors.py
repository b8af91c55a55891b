"""The models that learn from few examples, one table of properties for all; intervals; arrangement of layers."""

from __future__ import annotations

import numpy as np
import pytest

from nas_bo import Space, choice, integer, option, repeat
from nas_bo.errors import ObjectiveError
from nas_bo.search_spaces import HWGPTBenchS, TinyGPT
from nas_bo.surrogate import GP, GradientBoosting, MLPEnsemble, Ridge
from nas_bo.surrogate.conformal import CrossConformal, folds
from nas_bo.surrogate.prior import OnPrior
from nas_bo.surrogate.structure import structure_of

MODELS = [GP(), Ridge(), GradientBoosting(trees=60), MLPEnsemble(members=3, steps=60)]


def examples(n, seed=0, noise=0.05):
    """A line in the first column and a bend in the second; columns 3 to 20 say nothing."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 20)) * 10.0 ** rng.integers(-2, 3, 20)  # any scales
    scaled = inputs / inputs.std(0)
    return inputs, 5 + scaled[:, 0] + 0.3 * scaled[:, 1] ** 2 + noise * rng.normal(size=n)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_learns_repeats_itself_and_leaves_random_states_alone(model):
    import torch

    inputs, targets = examples(70)
    torch.manual_seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    fits = [model.fit(inputs[:40], targets[:40], (2, 20)) for _ in range(2)]
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    mean, sd = fits[0].predict(inputs[40:])
    assert mean.shape == sd.shape == (30,) and (sd > 0).all()
    assert (mean == fits[1].predict(inputs[40:])[0]).all()
    error = np.sqrt(((mean - targets[40:]) ** 2).mean())
    assert error < 0.75 * targets[40:].std()


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_columns_that_do_not_vary_and_two_examples(model):
    inputs, targets = examples(12)
    inputs[:, 3] = 7.0
    assert np.isfinite(model.fit(inputs, targets, (2, 20)).predict(inputs)[0]).all()
    same = np.ones((4, 3))
    mean, _ = model.fit(same, np.array([1.0, 2.0, 3.0, 4.0]), (1, 3)).predict(same)
    assert mean == pytest.approx(np.full(4, 2.5), abs=0.6)  # trees and networks see the examples unevenly


def test_ridge_leave_one_out_in_closed_form_is_that_of_leaving_out():
    inputs, targets = examples(15)
    found = Ridge(penalties=(0.1,)).fit(inputs, targets, (20,))
    scaled = (inputs - inputs.mean(0)) / inputs.std(0)
    for i in range(15):
        keep = np.arange(15) != i
        x, y = np.c_[np.ones(14), scaled[keep]], targets[keep]
        penalty = 15 * 0.1 * np.diag([0.0] + [1.0] * 20)
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ y)
        assert targets[i] - np.r_[1, scaled[i]] @ weights == pytest.approx(found.errors[i], abs=1e-9)


def test_ridge_stops_before_columns_that_only_confuse():
    inputs, targets = examples(25, noise=0.3)
    assert Ridge().fit(inputs, targets, (2, 20)).columns == 2
    late = np.concatenate([inputs[:, 1:], inputs[:, :1]], axis=1)
    assert Ridge().fit(late, targets, (2, 20)).columns == 20


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ridge(penalties=()),
        lambda: Ridge(penalties=(-1.0,)),
        lambda: GradientBoosting(trees=0),
        lambda: GradientBoosting(rate=2.0),
        lambda: MLPEnsemble(members=1),
        lambda: MLPEnsemble(steps=0),
    ],
)
def test_impossible_settings(make):
    with pytest.raises(ObjectiveError):
        make()


def test_intervals_cover_as_promised_and_are_wider_where_less_is_known():
    inside, widths = [], []
    for seed in range(20):
        inputs, targets = examples(130, seed, noise=0.5)
        found = CrossConformal(Ridge(), inputs[:30], targets[:30], (2, 20))
        low, high = found.interval(inputs[30:])
        inside.append(((low <= targets[30:]) & (targets[30:] <= high)).mean())
        widths.append((high - low).mean())
        value = found.predict(inputs[30:])
        assert ((low <= value) & (value <= high)).all()
        far = inputs[30:31] + 5 * inputs.std(0)
        assert np.subtract(*found.interval(far)[::-1]) > np.median(high - low)
    assert 0.85 < np.mean(inside) < 0.97
    narrow = found.interval(inputs[30:], 0.5)
    assert (narrow[1] - narrow[0]).mean() < 0.7 * widths[-1]


def test_folds_are_even_and_few_examples_give_the_widest_interval():
    assert sorted(np.bincount(folds(23, 10))) == [2] * 7 + [3] * 3
    assert sorted(folds(6, 10)) == list(range(6))
    inputs, targets = examples(6)
    assert len(CrossConformal(Ridge(), *examples(30), (2, 20))._without) == 30
    found = CrossConformal(Ridge(), inputs, targets, (2, 20))
    low, high = found.interval(inputs, 0.9)
    wider = found.interval(inputs, 0.99)
    assert np.isfinite(low).all() and (low == wider[0]).all() and (high == wider[1]).all()


def test_a_prior_that_is_right_up_to_a_line_needs_few_examples():
    inputs, targets = examples(80, noise=0.0)
    prior = np.c_[3 * targets - 10, inputs]
    told = OnPrior(GP()).fit(prior[:8], targets[:8], (3, 21))
    alone = GP().fit(inputs[:8], targets[:8], (2, 20))
    error = np.sqrt(((told.predict(prior[8:])[0] - targets[8:]) ** 2).mean())
    assert told.slope == pytest.approx(1 / 3, rel=1e-6)
    assert error < 0.05 * np.sqrt(((alone.predict(inputs[8:])[0] - targets[8:]) ** 2).mean())


class Two(Space):
    depth = integer(1, 4)
    layers = repeat(depth, op=choice("a", "b"), mlp=choice(option("wide", size=choice(1, 2, 3)), option("none")))


def test_arrangement_of_layers():
    structure = structure_of(Two)

    def told(kinds):
        flat = {"depth": len(kinds)}
        for i, kind in enumerate(kinds):
            flat |= {f"layers.{i}.op": kind, f"layers.{i}.mlp": "none"}
        row = structure([Two.architecture(flat)])[0]
        return {name.replace("layers.0.op=", ""): value for name, value in zip(structure.names, row, strict=True)}

    found = told("aab")
    assert (found["any a"], found["any b"], found["number of a"], found["first b"]) == (1, 1, 0.5, 1.0)
    assert found["mix of a and b"] == pytest.approx(8 / 9)
    assert (found["a then b"], found["b then a"]) == (0.5, 0.0)
    assert told("baa")["a then b"] == 0.0 and told("baa")["b then a"] == 0.5
    single = told("a")
    assert (single["any b"], single["first b"], single["first a"], single["mix of a and b"]) == (0, 1, 0, 0)


@pytest.mark.parametrize("space", [TinyGPT, Two, HWGPTBenchS])
def test_arrangement_lies_between_0_and_1_for_any_space(space):
    found = structure_of(space)([space.sample(i) for i in range(50)])
    assert found.shape == (50, len(structure_of(space).names))
    assert not found.size or (found.min() >= 0 and found.max() <= 1)
    assert bool(found.size) == (space is not HWGPTBenchS)  # heads and ratios are ordered: their means say it all
