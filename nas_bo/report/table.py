"""Tables: a front as fixed-width text for terminals and as Markdown, and every trial as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from unicodedata import combining, east_asian_width

from nas_bo.report.summary import figure, label
from nas_bo.trial import Column, Trial, front, knee

if TYPE_CHECKING:
    import pandas as pd


def front_text(trials: Iterable[Trial], columns: Sequence[Column], labels: Mapping[str, str] | None = None) -> str:
    """The Pareto front of `trials` as aligned lines; the knee has a star, limits stand in the head."""
    head, rows, right = _front(trials, columns, labels or {})
    if not rows:
        return "no feasible trial yet"
    table = [head, *rows]
    widths = [max(_width(row[j]) for row in table) for j in range(len(head))]
    lines = ["  ".join(_pad(cell, widths[j], right[j]) for j, cell in enumerate(row)).rstrip() for row in table]
    rule = "  ".join("-" * w for w in widths)
    return "\n".join([lines[0], rule, *lines[1:]])


def front_markdown(
    trials: Iterable[Trial],
    columns: Sequence[Column],
    labels: Mapping[str, str] | None = None,
    *,
    links: Mapping[int, str] | None = None,
    at_most: int | None = None,
) -> str:
    """The Pareto front of `trials` as a Markdown table.

    Args:
        links: trial number -> address; such numbers become links.
        at_most: rows; what is left out is said in a last line.
    """
    head, rows, right = _front(trials, columns, labels or {})
    if not rows:
        return "*No feasible trial yet.*"
    shown = rows if at_most is None else rows[:at_most]
    cells = [[_escape(cell) for cell in row] for row in shown]
    for row, plain in zip(cells, shown, strict=True):
        number = plain[0].strip(" *")
        if links and number.isdigit() and int(number) in links:
            row[0] = f"[{row[0]}]({links[int(number)]})"
    lines = [" | ".join(_escape(h) for h in head), " | ".join("---:" if r else "---" for r in right)]
    text = "\n".join(f"| {line} |" for line in [*lines, *(" | ".join(row) for row in cells)])
    return text + (f"\n\n{len(rows) - len(shown)} more on the front." if len(shown) < len(rows) else "")


def frame(trials: Iterable[Trial], columns: Sequence[Column], labels: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per trial: number, state, id, label, every flat choice, every value, ``violation:...``, reason, seconds.

    A choice that is not active in a trial is missing there. A choice named like one of the other columns is called
    ``arch:name``.
    """
    import pandas as pd

    labels = labels or {}
    taken = {"number", "state", "id", "label", "reason", "seconds", "feasible", *(c.name for c in columns)}
    rows: list[dict[str, Any]] = []
    for t in trials:
        row: dict[str, Any] = {
            "number": t.number,
            "state": t.state.value,
            "feasible": t.feasible,
            "id": t.architecture.id,
            "label": labels.get(t.architecture.id, ""),
        }
        row |= {f"arch:{name}" if name in taken else name: value for name, value in t.architecture.flat.items()}
        row |= {c.name: t.values.get(c.name) for c in columns}
        row |= {f"violation:{name}": amount for name, amount in t.violations.items()}
        rows.append(row | {"reason": t.reason, "seconds": t.seconds})
    fixed = ["number", "state", "feasible", "id", "label"]
    last = [
        *(c.name for c in columns),
        *dict.fromkeys(k for r in rows for k in r if k.startswith("violation:")),
        "reason",
        "seconds",
    ]
    choices = dict.fromkeys(k for r in rows for k in r if k not in fixed and k not in last)
    return pd.DataFrame(rows, columns=[*fixed, *choices, *last])


def parameters(trial: Trial) -> float | None:
    """The parameter count that some objective noted in its info, if any."""
    for info in trial.info.values():
        count = info.get("parameters")
        if isinstance(count, (int, float)) and not isinstance(count, bool):
            return float(count)
    return None


def _front(
    trials: Iterable[Trial], columns: Sequence[Column], labels: Mapping[str, str]
) -> tuple[list[str], list[list[str]], list[bool]]:
    """Head, rows and which columns are flushed right."""
    best = front(trials, columns)
    middle = knee(best, columns) if len(columns) > 1 and len(best) > 2 else None
    counts = [parameters(t) for t in best]
    counted = any(c is not None for c in counts) and not any(c.name == "parameters" for c in columns)
    head = ["trial", "architecture", *(heading(c) for c in columns), *(["parameters"] if counted else [])]
    rows = []
    for i, t in enumerate(best):
        number = str(t.number) if t.number is not None else str(i + 1)
        row = [f"* {number}" if t is middle else number, label(t, labels), *(figure(t.values[c.name]) for c in columns)]
        rows.append([*row, *([figure(counts[i])] if counted else [])])
    return head, rows, [True, False] + [True] * (len(head) - 2)


def heading(c: Column) -> str:
    """The title of a column with its limit: ``latency_ms [ms] <= 25``."""
    limits = [f"<= {figure(c.at_most)}"] * (c.at_most is not None) + [f">= {figure(c.at_least)}"] * (
        c.at_least is not None
    )
    return " ".join([c.title, *limits])


def _escape(cell: str) -> str:
    for char in "\\|`*_[]<>":
        cell = cell.replace(char, f"\\{char}" if char not in "<>" else {"<": "&lt;", ">": "&gt;"}[char])
    return " ".join(cell.split())


def _width(text: str) -> int:
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
