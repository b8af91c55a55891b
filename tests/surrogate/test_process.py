"""The Gaussian process and what is known without it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from nas_bo.objectives import Flops, Parameters
from nas_bo.problem import Function, Problem
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies.cheap_objectives import known_of
from nas_bo.surrogate import process as surrogate
from nas_bo.surrogate.averaged import Averaged
from nas_bo.surrogate.features import features_of
from nas_bo.surrogate.process import GaussianProcess, Given
from tests.strategies import cases


def wavy(x):
    return 3.0 + 10.0 * np.sin(4 * x[:, 0]) * x[:, 1] + 2.0 * x[:, 2]


def data(n, seed=0, d=5):
    x = np.random.default_rng(seed).random((n, d))
    return x, wavy(x)


def test_it_predicts_what_it_has_not_seen_and_knows_how_well():
    x, y = data(60)
    process = GaussianProcess(x, y, own=3)
    new, truth = data(200, seed=1)
    mean, sd = process.predict(new)
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.25 * truth.std()
    assert 0.3 < np.sqrt(np.mean(((mean - truth) / sd) ** 2)) < 3.0
    near, far = process.predict(x[:5])[1], process.predict(x[:5] + 3)[1]
    assert (near < 0.2 * far).all()


def test_noise_is_told_from_signal():
    x, y = data(120)
    rng = np.random.default_rng(5)
    clean, noisy = GaussianProcess(x, y, own=3), GaussianProcess(x, y + rng.normal(0, 2.0, 120), own=3)
    assert clean.noise < 0.5 and 1.0 < noisy.noise < 3.0
    assert np.abs(noisy.predict(x)[0] - y).mean() < 1.6  # smoothed, not interpolated


@pytest.mark.parametrize("regressors", [0, 2])
def test_the_gradient_of_the_posterior_is_that_of_finite_differences(monkeypatch, regressors):
    x, y = data(25, d=5 + regressors)
    y = y + 2.0 * x[:, 5] if regressors else y
    y = (y - y.mean()) / y.std()
    seen = []
    original = __import__("scipy.optimize", fromlist=["minimize"]).minimize

    def spy(negative, start, **settings):
        seen.append((negative, start))
        return original(negative, start, **settings)

    monkeypatch.setattr("scipy.optimize.minimize", spy)
    surrogate._memory.clear()
    surrogate._fit(surrogate._Kernel(3, 5, regressors), x, y)
    negative, start = seen[0]
    for shift in (0.0, 0.4):
        t = start + shift * np.sin(np.arange(len(start)))
        assert check_grad(lambda t: negative(t)[0], lambda t: negative(t)[1], t) < 1e-3 * np.abs(negative(t)[1]).max()


def test_what_is_believed_is_no_longer_uncertain_and_changes_no_expectation():
    x, y = data(30)
    process = GaussianProcess(x, y, own=3)
    new = np.random.default_rng(9).random((2, 5))
    before, wide = process.predict(new)
    process.believe(new)
    after, narrow = process.predict(new)
    assert after == pytest.approx(before, abs=0.05 * y.std()) and (narrow < 0.7 * wide).all()


def test_believing_is_the_same_as_conditioning_on_what_was_expected():
    x, y = data(30)
    process = GaussianProcess(x, y, own=3)
    new, asked = np.random.default_rng(9).random((3, 5)), np.random.default_rng(8).random((40, 5))
    means = process.predict(new)[0]
    whole = GaussianProcess(np.concatenate([x, new]), np.concatenate([y, means]), own=3, like=process)
    process.believe(new[:1])
    process.believe(new[1:])
    for found, told in zip(process.predict(asked), whole.predict(asked), strict=True):
        assert found == pytest.approx(told, rel=1e-5, abs=1e-5)


def test_remembered_hyperparameters_change_nothing():
    x, y = data(40)
    surrogate._memory.clear()
    first = GaussianProcess(x, y, own=2).predict(x + 0.1)
    second = GaussianProcess(x, y, own=2).predict(x + 0.1)
    surrogate._memory.clear()
    third = GaussianProcess(x, y, own=2).predict(x + 0.1)
    assert np.array_equal(first, second) and np.array_equal(first, third)


@pytest.mark.parametrize("values", [np.ones(8), np.r_[np.ones(7), 1e12], np.zeros(8)])
def test_odd_targets_are_survived(values):
    x, _ = data(8)
    mean, sd = GaussianProcess(x, values, own=5).predict(x)
    assert np.isfinite(mean).all() and (sd > 0).all()


def test_known_objectives_are_exact_and_their_approximation_is_close():
    problem = Problem(TinyGPT, [Function(cases.loss, "loss"), Parameters(), Flops()])
    known, features = known_of(problem), features_of(TinyGPT)
    assert known.positions == [1, 2] and known_of(problem) is known
    archs = [TinyGPT.sample(i) for i in range(100)]
    exact = np.array([known.exact(problem, arch)[0] for arch in archs])
    assert exact[:, 0] == pytest.approx([Parameters()(arch) for arch in archs])
    near = known.from_scale(known.approximate(features(archs)))
    assert np.median(np.abs(np.log(near / exact))) < 0.06
    assert known.from_scale(known.to_scale(exact)) == pytest.approx(exact)


def test_known_objectives_that_raise_or_change_sign():
    def balance(arch):
        if arch.width == 256:
            raise RuntimeError("does not fit")
        return float(arch.width - 128)

    problem = Problem(cases.Nested, [cases.loss, Function(balance, "balance", direction="maximize", cost="analytic")])
    known = known_of(problem)
    values = [known.exact(problem, cases.Nested.sample(i))[0][0] for i in range(30)]
    assert np.isnan(values).any() and {v for v in values if v == v} <= {64.0, 0.0, -64.0}
    found = known.from_scale(known.approximate(features_of(cases.Nested)([cases.Nested.sample(i) for i in range(30)])))
    assert np.isfinite(found).all()


def test_an_outlier_is_cut_and_what_differs_from_many_variations_of_one_is_none():
    values = np.array([3.0, 3.4, 3.1, 2.8, 1e6, 3.3, 2.9, 3.2])
    assert surrogate.clipped(values).max() < 10
    diverse = np.linspace(0.2, 0.5, 16)
    searched = np.concatenate([diverse, 0.12 + 1e-5 * np.arange(40)])
    assert np.array_equal(surrogate.clipped(searched), searched)
    assert np.array_equal(surrogate.usual(searched), diverse) and surrogate.usual(diverse) is diverse


def test_an_average_of_two_priors_is_less_certain_than_the_usual_one_and_keeps_what_it_believes():
    x, y = data(12)
    made = surrogate.most_likely(x, y, 3, 12)
    both = Averaged(made, x, y, 12, Given())
    new, truth = data(100, seed=1)
    mean, sd = both.predict(new)
    assert np.allclose(mean, both.expect(new))
    assert np.sqrt(np.mean(((mean - truth) / sd) ** 2)) < np.sqrt(
        np.mean(((made.predict(new)[0] - truth) / made.predict(new)[1]) ** 2)
    )
    assert both.left_out()[0].shape == (12,)
    both.believe(new[:3])
    after, less = both.predict(new)
    assert np.allclose(after, mean) and (less[:3] < sd[:3]).all()


@pytest.mark.parametrize("block", [1, 7, 50, 10_000])
def test_a_kernel_is_the_same_however_many_values_are_computed_at_a_time(monkeypatch, block):
    monkeypatch.setattr(surrogate, "BLOCK", block)
    rng = np.random.default_rng(0)
    first, second = rng.random((23, 6)), rng.random((7, 6))
    first[0] = second[0]
    kernel, t = surrogate._Kernel(2, 6), rng.normal(size=6)
    found = np.zeros((23, 7))
    for columns, length, amplitude in ((slice(0, 2), t[:2], t[2]), (slice(0, 6), t[3], t[4])):
        scaled = (first[:, columns] * np.exp(-length), second[:, columns] * np.exp(-length))
        distance = ((scaled[0][:, None] - scaled[1]) ** 2).sum(-1)
        found += np.exp(amplitude) * surrogate._matern(distance)[0]
    assert kernel(t, first, second) == pytest.approx(found, rel=1e-6)
    monkeypatch.setattr(surrogate, "BLOCK", 1_000_000)
    whole = kernel(t, first, second)
    monkeypatch.setattr(surrogate, "BLOCK", block)
    assert (kernel(t, first, second) == whole).all()
