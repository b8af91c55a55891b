"""From an architecture that breaks a limit to one that keeps all: where limits leave so little of a space that draws do not find it."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping
from typing import TypeVar

from nas_bo.architecture import Architecture, Primitive
from nas_bo.problem import Problem
from nas_bo.space.domain import Domain

logger = logging.getLogger(__name__)
T = TypeVar("T")
SWEEPS = 3
STEPS = 4000  # architectures that are looked at on the way to the nearest
WANDERED = 60  # steps within the limits, away from where they were met first


def distance(problem: Problem, arch: Architecture) -> float:
    """Each miss as a share of its bound, added up; a rule counts as one."""
    bounds = problem.bounds()
    return sum(
        amount / (abs(bounds[name][2]) or 1.0) if name in bounds else amount
        for name, amount in violations(problem, arch).items()
    )


def violations(problem: Problem, arch: Architecture) -> dict[str, float]:
    """By limit or rule, how much each is missed by; of what is known before anything is evaluated."""
    return problem.violations(arch, problem.analytic(arch))


def nearer(problem: Problem, arch: Architecture, rng: random.Random | None = None) -> Architecture:
    """The nearest to the limits that steps from `arch` lead to: each decision in turn at the value that brings it nearest.

    Args:
        rng: takes the decisions and their values in a random order; None as they stand. The first that keeps all limits is returned.
    """
    steps, far = 0, distance(problem, arch)
    domains: Mapping[str, Domain] = problem.space.domains()
    for _ in range(SWEEPS):
        before = far
        for path in _shuffled(list(arch.flat), rng):
            for value in _shuffled(list(_values(domains.get(path))), rng):
                if path not in arch.flat or value == arch.flat[path] or steps >= STEPS:
                    continue
                steps += 1
                other = _with(problem, arch, path, value)
                there = distance(problem, other)
                if there < far:
                    far, arch = there, other
                if problem.admissible(other):
                    return other
        if far >= before:
            break
    return arch


def another(problem: Problem, seen: set[str], rng: random.Random, starts: list[Architecture]) -> Architecture | None:
    """An architecture within all limits whose id is not in `seen`, or None: towards the limits from the nearest of `starts`, then random
    steps within them.

    It is random, but not uniform among what the limits leave.
    """
    try:
        met = arch = nearer(problem, min(starts, key=lambda one: distance(problem, one)), rng)
        if not problem.admissible(arch):
            return None
        found = None if arch.id in seen else arch
        domains: Mapping[str, Domain] = problem.space.domains()
        for _ in range(WANDERED):
            path = rng.choice(list(arch.flat))
            other = _with(problem, arch, path, domains[path].sample(rng)) if path in domains else arch
            if other.id != arch.id and problem.admissible(other):
                arch = other
                found = found if arch.id in seen else arch
        return found or _beside(problem, [arch, met], seen, rng)
    except Exception as error:  # a rule or an objective raises: evaluation will record why, of what is drawn
        logger.debug("no steps towards the limits of %s: %s", problem.space.title, error)
        return None


def _beside(problem: Problem, ring: list[Architecture], seen: set[str], rng: random.Random) -> Architecture | None:
    """The first that is not in `seen` by single decisions within the limits, then by two, and so on."""
    known, looked = {arch.id for arch in ring}, 0
    while ring:
        wider = []
        for arch in ring:
            for other in _neighbours(problem, arch, rng):
                looked += 1
                if looked > STEPS:
                    return None
                if other.id not in known and problem.admissible(other):
                    if other.id not in seen:
                        return other
                    known.add(other.id)
                    wider.append(other)
        ring = wider
    return None


def _neighbours(problem: Problem, arch: Architecture, rng: random.Random) -> Iterator[Architecture]:
    domains: Mapping[str, Domain] = problem.space.domains()
    for path in _shuffled(list(arch.flat), rng):
        for value in _shuffled(list(_values(domains.get(path))), rng):
            if value != arch.flat[path]:
                yield _with(problem, arch, path, value)


def _shuffled(items: list[T], rng: random.Random | None) -> list[T]:
    if rng is not None:
        rng.shuffle(items)
    return items


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
