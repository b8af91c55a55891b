"""Fronts as numbers: ranks and crowding (Deb et al., 2002, IEEE TEC 6(2)), hypervolume (Zitzler and Thiele, 1999).

Everything is minimised. Notation: points (n, m), n of them with m objectives.
"""

from __future__ import annotations

import numpy as np

from nas_bo.errors import SearchError
from nas_bo.trial import non_dominated
from nas_bo.wording import counted

MARGIN = 0.1  # of the front's range: how far the reference point lies beyond its worst values


def ranks(points: np.ndarray, until: int | None = None) -> np.ndarray:
    """The non-dominated rank of every point, (n,) int: 0 for the front, 1 for the front of the rest, and so on.

    Equal points have equal ranks; points with a NaN come last, together.

    Args:
        until: stop when that many points are ranked; all others get the next rank. The cost is then that of the
            first fronts only.
    """
    # not moocore.pareto_rank, which (0.3.2) crashes on infinite values of three objectives or more
    points = np.asarray(points, dtype=float)
    found = np.full(len(points), -1)
    left = np.flatnonzero(~np.isnan(points).any(1)) if len(points) else np.arange(0)
    left = left[np.lexsort(points[left].T[::-1])]  # dominating points first: `non_dominated` then discards most at once
    rank, done, wanted = 0, 0, len(points) if until is None else until
    while len(left) and done < wanted:
        best = non_dominated(points[left])
        found[left[best]] = rank
        done += int(best.sum())
        left, rank = left[~best], rank + 1
    found[found < 0] = rank
    return found


def crowding(points: np.ndarray) -> np.ndarray:
    """The crowding distance of every point of one front, (n,): the larger, the lonelier; infinite at its ends."""
    points = np.asarray(points, dtype=float)
    found = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        low, high = values[order[0]], values[order[-1]]
        if not high > low:
            continue
        found[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / (high - low)
        found[[order[0], order[-1]]] = np.inf
    return found


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """The volume that the points (n, m) dominate, bounded by `reference` (m,); points beyond it count nothing.

    Raises:
        SearchError: the numbers of objectives differ.
    """
    points, reference = np.asarray(points, dtype=float), np.asarray(reference, dtype=float)
    if points.ndim != 2 or points.shape[1] != reference.size:
        raise SearchError(
            f"hypervolume: points of shape {points.shape} do not fit a reference point of {counted(reference.size, 'number')}"
        )
    inside = points[(points < reference).all(1)]
    if not len(inside):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - inside.min())
    if points.shape[1] == 2:
        return _area(inside, reference)
    import moocore

    return float(moocore.hypervolume(inside, ref=reference))


def _area(points: np.ndarray, reference: np.ndarray) -> float:
    points = points[np.lexsort(points.T[::-1])]
    best = np.minimum.accumulate(points[:, 1])
    widths = np.diff(np.append(points[:, 0], reference[0]))
    return float((widths * (reference[1] - best)).sum())


def reference_point(points: np.ndarray) -> np.ndarray:
    """A reference point (m,) for a set of points (n, m): the worst of the front, and `MARGIN` of its range more.

    Where the front has no range in an objective, that of all points is used, and where there is none either, the
    size of the value.

    Raises:
        SearchError: there is no point.
    """
    points = np.asarray(points, dtype=float)
    if points.ndim != 2 or not len(points):
        raise SearchError("a reference point needs at least one point, an array of shape (n, objectives)")
    best = points[non_dominated(points)]
    worst, span = best.max(0), np.ptp(best, axis=0)
    span = np.where(span > 0, span, np.ptp(points, axis=0))
    span = np.where(span > 0, span, np.abs(worst))
    return np.asarray(worst + MARGIN * np.where(span > 0, span, 1.0))
