"""Importance, parallel coordinates and progress as PNGs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nas_bo.report.canvas import canvas_of, lay_out, png
from nas_bo.report.coordinates import axes as axes_of
from nas_bo.report.coordinates import drawn
from nas_bo.report.digits import figure
from nas_bo.report.drawing import drawing
from nas_bo.report.importance import Importance
from nas_bo.report.page import page
from nas_bo.report.picture import FRONT, GREY, INK, KNEE, OTHER, calm, picture
from nas_bo.report.progress import reference, steps, units
from nas_bo.report.summary import Summary
from nas_bo.trial import ObjectiveSpec

TOGETHER = "#9db9e3"  # what a choice explains with others
MOST_BARS = 12
DRAWN = {"knee": (KNEE, 2.4, 4), "final": (FRONT, 1.4, 3), "front": (FRONT, 1.4, 3)}


def pictures(summary: Summary) -> dict[str, bytes]:
    """All pictures in addition to the front's, those that can be drawn: file name -> PNG bytes, and the knee's drawing as SVG."""
    found = summary.importances
    ranked = max(found, key=lambda one: one.explained).names if found else ()
    made = {
        "progress.png": progress_picture(summary),
        "parallel.png": parallel_picture(summary, ranked),
        "importance.png": importance_picture(found, summary.columns),
    }
    middle = summary.knee()
    if middle is not None:
        title = f"{'knee' if len(summary.columns) > 1 else 'best'}: {summary.label(middle)}"
        made["knee.svg"] = drawing(middle.architecture, vocab_size=summary.vocab_size, title=title).encode()
    return {name: data for name, data in made.items() if data is not None}


def all_drawn(summary: Summary) -> dict[str, bytes]:
    """Everything that is drawn of a summary, once: "front.png", "front.html" and the files of `pictures`."""
    memo = vars(summary)
    if "_drawn" not in memo:
        memo["_drawn"] = {"front.png": picture(summary), "front.html": page(summary).encode(), **pictures(summary)}
    made: dict[str, bytes] = memo["_drawn"]
    return made


def importance_picture(
    found: Sequence[Importance], columns: Sequence[ObjectiveSpec], *, dpi: int = 120
) -> bytes | None:
    """PNG bytes: per objective the bars, and next to them what pairs of choices explain only together; None where nothing
    is trusted."""
    shown = [one for one in found if one.trusted]
    if not shown:
        return None
    named = {c.name: c for c in columns}
    height = sum(1.5 + 0.28 * min(MOST_BARS, len(one.names)) for one in shown)
    canvas = canvas_of(12.0, height, dpi, layout="constrained")
    made = canvas.figure
    grid = made.add_gridspec(
        len(shown), 2, width_ratios=[1.5, 1.0], height_ratios=[1.5 + 0.28 * min(MOST_BARS, len(o.names)) for o in shown]
    )
    for k, one in enumerate(shown):
        n = min(MOST_BARS, len(one.names))
        where = np.arange(n)[::-1]
        bars = made.add_subplot(grid[k, 0])
        first, total = np.array(one.first[:n]), np.array(one.total[:n])
        bars.barh(where, 100 * first, color=FRONT, label="alone", zorder=2)
        bars.barh(where, 100 * (total - first), left=100 * first, color=TOGETHER, label="with others", zorder=2)
        bars.hlines(
            where, 100 * np.array(one.low[:n]), 100 * np.array(one.high[:n]), color=INK, linewidth=1.3, zorder=3
        )
        bars.set_yticks(where, one.names[:n])
        bars.set_xlabel(f"share of the variance of {named[one.objective].title} [%], line: 90 % interval", color=INK)
        bars.set_title(one.caption().split(". ")[0], fontsize=8, color=INK, loc="left")
        bars.legend(loc="lower right", frameon=False, fontsize=8)
        calm(bars)
        square = made.add_subplot(grid[k, 1])
        most = min(8, len(one.names))
        values = 100 * np.array([row[:most] for row in one.pairs[:most]])
        image = square.imshow(values, cmap="Blues", vmin=0, vmax=max(1.0, float(values.max())))
        square.set_xticks(range(most), one.names[:most], rotation=45, ha="right", fontsize=7)
        square.set_yticks(range(most), one.names[:most], fontsize=7)
        made.colorbar(image, ax=square, fraction=0.046).set_label("explained only together [%]", fontsize=8, color=INK)
    return png(canvas)


def parallel_picture(summary: Summary, important: Sequence[str] = (), *, dpi: int = 120) -> bytes | None:
    """PNG bytes of parallel coordinates; None where there is nothing to draw."""
    trials = drawn(summary)
    axes = axes_of(summary, trials, important)
    if len(axes) < 2 or not trials:
        return None
    canvas = canvas_of(max(8.0, 1.7 * len(axes)), 5.0, dpi)
    made = canvas.figure
    panel = made.add_subplot(1, 1, 1)
    for k, t in enumerate(trials):
        colour, thick, order = DRAWN.get(summary.kind(t), (OTHER, 0.7, 2))
        values = [np.nan if (v := a.values[k]) is None else a.at(v) for a in axes]
        panel.plot(
            range(len(axes)), values, color=colour, linewidth=thick, alpha=1 if order > 2 else 0.45, zorder=order
        )
    for i, a in enumerate(axes):
        panel.axvline(i, color=GREY, linewidth=1, zorder=1)
        for value, text in a.ticks:
            panel.annotate(text, (i, a.at(value)), xytext=(3, 0), textcoords="offset points", fontsize=7, color=INK, zorder=5)  # fmt: skip
    better = {"low": "\n↓ better", "high": "\n↑ better", "": ""}
    panel.set_xticks(range(len(axes)), [_broken(a.title) + better[a.better] for a in axes], fontsize=8)
    panel.set_yticks([])
    panel.spines[:].set_visible(False)
    for colour, word in ((KNEE, "knee"), (FRONT, "Pareto front"), (OTHER, "other trials")):
        panel.plot([], [], color=colour, label=word)
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, 1.1), ncols=3, frameon=False, fontsize=8)
    lay_out(canvas)
    return png(canvas)


def progress_picture(summary: Summary, *, dpi: int = 120) -> bytes | None:
    """PNG bytes: hypervolume and size of the front over trials (of one objective its best value); None before two
    feasible trials."""
    worst = reference(summary.trials, summary.columns)
    taken = steps(summary.trials, summary.columns, worst)
    if len(taken) < 2:
        return None
    several = len(summary.columns) > 1 and all(s.hypervolume is not None for s in taken)
    canvas = canvas_of(8.0, 3.6, dpi)
    made = canvas.figure
    panel = made.add_subplot(1, 1, 1)
    numbers = [s.number for s in taken]
    values = [s.hypervolume if several else s.best[0] for s in taken]
    panel.plot(
        numbers, [math.nan if v is None else v for v in values], drawstyle="steps-post", color=FRONT, linewidth=1.6
    )
    panel.set_xlabel("trial", color=INK)
    panel.set_ylabel(f"hypervolume [{units(summary.columns)}]" if several else summary.columns[0].title, color=INK)
    if several and worst is not None:
        corner = ", ".join(f"{c.name} {figure(c.sign * w)}" for c, w in zip(summary.columns, worst, strict=True))
        panel.set_title(f"what the front dominates, up to the corner at {corner}".replace("$", r"\$"), fontsize=9, color=INK, loc="left", y=1.0)  # fmt: skip
        other = panel.twinx()
        other.plot(numbers, [s.n_pareto for s in taken], drawstyle="steps-post", color=KNEE, linewidth=1.0, alpha=0.8)
        other.set_ylabel("size of the front [trials]", color=KNEE)
        other.spines[["top"]].set_visible(False)
    calm(panel)
    lay_out(canvas)
    return png(canvas)


def _broken(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text.replace("$", r"\$"), 18))
