"""Tables: a front as fixed-width text for terminals and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas_bo.final import BEYOND, DOMINATED, FAILED, NOT_AGAIN, Final
from nas_bo.report.digits import aligned, figure, known
from nas_bo.report.notation import bounds, legend
from nas_bo.report.summary import Summary, label
from nas_bo.trial import ObjectiveSpec, Trial


def front_text(
    trials: Iterable[Trial], columns: Sequence[ObjectiveSpec], labels: Mapping[str, str] | None = None
) -> str:
    """The Pareto front of `trials` as aligned lines; the knee has a star, limits are in the head."""
    return table_text(Summary("", columns, list(trials), labels or {}), marks=False)


def front_markdown(
    trials: Iterable[Trial],
    columns: Sequence[ObjectiveSpec],
    labels: Mapping[str, str] | None = None,
    *,
    links: Mapping[int, str] | None = None,
    at_most: int | None = None,
) -> str:
    """The Pareto front of `trials` as a Markdown table; see `table_markdown`."""
    return table_markdown(Summary("", columns, list(trials), labels or {}), links=links, at_most=at_most)


def table_text(summary: Summary, *, marks: bool = True) -> str:
    """The front as aligned lines, the values of the search and those of the re-training in one table.

    The knee has a star, limits are in the head, what was measured has its interval. The lines below say what the marks
    (where `marks`) and the short names mean.
    """
    made = of_front(summary)
    if not made.rows:
        return "no feasible trial yet"
    table = [made.head, *([f"{row.mark} {row.cells[0]}".strip(), *row.cells[1:]] for row in made.rows)]
    lines = aligned(table, right=[j for j, right in enumerate(made.right) if right], rule=True)
    below = [folded(line, max(79, len(lines[1]))) for line in (made.marks * marks, made.legend) if line]
    return "\n".join([*lines, *([""] * bool(below)), *below])


def table_markdown(summary: Summary, *, links: Mapping[int, str] | None = None, at_most: int | None = None) -> str:
    """The table of `table_text` in Markdown.

    Args:
        links: trial number -> address; such numbers become links.
        at_most: rows; a last line says what is left out.
    """
    made = of_front(summary)
    if not made.rows:
        return "*No feasible trial yet.*"
    shown = made.rows if at_most is None else made.rows[:at_most]
    lines = [" | ".join(_escape(h) for h in made.head), " | ".join("---:" if r else "---" for r in made.right)]
    for row in shown:
        first = _escape(f"{row.mark} {row.cells[0]}".strip())
        if links and row.trial.number is not None and row.trial.number in links:
            first = f"[{first}]({links[row.trial.number]})"
        lines.append(" | ".join([first, *map(_escape, row.cells[1:])]))
    said = "\n".join(f"| {line} |" for line in lines)
    more = len(made.rows) - len(shown)
    below = [f"{more} more on the front."] * bool(more) + [_escape(s) for s in (made.marks, made.legend) if s]
    return "\n\n".join([said, *below])


def parameters(trial: Trial) -> float | None:
    """The parameter count that some objective noted in its info, if any."""
    for info in trial.info.values():
        count = info.get("parameters")
        if isinstance(count, (int, float)) and not isinstance(count, bool):
            return float(count)
    return None


@dataclass(frozen=True)
class Row:
    """One architecture of the table.

    Attributes:
        trial: with its final values, where it was evaluated again.
        mark: a key of `MARKS`, or "".
        cells: what is shown.
        values: the numbers behind the cells; None for text and for what is not known.
    """

    trial: Trial
    mark: str
    cells: Sequence[str]
    values: Sequence[float | None]


@dataclass(frozen=True)
class FrontTable:
    """What every form of the table says.

    Attributes:
        right: which columns are flushed right.
        marks, legend: what the marks before the numbers, and the short names, mean; "" where there are none.
    """

    head: Sequence[str]
    rows: Sequence[Row]
    right: Sequence[bool]
    marks: str
    legend: str


MARKS = {
    "*": "the knee",
    "-": "dominated by its final values",
    "x": "its re-training failed, or it is beyond a limit by its final values",
    "o": "on the front of the search, not evaluated again",
}
_MARK_OF = {DOMINATED: "-", NOT_AGAIN: "o", BEYOND: "x", FAILED: "x"}


def of_front(summary: Summary) -> FrontTable:
    """The final front, then what else was on the front of the search: its values there, and those of the re-training."""
    final, columns = summary.final, summary.columns
    by_id = summary.by_id()
    order = [*final.members, *(final.best(t) for t in final.searched if t.architecture.id in final.left)]
    starred = len(columns) > 1
    counts = [parameters(t) for t in order]
    limited = limits_beside(order, columns)
    counted = any(c is not None for c in counts) and not any(c.name == "parameters" for c in columns)
    head = ["trial", "architecture"]
    for c in columns:
        head += [heading(c), again_title(final.factor)] if _twice(c, final) else [heading(c)]
    rows = []
    for i, t in enumerate(order):
        key = t.architecture.id
        knee = starred and final.knee is not None and key == final.knee.architecture.id
        mark = "*" if knee else _MARK_OF.get(final.left.get(key, ""), "")
        number = t.number if t.number is not None else i + 1
        cells: list[str] = [str(number), label(t, summary.labels)]
        values: list[float | None] = [number, None]
        for c in columns:
            if _twice(c, final):
                values.append(by_id[key].values[c.name])
                cells.append(figure(values[-1]))
            values.append(_again(t, c, final) if _twice(c, final) else t.values[c.name])
            cells.append(known(values[-1], t.info.get(c.name)))
        for name in limited:
            values.append(noted(t, name))
            cells.append(known(values[-1], t.info.get(name)))
        if counted:
            values.append(counts[i])
            cells.append(figure(counts[i]))
        rows.append(Row(t, mark, cells, values))
    head += limited.values()
    head += ["parameters"] if counted else []
    used = dict.fromkeys(r.mark for r in rows)
    marks = "; ".join(f"{mark} {words}" for mark, words in MARKS.items() if mark in used)
    below = "; ".join(filter(None, (legend(order, summary.labels), bounds(columns))))
    return FrontTable(head, rows, [True, False] + [True] * (len(head) - 2), marks, below)


def limits_beside(trials: Iterable[Trial], columns: Sequence[ObjectiveSpec]) -> dict[str, str]:
    """What was evaluated of `trials` only because it has a limit: name -> heading, ``latency_ms<=0.6``."""
    found: dict[str, str] = {}
    objectives = {c.name for c in columns} | {"parameters"}
    for t in trials:
        for limit in t.violations:
            name = limit.partition("<=")[0].partition(">=")[0]
            if name != limit and name not in objectives and noted(t, name) is not None:
                found.setdefault(name, limit)
    return found


def noted(trial: Trial, name: str) -> float | None:
    """The value of something that is not an objective, as it was noted; None where there is none."""
    value = trial.info.get(name, {}).get("value")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def again_title(factor: float) -> str:
    return "re-trained" if factor == 1 else f"re-trained x{factor:g}"


def _twice(c: ObjectiveSpec, final: Final) -> bool:
    """Whether the values of both budgets are shown; what was only measured again is shown once, as it was last."""
    return c.name in final.again and c.cost == "trained"


def _again(trial: Trial, c: ObjectiveSpec, final: Final) -> float | None:
    return trial.values[c.name] if trial.architecture.id in final.known else None


def folded(line: str, width: int) -> str:
    """A sentence of parts joined by "; " in lines of at most `width`."""
    lines, now = [], ""
    for part in line.split("; "):
        if now and len(now) + len(part) + 2 > width:
            lines.append(now + ";")
            now = part
        else:
            now = f"{now}; {part}" if now else part
    return "\n".join([*lines, now])


def heading(c: ObjectiveSpec) -> str:
    """The title of a column with its limit: ``latency_ms [ms] <= 25``."""
    limits = [f"<= {figure(c.at_most)}"] * (c.at_most is not None) + [f">= {figure(c.at_least)}"] * (
        c.at_least is not None
    )
    return " ".join([c.title, *limits])


def _escape(cell: str) -> str:
    for char in "\\|`*_[]<>":
        cell = cell.replace(char, f"\\{char}" if char not in "<>" else {"<": "&lt;", ">": "&gt;"}[char])
    return " ".join(cell.split())
