"""Limits that leave a few of ten billion architectures: every strategy finds its way to them, and knows when there are no more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas_bo.errors import SearchError
from nas_bo.objective import Function, as_objective
from nas_bo.problem import Problem
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution, Reinforce
from nas_bo.trial import Trial
from nas_bo.workflows.reachable import check_reachable


class Wide(Space):
    first = choice(*range(10))
    rest = repeat(9, size=integer(0, 9))


def sizes(arch) -> list[int]:
    return [int(value) for value in arch.flat.values()]


def total(arch) -> float:
    return float(sum(sizes(arch)))


def alike(arch) -> float:
    return float(sum(abs(a - b) for a, b in zip(sizes(arch), sizes(arch)[1:], strict=False)))


def within(most: float) -> Problem:
    return Problem(Wide, [as_objective(alike)], [replace(as_objective(total), cost="analytic", at_most=most)])


class Eight(Space):
    rows = repeat(8, size=integer(1, 10))


KINDS = [Random, NSGA2, RegularizedEvolution, LocalSearch, Reinforce, Bayes]


def against_each_other(first: float = 10.0) -> Problem:
    """Single steps towards one limit lead away from the other: 46 of 10^8 keep both."""
    limits = [
        replace(as_objective(total), cost="analytic", at_least=44, at_most=46),
        replace(as_objective(alike), cost="analytic", at_most=2),
        Function(lambda arch: sizes(arch)[0], "first", cost="analytic", at_most=first),
    ]
    return Problem(Eight, [Function(lambda arch: 0.0, "loss")], limits)


@pytest.mark.parametrize("kind", KINDS)
def test_limits_that_pull_against_each_other_are_met(kind):
    problem, trials = against_each_other(), []
    for number in range(3):
        (arch,) = kind(seed=1).suggest(problem, trials, 1)
        assert 44 <= total(arch) <= 46 and alike(arch) <= 2
        trials.append(Trial(arch, {"loss": total(arch)}, number=number))
    assert len({trial.architecture.id for trial in trials}) == 3


def test_a_search_that_no_limits_allow_names_the_nearest():
    check_reachable(against_each_other())
    with pytest.raises(SearchError, match="the nearest misses"):
        check_reachable(against_each_other(first=2))


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_found(kind):
    problem, trials = within(3.0), []  # 286 of 10^10
    for number in range(12):
        (arch,) = kind(seed=1).suggest(problem, trials, 1)
        assert total(arch) <= 3
        trials.append(Trial(arch, {"alike": alike(arch)}, number=number))
    assert len({trial.architecture.id for trial in trials}) == 12


def test_they_are_counted_out():
    """Of one in a billion all are found, and then it is said that there are no more."""
    problem, trials = within(1.0), []
    found = Random(seed=0).suggest(problem, trials, 20)
    assert len(found) == len({arch.id for arch in found}) == 11 and all(total(arch) <= 1 for arch in found)
