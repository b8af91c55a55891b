"""Pictures of the concept pages that show results: SVG as text, drawn from `benchmarks/results/` (`pages.py` writes them)."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from typing import Any

import figures

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 70, 170, 56, 48
INK, FAINT = "#334155", "#cbd5e1"
OWN, OTHER = "#c2410c", "#2563eb"


def _page(title: str, body: str, height: int = HEIGHT) -> str:
    """A picture on a white sheet, so that it can be read in a dark page too."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13" fill="{INK}">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>\n<text x="20" y="28" font-size="15">{escape(title)}</text>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str = FAINT, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width:g}"/>'


def _apart(wanted: list[float], least: float) -> list[float]:
    """Heights of labels, in their order, at least so far from each other."""
    placed: list[float] = []
    for y in wanted:
        placed.append(max(y, placed[-1] + least) if placed else y)
    return placed


def regret() -> str:
    """Regret by evaluations on HW-GPT-Bench, both axes logarithmic."""
    data: dict[str, Any] = figures.find(figures.read("search_efficiency.json"), "figures/hwgpt-h100/arms")
    names = {
        "Bayes": "Bayes", "NSGA2": "NSGA2", "RegularizedEvolution": "RegularizedEvolution", "Random": "Random",
        "optuna-gp": "Optuna GP", "optuna-tpe": "Optuna TPE", "optuna-nsga2": "Optuna NSGA-II", "ax": "Ax default",
    }  # fmt: skip
    lines = {
        name: [(int(n), one["mean"]) for n, one in sorted(data[arm]["regret"].items(), key=lambda item: int(item[0]))]
        for arm, name in names.items()
        if arm in data
    }
    xs = [n for points in lines.values() for n, _ in points]
    ys = [value for points in lines.values() for _, value in points]
    low, high = math.log(min(ys)), math.log(max(ys))

    def x(n: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(n / min(xs)) / math.log(max(xs) / min(xs))

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log(value)) / (high - low)

    parts = []
    for n in sorted(set(xs)):
        parts += [_line(x(n), TOP, x(n), HEIGHT - BOTTOM), _text(x(n), HEIGHT - BOTTOM + 18, str(n), "middle")]
    for value in (0.2, 0.1, 0.05, 0.02, 0.01, 0.005):
        if low <= math.log(value) <= high:
            parts += [_line(LEFT, y(value), WIDTH - RIGHT, y(value)), _text(LEFT - 8, y(value) + 4, f"{value:g}", "end")]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "evaluations", "middle"))
    ends = sorted(lines.items(), key=lambda item: y(item[1][-1][1]))
    heights = _apart([y(points[-1][1]) + 4 for _, points in ends], 15)
    for (name, points), height in zip(ends, heights, strict=True):
        own = name in ("Bayes", "NSGA2", "RegularizedEvolution")
        color = OWN if own else "#64748b" if name == "Random" else OTHER
        path = " ".join(f"{x(n):.1f},{y(value):.1f}" for n, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{2.5 if own else 1.5}"/>')
        parts += [f'<circle cx="{x(n):.1f}" cy="{y(value):.1f}" r="3" fill="{color}"/>' for n, value in points]
        last = points[-1]
        parts.append(_line(x(last[0]) + 4, y(last[1]), WIDTH - RIGHT + 12, height - 4, color, 0.5))
        parts.append(_text(WIDTH - RIGHT + 16, height, name, more=f' fill="{color}"'))
    return _page("Regret on HW-GPT-Bench (H100), smaller is better; orange: nas_bo", "\n".join(parts))


def agreement() -> str:
    """Kendall's tau of estimates with full training, overall and with size removed, with 95 % intervals."""
    data: dict[str, Any] = figures.find(figures.read("fidelity.json"), "estimates")
    rows = (
        ("second seed", "a second seed: the ceiling"), ("quick(cost=0.25)", "quick(cost=0.25)"), ("quick(cost=0.1)", "quick(cost=0.1)"),
        ("shared weights", "shared weights"), ("Naswot", "Naswot, untrained"), ("parameters", "parameter count"),
        ("prefix 10%", "plain prefix of 10 %"), ("MarkovSource task", "synthetic task"), ("Synflow", "Synflow, untrained"),
    )  # fmt: skip
    left, right, step = 210, 730, 30
    height = TOP + step * len(rows) + 70

    def x(tau: float) -> float:
        return left + (right - left) * tau

    parts = []
    for i in range(0, 11, 2):
        parts += [_line(x(i / 10), TOP - 8, x(i / 10), height - 66), _text(x(i / 10), height - 48, f"{i / 10:.1f}", "middle")]
    for i, (key, name) in enumerate(rows):
        y = TOP + 10 + step * i
        parts.append(_text(left - 14, y + 6, name, "end"))
        for field, color, shift in (("tau", OWN, -3), ("tau_size_removed", OTHER, 7)):
            value, low, high = data[key].get(field) or (None, None, None)
            if value is not None and math.isfinite(value):
                parts.append(_line(x(max(low, 0)), y + shift, x(high), y + shift, color, 2))
                parts.append(f'<circle cx="{x(value):.1f}" cy="{y + shift:.1f}" r="4" fill="{color}"/>')
    parts.append(_text(left, height - 18, "overall", more=f' fill="{OWN}"') + _text(left + 70, height - 18, "with size removed", more=f' fill="{OTHER}"'))
    return _page("Kendall's tau with full training, 95 % intervals", "\n".join(parts), height)


PICTURES: dict[str, Callable[[], str]] = {"regret.svg": regret, "agreement.svg": agreement}
