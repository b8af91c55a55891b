"""The Pareto front as a PNG: what was tried, what is best, where the knee is, which limits held."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from nas_bo.errors import SearchError
from nas_bo.knee import interval
from nas_bo.report.callouts import Callout, call_out
from nas_bo.report.canvas import canvas_of, lay_out, png
from nas_bo.report.digits import figure as figure_text
from nas_bo.report.digits import logarithmic
from nas_bo.report.summary import Summary
from nas_bo.trial import ObjectiveSpec, State, Trial
from nas_bo.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

FRONT, KNEE, OTHER, GREY, INK, RETRAINED, BASELINE = (
    "#1f5fbf", "#d9480f", "#7a8ca3", "#c9ced6", "#26303c", "#2b8a3e", "#862e9c",
)  # fmt: skip
PER_INCH = 11  # characters of a title
MOST_PANELS = 4  # objectives drawn against each other; more would be illegible


def picture(summary: Summary, *, width: float = 8.0, height: float | None = None, dpi: int = 120) -> bytes:
    """PNG bytes: one panel for two objectives, one per pair for three or four, values over trials for one.

    Args:
        width, height: inches; the height follows the number of panels unless given.

    Raises:
        SearchError: there is no objective.
    """
    columns = list(summary.columns)[:MOST_PANELS]
    if not columns:
        raise SearchError("a picture needs at least one objective, and this summary has none: give Summary its columns")
    pairs = list(combinations(range(len(columns)), 2))
    across = 1 if len(pairs) < 2 else 3 if len(pairs) > 3 else len(pairs)
    down = max(1, math.ceil(len(pairs) / across))
    if across > 1:
        width *= 0.62 * across
    canvas = canvas_of(width, height or (5.2 if across == 1 else 4.6 * down + 0.6), dpi)
    figure = canvas.figure
    panels: list[Axes] = [figure.add_subplot(down, across, i + 1) for i in range(max(1, len(pairs)))]
    if not pairs:
        _history(panels[0], summary, columns[0])
    names = [
        # the first objective, usually quality, is the one read upwards
        _pair(axes, summary, columns[j], columns[i], alone=len(pairs) == 1 and len(summary.columns) == 2)
        for axes, (i, j) in zip(panels, pairs, strict=False)
    ]
    lay_out(canvas, _finish(figure, panels, summary))
    for axes, those in zip(panels, names, strict=False):
        call_out(axes, those, canvas.get_renderer())
    return png(canvas)


def _finish(figure: Figure, panels: Sequence[Axes], summary: Summary) -> Text:
    best, final, feasible = summary.front(), summary.final, sum(t.feasible for t in summary.trials)
    n = len(summary.trials)
    done = f"{counted(n, 'trial')}, {feasible} feasible"
    if len(summary.columns) > 1:
        done += f", {len(best)} on the front" + (" of the search" if final.again else "")
        done += f", {len(final.members)} on the final one" if final.again else ""
    gained = next((one.short for one in summary.gains if one.known), "")
    second = "".join(f"{line}\n" for line in textwrap.wrap(_plain(gained, 200), int(PER_INCH * figure.get_figwidth())))
    title = figure.suptitle(f"{_plain(summary.title, 70)}\n{second}{done}", fontsize=12, color=INK, x=0.01, ha="left")
    entries = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if entries:
        figure.legend(
            entries.values(),
            entries.keys(),
            loc="lower center",
            ncols=min(6 if (len(entries) < 7 and not summary.final.again) or len(panels) > 1 else 4, len(entries)),
            frameon=False,
            fontsize=9,
        )
    for axes in panels:
        calm(axes)
    return title


def _pair(axes: Axes, summary: Summary, x: ObjectiveSpec, y: ObjectiveSpec, *, alone: bool) -> list[Callout]:
    """Two objectives, and what is to be named. Where anything was re-trained, the front of the search is faint and the final one is what is drawn."""
    best, final = summary.front(), summary.final
    settled = bool(final.again)
    chosen = {id(t) for t in best}
    known = [t for t in summary.trials if t.state in (State.COMPLETE, State.INFEASIBLE) and _has(t.values, x, y)]
    out = [t for t in known if not t.feasible]
    rest = [t for t in known if t.feasible and id(t) not in chosen]
    _dots(axes, out, x, y, marker="x", s=26, color=GREY, linewidths=1.2, label="infeasible", zorder=2)
    _dots(axes, rest, x, y, s=26, color=OTHER, alpha=0.75, linewidths=0, label="trial", zorder=3)
    if alone and best:
        faint: dict[str, object] = {"linewidth": 1.0, "alpha": 0.55, "linestyle": (0, (3, 3))} if settled else {}
        _stair(axes, best, x, y, color=FRONT, **faint)
    if settled:
        _dots(axes, best, x, y, s=40, facecolors="white", edgecolors=FRONT, linewidths=1.2, alpha=0.7, label="front of the search", zorder=5)  # fmt: skip
        _again(axes, summary, x, y, alone)
    else:
        _errors(axes, best, x, y)
        _dots(axes, best, x, y, s=46, color=FRONT, edgecolors="white", linewidths=0.8, label="Pareto front", zorder=6)
    names: list[Callout] = []
    for i, base in enumerate(summary.baselines):
        values = base.get("values", {})
        if settled:
            values = {**values, **base.get("retrained", {})}  # what is drawn is the front after its re-training
        if _has(values, x, y):
            at = (values[x.name], values[y.name])
            axes.scatter([at[0]], [at[1]], marker="s", s=44, color=BASELINE, zorder=7, label="" if i else "baseline")
            names.append(Callout(_plain(base.get("label", ""), 24), at, BASELINE))
    middle = summary.knee()
    if middle is not None:
        at = (middle.values[x.name], middle.values[y.name])
        axes.scatter(
            [at[0]], [at[1]], marker="*", s=230, color=KNEE, edgecolors="white", linewidths=0.8, zorder=8, label="knee"
        )
        number = (
            f"{middle.number}: " if middle.number is not None and summary.labels.get(middle.architecture.id) else ""
        )
        names.insert(0, Callout("knee, " + _plain(number + summary.label(middle), 34), at, INK, edge=KNEE))
    _scale(axes, "x", x, summary)
    _scale(axes, "y", y, summary)
    for column, draw, name in ((x, axes.axvline, "x"), (y, axes.axhline, "y")):
        for bound, sign in ((column.at_most, "≤"), (column.at_least, "≥")):
            if bound is not None:
                draw(bound, color=KNEE, linestyle=(0, (4, 3)), linewidth=1.1, alpha=0.8, zorder=1)
                where = (bound, 1.0) if name == "x" else (1.0, bound)
                axes.annotate(
                    f"{sign} {bound:g} {_plain(column.unit, 12)}",
                    where,
                    xycoords=axes.get_xaxis_transform() if name == "x" else axes.get_yaxis_transform(),
                    xytext=(3, 2) if name == "x" else (-2, 3),
                    textcoords="offset points",
                    fontsize=8,
                    color=KNEE,
                    ha="left" if name == "x" else "right",
                )
    return names


def _again(axes: Axes, summary: Summary, x: ObjectiveSpec, y: ObjectiveSpec, alone: bool) -> None:
    """What was re-trained: a line from where the search saw it, filled where it is on the final front."""
    final, by_id = summary.final, summary.by_id()
    for key, t in final.known.items():
        before = by_id[key].values
        if _has(before, x, y) and _has(t.values, x, y):
            ends = [(before[x.name], t.values[x.name]), (before[y.name], t.values[y.name])]
            axes.plot(*ends, color=RETRAINED, linewidth=0.8, alpha=0.5, zorder=4)
    last = {t.architecture.id for t in final.members}
    lost = [t for key, t in final.known.items() if key not in last]
    if alone and final.members:
        _stair(axes, final.members, x, y, color=RETRAINED)
    _errors(axes, [*final.members, *lost], x, y)
    style = {"marker": "D", "s": 34, "edgecolors": RETRAINED, "linewidths": 1.3}
    _dots(axes, lost, x, y, facecolors="white", label="evaluated again, not on it", zorder=6, **style)
    _dots(axes, final.members, x, y, facecolors=RETRAINED, label="final front", zorder=7, **style)


def _stair(axes: Axes, members: Sequence[Trial], x: ObjectiveSpec, y: ObjectiveSpec, **style: Any) -> None:
    line = sorted((t for t in members if _has(t.values, x, y)), key=lambda t: t.values[x.name])
    axes.plot(
        [t.values[x.name] for t in line],
        [t.values[y.name] for t in line],
        drawstyle="steps-post" if x.direction == "minimize" else "steps-pre",
        **{"linewidth": 1.4, "alpha": 0.8, "zorder": 4, **style},
    )


def _errors(axes: Axes, members: Sequence[Trial], x: ObjectiveSpec, y: ObjectiveSpec) -> None:
    """The intervals of measured values."""
    for t in members:
        if not _has(t.values, x, y):
            continue
        at: dict[str, Any] = {"color": INK, "linewidth": 1.0, "alpha": 0.7, "zorder": 5}
        low, high = interval(t.info.get(x.name, {}))
        if high > low:
            axes.plot([low, high], [t.values[y.name]] * 2, **at)
        low, high = interval(t.info.get(y.name, {}))
        if high > low:
            axes.plot([t.values[x.name]] * 2, [low, high], **at)


def _history(axes: Axes, summary: Summary, column: ObjectiveSpec) -> None:
    """One objective: every value over the trials, and the best so far."""
    from matplotlib.ticker import MaxNLocator

    styles: list[tuple[bool, dict[str, Any]]] = [
        (False, {"marker": "x", "color": GREY, "label": "infeasible"}),
        (True, {"marker": "o", "color": OTHER, "label": "trial"}),
    ]
    numbered = [(t.number if t.number is not None else i, t) for i, t in enumerate(summary.trials)]
    known = sorted(((n, t) for n, t in numbered if _has(t.values, column)), key=lambda pair: pair[0])
    for feasible, style in styles:
        group = [(n, t.values[column.name]) for n, t in known if t.feasible is feasible]
        if group:
            axes.scatter([n for n, _ in group], [v for _, v in group], s=24, zorder=3, **style)
    steps: list[tuple[int, float]] = []
    for n, t in known:
        value = t.values[column.name]
        if t.feasible and (not steps or column.sign * value < column.sign * steps[-1][1]):
            steps.append((n, value))
    if steps:
        ends = [*steps, (known[-1][0], steps[-1][1])]
        axes.plot(
            [n for n, _ in ends],
            [v for _, v in ends],
            drawstyle="steps-post",
            color=FRONT,
            linewidth=1.6,
            label="best so far",
            zorder=4,
        )
        at = steps[-1]
        number = {t.architecture.id: n for n, t in known}
        again = [(number[key], t.values[column.name]) for key, t in summary.final.known.items() if key in number]
        if again:
            style = {"marker": "D", "s": 34, "edgecolors": RETRAINED, "facecolors": RETRAINED}
            axes.scatter([n for n, _ in again], [v for _, v in again], zorder=5, label="evaluated again", **style)
            best = summary.final.members[0] if summary.final.members else None
            if best is not None and best.architecture.id in number:
                at = number[best.architecture.id], best.values[column.name]
        axes.scatter([at[0]], [at[1]], marker="*", s=230, color=KNEE, edgecolors="white", zorder=6, label="best")
    _scale(axes, "y", column, summary)
    axes.set_xlabel("trial", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for bound in (column.at_most, column.at_least):
        if bound is not None:
            axes.axhline(bound, color=KNEE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)


def _scale(axes: Axes, which: str, column: ObjectiveSpec, summary: Summary) -> None:
    """Title with unit; a log scale with plain numbers where values span much; the better side is named."""
    values = [t.values[column.name] for t in summary.trials if t.state is not State.FAILED and _has(t.values, column)]
    axis = axes.xaxis if which == "x" else axes.yaxis
    better = {("x", 1): "← better", ("x", -1): "better →", ("y", 1): "← better", ("y", -1): "better →"}[
        (which, int(column.sign))
    ]
    axis.set_label_text(f"{_plain(column.title, 40)}   {better}", color=INK)
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if logarithmic(values, column):
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        wide = max(values) / min(values) > 100
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
    if values and max(map(abs, values)) > 0:
        spread = max(values) - min(values)
        if spread > 0.02 * max(map(abs, values)):  # finer differences need the digits of the stock formatter
            axis.set_major_formatter(FuncFormatter(lambda v, _pos: _tick(v)))


def _dots(axes: Axes, trials: Sequence[Trial], x: ObjectiveSpec, y: ObjectiveSpec, **style: Any) -> None:
    if trials:
        axes.scatter([t.values[x.name] for t in trials], [t.values[y.name] for t in trials], **style)


def _has(values: Mapping[str, float], *columns: ObjectiveSpec) -> bool:
    return all(c.name in values and math.isfinite(values[c.name]) for c in columns)


def _plain(text: str, at_most: int) -> str:
    """One short line in which a dollar sign is a dollar sign, not mathematics."""
    text = " ".join(str(text).split())
    return (text if len(text) <= at_most else text[: at_most - 1] + "…").replace("$", r"\$")


def _tick(value: float) -> str:
    """The same as `figure`, without zeros that a scale does not need."""
    text = figure_text(value)
    number = text.rstrip("kMGT")
    return (number.rstrip("0").rstrip(".") if "." in number and "e" not in number else number) + text[len(number) :]


def calm(panel: Axes, size: int = 9) -> None:
    """A thin grid behind the data, and no more lines than that."""
    panel.grid(True, color="#e6e9ee", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=size, colors=INK)
