"""Names of points in a picture: each as near to its point as it can be without covering what is drawn there.

Call it when the axes have their final size, since a name has its size in points and what it must not cover lies where the axes say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg

Boxes = np.ndarray
"""[n, 4]: left, low, right and top of boxes, in pixels."""

NEAR, FAR, REACH = (
    4.0,
    20.0,
    200.0,
)  # points between a name and its point: at least, without a line between them, at most
STEP = 6.0  # points between places that are tried
ROUND = 256  # places that are looked at together
MARK, DOT, BEYOND = 100.0, 1.0, 1000.0  # what it costs to cover a mark, or a trial as any other; to leave the axes
PER_COST = 12.0  # points that a name goes farther rather than cover one trial
ABOVE = 4  # from this zorder on nothing may be covered


@dataclass(frozen=True)
class Callout:
    """What a point is called.

    Attributes:
        at: the point, in data.
        colour: of the letters and of the line to the point.
        edge: of a frame; "" has none, and the name is in small letters.
    """

    text: str
    at: tuple[float, float]
    colour: str
    edge: str = ""


def call_out(axes: Axes, names: Sequence[Callout], renderer: RendererAgg) -> None:
    """Write `names` next to their points, in this order."""
    from matplotlib.text import Text

    scale = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    window = axes.get_window_extent(renderer)
    inside = np.array([window.x0, window.y0, window.x1, window.y1])
    marks, costs = _marks(axes, renderer, scale)
    for name in names:
        size, pad = (9, 0.3) if name.edge else (8, 0.15)
        frame: dict[str, object] = {"boxstyle": f"round,pad={pad}", "facecolor": "white", "linewidth": 0, "alpha": 0.75}
        if name.edge:
            frame |= {"edgecolor": name.edge, "linewidth": 0.8, "alpha": 0.92}
        written = axes.annotate(
            name.text, name.at, xytext=(0, 0), textcoords="offset points", ha="left", va="bottom", fontsize=size,
            color=name.colour, zorder=9 if name.edge else 8.5, bbox=frame,
            arrowprops={"arrowstyle": "-", "color": name.edge or name.colour, "linewidth": 0.8},
        )  # fmt: skip
        frame_px = pad * size * scale
        extent = Text.get_window_extent(written, renderer)  # without the line to the point
        wide, high = extent.width + 2 * frame_px, extent.height + 2 * frame_px
        point = axes.transData.transform(name.at)
        best = _place(point, (wide, high), inside, marks, costs, scale)
        written.xyann = tuple((best[:2] + frame_px - point) / scale)
        if written.arrow_patch is not None and not (name.edge or _gap(point, best[None])[0] > FAR * scale):
            written.arrow_patch.set_visible(False)
        marks, costs = np.vstack([marks, best]), np.append(costs, MARK)


def _place(
    point: np.ndarray, size: tuple[float, float], inside: np.ndarray, marks: Boxes, costs: np.ndarray, scale: float
) -> np.ndarray:
    """The box, around `point`, that costs the least."""
    best, least = np.array([*point, point[0] + size[0], point[1] + size[1]]), np.inf
    for boxes, away in _around(point, size, scale):
        if least <= away[0]:
            break
        beyond = (boxes[:, :2] < inside[:2]).any(1) | (boxes[:, 2:] > inside[2:]).any(1)
        hit = (boxes[:, None, :2] < marks[None, :, 2:]).all(2) & (marks[None, :, :2] < boxes[:, None, 2:]).all(2)
        cost = away + BEYOND * beyond + hit @ costs
        first = int(cost.argmin())
        if cost[first] < least:
            best, least = boxes[first], float(cost[first])
    return best


def _around(point: np.ndarray, size: tuple[float, float], scale: float) -> Iterator[tuple[Boxes, np.ndarray]]:
    """Boxes around a point and what their distance costs, the nearest first."""
    step, reach = STEP * scale, REACH * scale
    lefts = np.arange(-reach - size[0], reach + step, step)
    lows = np.arange(-reach - size[1], reach + step, step)
    corner = np.stack(np.meshgrid(lefts, lows), -1).reshape(-1, 2) + point
    boxes = np.hstack([corner, corner + size])
    gap = _gap(point, boxes)
    boxes, gap = boxes[gap >= NEAR * scale], gap[gap >= NEAR * scale]
    order = np.argsort(gap, kind="stable")
    for at in range(0, len(order), ROUND):
        some = order[at : at + ROUND]
        yield boxes[some], gap[some] / (PER_COST * scale)


def _gap(point: np.ndarray, boxes: Boxes) -> np.ndarray:
    """The distance from a point to each box, 0 within it."""
    beside = np.maximum(0, np.maximum(boxes[:, :2] - point, point - boxes[:, 2:]))
    return np.asarray(np.sqrt(np.square(beside).sum(1)))


def _marks(axes: Axes, renderer: RendererAgg, scale: float) -> tuple[Boxes, np.ndarray]:
    """What is drawn there as boxes, and what it costs to cover each."""
    from matplotlib.cbook import STEP_LOOKUP_MAP
    from matplotlib.collections import PathCollection

    boxes, costs = [np.empty((0, 4))], [np.empty(0)]

    def add(centres: np.ndarray, half: float, cost: float) -> None:
        boxes.append(np.hstack([centres - half, centres + half]))
        costs.append(np.full(len(centres), cost))

    for dots in axes.collections:
        if not isinstance(dots, PathCollection):
            continue
        centres = axes.transData.transform(np.asarray(dots.get_offsets(), dtype=float).reshape(-1, 2))
        half = np.sqrt(max(dots.get_sizes())) / 2 * scale + 1
        add(centres, half, MARK if dots.get_zorder() >= ABOVE else DOT)
    for line in axes.lines:
        ends = np.column_stack(STEP_LOOKUP_MAP[line.get_drawstyle()](*np.asarray(line.get_xydata()).T))
        add(_along(line.get_transform().transform(ends), 2 * scale), scale, MARK if line.get_zorder() >= ABOVE else 0.1)
    for text in axes.texts:
        at = text.get_window_extent(renderer)
        boxes.append(np.array([[at.x0, at.y0, at.x1, at.y1]]))
        costs.append(np.array([MARK]))
    return np.vstack(boxes), np.concatenate(costs)


def _along(ends: np.ndarray, step: float) -> np.ndarray:
    """Points on the line through `ends`, `step` pixels from each other."""
    if len(ends) < 2:
        return ends
    length = np.concatenate([[0], np.hypot(*np.diff(ends, axis=0).T).cumsum()])
    at = np.linspace(0, length[-1], max(2, int(length[-1] / step) + 1))
    return np.column_stack([np.interp(at, length, ends[:, i]) for i in (0, 1)])
