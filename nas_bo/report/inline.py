"""The front as inline SVG for notebooks: every trial is a point that says its values when the mouse rests on it. No script, no image file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

from nas_bo.report.coordinates import Axis, drawn, objective_axis
from nas_bo.report.digits import known
from nas_bo.report.summary import Summary
from nas_bo.trial import Trial
from nas_bo.wording import counted

WIDE, HIGH, LEFT, BOTTOM, TOP, RIGHT = 640, 400, 70, 46, 16, 16
COLOURS = {"out": "#c9c9c9", "trial": "#9aa3ad", "front": "#3b6fb6", "final": "#3b6fb6", "knee": "#d1495b"}
NAMES = {
    "trial": "trial", "front": "on the front of the search", "final": "on the front after re-training", "knee": "knee, the one to take",
}  # fmt: skip


def front_svg(summary: Summary) -> str:
    """An SVG element: the first objective over the second, or over the number of the trial where there is only one.

    Values are those that count: after re-training where a trial was re-trained. Empty where no trial has all values.
    """
    shown = [summary.final.best(t) for t in drawn(summary)]
    if not shown:
        return ""
    kinds = [summary.kind(t) for t in drawn(summary)]
    up = objective_axis(summary.columns[0], shown)
    if len(summary.columns) > 1:
        across = objective_axis(summary.columns[1], shown)
    else:
        numbers = [float(t.number or 0) for t in shown]
        ends = sorted({min(numbers), max(numbers)})
        across = Axis("trial", tuple(numbers), tuple((n, f"{n:.0f}") for n in ends))
    compared = [b for b in summary.baselines if all(c.name in (b.get("values") or {}) for c in summary.columns[:2])]
    up, across = _widened(up, summary, 0, compared), _widened(across, summary, 1, compared)
    order = sorted(range(len(shown)), key=lambda i: list(COLOURS).index(kinds[i]))
    parts = [_ruled(up, across), _line(shown, kinds, up, across)]
    parts += [_point(summary, shown[i], kinds[i], _x(across, i), _y(up, i)) for i in order]
    parts += [_baseline(summary, one, up, across) for one in compared]
    parts.append(_key(kinds, bool(compared)))
    name = escape(f"{summary.columns[0].title} over {across.title} of {counted(len(shown), 'trial')}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" style="max-width:100%;background:#fff" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{name}">{"".join(parts)}</svg>'
    )


def _widened(axis: Axis, summary: Summary, at: int, compared: Sequence[Mapping[str, object]]) -> Axis:
    """With room for what is compared with."""
    if at >= len(summary.columns) or not compared:
        return axis
    name = summary.columns[at].name
    more = tuple(value for one in compared if (value := _value(one, name)) is not None)
    return replace(axis, values=(*axis.values, *more))


def _value(baseline: Mapping[str, object], name: str) -> float | None:
    """The value of a baseline that counts."""
    for key in ("retrained", "values"):
        values = baseline.get(key)
        if isinstance(values, Mapping) and isinstance(values.get(name), (int, float)):
            return float(values[name])
    return None


def _placed(axis: Axis, value: float, low: float, high: float) -> float:
    return low + axis.at(value) * (high - low)


def _x(across: Axis, i: int) -> float:
    return _placed(across, across.values[i] or 0.0, LEFT + 12, WIDE - RIGHT - 12)


def _y(up: Axis, i: int) -> float:
    return _placed(up, up.values[i] or 0.0, HIGH - BOTTOM - 12, TOP + 12)


def _ruled(up: Axis, across: Axis) -> str:
    parts = [f'<path d="M{LEFT} {TOP}V{HIGH - BOTTOM}H{WIDE - RIGHT}" fill="none" stroke="#888"/>']
    for value, text in across.ticks:
        x = _placed(across, value, LEFT + 12, WIDE - RIGHT - 12)
        parts.append(
            f'<text x="{x:.0f}" y="{HIGH - BOTTOM + 16}" text-anchor="middle" fill="#555">{escape(text)}</text>'
        )
    for value, text in up.ticks:
        y = _placed(up, value, HIGH - BOTTOM - 12, TOP + 12)
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end" fill="#555">{escape(text)}</text>')
    better = {"low": " (lower is better)", "high": " (higher is better)", "": ""}
    parts.append(
        f'<text x="{(LEFT + WIDE) / 2:.0f}" y="{HIGH - 10}" text-anchor="middle">{escape(across.title + better[across.better])}</text>'
    )
    parts.append(
        f'<text transform="translate(14 {(TOP + HIGH - BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(up.title + better[up.better])}</text>"
    )
    return "".join(parts)


def _line(shown: Sequence[Trial], kinds: Sequence[str], up: Axis, across: Axis) -> str:
    """The steps of the front that counts."""
    members = [i for i, kind in enumerate(kinds) if kind in ("final", "knee")]
    if "final" not in kinds:
        members = [i for i, kind in enumerate(kinds) if kind in ("front", "knee")]
    places = sorted((_x(across, i), _y(up, i)) for i in members)
    if len(places) < 2 or not across.better:
        return ""
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path d="{path}" fill="none" stroke="{COLOURS["front"]}" stroke-opacity=".5"/>'


def _point(summary: Summary, trial: Trial, kind: str, x: float, y: float) -> str:
    values = [
        f"{c.name} {known(trial.values.get(c.name), trial.info.get(c.name))} {c.unit}".rstrip() for c in summary.columns
    ]
    why = [NAMES.get(kind, "infeasible")]
    text = escape("\n".join([f"trial {trial.number}: {summary.label(trial)}", *values, *why]))
    size = {"knee": 7, "final": 5, "front": 5}.get(kind, 3.5)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{COLOURS[kind]}" stroke="#fff"><title>{text}</title></circle>'


def _baseline(summary: Summary, one: Mapping[str, object], up: Axis, across: Axis) -> str:
    """A square for what the search was compared with."""
    names = [c.name for c in summary.columns[:2]]
    found = [_value(one, name) for name in names]
    if len(found) < 2 or found[0] is None or found[1] is None:
        return ""
    x = _placed(across, found[1], LEFT + 12, WIDE - RIGHT - 12)
    y = _placed(up, found[0], HIGH - BOTTOM - 12, TOP + 12)
    told = [f"{name} {known(value, None)}" for name, value in zip(names, found, strict=True)]
    text = escape("\n".join([f"compared with: {one.get('label')}", *told]))
    return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="none" stroke="#222"><title>{text}</title></rect>'


def _key(kinds: Sequence[str], compared: bool) -> str:
    """What the colours mean."""
    entries = [(COLOURS[kind], name) for kind, name in NAMES.items() if kind in kinds]
    parts = []
    for i, (colour, name) in enumerate(entries):
        y = TOP + 8 + 16 * i
        parts.append(
            f'<circle cx="{WIDE - 210}" cy="{y}" r="4" fill="{colour}"/><text x="{WIDE - 200}" y="{y + 4}">{name}</text>'
        )
    if compared:
        y = TOP + 8 + 16 * len(entries)
        parts.append(
            f'<rect x="{WIDE - 214}" y="{y - 4}" width="8" height="8" fill="none" stroke="#222"/>'
            f'<text x="{WIDE - 200}" y="{y + 4}">compared with</text>'
        )
    return "".join(parts)
