"""Optuna's distributions as domains of nas_bo, values both ways, and the one distribution that covers several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas_bo.errors import HostError, SpaceError
from nas_bo.space import choice, integer, real
from nas_bo.space.domain import Domain, Integer, Real

EXACT = 2**53  # the size up to which floats, in which Optuna keeps whole numbers, tell one from the next


def spacing(value: int) -> int:
    """Floats of the size of a whole number are multiples of this."""
    return 1 << max(0, (abs(value) - 1).bit_length() - 53)


def check_exact(domain: Integer | IntDistribution, name: str = "") -> None:
    """Raise HostError where Optuna would store other numbers than those of `domain`."""
    apart = spacing(max(abs(domain.low), abs(domain.high)))
    if apart > 1 and domain.low != domain.high and (domain.low % apart or domain.step % apart):
        raise HostError(
            f"{f'the parameter {name!r} ' if name else ''}from {domain.low:,} to {domain.high:,} in steps of {domain.step:,}: Optuna keeps "
            f"whole numbers as floats, and beyond 2**53 these lose the last digits, so that it would store others than are "
            f"evaluated. Take a smaller range, multiples of {apart:,} for the lowest value and the step, or a real number that is rounded"
        )


def exact(dist: IntDistribution, value: int) -> int | None:
    """The value of `dist` nearest to one of its values that a float holds to the last digit; None where there is none of
    about this size."""
    apart = spacing(value)
    common = math.gcd(dist.step, apart)
    if dist.low % common:
        return None
    period = apart // common  # of the steps, between two such values
    at = (value - dist.low) // dist.step
    first = at - (at - (-dist.low // common) * pow(dist.step // common, -1, period)) % period
    near = [dist.low + steps * dist.step for steps in (first, first + period)]
    found = [v for v in near if dist.low <= v <= dist.high and int(float(v)) == v]
    return min(found, key=lambda v: abs(v - value), default=None)


@dataclass(frozen=True)
class Coding:
    """A parameter of Optuna as a decision: categoricals of numbers are ordered; odd choices are given by their index, a
    float with a step by the number of steps, a whole number that floats cannot tell from the next by its size alone.

    Choices that are equal for Python (1, 1.0 and True; NaN and NaN) are one value, the first of them: Optuna itself cannot
    tell which one a trial had.
    """

    distribution: BaseDistribution
    domain: Domain
    by_index: bool = False

    def encode(self, value: Any) -> Any:
        """Optuna's value as a value of nas_bo; ValueError when it is not in the distribution."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            index = self.first[int(dist.to_internal_repr(value))]
            return index if self.by_index else dist.choices[index]
        if isinstance(dist, FloatDistribution) and dist.step is not None:
            return round((float(value) - dist.low) / dist.step)
        if isinstance(dist, IntDistribution) and isinstance(self.domain, Real):
            return min(self.domain.high, max(self.domain.low, float(value)))
        return value

    def decode(self, value: Any) -> Any:
        """Our value as Optuna's."""
        dist = self.distribution
        if self.by_index:
            assert isinstance(dist, CategoricalDistribution)
            return dist.choices[value]
        if isinstance(dist, FloatDistribution) and dist.step is not None:
            return float(min(dist.high, dist.low + value * dist.step))
        if isinstance(dist, IntDistribution) and isinstance(self.domain, Real):
            steps = (round(value) - dist.low) // dist.step
            found = min(dist.high, max(dist.low, dist.low + steps * dist.step))
            held = exact(dist, found)
            if held is None:
                check_exact(dist)
            return found if held is None else held
        return value

    @cached_property
    def first(self) -> list[int]:
        """For categoricals: index of a choice -> the index of the first one that equals it."""
        assert isinstance(self.distribution, CategoricalDistribution)
        return first_equal(self.distribution.choices)

    @cached_property
    def positions(self) -> np.ndarray:
        """For categoricals: the place in the domain of every index of the distribution."""
        assert isinstance(self.distribution, CategoricalDistribution)
        choices = self.distribution.choices
        values = [i if self.by_index else choices[i] for i in self.first]
        return np.array([self.domain.index(v) for v in values])  # type: ignore[union-attr]

    def codes(self, internal: np.ndarray) -> np.ndarray:
        """Optuna's internal numbers (n,) as places in a finite domain (n,) int; -1 for NaN."""
        there = ~np.isnan(internal)
        values = np.where(there, internal, 0.0)
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            places = self.positions[values.astype(int)]
        else:
            assert isinstance(dist, (IntDistribution, FloatDistribution))
            places = np.round((values - dist.low) / (dist.step or 1)).astype(int)
        return np.where(there, places, -1)


def first_equal(choices: Sequence[object]) -> list[int]:
    """For each of `choices` the place of the first one that equals it."""
    return [next(j for j, other in enumerate(choices) if _equal(other, value)) for value in choices]


def _equal(one: object, other: object) -> bool:
    if one is other or (isinstance(one, float) and isinstance(other, float) and one != one and other != other):
        return True
    try:
        return bool(one == other)
    except Exception:  # arrays, objects that refuse to be compared
        return False


def coding(dist: BaseDistribution) -> Coding | None:
    """How `dist` becomes a decision; None where nothing is to be decided, or for a kind that is not known."""
    if dist.single():
        return None
    if isinstance(dist, IntDistribution):
        if max(abs(dist.low), abs(dist.high)) > EXACT:  # as Optuna keeps it, it may not even be on the steps
            return Coding(dist, real(dist.low, dist.high, log=dist.log))
        return Coding(dist, integer(dist.low, dist.high, step=dist.step, log=dist.log))
    if isinstance(dist, FloatDistribution):
        if dist.step is not None:
            return Coding(dist, integer(0, round((dist.high - dist.low) / dist.step)))
        return Coding(dist, real(dist.low, dist.high, log=dist.log))
    if isinstance(dist, CategoricalDistribution):
        distinct = sorted(set(first_equal(dist.choices)))
        if len(distinct) == 1:
            return None
        try:
            return Coding(dist, choice(*(dist.choices[i] for i in distinct)))
        except SpaceError:  # NaN, tuples, lists
            return Coding(dist, choice(*distinct, ordered=False), by_index=True)
    return None


def cover(dists: Iterable[BaseDistribution]) -> BaseDistribution | None:
    """The smallest distribution that has all values of `dists`; None where they are of different kinds."""
    first, *rest = dists
    for dist in rest:
        if dist == first:
            continue
        merged: BaseDistribution | None = None
        if isinstance(first, IntDistribution) and isinstance(dist, IntDistribution) and first.log == dist.log:
            low, high = min(first.low, dist.low), max(first.high, dist.high)
            merged = IntDistribution(low, high, first.log, math.gcd(first.step, dist.step, first.low - dist.low))
        elif isinstance(first, FloatDistribution) and isinstance(dist, FloatDistribution) and first.log == dist.log:
            low_, high_ = min(first.low, dist.low), max(first.high, dist.high)
            step = first.step if first.step == dist.step else None
            if step is not None and abs((first.low - dist.low) / step - round((first.low - dist.low) / step)) > 1e-6:
                step = None
            merged = FloatDistribution(low_, high_, first.log, step)
        if merged is None:
            return None
        first = merged
    return first


def fitting(dist: BaseDistribution, value: Any) -> Any:
    """`value`, moved onto the steps of `dist`, as a value of it; ValueError where it is out of its reach."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(dist, CategoricalDistribution):
        if any(value is v or (type(value) is type(v) and value == v) for v in dist.choices):
            return value
    elif number and isinstance(dist, (IntDistribution, FloatDistribution)) and dist.low <= value <= dist.high:
        if dist.step is not None:
            away = value - dist.low
            steps = int(away) // dist.step if away >= EXACT else round(away / dist.step)
            value = min(dist.low + steps * dist.step, dist.high)
        if isinstance(dist, FloatDistribution):
            return float(value)
        held = exact(dist, round(value))
        return round(value) if held is None else held
    raise ValueError(f"{value!r} is not in {dist!r}")
