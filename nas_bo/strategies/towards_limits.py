"""From architectures that break limits to one that keeps all: where limits leave so little of a space that draws do not find it.

Random repairs with weights that grow (Morris, 1993, "The breakout method for escaping from local minima", AAAI): what is not farther from the
limits is accepted, plateaus included, and where nothing is nearer for a while the limits that are missed there count more. So limits that pull
against each other need no scale, and no order.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence

from nas_bo.architecture import Architecture, Primitive
from nas_bo.problem import Problem
from nas_bo.space.domain import Choice, Domain

logger = logging.getLogger(__name__)
STEPS = 4000  # architectures that are looked at on the way to the limits, from all starts together
START = 1000  # from each of them
PATIENCE = 60  # in turn that are not nearer before weights grow, by `GROWTH`
GROWTH = 1.5
ISLANDS = 8  # times that limits are met again from other starts, where all that is near is seen
WANDERED = 60  # steps within the limits, away from where they were met first
TOGETHER = 0.4  # of the steps change several decisions of one kind
NEXT = 0.6  # of the changes of an ordered decision go a step of some length, not anywhere
SMALLEST, LARGEST = 1e-4, 0.3  # standard deviation of such a step, of the range of a number
FARTHEST = 1e9  # a miss that counts, in usual misses


def violations(problem: Problem, arch: Architecture) -> dict[str, float]:
    """By limit or rule, how much each is missed by; of what is known before anything is evaluated."""
    return problem.violations(arch, problem.analytic(arch))


def nearer(problem: Problem, starts: Sequence[Architecture], rng: random.Random) -> Architecture:
    """The first that keeps all limits on the way from `starts`, the nearest first; where there is none, the nearest that was seen."""
    there = [(violations(problem, arch), arch) for arch in starts]
    usual = {name: _usual([missed[name] for missed, _ in there]) for name in there[0][0]}

    def far(missed: Mapping[str, float], weights: Mapping[str, float]) -> float:
        return sum(weights[name] * min(amount / usual[name], FARTHEST) for name, amount in missed.items())

    alike = dict.fromkeys(usual, 1.0)
    there.sort(key=lambda one: far(one[0], alike))
    nearest, least = there[0][1], far(there[0][0], alike)
    for number in range(-(-STEPS // START)):
        weights, (missed, arch) = dict(alike), there[number % len(there)]
        idle, now = 0, far(missed, weights)
        for _ in range(START):
            if not any(amount > 0 for amount in missed.values()):
                return arch
            other = _moved(problem, arch, rng)
            misses = violations(problem, other)
            after = far(misses, weights)
            idle = 0 if after < now else idle + 1
            if after <= now:
                now, missed, arch = after, misses, other
                if (reached := far(missed, alike)) < least:
                    nearest, least = arch, reached
            if idle > PATIENCE:
                weights = {name: w * GROWTH if missed[name] > 0 else w for name, w in weights.items()}
                idle, now = 0, far(missed, weights)
    for path in list(nearest.flat):  # where nothing keeps all limits, a message shows the nearest
        for value in _values(problem.space.domains().get(path)):
            other = _with(problem, {**nearest.flat, path: value}, rng)
            if (reached := far(violations(problem, other), alike)) < least:
                nearest, least = other, reached
    return nearest


def _usual(amounts: Sequence[float]) -> float:
    """The median of what misses a limit."""
    missed = sorted(amount for amount in amounts if 0 < amount < math.inf)
    return missed[len(missed) // 2] if missed else 1.0


def another(problem: Problem, seen: set[str], rng: random.Random, starts: list[Architecture]) -> Architecture | None:
    """An architecture within all limits whose id is not in `seen`, or None: towards the limits from `starts`, then random steps within them.

    It is random, but not uniform among what the limits leave.
    """
    try:
        for _ in range(ISLANDS):
            met = arch = nearer(problem, rng.sample(starts, -(-len(starts) // 2)), rng)
            if not problem.admissible(arch):
                return None
            found = None if arch.id in seen else arch
            for _ in range(WANDERED):
                other = _moved(problem, arch, rng)
                if other.id != arch.id and problem.admissible(other):
                    arch = other
                    found = found if arch.id in seen else arch
            if found := found or _beside(problem, [arch, met], seen, rng):
                return found
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
    for path in rng.sample(list(arch.flat), len(arch.flat)):
        values = _values(domains.get(path))
        for value in rng.sample(values, len(values)):
            if value != arch.flat[path]:
                yield _with(problem, {**arch.flat, path: value}, rng)


def _values(domain: Domain | None) -> tuple[Primitive, ...]:
    """All of a few, and the ends of many."""
    if domain is None or domain.size is None:
        return () if domain is None else (domain.at(0.0), domain.at(1.0))
    return tuple(domain.values) if domain.size <= 16 else (domain.values[0], domain.values[-1])


def _moved(problem: Problem, arch: Architecture, rng: random.Random) -> Architecture:
    """`arch` with another value of one decision, in a third of the cases of a second one; or, where others have the same domain, with one value
    in a row of these or two of them exchanged."""
    domains: Mapping[str, Domain] = problem.space.domains()
    flat = dict(arch.flat)
    paths = [path for path in flat if path in domains]
    if not paths:
        return arch
    path = rng.choice(paths)
    alike = [one for one in paths if domains[one] == domains[path]]
    if len(alike) > 1 and rng.random() < TOGETHER:
        beside, kind = rng.choice(alike), rng.random()
        if kind < 0.25:
            flat[path], flat[beside] = flat[beside], flat[path]
        else:
            value = flat[beside] if kind < 0.5 else _other(domains[path], flat[path], rng)
            first = alike.index(path)
            flat.update(dict.fromkeys(alike[first : first + 1 + int(len(alike) * rng.random() ** 2)], value))
    else:
        for one in [path, rng.choice(paths)][: 1 + (rng.random() < 0.3)]:
            flat[one] = _other(domains[one], flat[one], rng)
    return _with(problem, flat, rng)


def _other(domain: Domain, value: Primitive, rng: random.Random) -> Primitive:
    """Another value, mostly near where values are ordered. ~ Normal(position, s), s ~ log-uniform, at least one step of whole numbers."""
    if not domain.ordered or rng.random() >= NEXT:
        return domain.sample(rng)
    step = rng.gauss(0.0, math.exp(rng.uniform(math.log(SMALLEST), math.log(LARGEST))))
    if domain.size is None:
        return domain.at(min(1.0, max(0.0, domain.position(value) + step)))
    by = max(1, round(abs(step) * domain.size))
    here = domain.index(value) if isinstance(domain, Choice) else (int(value or 0) - domain.low) // domain.step
    at = here + (by if step > 0 else -by)
    return domain.values[min(domain.size - 1, max(0, at))]


def _with(problem: Problem, flat: Mapping[str, Primitive], rng: random.Random) -> Architecture:
    """The architecture of these values; what else it needs is drawn."""
    return problem.space.decide(lambda path, domain: flat[path] if path in flat else domain.sample(rng))
