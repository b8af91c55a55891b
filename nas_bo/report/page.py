"""One self-contained HTML page of a search: no network, no libraries, small enough for an e-mail.

Order of the page: the front, drawn and in numbers, how far to trust its order, how the numbers were obtained, which choices
matter, how the search went, every trial, what failed and why, what is needed to run it again. Text, tables and most pictures
stand in the HTML itself; JavaScript (page.js) adds the scatter plot, sorting and highlighting.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from nas_bo.report.against import against
from nas_bo.report.charts import importances, parallel, progress
from nas_bo.report.coordinates import axes, drawn
from nas_bo.report.drawing import drawing
from nas_bo.report.importance import LEAST
from nas_bo.report.picture import logarithmic
from nas_bo.report.progress import reference, steps
from nas_bo.report.summary import Summary, figure
from nas_bo.report.table import heading, parameters
from nas_bo.report.trust_page import section
from nas_bo.trial import Column, State, Trial

MOST_ROWS = 2000  # trials listed in full; a longer history is listed by its front and its last trials
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
        f"<header><h1>{title}</h1><p class=lead>{_lead(summary)}</p>",
        *(f"<p class=note>{escape(str(note))}</p>" for note in [*against(summary), *summary.notes]),
        "</header>",
        '<section id=plot aria-label="scatter plot of all trials"></section>',
        "<section><h2>The front</h2>" + _front_table(summary, rows) + _drawings(summary) + "</section>",
        f"<section><h2>How far to trust the order</h2>{_trust(summary)}{_retrained(summary)}</section>",
        "<section><h2>How the numbers were obtained</h2>" + _sources(summary) + "</section>",
        _matters(summary, rows, best),
        _went(summary),
        f"<section><h2>All trials</h2>{_trial_table(summary, shown, best)}"
        + (f"<p class=note>{left_out} earlier trials off the front are not listed.</p>" if left_out else "")
        + "</section>",
        "<section><h2>Failed and infeasible</h2>" + _failures(shown, rows) + "</section>",
        "<section><h2>To run it again</h2>" + _facts(summary.facts) + "</section>",
    ]
    return (
        f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>{title}</title>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<style>{_asset('page.css')}</style></head><body>\n"
        + "\n".join(body)
        + f"\n<script id=data type=application/json>{_data(summary, shown, best)}</script>"
        + f"\n<script>{_asset('page.js')}</script>\n</body></html>\n"
    )


def _drawings(summary: Summary) -> str:
    """The knee's architecture, open; the others of the front folded."""
    best, middle = summary.front(), summary.knee()
    if middle is None:
        return ""
    shown = [middle, *(t for t in best if t is not middle)][:MOST_DRAWINGS]
    return "".join(
        f"<details{' open' if t is middle else ''}><summary>{escape(('knee, ' if t is middle and len(best) > 2 else '') + _named(summary, t))}</summary>"
        f"{drawing(t.architecture, vocab_size=summary.vocab_size, title=summary.label(t))}</details>"
        for t in shown
    )


def _named(summary: Summary, trial: Trial) -> str:
    told = ", ".join(f"{c.name} {figure(trial.values[c.name])}" for c in summary.columns)
    known = summary.labels.get(trial.architecture.id)
    name = f"trial {trial.number}" + (f", {known}" if known else "") if trial.number is not None else known or ""
    return f"{name}: {told}" if name else told


def _matters(summary: Summary, rows: dict[int, int], best: set[int]) -> str:
    """Importance of the choices and parallel coordinates."""
    found, middle = summary.importances, summary.knee()
    trials = [t for t in drawn(summary) if id(t) in rows]
    ranked = max(found, key=lambda one: one.explained).names if found else ()
    kinds = ["knee" if t is middle else "front" if id(t) in best else "trial" if t.feasible else "out" for t in trials]
    wires = parallel(axes(summary, trials, ranked), kinds, [rows[id(t)] for t in trials], [_named(summary, t) for t in trials])  # fmt: skip
    bars = importances(found, {c.name: c for c in summary.columns})
    if not bars and summary.space is not None:
        bars = f"<p class=note>Which choices matter is told from {LEAST} trials on that have a value.</p>"
    return f"<section><h2>What matters</h2>{wires}{bars}</section>" if wires or bars else ""


def _went(summary: Summary) -> str:
    worst = reference(summary.trials, summary.columns)
    drawn_ = progress(steps(summary.trials, summary.columns, worst), summary.columns, worst)
    return f"<section><h2>How the search went</h2>{drawn_}</section>" if drawn_ else ""


def _asset(name: str) -> str:
    return files("nas_bo.report").joinpath(name).read_text(encoding="utf-8")


def _data(summary: Summary, shown: Sequence[Trial], best: set[int]) -> str:
    """What the plot needs, as JSON that cannot end the script element."""
    middle = summary.knee()
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
    data = {
        "columns": columns,
        "trials": [
            {
                "n": t.number,
                "label": summary.label(t),
                "kind": "knee"
                if middle is not None and t is middle
                else "front"
                if id(t) in best
                else "trial"
                if t.feasible
                else "out",
                "values": _values(t.values, summary),
            }
            for t in shown
        ],
        "retrained": [
            {"row": first.get(r.get("id", ""), -1), "values": _values(r.get("values", {}), summary)}
            for r in summary.retrained
        ],
        "baselines": [
            {"label": str(b.get("label", "")), "values": _values(b.get("values", {}), summary)}
            for b in summary.baselines
        ],
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _values(values: Any, summary: Summary) -> list[float | None]:
    """In the order of the columns; seven digits are more than a screen can show."""
    return [float(f"{values[c.name]:.7g}") if _finite(values.get(c.name)) else None for c in summary.columns]


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _lead(summary: Summary) -> str:
    best, middle = summary.front(), summary.knee()
    count = f"{len(summary.trials)} trials, {sum(t.feasible for t in summary.trials)} feasible"
    if middle is None:
        return f"{count}. No trial is feasible yet."
    told = ", ".join(
        f"{escape(c.name)} {figure(middle.values[c.name])} {escape(c.unit)}".rstrip() for c in summary.columns
    )
    name = f"<b>{escape(summary.label(middle))}</b>"
    if middle.number is not None and summary.labels.get(middle.architecture.id):
        name += f" (trial {middle.number})"
    if len(summary.columns) == 1:
        return f"{count}. The best is {name}: {told}."
    return f"{count}, {len(best)} on the Pareto front. The knee is {name}: {told}."


def _front_table(summary: Summary, rows: dict[int, int]) -> str:
    best, middle = summary.front(), summary.knee()
    counted = any(parameters(t) is not None for t in best) and not any(c.name == "parameters" for c in summary.columns)
    head = ["trial", "architecture", *(heading(c) for c in summary.columns), *(["parameters"] if counted else [])]
    lines = []
    for t in best:
        cells = [
            _number(t),
            _text(summary.label(t) + (" ★" if t is middle and len(best) > 2 else "")),
            *_cells(t, summary.columns),
        ]
        lines.append(_row(rows.get(id(t), -1), [*cells, *([_cell(parameters(t))] if counted else [])]))
    for base in summary.baselines:
        values = base.get("values", {})
        cells = [_cell(v if _finite(v := values.get(c.name)) else None) for c in summary.columns]
        lines.append(_row(-1, ["<td class=base>baseline", _text(str(base.get("label", ""))), *cells, *(["<td>"] * counted)]))  # fmt: skip
    return _table(head, lines) if best else "<p>No feasible trial yet.</p>"


def _trust(summary: Summary) -> str:
    reports = [("", summary.trust), ("Validated on its own", summary.validation)]
    told = [(f"<h3>{head}</h3>" if head else "") + section(report) for head, report in reports if report is not None]
    if summary.agreement is not None and summary.trust is None:
        told.insert(0, f"<p>{escape(summary.agreement.text())}</p>")
    nothing = "The front was not re-evaluated at a higher budget, so how far its order can be trusted is not known."
    return "".join(told) or f"<p>{nothing}</p>"


def _retrained(summary: Summary) -> str:
    by_id = summary.by_id()
    lines = []
    for again in summary.retrained:
        before, values = by_id.get(again.get("id", "")), again.get("values", {})
        told = [c for c in summary.columns if _finite(values.get(c.name))]
        name = summary.label(before) if before else str(again.get("id", ""))
        for c in told:
            old = before.values.get(c.name) if before else None
            lines.append(_row(-1, [_number(before), _text(name), _text(c.title), _cell(old), _cell(values[c.name])]))
    return _table(["trial", "architecture", "objective", "in the search", "re-trained"], lines) if lines else ""


def _sources(summary: Summary) -> str:
    lines = []
    for c in summary.columns:
        infos = [t.info[c.name] for t in summary.trials if c.name in t.info]
        ways = _ways(infos)
        spent = sum(i["seconds"] for i in infos if _finite(i.get("seconds")))
        spreads = sorted(float(i["spread"]) for i in infos if _finite(i.get("spread")))
        how = "; ".join(f"{way} ({n} trials)" if len(ways) > 1 else way for way, n in ways[:4]) or "not noted"
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


def _ways(infos: Sequence[Any]) -> list[tuple[str, int]]:
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
        found.append(("; ".join(how) or "not noted", len(group)))
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
    return _table(head, lines)


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


def _said(value: Any) -> str:
    """Plain data in words, what is nested in parentheses."""
    if value is None or value in ({}, [], ()):
        return "none"
    if isinstance(value, Mapping):
        inner = ((key, _said(one), isinstance(one, (Mapping, list, tuple))) for key, one in value.items())
        return ", ".join(f"{key} ({text})" if nested else f"{key} {text}" for key, text, nested in inner)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value))
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _table(head: Sequence[str], lines: Sequence[str]) -> str:
    cells = "".join(f"<th><button>{escape(h)}</button>" for h in head)
    return f"<div class=scroll><table><thead><tr>{cells}</thead><tbody>{''.join(lines)}</tbody></table></div>"


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


def _cells(trial: Trial, columns: Sequence[Column]) -> list[str]:
    return [_cell(trial.values.get(c.name)) for c in columns]
