"""Architectures as inputs of a surrogate: summaries of their layers, and the masked encoding of the space.

A list of layers has many decisions and few trials to learn them from. Its summaries carry most of the effect: for every
kind of per-layer decision the mean over the layers of its level, of its curvature (so that 4 -> 8 -> 12 heads may help
much first and little later) and of every unordered option, how these differ from the first layers to the last (the
first two terms of a cosine series over depth), and how often the decision is there at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.space import Space
from nas_bo.space.neighbours import pattern
from nas_bo.surrogate.genomes import Genomes, genomes_of


class Features:
    """The input columns of a space: `width` summaries first, then the masked encoding.

    Attributes:
        names: the column names.
        width: the number of summary columns.
    """

    def __init__(self, space: type[Space]) -> None:
        self.genomes: Genomes = genomes_of(space)
        paths = self.genomes.paths
        groups: dict[str, list[int]] = {}
        for i, path in enumerate(paths):
            groups.setdefault(pattern(path), []).append(i)
        self._top = [rows[0] for name, rows in groups.items() if name == paths[rows[0]]]
        self._lists = [(name, np.array(rows)) for name, rows in groups.items() if name != paths[rows[0]]]
        outer = [re.search(r"\.(\d+)\.", path) for path in paths]
        self._place = np.array([int(m[1]) if m else 0 for m in outer], dtype=float)
        self.names = [label for i in self._top for label in self._labels(i, paths[i])]
        for name, rows in self._lists:
            labels = self._labels(int(rows[0]), name)
            self.names += [f"mean of {label}" for label in labels]
            self.names += [f"curvature of {name}"] * self._curved(int(rows[0]))
            self.names += [f"trend of {label}" for label in labels] + [f"share of {name}"]
        self.width = len(self.names)
        self.names += [label for i, path in enumerate(paths) for label in self._labels(i, path)]

    def _hot(self, i: int) -> bool:
        return bool(self.genomes.size[i] > 2 and not self.genomes.ordered[i])

    def _curved(self, i: int) -> bool:
        return bool(self.genomes.ordered[i] and self.genomes.size[i] != 2)

    def _labels(self, i: int, name: str) -> list[str]:
        return [f"{name}={value}" for value in self.genomes.domains[i].values] if self._hot(i) else [name]

    def __call__(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, columns) of architectures; see `of`."""
        return self.of(self.genomes.encode(archs))

    def of(self, genomes: np.ndarray) -> np.ndarray:
        """(n, columns) of genomes (n, genes). Levels of active decisions lie in [-1, 1], those of options are 0 or 1;
        what is not active is 0, the middle."""
        active = genomes >= 0
        level = np.where(active, 2 * self.genomes.positions(genomes) - 1, 0.0)
        found = [self._values(i, genomes, level) for i in self._top]
        for _, rows in self._lists:
            inside = active[:, rows]
            number = np.maximum(1, inside.sum(1))[:, None]
            records = np.where(active, self._place, -1.0)[:, rows].max(1, initial=-1.0) + 1
            wave = np.where(inside, np.cos(np.pi * (self._place[rows] + 0.5) / np.maximum(records, 1)[:, None]), 0.0)
            if self._hot(int(rows[0])):
                options = np.arange(self.genomes.size[rows[0]])
                values = (genomes[:, rows, None] == options).astype(float)  # (n, layers, options)
                found += [values.sum(1) / number, 2 * np.einsum("nlk,nl->nk", values, wave) / number]
            else:
                values = level[:, rows]
                found.append(values.sum(1, keepdims=True) / number)
                if self._curved(int(rows[0])):
                    found.append(np.where(inside, 1.5 * values**2 - 0.5, 0.0).sum(1, keepdims=True) / number)
                found.append(2 * (values * wave).sum(1, keepdims=True) / number)
            found.append(inside.mean(1, keepdims=True))
        found += [self._values(i, genomes, level) for i in range(len(self.genomes.paths))]
        return np.concatenate(found, axis=1)

    def _values(self, i: int, genomes: np.ndarray, level: np.ndarray) -> np.ndarray:
        if self._hot(i):
            return np.asarray((genomes[:, i, None] == np.arange(self.genomes.size[i])).astype(float))
        return level[:, i, None]


def features_of(space: type[Space]) -> Features:
    """The `Features` of a space, made once and kept by the space."""
    if "features" not in space._cache:
        space._cache["features"] = Features(space)
    found: Features = space._cache["features"]
    return found


def varying(columns: np.ndarray) -> np.ndarray:
    """Which columns of (n, columns) say something: neither constant nor a copy of an earlier one, (columns,) bool."""
    keep = np.ptp(columns, axis=0) > 1e-9
    first: dict[bytes, int] = {}
    for i in np.flatnonzero(keep):
        scaled = (columns[:, i] - columns[:, i].min()) / np.ptp(columns[:, i])
        if first.setdefault(np.round(scaled, 9).tobytes(), int(i)) != i:
            keep[i] = False
    return np.asarray(keep)
