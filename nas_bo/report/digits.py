"""Numbers for people: no more digits than are known, and the interval where there is one; and their columns in a terminal."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from rich.cells import cell_len

from nas_bo.knee import interval
from nas_bo.trial import ObjectiveSpec

LOG_SPAN = 5  # a positive cost that spans more than this is drawn on a log axis
SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e5, "k"))


def bare(value: object) -> object:
    """Data for JSON: numbers that are not finite are None, tuples are lists."""
    if isinstance(value, Mapping):
        return {name: bare(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [bare(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cut(text: str, most: int) -> str:
    """The text in at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def figure(value: float | None) -> str:
    """A number for people, at most four digits and a suffix: 2.430, 1,250, 250.0k, 1.235M; "" for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    for bound, suffix in SCALES:
        if size >= bound * 0.99995:
            return f"{value / (1e3 if suffix == 'k' else bound):#.4g}".rstrip(".") + suffix
    if size >= 999.95 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:#.4g}".rstrip(".")


def measured(value: float, low: float, high: float) -> str:
    """A value with its interval, both to the digits that the interval allows: ``1.80 ±0.06``, ``12,300 ±400``.

    The half width has one digit, two where the first is a 1; an interval that is not centred counts by its longer side.
    """
    half = max(value - low, high - value)
    if not (math.isfinite(value) and math.isfinite(half)) or half <= 0:
        return figure(value)
    scale, suffix = next(((1e3 if s == "k" else b, s) for b, s in SCALES if abs(value) >= b), (1.0, ""))
    value, half = value / scale, half / scale
    first = math.floor(math.log10(half))
    places = -first + (half / 10**first < 1.95)
    if suffix:
        places = min(places, 3)
    else:
        places = min(places, max(0, 4 - math.floor(math.log10(abs(value) or 1.0))))  # five digits are enough
    if places <= 0:
        value, half = round(value, places), round(half, places)
    shown = f"{half:,.{max(0, places)}f}"
    if float(shown.replace(",", "")) == 0:  # narrower than what is shown of the value
        return f"{value:,.{max(0, places)}f}{suffix}"
    return f"{value:,.{max(0, places)}f}{suffix} ±{shown}{suffix}"


def known(value: float | None, info: Mapping[str, object] | None) -> str:
    """`measured` where an interval was noted with the value, else `figure`."""
    if value is None:
        return ""
    low, high = interval(info or {})
    if not math.isnan(low):
        return measured(value, low, high)
    guess = (info or {}).get("how") == "roofline" and not (info or {}).get("measured")
    return _two(value) if guess and math.isfinite(value) else figure(value)


def _two(value: float) -> str:
    """Two digits: of what is right in rank and not in scale."""
    rounded = float(f"{value:.2g}")
    return figure(rounded) if abs(rounded) >= 1e5 else f"{rounded:,.0f}" if abs(rounded) >= 9.95 else f"{rounded:#.2g}"


def logarithmic(values: Sequence[float], column: ObjectiveSpec) -> bool:
    """Whether a column is better drawn on a log axis."""
    return bool(values) and column.direction == "minimize" and min(values) > 0 and max(values) > LOG_SPAN * min(values)


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = (), rule: bool = False) -> list[str]:
    """A line for each row; the columns in `right` end together, the others begin together. Letters that take two places, such as
    those of Chinese, count as two.

    Args:
        rule: a line of dashes below the first.
    """
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]

    def padded(i: int, cell: str) -> str:
        space = " " * (widths[i] - cell_len(cell))
        return space + cell if i in right else cell + space

    lines = ["  ".join(padded(i, cell) for i, cell in enumerate(row)).rstrip() for row in rows]
    return [*lines[:1], "  ".join("-" * w for w in widths), *lines[1:]] if rule else lines
