"""What guessing scores: the level at which an architecture has learned nothing, where that is known about an objective."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nas_bo.errors import NasBoError
from nas_bo.validated import is_number

if TYPE_CHECKING:
    from nas_bo.trial import ObjectiveSpec

BY_UNIT = {"bits/byte": 8.0, "bits per byte": 8.0}  # a byte has eight bits: what says nothing needs them all


@runtime_checkable
class KnowsChance(Protocol):
    """What an objective may offer in addition to a call: the value of guessing, in its own unit.

    An architecture with that value or a worse one has learned nothing. It stays in tables and pictures, and is never the
    knee.
    """

    def chance(self) -> float: ...


def stated(objectives: Iterable[object]) -> dict[str, float]:
    """Objective name -> value of guessing, of those that say it; plain data, kept with a study."""
    found: dict[str, float] = {}
    for objective in objectives:
        if isinstance(objective, KnowsChance):
            try:
                level = float(objective.chance())
            except NasBoError:  # its corpus cannot be read here: the check before the search says so
                continue
            if math.isfinite(level):
                found[objective.name] = level  # type: ignore[attr-defined]
    return found


def level(column: ObjectiveSpec, levels: Mapping[str, object] | None = None) -> float | None:
    """The value of guessing of one objective: as it was stated, else as its unit says; None where neither does."""
    told = (levels or {}).get(column.name)
    if is_number(told):
        return float(told)
    return BY_UNIT.get(column.unit) if column.direction == "minimize" else None


def guessed(
    values: Mapping[str, float], columns: Iterable[ObjectiveSpec], levels: Mapping[str, object] | None = None
) -> bool:
    """Whether some value is no better than guessing."""
    for c in columns:
        bound = level(c, levels)
        if bound is not None and c.name in values and c.sign * (values[c.name] - bound) >= 0:
            return True
    return False
