"""What a setting must be, said once: next to the field of a frozen dataclass, or of an argument by its name.

    @dataclass(frozen=True)
    class Settings:
        tokens: float = checked(200_000, number(above=0))
        batch: int | None = checked(None, whole_number(1).or_none())

        def __post_init__(self) -> None:
            check_fields(self, ObjectiveError)

    check_values("train_many", ModelError, whole_number(1), together=together)

Both raise ``Settings(tokens=-1): tokens must be a number above 0``, with what to do where the check has `advice`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, TypeGuard, TypeVar

from nas_bo.errors import NasBoError
from nas_bo.wording import counted

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
KEY = "nas_bo.check"  # of a field's metadata


@dataclass(frozen=True)
class Check:
    """One rule for a value.

    Attributes:
        must: what the value must be, to follow "must be".
        holds: whether it is that; it answers for any object, and raises for none.
        advice: what to do, the end of the message.
    """

    must: str
    holds: Callable[[object], bool]
    advice: str = ""

    def or_none(self) -> Check:
        """The same, or None."""
        holds = self.holds
        return replace(self, must=f"{self.must}, or None", holds=lambda value: value is None or holds(value))

    def advise(self, advice: str) -> Check:
        return replace(self, advice=advice)

    def verify(self, owner: str, name: str, value: object, kind: type[NasBoError]) -> None:
        """Raise `kind` unless the value of the argument `name` of `owner` is what it must be."""
        if not self.holds(value):
            end = f"; {self.advice}" if self.advice else ""
            raise kind(f"{owner}({name}={value!r:.80}): {name} must be {self.must}{end}")


def number(
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> Check:
    """A finite int or float within bounds; a bool is not a number."""
    bounds = {"above": above, "of at least": at_least, "below": below, "at most": at_most}
    said = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
    if at_least is not None and at_most is not None:
        said = f"from {at_least:g} to {at_most:g}"
    elif above is not None and below is not None:
        said = f"between {above:g} and {below:g}, both excluded"

    def holds(value: object) -> bool:
        return (
            is_number(value)
            and (above is None or value > above)
            and (at_least is None or value >= at_least)
            and (below is None or value < below)
            and (at_most is None or value <= at_most)
        )

    return Check(f"a number {said}" if said else "a finite number", holds)


def whole_number(at_least: int, at_most: int | None = None) -> Check:
    """An int within bounds; a bool is none."""
    said = f"of at least {at_least}" if at_most is None else f"from {at_least:,} to {at_most:,}"

    def holds(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return value >= at_least and (at_most is None or value <= at_most)

    return Check(f"an integer {said}", holds)


def one_of(*allowed: object) -> Check:
    """One of a few values, of the same type: 1 does not stand for True."""
    words = [repr(one) for one in allowed]
    said = f"one of {', '.join(words)}" if len(words) > 3 else f"{', '.join(words[:-1])} or {words[-1]}"
    return Check(said, lambda value: any(type(value) is type(one) and value == one for one in allowed))


def each(check: Check, at_least: int = 1, must: str = "") -> Check:
    """A tuple or list of at least so many values of which each passes `check`."""

    def holds(value: object) -> bool:
        return isinstance(value, (tuple, list)) and len(value) >= at_least and all(map(check.holds, value))

    return Check(must or f"at least {counted(at_least, 'value')}, of which each is {check.must}", holds, check.advice)


def must(check: Check) -> Mapping[str, object]:
    """The `metadata` of a `dataclasses.field` whose value `check_fields` is to look at."""
    return {KEY: check}


def checked(default: T, check: Check) -> T:
    """A field of a dataclass with a default and a check."""
    return field(default=default, metadata=must(check))


def check_fields(owner: DataclassInstance, kind: type[NasBoError], called: str = "") -> None:
    """Check every field that has a check, in their order; for ``__post_init__``.

    Args:
        called: what the message calls the owner; "" is its class.

    Raises:
        NasBoError: of that `kind`, for the first value that is not what it must be.
    """
    for one in fields(owner):
        if KEY in one.metadata:
            one.metadata[KEY].verify(called or type(owner).__name__, one.name, getattr(owner, one.name), kind)


def check_values(owner: str, kind: type[NasBoError], check: Check, /, **values: object) -> None:
    """Check arguments of a function by one rule (raises `kind`).

    Args:
        owner: what the user wrote them in, such as "search"; for the message.
    """
    for name, value in values.items():
        check.verify(owner, name, value, kind)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite int or float; a bool is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)  # an int may be too large for a float, and is finite
