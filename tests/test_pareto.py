"""Ranks, crowding, hypervolume and reference points against brute force and moocore."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from nas_bo.errors import SearchError
from nas_bo.pareto import crowding, hypervolume, ranks, reference_point
from nas_bo.trial import non_dominated

POINTS = st.integers(1, 4).flatmap(
    lambda m: nps.arrays(float, st.tuples(st.integers(1, 25), st.just(m)), elements=st.integers(0, 6).map(float))
)


def brute_ranks(points):
    found, left, rank = np.zeros(len(points), int), set(range(len(points))), 0
    while left:
        best = {
            i for i in left if not any((points[j] <= points[i]).all() and (points[j] < points[i]).any() for j in left)
        }
        for i in best:
            found[i] = rank
        left, rank = left - best, rank + 1
    return found


@given(POINTS)
def test_ranks_agree_with_brute_force_and_moocore(points):
    found = ranks(points)
    assert (found == brute_ranks(points)).all()
    if points.shape[1] > 1:
        assert (found == moocore.pareto_rank(points)).all()
    some = ranks(points, until=5)
    assert (some[some < some.max()] == found[some < some.max()]).all()
    assert ((some == found) | (some == some.max())).all()


def test_points_with_nan_come_last():
    assert ranks(np.array([[1.0, np.nan], [2.0, 2.0], [1.0, 1.0]])).tolist() == [2, 1, 0]
    assert ranks(np.zeros((0, 2))).tolist() == []


def test_crowding_by_hand():
    points = np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]])
    assert crowding(points).tolist() == [np.inf, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, np.inf]
    assert crowding(np.ones((3, 2))).tolist() == [0, 0, 0]


@given(POINTS)
def test_hypervolume_agrees_with_moocore(points):
    reference = np.full(points.shape[1], 5.5)
    expected = 5.5 - min(5.5, points.min()) if points.shape[1] == 1 else moocore.hypervolume(points, ref=reference)
    assert hypervolume(points, reference) == pytest.approx(expected)


def test_hypervolume_outside_is_nothing_and_shapes_are_checked():
    assert hypervolume(np.array([[7.0, 0.0]]), np.array([6.0, 6.0])) == 0
    with pytest.raises(SearchError, match="do not fit"):
        hypervolume(np.zeros((2, 3)), np.ones(2))


@given(POINTS)
def test_the_reference_point_lies_beyond_the_front(points):
    reference = reference_point(points)
    assert (points[non_dominated(points)] < reference).all()


def test_a_reference_point_needs_points():
    with pytest.raises(SearchError, match="at least one"):
        reference_point(np.zeros((0, 2)))
