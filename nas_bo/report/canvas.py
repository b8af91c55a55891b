"""Figures of the report: made, laid out and written as PNG, with as little work as pictures for every search may take."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

GAP = 4.0  # points, at the edges and between panels


def canvas_of(wide: float, high: float, dpi: int, *, layout: Literal["constrained"] | None = None) -> FigureCanvasAgg:
    """An empty figure of `wide` x `high` inches; `layout` is matplotlib's engine, for figures with colour bars."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    return FigureCanvasAgg(Figure(figsize=(wide, high), dpi=dpi, layout=layout, facecolor="white"))


def lay_out(canvas: FigureCanvasAgg, title: Text | None = None) -> None:
    """Axes between the figure's title and its legends, at equal distances: what takes room is measured once.

    The engines of matplotlib measure all of it twice. Where there is no room at all, nothing is moved.
    """
    figure, renderer = canvas.figure, canvas.get_renderer()
    wide, high, gap = figure.bbox.width, figure.bbox.height, GAP / 72 * figure.dpi
    left = right = low = top = 0.0
    rows = columns = 1
    for axes in figure.axes:
        if not axes.get_title() and not axes.get_title("left"):
            axes.set_title("", y=1.0)  # it need not look for a place above ticks
        around, inside = axes.get_tightbbox(renderer, for_layout_only=True), axes.bbox
        if around is not None:
            left, right = max(left, inside.x0 - around.x0), max(right, around.x1 - inside.x1)
            low, top = max(low, inside.y0 - around.y0), max(top, around.y1 - inside.y1)
        place = axes.get_subplotspec()
        if place is not None:
            rows, columns = place.get_gridspec().get_geometry()
    above = gap if title is None else high - title.get_window_extent(renderer).y0 + gap
    below = gap + max((legend.get_window_extent(renderer).height + gap for legend in figure.legends), default=0.0)
    across, down = left + right + gap, low + top + gap  # from one panel to the next
    one_wide = (wide - gap - columns * across) / columns
    one_high = (high - above - below - low - top - (rows - 1) * down) / rows
    if one_wide > 0 and one_high > 0:
        figure.subplots_adjust(
            left=(gap + left) / wide, right=1 - (gap + right) / wide, bottom=(below + low) / high, top=1 - (above + top) / high,
            wspace=across / one_wide, hspace=down / one_high,
        )  # fmt: skip


def plain_ticks(axis: Axis, said: Callable[[float], str]) -> None:
    """Numbers, not powers of ten, at 1, 2 and 5 of a log scale."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda v, _pos: said(v)))
    axis.set_minor_formatter(NullFormatter())


def png(canvas: FigureCanvasAgg) -> bytes:
    """What is drawn, as PNG."""
    with io.BytesIO() as buffer:
        canvas.print_png(buffer)
        return buffer.getvalue()
