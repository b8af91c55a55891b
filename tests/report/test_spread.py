from __future__ import annotations

import math

import pytest

from nas_bo.report.spread import across


def test_the_choice_spreads_over_size_and_over_estimates_within_a_size():
    sizes = [10.0 * (i // 10 + 1) + i % 10 * 0.1 for i in range(40)]  # four groups of ten
    scores = [float(i % 10) for i in range(40)]
    found = across(sizes, scores, 8, seed=3)
    assert [i // 10 for i in found] == [0, 0, 1, 1, 2, 2, 3, 3]
    for a, b in zip(found[::2], found[1::2], strict=True):  # two of a size: far apart in what is thought of them
        assert abs(scores[a] - scores[b]) >= 4


def test_what_is_trained_is_preferred_but_not_alone():
    sizes, scores = [float(i) for i in range(1, 21)], [-float(i % 7) for i in range(20)]
    found = across(sizes, scores, 8, preferred={3, 4, 18})
    assert {3, 4} & set(found) and 18 in found and len(set(found)) == 8


def test_the_taken_count_as_given():
    found = across([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], 2, taken=[0, 3])
    assert found == [1, 2]
    assert across([1.0, 2.0], [1.0, 2.0], 5, taken=[0, 1]) == [] and across([], [], 3) == []


@pytest.mark.parametrize("n", [1, 2, 5, 12, 30])
def test_any_number_without_sizes_or_scores(n):
    nothing = [math.nan] * 12
    found = across(nothing, nothing, n, seed=1)
    assert len(found) == len(set(found)) == min(n, 12) and found == across(nothing, nothing, n, seed=1)
