"""Whether limits leave anything of a space, said before the first trial, with what comes nearest."""

from __future__ import annotations

import random
from collections.abc import Mapping

from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import SearchError
from nas_bo.problem import Problem
from nas_bo.space.domain import Domain
from nas_bo.wording import counted

DRAWS = 300
SWEEPS = 3
STEPS = 4000  # architectures that are looked at on the way to the nearest


def check_reachable(problem: Problem) -> None:
    """See that rules and limits on analytic objectives leave something of the space: random architectures first, and where none of them is
    within the limits, steps from the nearest one towards them, a decision at a time.

    Raises:
        SearchError: nothing was found; the message names the nearest that was.
    """
    rng = random.Random(0)
    nearest: tuple[float, Architecture] | None = None
    for _ in range(DRAWS):
        arch = problem.space.sample(rng)
        if problem.admissible(arch):
            return
        far = _distance(problem, arch)
        if nearest is None or far < nearest[0]:
            nearest = far, arch
    assert nearest is not None
    arch = _nearer(problem, *nearest)
    if problem.admissible(arch):
        return
    misses = "; ".join(
        f"{_limit(problem, name)} by {amount:,.4g}" for name, amount in _violations(problem, arch).items() if amount > 0
    )
    has = ", ".join(f"{name} {value:,.4g}" for name, value in problem.analytic(arch).items())
    raise SearchError(
        f"none of {counted(DRAWS, 'random architecture')} of {problem.space.title} is within the limits, and none that was found step by step from the "
        f"best of them; the nearest misses {misses} (it has {has}). Loosen the limit, or choose a space with such architectures"
    )


def _violations(problem: Problem, arch: Architecture) -> dict[str, float]:
    return problem.violations(arch, problem.analytic(arch))


def _limit(problem: Problem, name: str) -> str:
    bounds = problem.bounds()
    return f"{name} ({bounds[name][2]:,.4g})" if name in bounds and "=" not in name else name


def _distance(problem: Problem, arch: Architecture) -> float:
    """Each miss as a share of its bound, added up; a rule counts as one."""
    bounds = problem.bounds()
    return sum(
        amount / (abs(bounds[name][2]) or 1.0) if name in bounds else amount
        for name, amount in _violations(problem, arch).items()
    )


def _nearer(problem: Problem, far: float, arch: Architecture) -> Architecture:
    """Each decision in turn at the value that brings it nearest, until nothing does."""
    steps = 0
    domains: Mapping[str, Domain] = problem.space.domains()
    for _ in range(SWEEPS):
        before = far
        for path in list(arch.flat):
            for value in _values(domains.get(path)):
                if value == arch.flat.get(path, value) or steps >= STEPS:
                    continue
                steps += 1
                other = _with(problem, arch, path, value)
                there = _distance(problem, other)
                if there < far:
                    far, arch = there, other
                if problem.admissible(other):
                    return other
        if far >= before:
            break
    return arch


def _values(domain: Domain | None) -> tuple[Primitive, ...]:
    """All of a few, and the ends of many."""
    if domain is None or domain.size is None:
        return () if domain is None else (domain.at(0.0), domain.at(1.0))
    return tuple(domain.values) if domain.size <= 16 else (domain.values[0], domain.values[-1])


def _with(problem: Problem, arch: Architecture, path: str, value: Primitive) -> Architecture:
    flat = {**arch.flat, path: value}

    def pick(one: str, domain: Domain) -> Primitive:
        if one in flat:
            return flat[one]
        return domain.at(0.0) if domain.size is None else domain.values[0]

    return problem.space.decide(pick)
