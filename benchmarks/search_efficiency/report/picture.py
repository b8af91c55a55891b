"""Regret over evaluations, one panel per problem: ours solid, peers dashed, bands of one standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search_efficiency.report.curves import TITLES, Curves

FIRST = 10  # the evaluation at which curves begin
LIMIT = "best points of the front"
TICKS = (10, 25, 50, 100, 200)
# Okabe and Ito's colours, which colour-blind people tell apart; beside colour: dashes, marker and width
STYLES = {
    "Bayes": ("#D55E00", "o"),
    "NSGA2": ("#0072B2", "s"),
    "RegularizedEvolution": ("#009E73", "^"),
    "LocalSearch": ("#CC79A7", "D"),
    "Reinforce": ("#E69F00", "v"),
    "Random": ("#777777", "x"),
    "ax": ("#000000", "*"),
    "optuna-gp": ("#E69F00", "P"),
    "optuna-botorch": ("#CC79A7", "X"),
    "optuna-tpe": ("#009E73", "<"),
    "optuna-nsga2": ("#0072B2", ">"),
    "pymoo-nsga2": ("#56B4E9", "d"),
    "optuna-random": ("#777777", "+"),
}


def picture(problems: Mapping[str, Sequence[Curves]], best: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """Write the PNG. `best`: problem -> n -> regret that nobody can beat."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = 1 if len(problems) == 1 else 2
    down = math.ceil(len(problems) / across)
    figure = Figure(figsize=(6.4 * across, 4.3 * down + 1.0), dpi=110, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    entries: dict[str, Any] = {}
    for i, (problem, curves) in enumerate(problems.items()):
        axes = figure.add_subplot(down, across, i + 1)
        for arm in [arm for arm in STYLES if arm in {c.arm for c in curves}]:
            _draw(axes, next(c for c in curves if c.arm == arm))
        if best.get(problem):
            x = sorted(best[problem])
            axes.plot(x, [best[problem][n] for n in x], color="black", lw=1, ls=":", label=LIMIT)
        axes.set_title(TITLES.get(problem, problem), fontsize=10, loc="left")
        axes.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="regret")
        axes.set_xticks(TICKS, [str(n) for n in TICKS])
        axes.minorticks_off()
        low, high = axes.get_ylim()
        fine = (0.015, 0.03, 0.07, 0.15, 0.3, 0.7) if high < 10 * low else ()
        every = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, *fine)
        ticks = sorted(t for t in every if low <= t <= high)
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
        axes.grid(color="#dddddd", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        entries |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [label for label in _labels(problems) if label in entries]
    figure.legend(
        [entries[n] for n in names], names, loc="outside lower center", ncols=4 * across - 1, fontsize=8, frameon=False
    )
    canvas.print_png(path)


def _labels(problems: Mapping[str, Sequence[Curves]]) -> list[str]:
    """What the legend says, in the order of `STYLES`: ours, then peers."""
    by_arm = {c.arm: _label(c) for curves in problems.values() for c in curves}
    return [by_arm[arm] for arm in STYLES if arm in by_arm] + [LIMIT]


def _label(curves: Curves) -> str:
    return f"{curves.label} (nas_bo)" if curves.ours else curves.label


def _draw(axes: Any, curves: Curves) -> None:
    mean, error = curves.mean()
    x = np.arange(1, len(mean) + 1)
    shown = (x >= min(FIRST, len(mean))) & ~np.isnan(mean) & (mean > 0)
    x, mean, error = x[shown], mean[shown], np.nan_to_num(error[shown])
    colour, marker = STYLES[curves.arm]
    marks = [int(i) for i in np.flatnonzero(np.isin(x, TICKS))]
    axes.plot(
        x,
        mean,
        color=colour,
        ls="-" if curves.ours else (0, (4, 2)),
        lw=2.0 if curves.ours else 1.3,
        marker=marker,
        markevery=marks,
        ms=5,
        label=_label(curves),
    )
    low = np.maximum(mean - error, mean * 0.2)
    axes.fill_between(x, low, mean + error, color=colour, alpha=0.13, lw=0)
