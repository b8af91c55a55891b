"""Closed forms against Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from nas_bo.pareto import hypervolume
from nas_bo.strategies import scores
from nas_bo.strategies.acquisition import boxes, ehvi, log_chebyshev_ei, log_ei, log_psi, psi
from nas_bo.surrogate.bend import UNBENT, Bend
from nas_bo.trial import ObjectiveSpec


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


def test_psi_is_its_own_logarithm_exponentiated():
    z = np.array([-30.0, -8.0, -1.0, 0.0, 2.0, 4.999, 5.001, 60.0])
    assert psi(z) == pytest.approx(np.exp(log_psi(z)), rel=1e-5)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [0, 1, 7])
def test_boxes_fill_what_is_not_dominated(m, k):
    rng = np.random.default_rng(10 * m + k)
    front, reference = rng.random((k, m)), np.full(m, 0.9)
    lower, upper = boxes(front, reference)
    volume = np.prod(np.maximum(upper - np.maximum(lower, 0.0), 0.0), axis=1).sum()
    assert volume == pytest.approx(0.9**m - hypervolume(front, reference))
    points = rng.random((200, m)) * 0.9
    inside = ((points[:, None] > lower) & (points[:, None] <= upper)).all(-1).sum(1)
    free = ~(front[None] <= points[:, None]).all(-1).any(1)
    assert (inside == free).all()


@pytest.mark.parametrize("uncertain", [1, 2, 3])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_ehvi_agrees_with_monte_carlo(m, uncertain):
    rng = np.random.default_rng(10 * m + uncertain)
    front, reference = rng.random((7, m)), np.full(m, 0.9)
    mean, sd = rng.random((3, m)), 0.05 + 0.3 * rng.random((3, m))
    sd[:, uncertain:] = 0.0
    draws = mean + sd * rng.standard_normal((2000, 3, m))
    whole = hypervolume(front, reference)
    expected = [[hypervolume(np.vstack([front, row[i]]), reference) - whole for row in draws] for i in range(3)]
    error = np.std(expected, axis=1) / 2000**0.5
    found = ehvi(mean, sd, *boxes(front, reference))
    assert (np.abs(found - np.mean(expected, axis=1)) < 5 * error + 1e-6).all()


def test_ehvi_agrees_with_botorch():
    torch = pytest.importorskip("torch")
    pytest.importorskip("botorch")
    from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
    from botorch.models.deterministic import GenericDeterministicModel
    from botorch.posteriors import GPyTorchPosterior
    from botorch.utils.multi_objective.box_decompositions import NondominatedPartitioning
    from gpytorch.distributions import MultitaskMultivariateNormal

    rng = np.random.default_rng(3)
    front, reference = rng.random((6, 3)), np.full(3, 1.1)
    mean, sd = rng.random((4, 3)), 0.1 + 0.2 * rng.random((4, 3))

    class Told(GenericDeterministicModel):
        def posterior(self, X, **_):
            i = X[..., 0].long().flatten()
            means, deviations = torch.tensor(-mean)[i], torch.tensor(sd)[i]
            covariance = torch.diag_embed(deviations**2)
            return GPyTorchPosterior(MultitaskMultivariateNormal(means[:, None, :], covariance))

    partition = NondominatedPartitioning(torch.tensor(-reference), Y=torch.tensor(-front))
    theirs = ExpectedHypervolumeImprovement(Told(lambda x: x, num_outputs=3), (-reference).tolist(), partition)
    index = torch.arange(4, dtype=torch.double)[:, None, None]
    assert ehvi(mean, sd, *boxes(front, reference)) == pytest.approx(theirs(index).detach().numpy(), rel=1e-4)


def test_chebyshev_prefers_what_improves_and_then_the_better_mean():
    points, weights = np.array([[0.5, 0.5]]), np.array([0.5, 0.5])
    draws = np.array([[[0.1, 0.1], [0.4, 0.4], [0.8, 0.8], [0.9, 0.9]]])
    found = log_chebyshev_ei(draws, points, weights)
    assert (np.diff(found) < 0).all()


@pytest.mark.parametrize("known", [[1], []])
def test_a_better_one_beyond_the_end_of_the_front_counts(known):
    """Large ones that disappointed so far leave a front that ends at small ones; a better large one is still a gain."""
    columns = (ObjectiveSpec("loss"), ObjectiveSpec("ms", cost="analytic"))
    points = np.array([[2.5, 0.8], [2.9, 0.3], [2.8, 4.0]])  # the last is dominated
    mean, sd = np.array([[2.2, 3.0]]), np.array([[0.05, 0.0]])
    assert scores._hypervolume(points, columns, known=known)(mean, sd)[0] > np.log(0.1)


def test_an_outlier_does_not_make_the_reference_far():
    columns = (ObjectiveSpec("loss"), ObjectiveSpec("ms"))
    rng = np.random.default_rng(0)
    points = np.column_stack([2.5 + 0.3 * rng.random(40), 0.5 + rng.random(40)])
    near = scores.reference_of(points, columns, [], [UNBENT] * 2)
    odd = scores.reference_of(np.concatenate([points, [[99.0, 0.6]]]), columns, [], [UNBENT] * 2)
    assert odd == pytest.approx(near, rel=0.2)
    known = scores.reference_of(np.concatenate([points, [[2.6, 99.0]]]), columns, [1], [UNBENT] * 2)
    assert known[1] == 99.0  # a known value is never an error of measurement


def test_a_gain_is_one_of_the_objective_unit_whatever_the_scale_of_the_process():
    columns = (ObjectiveSpec("loss"), ObjectiveSpec("ms"))
    straight = np.array([[1.0, 40.0], [2.0, 20.0], [8.0, 5.0], [30.0, 2.0]])
    bends = [Bend(3.0, 1.0), UNBENT]
    bent = np.column_stack([bends[0].to(straight[:, 0]), straight[:, 1]])
    new = np.array([[0.5, 30.0], [4.0, 8.0], [1.5, 1.0]])
    sure = np.full((3, 2), 1e-9)
    told = scores._hypervolume(straight, columns, known=[0, 1])(new, sure)
    found = scores._hypervolume(bent, columns, known=[0, 1], bends=bends)(
        np.column_stack([bends[0].to(new[:, 0]), new[:, 1]]), sure
    )
    assert found[0] == pytest.approx(
        told[0], abs=1e-6
    )  # up to the knee exactly, beyond it as near as the boxes are small
    assert found == pytest.approx(told, abs=0.7)
