"""Variation of numbers (real ones, and whole ones of many values): steps of all sizes, and blends of two parents
(BLX-alpha: Eshelman and Schaffer, 1993, "Real-coded genetic algorithms and interval-schemata", FOGA 2).

No single size of a step is right: a large one finds the region, a small one the bottom of it. So sizes are drawn,
log-uniform, as in Cauchy and multi-scale mutation (Yao et al., 1999, "Evolutionary programming made faster", IEEE TEC 3).
Positions are those of `Domain.position`, in [0, 1], on the scale of the domain.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import TypeGuard

from nas_bo.architecture import Architecture, Primitive
from nas_bo.space import Space
from nas_bo.space.domain import Domain, Integer, Real

LONG = 8  # values that a whole number may have and still be varied one by one
SMALLEST, LARGEST = 0.02, 0.3  # standard deviations of steps, of the range
ALPHA = 0.25  # how far beyond its parents a blend may lie, of their distance


def is_long(domain: Domain) -> TypeGuard[Integer | Real]:
    """Whether one step to the next value says nothing: a real number, or a whole one of more than `LONG` values."""
    return domain.size is None or (isinstance(domain, Integer) and domain.size > LONG)


def shifted(domain: Integer | Real, value: Primitive, rng: random.Random) -> Primitive:
    """Another value. ~ Normal(position, s), s ~ log-uniform; of a whole number at least one step."""
    found = _at(domain, domain.position(value) + rng.gauss(0.0, _size(rng)))
    if found == value and isinstance(domain, Integer) and (steps := domain.steps(value)):
        return rng.choice(steps)
    return found


def shift_many(space: type[Space], flat: dict[str, Primitive], rng: random.Random) -> None:
    """In place: some or all numbers move by steps of one size. ~ the share of them uniform."""
    decisions, share, size = space.decisions(), rng.random(), _size(rng)
    for path, value in flat.items():
        if path in decisions and rng.random() < share:
            domain = decisions[path].domain
            if is_long(domain):
                flat[path] = _at(domain, domain.position(value) + rng.gauss(0.0, size))


def blend(
    space: type[Space], flat: dict[str, Primitive], first: Mapping[str, Primitive], second: Mapping[str, Primitive],
    rng: random.Random,
) -> None:  # fmt: skip
    """In place: numbers in which two parents differ are, as often as not, ~ uniform on the line through both."""
    decisions = space.decisions()
    for path in flat:
        one, other = first.get(path), second.get(path)
        if path in decisions and one is not None and other is not None and one != other:
            domain = decisions[path].domain
            if is_long(domain) and rng.random() < 0.5:
                here, there = domain.position(one), domain.position(other)
                flat[path] = _at(domain, here + rng.uniform(-ALPHA, 1 + ALPHA) * (there - here))


def loosened(space: type[Space], arch: Architecture, kept: Mapping[str, object]) -> dict[str, Primitive]:
    """The flat view without its numbers of many values, but for those in `kept`: the ends of their ranges are seldom good
    (a learning rate of 1), where the ends of a count or of a width are a small and a large network."""
    decisions = space.decisions()
    return {p: v for p, v in arch.flat.items() if p in kept or not is_long(decisions[p].domain)}


def _size(rng: random.Random) -> float:
    return math.exp(rng.uniform(math.log(SMALLEST), math.log(LARGEST)))


def _at(domain: Integer | Real, position: float) -> Primitive:
    """The value nearest to `position` (cut to 0 to 1)."""
    if isinstance(domain, Real):
        return domain.at(position)
    position = min(1.0, max(0.0, position))
    if domain.log:
        low, high = math.log(domain.low), math.log(domain.high)
        value = round(math.exp(low + position * (high - low)))
    else:
        value = domain.low + domain.step * round(position * (domain.size - 1))
    return min(domain.values[-1], max(domain.low, value))


__all__ = ["blend", "is_long", "loosened", "shift_many", "shifted"]
