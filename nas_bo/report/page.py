"""One self-contained HTML page of a search: no network, no libraries, small enough for an e-mail.

Order of the page: the front, drawn and in numbers, how far to trust its order, how the numbers were obtained, which choices
matter, how the search went, every trial, what failed and why, what is needed to run it again. Text, tables and most pictures
are in the HTML itself; JavaScript (page.js) adds the scatter plot, sorting and highlighting.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from nas_bo.knee import interval
from nas_bo.report.against import against
from nas_bo.report.charts import importances, parallel, progress
from nas_bo.report.coordinates import axes, drawn
from nas_bo.report.digits import figure, known, logarithmic
from nas_bo.report.drawing import drawing
from nas_bo.report.importance import LEAST
from nas_bo.report.notation import legend
from nas_bo.report.progress import reference, steps
from nas_bo.report.summary import Summary
from nas_bo.report.table import FrontTable, heading, limits_beside, of_front
from nas_bo.report.trust_page import section
from nas_bo.safe_text import lines as safe_lines
from nas_bo.trial import ObjectiveSpec, State, Trial
from nas_bo.wording import counted, plural

MOST_ROWS = 2000  # trials listed in full; a longer history is listed by its front and its last trials
MOST_TALL = 60  # rows of a table that are shown without a box that scrolls
MOST_DRAWINGS = 16  # architectures of the front that are drawn


def page(summary: Summary) -> str:
    """The page as HTML text."""
    shown = list(summary.trials)
    best = {id(t) for t in summary.front()}
    if len(shown) > MOST_ROWS:
        kept = {id(t) for t in shown[-MOST_ROWS:]} | best
        shown = [t for t in shown if id(t) in kept]
    rows = {id(t): i for i, t in enumerate(shown)}
    title = escape(summary.title or "Architecture search")
    left_out = len(summary.trials) - len(shown)
    body = [
        f"<header><h1>{title}</h1>",
        *(f"<p class={'gain' if i == 0 else 'note'}>{escape(line)}</p>" for i, line in enumerate(summary.opening)),
        f"<p class=lead>{_lead(summary)}</p>",
        *(f"<p class=note>{escape(str(note))}</p>" for note in [*against(summary), *summary.notes]),
        "</header>",
        '<section id=plot aria-label="scatter plot of all trials"></section>',
        "<section><h2>The front</h2>" + _front_table(summary, rows) + _drawings(summary) + "</section>",
        f"<section><h2>How far to trust the order</h2>{_trust(summary)}</section>",
        "<section><h2>How the numbers were obtained</h2>" + _sources(summary) + "</section>",
        _matters(summary, rows),
        _went(summary),
        f"<section><h2>All trials</h2>{_trial_table(summary, shown, best)}"
        + (
            f"<p class=note>{counted(left_out, 'earlier trial')} off the front {plural(left_out, 'is', 'are')} not listed.</p>"
            if left_out
            else ""
        )
        + "</section>",
        "<section><h2>Failed and infeasible</h2>" + _failures(shown, rows) + "</section>",
        "<section><h2>To run it again</h2>" + _facts(summary.facts) + "</section>",
    ]
    return safe_lines(
        f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>{title}</title>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<style>{_asset('page.css')}</style></head><body>\n"
        + "\n".join(body)
        + f"\n<script id=data type=application/json>{_data(summary, shown)}</script>"
        + f"\n<script>{_asset('page.js')}</script>\n</body></html>\n"
    )


def _drawings(summary: Summary) -> str:
    """The knee's architecture, open; the others of the front folded."""
    best, middle = summary.final.members, summary.knee()
    if middle is None:
        return ""
    shown = [middle, *(t for t in best if t is not middle)][:MOST_DRAWINGS]
    return "".join(
        f"<details{' open' if t is middle else ''}><summary>{escape(('knee, ' if t is middle and len(summary.columns) > 1 else '') + _named(summary, t))}</summary>"
        f"{drawing(t.architecture, vocab_size=summary.vocab_size, title=summary.label(t))}</details>"
        for t in shown
    )


def _named(summary: Summary, trial: Trial) -> str:
    told = ", ".join(f"{c.name} {known(trial.values[c.name], trial.info.get(c.name))}" for c in summary.columns)
    own = summary.labels.get(trial.architecture.id)
    name = f"trial {trial.number}" + (f", {own}" if own else "") if trial.number is not None else own or ""
    return f"{name}: {told}" if name else told


def _matters(summary: Summary, rows: dict[int, int]) -> str:
    """Importance of the choices and parallel coordinates."""
    found = summary.importances
    trials = [t for t in drawn(summary) if id(t) in rows]
    ranked = max(found, key=lambda one: one.explained).names if found else ()
    kinds = [summary.kind(t) for t in trials]
    wires = parallel(axes(summary, trials, ranked), kinds, [rows[id(t)] for t in trials], [_named(summary, t) for t in trials])  # fmt: skip
    bars = importances(found, {c.name: c for c in summary.columns})
    if not bars and summary.space is not None:
        bars = f"<p class=note>Which choices matter is computed from {LEAST} trials on that have a value.</p>"
    return f"<section><h2>What matters</h2>{wires}{bars}</section>" if wires or bars else ""


def _went(summary: Summary) -> str:
    worst = reference(summary.trials, summary.columns)
    drawn_ = progress(steps(summary.trials, summary.columns, worst), summary.columns, worst)
    return f"<section><h2>How the search went</h2>{drawn_}</section>" if drawn_ else ""


def _asset(name: str) -> str:
    return files("nas_bo.report").joinpath(name).read_text(encoding="utf-8")


def _data(summary: Summary, shown: Sequence[Trial]) -> str:
    """What the plot needs, as JSON that cannot end the script element."""
    columns = []
    for c in summary.columns:
        values = [t.values[c.name] for t in shown if t.state is not State.FAILED and _finite(t.values.get(c.name))]
        columns.append(
            {
                "title": c.title,
                "sign": c.sign,
                "log": logarithmic(values, c),
                "limits": [b for b in (c.at_most, c.at_least) if b is not None],
            }
        )
    rows = {id(t): i for i, t in enumerate(shown)}
    first = {arch: rows.get(id(t), -1) for arch, t in summary.by_id().items()}
    last = {t.architecture.id for t in summary.final.members} if summary.final.again else set()
    data = {
        "columns": columns,
        "trials": [
            {
                "n": t.number,
                "label": summary.label(t),
                "kind": summary.kind(t),
                "values": _values(t.values, summary),
                **({"ends": ends} if any(ends := _ends(t.info, t.values, summary)) else {}),
            }
            for t in shown
        ],
        "retrained": [
            {
                "row": first.get(r.get("id", ""), -1),
                "values": _values(r["values"], summary),
                "ends": _ends(r.get("info") or {}, r["values"], summary),
                "final": str(r.get("id", "")) in last,
            }
            for r in summary.retrained
            # not those whose latency alone was measured again
            if r.get("values") and set(summary.final.again) <= set(r["values"])
        ],
        "baselines": [
            {"label": str(b.get("label", "")), "values": _values(_shown_of(b, summary), summary)}
            for b in summary.baselines
        ],
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _shown_of(base: Mapping[str, Mapping[str, object]], summary: Summary) -> dict[str, object]:
    """The values of a baseline that are shown with those of the front: trained again where that is."""
    return {**base.get("values", {}), **(base.get("retrained", {}) if summary.final.again else {})}


def _values(values: Any, summary: Summary) -> list[float | None]:
    """In the order of the columns; seven digits are more than a screen can show."""
    return [float(f"{values[c.name]:.7g}") if _finite(values.get(c.name)) else None for c in summary.columns]


def _ends(info: Mapping[str, Any], values: Mapping[str, object], summary: Summary) -> list[list[float] | None]:
    """The interval of every column's value, where one was noted."""
    found: list[list[float] | None] = []
    for c in summary.columns:
        low, high = interval(info.get(c.name) or {})
        shown = c.name in values and math.isfinite(low) and high > low
        found.append([float(f"{low:.5g}"), float(f"{high:.5g}")] if shown else None)
    return found


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _lead(summary: Summary) -> str:
    final, middle = summary.final, summary.knee()
    n = len(summary.trials)
    trials_said = f"{counted(n, 'trial')}, {sum(t.feasible for t in summary.trials)} feasible"
    if middle is None:
        return f"{trials_said}. No trial is feasible yet."
    told = ", ".join(
        f"{escape(c.name)} {known(middle.values[c.name], middle.info.get(c.name))} {escape(c.unit)}".rstrip()
        for c in summary.columns
    )
    name = f"<b>{escape(summary.label(middle))}</b>"
    if middle.number is not None and summary.labels.get(middle.architecture.id):
        name += f" (trial {middle.number})"
    if len(summary.columns) == 1:
        return f"{trials_said}. The best is {name}: {told}."
    where = f"{len(final.members)} on the Pareto front"
    if final.again:
        again = sum(t.architecture.id in final.known for t in final.searched)
        where = (
            f"{len(final.searched)} on the front of the search; {len(final.known)} were evaluated again, {again} of them from that front, and "
            f"{len(final.members)} of these are the final front"
        )
    return f"{trials_said}, {where}. The knee is {name}: {told}."


def _front_table(summary: Summary, rows: dict[int, int]) -> str:
    """The final front, then what else was on that of the search, with the values of both; baselines; what it all means."""
    made, by_id = of_front(summary), summary.by_id()
    if not made.rows:
        return "<p>No feasible trial yet.</p>"
    lines = []
    for row in made.rows:
        mark = f"<td class={_CLASS[row.mark]}>{row.mark.replace('*', '★')} " if row.mark else "<td>"
        first = f"{mark.replace('<td', f'<td data-v={row.values[0]:g}', 1)}{row.cells[0]}"
        numbers = [
            NONE if value is None else _value(text, value)
            for text, value in zip(row.cells[2:], row.values[2:], strict=True)
        ]
        index = rows.get(id(by_id.get(row.trial.architecture.id, row.trial)), -1)
        lines.append(_row(index, [first, _text(row.cells[1]), *numbers]))
    for base in summary.baselines:
        lines.append(_baseline(summary, base, made))
    below = [made.marks.replace("* the", "★ the"), made.legend]
    return _table(made.head, lines) + "".join(f"<p class=note>{escape(line)}.</p>" for line in below if line)


def _baseline(summary: Summary, base: Mapping[str, Mapping[str, object]], made: FrontTable) -> str:
    """The row of a baseline, in the columns of the front: its values, with their intervals, and what was noted with them."""
    values, again = base.get("values", {}), base.get("retrained", {})
    infos, again_infos = _infos(base, "info"), _infos(base, "retrained_info")
    found: list[tuple[object, Mapping[str, object] | None]] = []
    for c in summary.columns:
        twice = c.name in summary.final.again and c.cost == "trained"
        found.append((values.get(c.name), None if twice else infos.get(c.name)))
        if twice:
            found.append((again.get(c.name), again_infos.get(c.name)))
    for name in limits_beside([row.trial for row in made.rows], summary.columns):
        found.append((infos.get(name, {}).get("value"), infos.get(name)))
    if len(found) < len(made.head) - 2:  # their parameters are counted
        noted = (info.get("parameters") for info in (*infos.values(), *again_infos.values()))
        found.append((next((n for n in noted if _finite(n)), None), None))
    cells = [_value(known(v, info), v) if isinstance(v, (int, float)) and _finite(v) else NONE for v, info in found]
    return _row(-1, ["<td class=base>baseline", _text(str(base.get("label", ""))), *cells])


def _infos(base: Mapping[str, Mapping[str, object]], under: str) -> dict[str, Mapping[str, object]]:
    return {name: info for name, info in base.get(under, {}).items() if isinstance(info, Mapping)}


NONE = "<td data-v=Infinity>"  # no value, in a column of numbers: the last, however it is sorted
_CLASS = {"*": "knee", "-": "lost", "x": "failed", "o": "lost"}


def _value(shown: str, value: float | None) -> str:
    return "<td>" if value is None or not math.isfinite(value) else f"<td class=n data-v={value:.7g}>{escape(shown)}"


def _trust(summary: Summary) -> str:
    reports = [("", summary.trust), ("Validated on its own", summary.validation)]
    told = [(f"<h3>{head}</h3>" if head else "") + section(report) for head, report in reports if report is not None]
    if summary.final.again and not told:
        return "<p>The front was evaluated again; how far its order held was not judged.</p>"
    nothing = "The front was not re-evaluated at a higher budget, so how far its order can be trusted is not known."
    return "".join(told) or f"<p>{nothing}</p>"


def _sources(summary: Summary) -> str:
    lines = []
    for c in summary.columns:
        infos = [t.info[c.name] for t in summary.trials if c.name in t.info]
        unsaid = c.usual_way or "not noted"
        ways = _ways(infos, unsaid)
        spent = sum(i["seconds"] for i in infos if _finite(i.get("seconds")))
        spreads = sorted(float(i["spread"]) for i in infos if _finite(i.get("spread")))
        how = "; ".join(f"{way} ({counted(n, 'trial')})" if len(ways) > 1 else way for way, n in ways[:4]) or unsaid
        spread = f"median {spreads[len(spreads) // 2]:.1%}" if spreads else ""
        lines.append(
            _row(
                -1,
                [
                    _text(heading(c)),
                    _text(c.direction),
                    _text(c.cost),
                    _text(how),
                    _text(spread),
                    _cell(spent or None, " s"),
                ],
            )
        )
    return _table(["objective", "wanted", "kind", "how", "spread", "time in all"], lines)


def _ways(infos: Sequence[Any], unsaid: str) -> list[tuple[str, int]]:
    """How the numbers of a column were obtained and how many of them, the commonest first. What is counted (repeats) and
    differs is a range."""
    groups: dict[tuple[str, ...], list[Any]] = {}
    for info in infos:
        counted = {k for k, v in info.items() if isinstance(v, int) and not isinstance(v, bool)}
        groups.setdefault(tuple(_way({k: v for k, v in info.items() if k not in counted})), []).append(info)
    found = []
    for key, group in groups.items():
        names = dict.fromkeys(k for i in group for k, v in i.items() if isinstance(v, int) and not isinstance(v, bool))
        ranges = {}
        for name in names:
            values = sorted({i[name] for i in group if isinstance(i.get(name), int)})
            ranges[name] = values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"
        parts = _way({**ranges})
        how = [*key[:1], *parts, *key[1:]] if group[0].get("how") is None else [*key, *parts]
        found.append(("; ".join(how) or unsaid, len(group)))
    return sorted(found, key=lambda pair: -pair[1])


def _way(info: Any) -> list[str]:
    """What was noted of a number and is the same for many: device, repeats, seed; not its curve or its time."""
    skip = ("curve", "seconds", "spread", "parameters", "how", "samples")
    plain = {k: v for k, v in info.items() if k not in skip and isinstance(v, (str, int, bool))}
    return ([str(info["how"])] if "how" in info else []) + [f"{k} {v}" for k, v in plain.items() if len(str(v)) <= 60]


def _trial_table(summary: Summary, shown: Sequence[Trial], best: set[int]) -> str:
    head = ["trial", "state", "architecture", *(c.title for c in summary.columns), "time [s]"]
    lines = []
    for i, t in enumerate(shown):
        state = (
            "front"
            if id(t) in best
            else "feasible"
            if t.feasible
            else "infeasible"
            if t.state is State.COMPLETE
            else t.state.value
        )
        cells = [
            _number(t),
            f"<td class={state}>{state}",
            _text(summary.label(t)),
            *_cells(t, summary.columns),
            _cell(t.seconds or None),
        ]
        lines.append(_row(i, cells, "; ".join(f"{k} = {v}" for k, v in t.architecture.flat.items())))
    below = legend(shown, summary.labels)
    return _table(head, lines, tall=len(lines) <= MOST_TALL) + (f"<p class=note>{escape(below)}.</p>" if below else "")


def _failures(shown: Sequence[Trial], rows: dict[int, int]) -> str:
    lines = []
    for t in shown:
        broken = ", ".join(f"{name} by {figure(v)}" for name, v in t.violations.items() if v > 0)
        if t.state is State.FAILED or (not t.feasible and t.state is not State.RUNNING):
            lines.append(
                _row(
                    rows[id(t)],
                    [
                        _number(t),
                        _text("infeasible" if t.state is State.COMPLETE else t.state.value),
                        _text(t.reason or f"violates {broken}"),
                    ],
                )
            )
    return _table(["trial", "state", "reason"], lines) if lines else "<p>None.</p>"


def _facts(facts: Any) -> str:
    lines = []
    for name, value in facts.items():
        text = _said(value)
        lines.append(f"<dt>{escape(str(name))}<dd>{escape(text if len(text) <= 4000 else text[:4000] + ' …')}")
    return f"<dl>{''.join(lines)}</dl>" if lines else "<p>Nothing was noted.</p>"


def _said(value: object) -> str:
    """Plain data in words, what is nested in parentheses."""
    if value is None or value in ({}, [], ()):
        return "none"
    if isinstance(value, Mapping):
        inner = ((key, _said(one), isinstance(one, (Mapping, list, tuple))) for key, one in value.items())
        return ", ".join(f"{key} ({text})" if nested else f"{key} {text}" for key, text, nested in inner)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value))
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _table(head: Sequence[str], lines: Sequence[str], *, tall: bool = True) -> str:
    """A table; on a narrow screen every row becomes a card, in which each value has the head of its column before it.

    Args:
        tall: whether it is shown in full; else in a box that scrolls.
    """
    cells = "".join(f"<th><button>{escape(h)}</button>" for h in head)
    key = "t" + hashlib.sha256("\n".join(head).encode()).hexdigest()[:6]  # tables of one head share their rules
    names = "".join(f".{key} td:nth-child({i})::before{{content:{_css(h)}}}" for i, h in enumerate(head, start=1))
    style = f"<style>@media(max-width:640px){{{names}}}</style>"
    box = "scroll" if tall else "scroll box"
    body = "".join(lines)
    return f"{style}<div class='{box}'><table class='cards {key}'><thead><tr>{cells}</thead><tbody>{body}</tbody></table></div>"


def _css(text: str) -> str:
    """A string of CSS, in which no character can end it or the element around it."""
    return '"' + "".join(c if c.isalnum() or c in " _.,/%[]()-" else f"\\{ord(c):x} " for c in text) + '"'


def _row(index: int, cells: Sequence[str], hover: str = "") -> str:
    mark = (f" data-i={index}" if index >= 0 else "") + (f' title="{escape(hover)}"' if hover else "")
    return f"<tr{mark}>{''.join(cells)}"


def _text(value: str) -> str:
    return f"<td>{escape(value)}"


def _number(trial: Trial | None) -> str:
    number = trial.number if trial is not None else None
    return "<td>" if number is None else f"<td class=n data-v={number}>{number}"


def _cell(value: float | None, unit: str = "") -> str:
    return (
        "<td>" if value is None or not math.isfinite(value) else f"<td class=n data-v={value:.7g}>{figure(value)}{unit}"
    )


def _cells(trial: Trial, columns: Sequence[ObjectiveSpec]) -> list[str]:
    return [_value(known(trial.values.get(c.name), trial.info.get(c.name)), trial.values.get(c.name)) for c in columns]
