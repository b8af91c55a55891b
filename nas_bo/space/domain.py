"""The words of the language: `choice`, `integer`, `real`, `option`, `repeat`, and the domains they stand for.

A *domain* is what one decision may be. All domains are frozen and share one small interface:

    size            how many values (None for a real interval)
    values          the values as a sequence (finite domains only)
    sample(rng)     one value, uniform (log-uniform where `log=True`); rng is a `random.Random`
    canonical(v)    the domain's own value equal to v, or SpaceError with the reason
    position(v)     where v lies, from 0 to 1 (ordered domains only)
    steps(v)        the values next to v
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from nas_bo.architecture import Primitive
from nas_bo.errors import SpaceError
from nas_bo.validated import check_values, number

REAL_NEIGHBOUR_STEP = 0.1  # of the range: how far a neighbour of a real value lies


@runtime_checkable
class _Scalar(Protocol):
    """A number of numpy or torch, where its shape is ()."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def item(self) -> object: ...


def _native(value: object) -> Any:
    """numpy scalars to Python's own types; everything else unchanged."""
    if isinstance(value, (str, int, float, type(None))) and type(value) in (str, int, float, bool, type(None)):
        return value
    if isinstance(value, _Scalar) and value.shape == ():
        return value.item()
    if isinstance(value, str):
        return str(value)
    return value


@dataclass(frozen=True)
class Choice:
    """One of `values`. An option is in `values` by its name; `options` maps that name to its fields."""

    values: tuple[Primitive, ...]
    ordered: bool
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.values)

    def sample(self, rng: random.Random) -> Primitive:
        return self.values[int(rng.random() * len(self.values))]

    def index(self, value: object) -> int:
        value = _native(value)
        for i, mine in enumerate(self.values):
            if mine == value and isinstance(mine, bool) == isinstance(value, bool):
                return i
        shown = ", ".join(repr(v) for v in self.values[:12]) + (", ..." if len(self.values) > 12 else "")
        raise SpaceError(f"{value!r} is not one of the choices {shown}")

    def canonical(self, value: object) -> Primitive:
        return self.values[self.index(value)]

    def position(self, value: Primitive) -> float:
        return self.index(value) / max(1, len(self.values) - 1)

    def steps(self, value: Primitive) -> list[Primitive]:
        at = self.index(value)
        if self.ordered:
            return [self.values[i] for i in (at - 1, at + 1) if 0 <= i < len(self.values)]
        return [v for i, v in enumerate(self.values) if i != at]

    def describe(self) -> str:
        shown = ", ".join(_show(v) for v in self.values)
        return f"one of {shown}" + ("" if self.ordered or len(self.values) == 1 else " (unordered)")


@dataclass(frozen=True)
class Integer:
    """Whole numbers low, low + step, ..., up to high (both ends included)."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    ordered = True

    @property
    def size(self) -> int:
        return (self.high - self.low) // self.step + 1

    @property
    def values(self) -> range:
        return range(self.low, self.high + 1, self.step)

    def sample(self, rng: random.Random) -> int:
        if self.log:  # ~ log-uniform over [low - 1/2, high + 1/2), rounded
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return min(self.high, max(self.low, round(math.exp(low + rng.random() * (high - low)))))
        return self.low + self.step * int(rng.random() * self.size)

    def canonical(self, value: Any) -> int:
        value = _native(value)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if isinstance(value, float) and value.is_integer():
            value, whole = int(value), True
        if not whole:
            raise SpaceError(f"{value!r} is not a whole number")
        if not self.low <= value <= self.high or (value - self.low) % self.step:
            raise SpaceError(f"{value!r} is not {self.describe()}")
        return int(value)

    def position(self, value: Primitive) -> float:
        v = float(value)  # type: ignore[arg-type]
        if self.log:
            return (math.log(v) - math.log(self.low)) / max(1e-12, math.log(self.high) - math.log(self.low))
        return (v - self.low) / max(1, self.high - self.low)

    def steps(self, value: Primitive) -> list[Primitive]:
        at = self.canonical(value)
        return [v for v in (at - self.step, at + self.step) if self.low <= v <= self.values[-1]]

    def describe(self) -> str:
        step = f" in steps of {self.step}" if self.step != 1 else ""
        return f"a whole number from {self.low} to {self.high}{step}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Real:
    """A real number from low to high, both included; log-uniform when `log`."""

    low: float
    high: float
    log: bool = False

    size = None
    ordered = True

    @property
    def values(self) -> Sequence[Primitive]:
        raise SpaceError("a real interval cannot be enumerated; use integer(..., step=...) or choice(...) for a grid")

    def sample(self, rng: random.Random) -> float:
        return self.at(rng.random())

    def at(self, position: float) -> float:
        """The value at `position` (0 to 1) of the interval; the inverse of `position`."""
        position = min(1.0, max(0.0, position))
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            value = math.exp(low + position * (high - low))
        else:
            value = self.low + position * (self.high - self.low)
        return min(self.high, max(self.low, value)) + 0.0  # never -0.0, which would be another architecture

    def canonical(self, value: object) -> float:
        value = _native(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise SpaceError(f"{value!r} is not a finite number")
        if not self.low <= value <= self.high:
            raise SpaceError(f"{value!r} is not {self.describe()}")
        return float(value) + 0.0

    def position(self, value: Primitive) -> float:
        v = float(value)  # type: ignore[arg-type]
        if self.high == self.low:
            return 0.0
        if self.log:
            return (math.log(v) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (v - self.low) / (self.high - self.low)

    def steps(self, value: Primitive) -> list[Primitive]:
        here = self.position(value)
        near = [self.at(here - REAL_NEIGHBOUR_STEP), self.at(here + REAL_NEIGHBOUR_STEP)]
        return [v for v in dict.fromkeys(near) if v != value]

    def describe(self) -> str:
        return f"a real number from {self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


Domain = Choice | Integer | Real


@dataclass(frozen=True)
class Option:
    """A named alternative inside a `choice`, with fields (constants or choices) of its own."""

    name: str
    fields: Mapping[str, object]


@dataclass(frozen=True)
class Repeat:
    """A list of `count` records, each with its own choice of every field; `count` as the user wrote it."""

    count: int | str | Domain
    fields: Mapping[str, object]


@dataclass(frozen=True)
class When:
    """`fields` that exist only while the earlier field `parent` of the same record has one of `values`.

    No word of the language: a space that is written down says it by nesting. Only what is read from a host's
    define-by-run history (names side by side, no nesting) needs it.
    """

    parent: str
    values: frozenset[Primitive]
    fields: Mapping[str, object]


Field = Primitive | Domain | Option | Repeat | When  # what a space, a record or an option may have under a name


def choice(*values: Primitive | Option, ordered: bool | None = None) -> Choice:
    """One of several values: strings, numbers, booleans, None or `option`s.

    Args:
        ordered: whether neighbouring values are alike. By default choices among numbers only are ordered, by value;
            all others are not. With `ordered=True` the order is the one that is written.

    Raises:
        SpaceError: no value, values that are equal, or a value that is none of the above.
    """
    if not values:
        raise SpaceError("choice() needs at least one value")
    if len(values) == 1 and isinstance(values[0], (list, tuple, set, range)):
        raise SpaceError(f"choice({values[0]!r}): pass the values one by one, choice(*values)")
    options: dict[str, Mapping[str, object]] = {}
    plain: list[Primitive] = []
    for value in values:
        if isinstance(value, Option):
            if value.name in options:
                raise SpaceError(f"choice(...) has two options named {value.name!r}; names must differ")
            options[value.name] = value.fields
            plain.append(value.name)
            continue
        v = _native(value)
        if not isinstance(v, (str, int, float, bool, type(None))):
            raise SpaceError(
                f"choice(...): {v!r} is a {type(v).__name__}; values are str, int, float, bool, None or option(...)"
            )
        if isinstance(v, float) and not math.isfinite(v):
            raise SpaceError(f"choice(...): {v!r} is not finite; leave it out")
        plain.append(v)
    for i, v in enumerate(plain):
        if v in plain[:i]:
            other = plain[plain.index(v)]
            raise SpaceError(
                f"choice(...): {other!r} and {v!r} are equal for Python and so for every host; values must differ"
            )
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in plain)
    if ordered is None:
        ordered = numbers and not options
        if ordered:
            plain.sort()
    return Choice(tuple(plain), ordered, options)


def integer(low: int, high: int, step: int = 1, log: bool = False) -> Integer:
    """A whole number from `low` to `high`, both included, in steps of `step`.

    `high` is lowered to the last value that the steps reach. `log=True` samples and encodes on a log scale.

    Raises:
        SpaceError: bounds that are not whole numbers or the wrong way round, a step below 1, or `log=True` together
            with a step or with a bound below 1.
    """
    low, high, step = _native(low), _native(high), _native(step)
    for name, value in (("low", low), ("high", high), ("step", step)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise SpaceError(f"integer(...): {name}={value!r} is not a whole number")
    if low > high:
        raise SpaceError(f"integer({low}, {high}): low is above high; swap them")
    if step < 1:
        raise SpaceError(f"integer(...): step={step} must be at least 1")
    if log and step != 1:
        raise SpaceError("integer(...): log=True and step cannot be combined; use choice(...) for an uneven grid")
    if log and low < 1:
        raise SpaceError(f"integer(...): low={low} must be at least 1 on a log scale")
    return Integer(low, high - (high - low) % step, step, bool(log))


def real(low: float, high: float, log: bool = False) -> Real:
    """A real number from `low` to `high`.

    Raises:
        SpaceError: bounds that are not finite or the wrong way round, or `log=True` with a bound of 0 or less.
    """
    low, high = _native(low), _native(high)
    check_values("real", SpaceError, number(), low=low, high=high)
    if low > high:
        raise SpaceError(f"real({low}, {high}): low is above high; swap them")
    if log and low <= 0:
        raise SpaceError(f"real(...): low={low} must be above 0 on a log scale")
    return Real(float(low) + 0.0, float(high) + 0.0, bool(log))


def option(name: str, /, **fields: object) -> Option:
    """An alternative with choices of its own: ``choice(option("conv", kernel=choice(3, 7)), option("skip"))``.

    Fields are choices, integers, reals, options, repeats, or constants. An option may also be in a field by itself:
    then it is always chosen, and only what is inside it is searched. In the tree the chosen option is a record with
    ``kind == name`` and these fields.

    Raises:
        SpaceError: a name that is empty, contains a dot or is a number (in flat names dots separate the levels, and
            numbers are the indices of records).
    """
    if not isinstance(name, str) or not name or "." in name or name.isdecimal():
        raise SpaceError(f"option({name!r}): the name must be a non-empty string without dots that is not a number")
    return Option(name, fields)


def repeat(count: int | str | Domain, /, **fields: object) -> Repeat:
    """A list of records; each record chooses its fields for itself, and record i exists only while i < count.

    Args:
        count: a constant, the object or the name of an integer (or a choice among whole numbers) of the same level,
            or such a domain written in place.

    Raises:
        SpaceError: a count that is negative or not whole, or no fields.
    """
    if not fields:
        raise SpaceError("repeat(count, ...) needs at least one field")
    if isinstance(count, bool) or not isinstance(count, (int, str, Choice, Integer)):
        raise SpaceError(
            f"repeat({count!r}, ...): the count is a whole number, the name of an integer of the same level, "
            "or integer(...) / choice(...) of whole numbers"
        )
    if isinstance(count, int) and count < 0:
        raise SpaceError(f"repeat({count}, ...): the count must be at least 0")
    if isinstance(count, (Choice, Integer)):
        check_count(count, "repeat(...)")
    return Repeat(count, fields)


def check_count(domain: Choice | Integer, where: str) -> None:
    """Raise SpaceError unless every value of `domain` can be a number of records."""
    ends = (domain.low,) if isinstance(domain, Integer) else domain.values
    if any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in ends):
        raise SpaceError(f"{where}: a count must be a whole number of at least 0, but it may be {domain.describe()}")


def most_records(domain: Choice | Integer) -> int:
    """The largest value of a domain of counts, in constant time also for an integer with a huge range."""
    return domain.values[-1] if isinstance(domain, Integer) else max(domain.values)  # type: ignore[type-var, return-value]


def has(domain: Choice | Integer, value: object) -> bool:
    """Whether `value` is one of the values of `domain`, in constant time also for an integer with a huge range."""
    return not (isinstance(domain, Integer) and type(value) is not int) and value in domain.values


def _show(value: Primitive) -> str:
    return value if isinstance(value, str) else repr(value)
