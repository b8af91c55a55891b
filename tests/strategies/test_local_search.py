"""Local search climbs from its restarts: with one objective, on plateaus, beside failures, under limits, with several objectives."""

from __future__ import annotations

import pytest

from nas_bo.problem import Function, Problem
from nas_bo.space import Space, choice
from nas_bo.strategies import LocalSearch
from nas_bo.trial import State, Trial


class Plane(Space):
    x = choice(*range(21))
    y = choice(*range(21))


def two_valleys(arch):
    """A wide valley whose bottom is 1 at (3, 3), and one whose bottom is 0 at (16, 16)."""
    return min(1.0 + (arch.x - 3) ** 2 + (arch.y - 3) ** 2, (arch.x - 16) ** 2 + (arch.y - 16) ** 2 + 0.0)


def other(arch):
    return float(abs(arch.x - 10) + arch.y)


def at(x, y):
    return Plane.architecture({"x": x, "y": y})


def walked(problem, trials, number):
    for _ in range(number):
        (arch,) = LocalSearch(startup=0, screen=1).suggest(problem, trials, 1)
        trials.append(problem.evaluate(arch))
    return trials


def surrounded(problem, x, y):
    """A point and all of its neighbours, evaluated."""
    return [problem.evaluate(arch) for arch in (at(x, y), *Plane.neighbours(at(x, y)))]


ONE = Problem(Plane, [two_valleys])


def test_a_restart_is_climbed_from():
    trials = walked(ONE, [*surrounded(ONE, 3, 3), ONE.evaluate(at(20, 10))], 40)
    assert min(t.values["two_valleys"] for t in trials) == 0.0
    assert trials[-40].architecture in Plane.neighbours(at(20, 10))


def test_a_restart_of_a_search_with_several_objectives_is_climbed_from():
    def flat(arch):
        return 5.0

    problem = Problem(Plane, [two_valleys, Function(flat, "flat")])
    (arch,) = LocalSearch(startup=0, screen=1).suggest(
        problem, [*surrounded(problem, 16, 16), problem.evaluate(at(20, 3))], 1
    )
    assert arch in Plane.neighbours(at(20, 3))


@pytest.mark.parametrize("value", [7.0, -1e300])
def test_a_plateau_is_left_by_restarts(value):
    problem = Problem(Plane, [Function(lambda arch: value, "level")])
    trials = walked(problem, [problem.evaluate(at(10, 10))], 12)
    near = set(Plane.neighbours(at(10, 10)))
    assert {t.architecture for t in trials[1:5]} == near
    far = [t.architecture for t in trials[5:]]
    assert any(abs(a.x - 10) + abs(a.y - 10) > 2 for a in far)


def test_failed_neighbours_count_as_visited_and_never_as_better():
    trials = surrounded(ONE, 3, 3)
    failed = [Trial(a, state=State.FAILED) for a in Plane.neighbours(at(18, 12))[1:]]
    trials += [ONE.evaluate(at(18, 12)), *failed]
    (arch,) = LocalSearch(startup=0, screen=1).suggest(ONE, trials, 1)
    assert arch == Plane.neighbours(at(18, 12))[0]


def test_what_violates_less_is_climbed_to_until_something_is_feasible():
    def far(arch):
        return float(40 - arch.x - arch.y)

    problem = Problem(Plane, [two_valleys], limits=[Function(far, "far", cost="measured", at_most=3)])
    trials = walked(problem, [problem.evaluate(at(12, 12))], 90)
    assert any(t.feasible for t in trials)
    first = next(i for i, t in enumerate(trials) if t.feasible)
    assert first < 60
    broken = [problem.evaluate(a) for a in (at(0, 0), *Plane.neighbours(at(0, 0)))]
    assert all(not t.feasible for t in broken)
    (arch,) = LocalSearch(startup=0, screen=1).suggest(problem, broken, 1)
    assert any(arch in Plane.neighbours(t.architecture) for t in broken)
