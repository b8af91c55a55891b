"""Architectures as inputs of a surrogate: the masked encoding of the space, and summaries of its lists.

A list of layers has many decisions and few trials to learn them from. Its summaries (the mean of every per-layer
decision, how it differs from the first layers to the last, how often an option occurs) carry most of the effect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.space import Space
from nas_bo.strategies.variation import pattern


class Features:
    """The input columns of a space: `width` summaries first, then the masked encoding.

    Attributes:
        names: the column names.
        width: the number of summary columns.
    """

    def __init__(self, space: type[Space]) -> None:
        self._encoding = space.encoding()
        columns = self._encoding.columns
        self._top = [i for i, name in enumerate(columns) if pattern(name) == name]
        groups: dict[str, list[int]] = {}
        for i, name in enumerate(columns):
            if pattern(name) != name:
                groups.setdefault(pattern(name), []).append(i)
        self._groups = {name: np.array(rows) for name, rows in groups.items()}
        place = [re.search(r"\.(\d+)\.", name) for name in columns]
        self._place = np.array([int(m[1]) if m else 0 for m in place], dtype=float)  # of the outermost list
        self.names = [columns[i] for i in self._top]
        self.names += [f"{stat} of {name}" for name in self._groups for stat in ("mean", "trend", "share")]
        self.width = len(self.names)
        self.names += columns

    def __call__(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, columns) float64. Active values lie in [-1, 1]; what is inactive is 0, the middle."""
        values, active = self._encoding.encode(archs)
        values = np.where(active, 2 * values - 1, 0.0)
        found = [values[:, self._top]]
        for rows in self._groups.values():
            inside, place = active[:, rows], self._place[rows]
            number = np.maximum(1, inside.sum(1))
            last = np.maximum(1.0, np.where(inside, place, 0.0).max(1))
            slope = np.where(inside, 2 * place / last[:, None] - 1, 0.0)
            mean = values[:, rows].sum(1) / number
            trend = ((values[:, rows] - mean[:, None]) * slope).sum(1) / number
            found.append(np.stack([mean, 2 * trend, inside.mean(1)], axis=1))
        return np.concatenate([*found, values], axis=1)


_made: WeakKeyDictionary[type[Space], Features] = WeakKeyDictionary()


def features_of(space: type[Space]) -> Features:
    """The `Features` of a space, made once."""
    if space not in _made:
        _made[space] = Features(space)
    return _made[space]


def varying(columns: np.ndarray) -> np.ndarray:
    """Which columns of (n, columns) say something: neither constant nor a copy of an earlier one, (columns,) bool."""
    keep = np.ptp(columns, axis=0) > 1e-9
    first: dict[bytes, int] = {}
    for i in np.flatnonzero(keep):
        scaled = (columns[:, i] - columns[:, i].min()) / np.ptp(columns[:, i])
        if first.setdefault(np.round(scaled, 9).tobytes(), int(i)) != i:
            keep[i] = False
    return np.asarray(keep)
