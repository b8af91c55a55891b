"""Numbers with units, as people type them: 2GB, 1.5 GiB, 30M, 5e6, 25ms."""

from __future__ import annotations

import math
import re

from nas_bo.errors import ObjectiveError, near

SIZES = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
BYTES = {
    **{"": 1.0, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12},
    **{"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40},
}
MILLISECONDS = {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3}
MILLIJOULES = {"": 1.0, "uJ": 1e-3, "mJ": 1.0, "J": 1e3}
RATE = {"": 1.0, "k": 1e3, "M": 1e6, "tokens/s": 1.0}
_NUMBER = re.compile(
    r"\s*([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf|nan)\s*([^\s\d]*)\s*", re.IGNORECASE
)


def amount(option: str, text: str, units: dict[str, float]) -> float:
    """The number that `text` means, in the unit whose name is "".

    Raises:
        ObjectiveError: it is not a number above 0, or its unit is unknown.
    """
    example = {id(BYTES): "2GB or 1.5GiB", id(SIZES): "30M or 5e6", id(RATE): "500 or 2k"}.get(id(units), "25 or 2.5")
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ObjectiveError(f"{option} {text!r} is not a number; write one such as {example}")
    try:
        value = float(match[1].replace("_", "").replace(",", ""))
    except ValueError:
        raise ObjectiveError(f"{option} {text!r} is not a number; write one such as {example}") from None
    if not (value > 0 and math.isfinite(value)):
        raise ObjectiveError(f"{option} {text!r}: the limit must be a finite number above 0, such as {example}")
    return value * _factor(option, text, match[2], units)


def _factor(option: str, text: str, unit: str, units: dict[str, float]) -> float:
    if unit in units:
        return units[unit]
    bits = len(unit) == 2 and unit[0].isupper() and unit[1] == "b"  # gigabits, if anything
    spelled = {known.lower(): known for known in units}
    if unit.lower() in spelled and not bits and units is not MILLIJOULES:  # MJ is not mJ
        return units[spelled[unit.lower()]]
    there = [spelled[unit.lower()]] if unit.lower() in spelled else [u for u in units if u]
    hint = near(unit, there, cutoff=0.0 if len(there) == 1 else 0.4)
    raise ObjectiveError(
        f"{option} {text!r}: there is no unit {unit!r} here{hint}; it is a plain number or one with {', '.join(u for u in units if u)}"
    )
