"""Pictures inside the page: importance, parallel coordinates and progress as inline SVG, coloured by the page's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import combinations

from nas_bo.report.coordinates import Axis
from nas_bo.report.digits import cut, figure
from nas_bo.report.importance import Importance
from nas_bo.report.progress import Step, units
from nas_bo.trial import ObjectiveSpec

WIDE = 980


def parallel(axes: Sequence[Axis], kinds: Sequence[str], rows: Sequence[int], names: Sequence[str]) -> str:
    """An axis per choice and objective, a line per trial.

    Args:
        kinds: `Summary.kind` of every trial.
        rows: number of the trial's row in the tables of the page, for highlighting.
        names: what is shown when the mouse rests on a line.
    """
    if len(axes) < 2 or not kinds:
        return ""
    high, top, left = 340, 60, 60
    gap = (WIDE - 2 * left) / (len(axes) - 1)
    xs = [left + i * gap for i in range(len(axes))]

    def y(axis: Axis, value: float) -> float:
        return top + (1 - axis.at(value)) * (high - top - 16)

    lines = []
    order = sorted(range(len(kinds)), key=lambda k: ("out", "trial", "front", "final", "knee").index(kinds[k]))
    for k in order:
        points, pen = [], "M"
        for x, axis in zip(xs, axes, strict=True):
            value = axis.values[k]
            if value is None:
                pen = "M"
                continue
            points.append(f"{pen}{x:.0f} {y(axis, value):.0f}")
            pen = "L"
        lines.append(f'<path class="wire {kinds[k]}" data-wire={rows[k]} d="{"".join(points)}"><title>{escape(names[k])}</title></path>')  # fmt: skip
    for i, (x, axis) in enumerate(zip(xs, axes, strict=True)):
        lines.append(f'<path class=axis d="M{x:.0f} {top}V{high - 16}"/>')
        better = {"low": " ↓ better", "high": " ↑ better", "": ""}[axis.better]
        lines += _title(x, axis.title + better, 14 + 16 * (i % 3), i == 0, i == len(axes) - 1)
        lines += [
            f'<text class=tick x={x + 5:.0f} y={y(axis, value) + 4:.0f}>{escape(cut(text, 14))}</text>'
            for value, text in axis.ticks
        ]  # fmt: skip
    return f'<svg class=chart viewBox="0 0 {WIDE} {high}" role=img aria-label="parallel coordinates">{"".join(lines)}</svg>'


def progress(steps: Sequence[Step], columns: Sequence[ObjectiveSpec], worst: Sequence[float] | None) -> str:
    """The hypervolume (of one objective the best value) over the trials."""
    if len(steps) < 2:
        return ""
    volume = [s.hypervolume for s in steps]
    several = all(v is not None for v in volume) and len(columns) > 1
    values = [float(v) for v in volume if v is not None] if several else [s.best[0] for s in steps]
    left, right, top, low = 70, 18, 14, 190
    first, last = steps[0].number, max(steps[-1].number, steps[0].number + 1)
    bottom, ceiling = min(values), max(values)
    if ceiling <= bottom:
        ceiling = bottom + (abs(bottom) or 1.0)

    def at(number: float, value: float) -> tuple[float, float]:
        return (
            left + (number - first) / (last - first) * (WIDE - left - right),
            low - (value - bottom) / (ceiling - bottom) * (low - top),
        )

    d = ""
    for s, value in zip(steps, values, strict=True):
        x, y = at(s.number, value)
        d += f"M{x:.0f} {y:.1f}" if not d else f"H{x:.0f}V{y:.1f}"
    parts = [f'<path class=axis fill=none d="M{left} {top - 6}V{low}H{WIDE - right}"/>']
    for i in range(5):
        value = bottom + (ceiling - bottom) * i / 4
        x, y = at(first, value)
        parts.append(
            f"<line class=grid x1={left} x2={WIDE - right} y1={y:.1f} y2={y:.1f} />"
            f"<text class=tick x={left - 8} y={y + 4:.1f} text-anchor=end>{figure(value)}</text>"
        )
    for number in sorted({round(first + (last - first) * i / 8) for i in range(9)}):
        parts.append(f"<text class=tick x={at(number, bottom)[0]:.0f} y={low + 17} text-anchor=middle>{number}</text>")
    parts.append(f'<path class=stair d="{d}"/>')
    what = f"hypervolume [{units(columns)}]" if several else columns[0].title
    parts.append(f'<text transform="translate(14 {(top + low) / 2:.0f}) rotate(-90)" text-anchor=middle>{escape(what)}</text>')  # fmt: skip
    parts.append(f"<text x={(left + WIDE - right) / 2:.0f} y={low + 36} text-anchor=middle>trial</text>")
    note = ""
    if several and worst is not None:
        corner = ", ".join(f"{escape(c.name)} {figure(c.sign * w)}" for c, w in zip(columns, worst, strict=True))
        note = f"<p class=note>What the front dominates, up to the corner at {corner}.</p>"
    return (
        f'<svg class=chart viewBox="0 0 {WIDE} {low + 44}" role=img aria-label="progress">{"".join(parts)}</svg>{note}'
    )


def importances(found: Sequence[Importance], columns: Mapping[str, ObjectiveSpec]) -> str:
    """Bars of what every choice explains, alone and with others, per objective; and the interactions."""
    return "".join(_importance(one, columns[one.objective]) for one in found)


def _importance(one: Importance, column: ObjectiveSpec) -> str:
    if not one.trusted:
        return f"<h3>{escape(column.title)}</h3><p class=note>{escape(one.caption())}</p>"
    left, wide, row = 270, 560, 22
    shown = [i for i, t in enumerate(one.total) if t >= 0.005][:12] or [0]
    most = max(one.high[i] for i in shown) or 1.0
    parts = []
    for k, i in enumerate(shown):
        y = 6 + k * row
        alone, whole = one.first[i] / most * wide, one.total[i] / most * wide
        low, high = left + one.low[i] / most * wide, left + one.high[i] / most * wide
        parts.append(
            f"<text x={left - 8} y={y + 13} text-anchor=end>{escape(cut(one.names[i], 40))}</text>"
            f'<rect class=alone x={left} y={y + 2} width="{alone:.1f}" height=14 />'
            f'<rect class=joint x="{left + alone:.1f}" y={y + 2} width="{max(0.0, whole - alone):.1f}" height=14 />'
            f'<path class=axis d="M{low:.1f} {y + 9}H{high:.1f}"/>'
            f"<text class=tick x={left + wide + 14} y={y + 13}>{100 * one.total[i]:.0f} % ({100 * one.low[i]:.0f} to {100 * one.high[i]:.0f})</text>"
        )
    height = 6 + row * len(shown) + 34
    parts.append(f"<text class=tick x={left} y={height - 12}>share of the variance of {escape(column.title)}: dark alone, light with other choices; line 90 % interval</text>")  # fmt: skip
    return (
        f"<h3>{escape(column.title)}</h3><p class=note>{escape(one.caption())}</p>"
        f'<svg class=chart viewBox="0 0 {WIDE} {height}" role=img aria-label="importance for {escape(one.objective)}">'
        f"{''.join(parts)}</svg>{_together(one)}"
    )


def _together(one: Importance) -> str:
    pairs = sorted(
        ((one.pairs[i][j], one.names[i], one.names[j]) for i, j in combinations(range(len(one.names)), 2)), reverse=True
    )
    told = [f"{escape(a)} with {escape(b)} {100 * share:.1f} %" for share, a, b in pairs[:3] if share >= 0.01]
    return f"<p class=note>Explained only together: {'; '.join(told)}.</p>" if told else ""


def _title(x: float, text: str, y: int, first: bool, last: bool) -> list[str]:
    anchor = "start" if first else "end" if last else "middle"
    x += -50 if first else 50 if last else 0
    return [f"<text x={x:.0f} y={y} text-anchor={anchor}>{escape(cut(text, 40))}</text>"]
