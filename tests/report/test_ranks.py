"""The statistics behind the trust report, against scipy and against what is known by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from nas_bo.errors import SearchError
from nas_bo.report.ranks import (
    Interval,
    bounds,
    count_places,
    difference,
    interval,
    point,
    recall,
    regret,
    resampled,
    rho,
    tau,
    tau_size_removed,
    together,
)
from nas_bo.report.trust import kendall, kendall_size_removed, spearman

small = st.lists(st.integers(0, 6).map(float), min_size=3, max_size=12)


@settings(max_examples=40, deadline=None)
@given(small, st.randoms())
def test_tau_and_rho_are_those_of_scipy_ties_included(a, rng):
    b = [x + rng.randrange(4) for x in a]
    ours = (point(tau, [(np.array(a), np.array(b))]), point(rho, [(np.array(a), np.array(b))]))
    theirs = (kendalltau(a, b).statistic, spearmanr(a, b).statistic if len(set(a)) > 1 < len(set(b)) else math.nan)
    assert ours == pytest.approx(theirs, nan_ok=True)


def test_size_removed_is_tau_of_the_residuals():
    rng = np.random.default_rng(0)
    size = np.exp(rng.uniform(9, 13, 20))
    a, b = -np.log(size) + rng.normal(0, 0.3, 20), -np.log(size) + rng.normal(0, 0.3, 20)

    def left(y):
        x = np.c_[np.ones(20), np.log(size)]
        return y - x @ np.linalg.lstsq(x, y, rcond=None)[0]

    expected = kendalltau(left(a), left(b)).statistic
    assert kendall_size_removed(a, b, size).value == pytest.approx(expected)
    assert kendall(a, b).value > 0.6 > abs(expected)  # here overall agreement is size and nothing else


def test_a_mere_function_of_size_has_no_order_left():
    size = [1e4, 2e4, 5e4, 7e4, 9e4, 2e5]
    truth = [3.0, 2.8, 2.9, 2.5, 2.6, 2.2]
    assert math.isnan(kendall_size_removed(-np.log(size), truth, size).value)
    assert not math.isnan(kendall_size_removed(truth, truth, [7.0] * 6).value)  # one size: nothing to remove


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """tau of two normals with correlation r is 2/pi * asin(r) (Greiner): covered in most of 60 draws."""
    rng, r = np.random.default_rng(1), 0.7
    true = 2 / math.pi * math.asin(r)
    inside = 0
    for _ in range(60):
        x = rng.normal(size=24)
        found = kendall(x, r * x + math.sqrt(1 - r * r) * rng.normal(size=24), draws=300)
        inside += found.low <= true <= found.high
    assert inside >= 50


def test_the_regression_is_made_again_in_every_resample():
    rng = np.random.default_rng(2)
    size = np.exp(rng.uniform(9, 13, 9))
    a, b = rng.normal(size=9), rng.normal(size=9)
    picked = np.random.default_rng(5).integers(0, 9, (3, 9))
    found = resampled(tau_size_removed, [(a, b)], size, 3, 5)
    for row, value in zip(picked, found, strict=True):
        x = np.c_[np.ones(9), np.log(size[row])]
        left = [y - x @ np.linalg.lstsq(x, y, rcond=None)[0] for y in (a[row], b[row])]
        assert value == pytest.approx(kendalltau(*np.round(left, 9)).statistic)


def test_too_few_points_have_no_interval_and_fewer_no_tau():
    assert not kendall([1, 2], [1, 2]).known
    four = kendall([1, 2, 3, 4], [1, 2, 4, 3])
    assert four.value == pytest.approx(4 / 6) and not four.bounded and "no interval" in four.text()
    assert kendall([1, 2, 3, 4, 5], [1, 2, 3, 5, 4]).bounded
    assert Interval().text() == "not defined" and not bounds(0.5, np.full(100, np.nan)).bounded


def test_recall_and_regret_count_ties_fairly():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert recall([(truth, truth)], 2) == 1 and recall([(-truth, truth)], 2) == 0
    assert recall([(np.zeros(4), truth)], 2) == pytest.approx(0.5)  # nothing known: half of the places each
    assert regret([(truth, truth)]) == 0 and regret([(-truth, truth)]) == 3
    assert regret([(np.array([0.0, 0.0, 1.0, 1.0]), truth)]) == pytest.approx(0.5)
    assert [count_places(n, None) for n in (0, 1, 4, 12, 32)] == [0, 1, 1, 3, 8] and count_places(3, 9) == 3


def test_lengths_must_fit_and_sizes_be_positive():
    with pytest.raises(SearchError, match="one of each per architecture"):
        spearman([1, 2, 3], [1, 2])
    with pytest.raises(SearchError, match="above 0"):
        kendall_size_removed([1, 2, 3], [1, 2, 3], [1, 0, 2])


def test_the_combination_leaves_each_architecture_out_of_its_own_fit():
    rng = np.random.default_rng(4)
    size, a, y = np.exp(rng.uniform(9, 13, 10)), rng.normal(size=10), rng.normal(size=10)
    found, truth = together((a, y), size)
    for i in range(10):
        rest = np.arange(10) != i
        x = np.c_[np.ones(10), np.log(size), a]
        assert found[i] == pytest.approx(x[i] @ np.linalg.lstsq(x[rest], y[rest], rcond=None)[0])
    assert (truth == y).all() and together((a[:5], y[:5]), size[:5]) is None
    assert np.isfinite(together((np.log(size), y), size)[0]).all()  # a proxy that is size again


@pytest.mark.parametrize("n", [5, 6, 8, 10, 14, 40])
@pytest.mark.parametrize("statistic", [tau, rho, tau_size_removed])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_order_of_few_has_an_interval_of_some_width(n, statistic, sign):
    truth = np.random.default_rng(n).permutation(n).astype(float)
    size = np.random.default_rng(n + 1).permutation(n) + 1e4
    found = interval(statistic, [(sign * truth, truth)], size, 200, 0)
    assert found.value == pytest.approx(sign) and found.bounded and found.low < found.high
    before, _, after = found.text().partition("(")[2].partition(" to ")
    assert before != after.rstrip(")")
    assert found.low <= found.value <= found.high and (n > 5 or found.high - found.low > 0.5)
    if statistic is tau:
        told = kendall(sign * truth, truth)
        assert (told.low, told.high) == pytest.approx((found.low, found.high))


def test_the_interval_of_a_perfect_order_covers_what_makes_it_likely():
    """The least tau whose samples are in perfect order in more than a fortieth of all draws lies inside."""
    rng = np.random.default_rng(0)
    for n, r in ((n, r) for n in (5, 8, 12) for r in (0.3, 0.8, 0.9, 0.95, 0.98)):
        low = kendall(range(n), range(n)).low
        x = rng.normal(size=(4000, n))
        perfect = tau(x, r * x + math.sqrt(1 - r * r) * rng.normal(size=(4000, n))) == 1
        assert perfect.mean() <= 0.025 or 2 / math.pi * math.asin(r) >= low


def test_a_difference_of_equal_figures_has_no_interval():
    order = np.arange(9.0)
    assert not difference([(order, order)], [(order, order)], 200, 0).bounded
