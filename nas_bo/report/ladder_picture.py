"""The ladder as a PNG: losses against size, every architecture a line, and next to it what each rung decides."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from nas_bo.report.canvas import canvas_of, plain_ticks, png
from nas_bo.report.decisions import ASKED, ASKED_EQUAL, Accuracy
from nas_bo.report.digits import figure as figure_text
from nas_bo.report.picture import INK, calm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nas_bo.report.ladder import Ladder

ALL, EQUAL, SIZE = "#1f5fbf", "#2b8a3e", "#9fb0c3"
GOES, STAYS, CONTROLS = "#d9480f", "#c9ced6", "#862e9c"
WIDE, HIGH, PER_INCH = 11.0, 5.4, 11.5  # inches; characters of the first line in one of them


def ladder_picture(ladder: Ladder, *, dpi: int = 120) -> bytes:
    """PNG bytes: on the left the losses of all architectures over their parameters, those that are promoted in colour; on the right the decision
    accuracy of every rung with its 95 % interval."""
    canvas = canvas_of(WIDE, HIGH, dpi, layout="constrained")
    figure = canvas.figure
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1.0])
    _losses(left, ladder)
    _decisions(right, ladder)
    head = "\n".join(textwrap.wrap(ladder.first_line.replace("$", r"\$"), int(PER_INCH * WIDE))[:4])
    figure.suptitle(head, fontsize=11, color=INK, x=0.01, ha="left")
    return png(canvas)


def _losses(axes: Axes, ladder: Ladder) -> None:
    goes = {c.id for c in ladder.promoted}
    for c in sorted(ladder.climbers, key=lambda c: (c.id in goes, c.plain)):
        points = [(c.sizes[r], c.loss(r)) for r in range(len(ladder.rungs)) if math.isfinite(c.loss(r))]
        if not points:
            continue
        x, y = zip(*points, strict=True)
        color = CONTROLS if c.plain else GOES if c.id in goes else STAYS
        style = (0, (4, 2)) if c.plain else "-"
        axes.plot(x, y, color=color, linewidth=1.4, marker="o", markersize=4, linestyle=style, zorder=3)
    axes.set_xscale("log")
    plain_ticks(axes.xaxis, figure_text)
    axes.set_xlabel("parameters", fontsize=9, color=INK)
    axes.set_ylabel(f"{ladder.name} [{ladder.unit}]   ← better", fontsize=9, color=INK)
    for color, style, label in (
        (GOES, "-", "promoted"),
        (STAYS, "-", "others"),
        (CONTROLS, (0, (4, 2)), "plain decoders"),
    ):
        axes.plot([], [], color=color, linestyle=style, label=label)
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    calm(axes)


def _decisions(axes: Axes, ladder: Ladder) -> None:
    names = [f"{figure_text(ladder.rungs[d.rung].middle)}\nparameters" for d in ladder.decisions]
    kinds = (
        (-0.25, ALL, "all pairs", [d.overall for d in ladder.decisions]),
        (0.0, EQUAL, "pairs of about equal size", [d.equal for d in ladder.decisions]),
        (0.25, SIZE, "counting parameters, all pairs", [d.by_size for d in ladder.decisions]),
    )
    for shift, color, label, found in kinds:
        at = [place + shift for place in range(len(names))]
        axes.bar(
            at,
            [one.value if one.known else 0.0 for one in found],
            width=0.23,
            color=color,
            alpha=0.85,
            label=label,
            zorder=2,
        )
        for x, one in zip(at, found, strict=True):
            _whisker(axes, x, one)
    axes.axhline(0.5, color=INK, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    for height, color in ((ASKED, ALL), (ASKED_EQUAL, EQUAL)):
        axes.axhline(height, color=color, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 1.04)
    last = figure_text(ladder.rungs[-1].middle)
    axes.set_ylabel(f"share of pairs decided as at {last} parameters", fontsize=9, color=INK)
    axes.legend(loc="lower center", framealpha=0.92, edgecolor="white", fontsize=8)
    calm(axes)
    axes.grid(False, axis="x")


def _whisker(axes: Axes, x: float, one: Accuracy) -> None:
    if not one.known:
        axes.text(x, 0.02, "not known", rotation=90, ha="center", va="bottom", fontsize=8, color=INK)
    elif one.bounded:
        axes.plot([x, x], [one.low, one.high], color=INK, linewidth=1.3, solid_capstyle="butt", zorder=4)
