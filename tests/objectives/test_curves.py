"""Curves drawn out to the end of a run: near the truth, with intervals that hold it as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas_bo.errors import ObjectiveError
from nas_bo.objectives import extrapolate

SHARES = np.array([0.05, 0.1, 0.15, 0.2, 0.25])


def curve(a: float, b: float, c: float, noise: float = 0.0, seed: int = 0) -> tuple[list[tuple[float, float]], float]:
    """Points of a + b t^-c over SHARES of 1000 tokens, and its end."""
    rng = np.random.default_rng(seed)
    values = (a + b * SHARES**-c) * np.exp(rng.normal(0, noise, len(SHARES)))
    return list(zip((1000 * SHARES).tolist(), values.tolist(), strict=True)), a + b


def test_a_power_law_is_found_again() -> None:
    for a, b, c in ((1.0, 1.2, 0.3), (0.0, 2.0, 0.2), (1.8, 0.5, 0.5)):
        points, end = curve(a, b, c)
        found = extrapolate(points, 1000, gain=(0, 0))
        assert found.low < end < found.high and found.mean == pytest.approx(end, rel=0.06)
        assert extrapolate(points[::-1], 1000, gain=(0, 0)) == found


def test_intervals_hold_the_end_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for seed in range(200):
        c = math.exp(rng.normal(math.log(0.35), 0.7))
        a, b = rng.uniform(0, 2), rng.uniform(0.3, 2)
        points, end = curve(a, b, c, noise=0.006, seed=seed)
        found = extrapolate(points, 1000, gain=(0, 0))
        inside += found.low <= end <= found.high
    assert 0.8 <= inside / 200 <= 0.99


def test_the_decay_of_the_learning_rate_comes_off() -> None:
    points, _ = curve(1.0, 1.2, 0.3)
    plain, decayed = extrapolate(points, 1000, gain=(0, 0)), extrapolate(points, 1000, gain=(0.1, 0.0))
    assert decayed.mean == pytest.approx(plain.mean * math.exp(-0.1))


def test_one_bad_point_moves_little() -> None:
    points, _ = curve(1.0, 1.2, 0.3)
    bad = [(at, value * (1.3 if index == 2 else 1)) for index, (at, value) in enumerate(points)]
    one, two = extrapolate(points, 1000, gain=(0, 0)), extrapolate(bad, 1000, gain=(0, 0))
    assert abs(two.mean - one.mean) < 0.06 * one.mean


def test_finished_curves_narrow_the_interval_and_bring_what_no_power_law_knows() -> None:
    def run(seed: int) -> tuple[list[tuple[float, float]], float]:
        points, end = curve(1 + 0.1 * (seed % 5), 1.2, 0.3, 0.003, seed)
        return points, end * 0.8  # a fifth lower than any power law says

    finished = [[*points, (1000.0, end)] for points, end in map(run, range(1, 13))]
    points, end = run(20)
    alone, together = extrapolate(points, 1000, gain=(0, 0)), extrapolate(points, 1000, gain=(0, 0), finished=finished)
    assert not alone.low < end < alone.high
    assert together.low < end < together.high and together.high - together.low < alone.high - alone.low
    assert extrapolate(points, 1000, gain=(0, 0), finished=finished[:4]) == alone  # too few
    unfinished = [curve[:-1] for curve in finished]
    assert extrapolate(points, 1000, gain=(0, 0), finished=unfinished) == alone


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([(1, 2.0), (2, 1.9)], "2 points"),
        ([(1, 2.0), (1, 2.0), (2, 1.9)], "2 points"),
        ([(1, 2.0), (2, 1.9), (3, math.nan)], "finite"),
        ([(0, 2.0), (2, 1.9), (3, 1.8)], "finite tokens"),
        ([(1, 2.0), (2, 1.9), (30, 1.8)], "beyond the 10"),
    ],
)
def test_refusals(points: list[tuple[float, float]], says: str) -> None:
    with pytest.raises(ObjectiveError, match=says):
        extrapolate(points, 10)
