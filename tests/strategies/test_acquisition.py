"""Closed forms against Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from nas_bo.strategies.acquisition import ehvi, log_chebyshev_ei, log_ei, log_psi
from nas_bo.strategies.pareto import hypervolume


def test_log_psi_is_stable_far_below_zero():
    z = np.array([-5.0, -1.0 - 1e-9, -1.0, 0.0, 3.0])
    assert log_psi(z) == pytest.approx(np.log(z * norm.cdf(z) + norm.pdf(z)), rel=1e-6)
    far = log_psi(np.array([-1e4, -200.0, -60.0, -50.0, -49.0, -20.0]))
    assert np.isfinite(far).all() and (np.diff(far) > 0).all()
    assert far[3] == pytest.approx(-0.5 * 2500 - 0.5 * math.log(2 * math.pi) - 2 * math.log(50), rel=1e-4)


def test_log_ei_agrees_with_monte_carlo():
    mu, sd = np.array([0.0, 1.0, 2.0]), np.array([0.5, 1.0, 0.1])
    draws = mu + sd * np.random.default_rng(0).standard_normal((400_000, 3))
    expected = np.maximum(1.2 - draws, 0).mean(0)
    assert np.exp(log_ei(mu, sd, 1.2))[:2] == pytest.approx(expected[:2], rel=0.01)


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("k", [0, 1, 7])
def test_ehvi_agrees_with_monte_carlo(m, k):
    rng = np.random.default_rng(10 * m + k)
    front, reference = rng.random((k, m)), np.full(m, 0.9)
    mu, sd, cost = rng.random(4), 0.05 + 0.3 * rng.random(4), rng.random((4, m - 1))
    normal = norm.ppf((np.arange(600) + 0.5) / 600)
    whole = hypervolume(front, reference)
    expected = [
        np.mean([hypervolume(np.vstack([front, [mu[i] + sd[i] * z, *cost[i]]]), reference) - whole for z in normal])
        for i in range(4)
    ]
    assert ehvi(mu, sd, cost, front, reference) == pytest.approx(np.array(expected), abs=5e-4)


def test_chebyshev_prefers_what_improves_and_then_the_better_mean():
    points, weights = np.array([[0.5, 0.5]]), np.array([0.5, 0.5])
    draws = np.array([[[0.1, 0.1], [0.4, 0.4], [0.8, 0.8], [0.9, 0.9]]])
    found = log_chebyshev_ei(draws, points, weights)
    assert (np.diff(found) < 0).all()
