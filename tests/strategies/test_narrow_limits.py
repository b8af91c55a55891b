"""Limits that leave a few of ten billion architectures: every strategy finds its way to them, and knows when there are no more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas_bo.objective import as_objective
from nas_bo.problem import Problem
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution, Reinforce
from nas_bo.trial import Trial


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


@pytest.mark.parametrize("kind", [Random, NSGA2, RegularizedEvolution, LocalSearch, Reinforce, Bayes])
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
