"""The trust report as a PNG: every proxy against the reference, size as colour, and what is left with size removed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.report.canvas import canvas_of, plain_ticks, png
from nas_bo.report.digits import figure as figure_text
from nas_bo.report.picture import INK, calm
from nas_bo.report.ranks import Interval
from nas_bo.report.trust import Judged, TrustReport
from nas_bo.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

OVERALL, REMOVED, EQUAL, LINE = "#1f5fbf", "#d9480f", "#2b8a3e", "#c9ced6"
MOST_PANELS = 6  # proxies drawn; the bars have all of them
PER_INCH = 11.5  # characters of the first line


def trust_picture(report: TrustReport, *, dpi: int = 120) -> bytes:
    """PNG bytes: a scatter of ranks for every proxy, and below it tau overall and with size removed, with intervals."""
    shown = [j for j in report.proxies if not j.useless and j.n > 1][:MOST_PANELS]
    across = 2 if len(shown) == 4 else max(1, min(3, len(shown)))
    down = math.ceil(len(shown) / across)
    bars = 0.9 + 0.5 * len(report.judged)
    wide = max(8.4, 3.6 * across)
    height = 1.1 + 3.3 * down + bars
    canvas = canvas_of(wide, height, dpi, layout="constrained")
    figure = canvas.figure
    grid = figure.add_gridspec(down + 1, across, height_ratios=[3.3] * down + [bars])
    dots: PathCollection | None = None
    panels = [figure.add_subplot(grid[i // across, i % across]) for i in range(len(shown))]
    for axes, judged in zip(panels, shown, strict=True):
        dots = _ranks(axes, report, judged) or dots
    if dots is not None:
        bar = figure.colorbar(dots, ax=panels, fraction=0.03, pad=0.02, aspect=30)
        bar.set_label("parameters", color=INK, fontsize=9)
        plain_ticks(bar.ax.yaxis, figure_text)
        bar.ax.tick_params(labelsize=8, colors=INK)
    _bars(figure.add_subplot(grid[down, :]), report)
    import textwrap

    head = "\n".join(textwrap.wrap(report.first_line.replace("$", r"\$"), int(PER_INCH * wide))[:4])
    figure.suptitle(head, fontsize=11, color=INK, x=0.01, ha="left")
    return png(canvas)


def _ranks(axes: Axes, report: TrustReport, judged: Judged) -> PathCollection | None:
    """Rank by proxy against rank by reference; the best is at the lower left. Returns the coloured dots, if they are."""
    rows = [r for r in report.rows if math.isfinite(r.values.get(judged.name, math.nan))]
    turn = -1.0 if judged.direction == "maximize" else 1.0
    sign = 1.0 if report.direction == "minimize" else -1.0
    x = _rank([turn * r.values[judged.name] for r in rows])
    y = _rank([sign * r.reference for r in rows])
    axes.plot([0.5, len(rows) + 0.5], [0.5, len(rows) + 0.5], color=LINE, linewidth=1.2, zorder=1)
    sizes = [r.parameters for r in rows]
    dots = None
    if all(math.isfinite(s) for s in sizes) and len(set(sizes)) > 1:
        from matplotlib.colors import LogNorm

        known = [r.parameters for r in report.rows]
        norm = LogNorm(min(known), max(known))
        dots = axes.scatter(
            x, y, c=sizes, cmap="viridis", norm=norm, s=42, edgecolors="white", linewidths=0.7, zorder=3
        )
    else:
        axes.scatter(x, y, color=OVERALL, s=42, edgecolors="white", linewidths=0.7, zorder=3)
    axes.set_title(f"{judged.name}   tau {judged.tau.value:.2f}", fontsize=10, color=INK, loc="left", y=1.0)
    axes.set_xlabel(f"rank by {judged.name}   ← better", fontsize=9, color=INK)
    axes.set_ylabel(f"rank by {report.reference}", fontsize=9, color=INK)
    calm(axes)
    return dots


def _bars(axes: Axes, report: TrustReport) -> None:
    names = [j.name for j in report.judged]
    where = np.arange(len(names))[::-1]
    kinds = (
        (0.27, OVERALL, "tau, overall", [j.tau for j in report.judged]),
        (0.0, REMOVED, "tau, size removed", [j.size_removed for j in report.judged]),
        (-0.27, EQUAL, "tau, within 10 % of size", [j.equal_size for j in report.judged]),
    )
    for shift, color, label, figures in kinds:
        width = [f.value if f.known else 0.0 for f in figures]
        axes.barh(where + shift, width, height=0.25, color=color, alpha=0.85, label=label, zorder=2)
        for y, f in zip(where + shift, figures, strict=True):
            _whisker(axes, y, f)
    for y, j in zip(where, report.judged, strict=True):
        if j.useless or not j.tau.known:
            axes.text(0.02, y + 0.27, "useless here" if j.useless else "no tau", va="center", fontsize=8, color=INK)
        elif j.name == "parameters":
            axes.text(0.02, y, "0 by definition", va="center", fontsize=8, color=INK)
    axes.set_yticks(where, names)
    lows = [f.low for j in report.judged for f in (j.tau, j.size_removed, j.equal_size) if f.bounded]
    axes.set_xlim(min(-0.05, *lows, 0.0) - 0.03 if lows else -0.08, 1.04)
    axes.axvline(0, color=INK, linewidth=0.8, zorder=3)
    if report.parameters is not None and report.parameters.tau.known:
        axes.axvline(report.parameters.tau.value, color=OVERALL, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlabel(
        f"Kendall's tau with {report.reference}, 95 % bootstrap interval over {counted(report.n, 'architecture')}",
        fontsize=9,
        color=INK,
    )
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False, fontsize=8)
    calm(axes)
    axes.grid(False, axis="y")


def _whisker(axes: Axes, y: float, figure: Interval) -> None:
    if figure.bounded:
        axes.plot([figure.low, figure.high], [y, y], color=INK, linewidth=1.3, solid_capstyle="butt", zorder=4)


def _rank(values: list[float]) -> list[float]:
    from scipy.stats import rankdata

    found: list[float] = rankdata(values).tolist()
    return found
