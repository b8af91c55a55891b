"""Architectures as inputs of a surrogate: summaries of their layers, and the masked encoding of the space.

A list of layers has many decisions and few trials to learn them from. Its summaries carry most of the effect: for every
kind of per-layer decision the mean over the layers of its level, of its curvature (so that 4 -> 8 -> 12 heads may help
much first and little later) and of every unordered option, how these differ from the first layers to the last (the
first two terms of a cosine series over depth), and how often the decision is there at all.

Decisions outside lists may be alike as well, and are recognised by their domains: three or more that choose without order among the
same values have the share of every value as summaries, and decisions that are never active together (those of different options
of one choice) of equal domains and last names are one summary. Whether each of them also matters for itself is for the
surrogate to find out (`ties`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.space import Space
from nas_bo.space.domain import Choice
from nas_bo.space.neighbours import pattern
from nas_bo.surrogate.genomes import Genomes, genomes_of

MOST_TIED = 12  # decisions, and values, that have length scales of their own
ALIKE = 3  # unordered decisions of equal domains from which on they are summarised


class Features:
    """The input columns of a space: `width` summaries first, then the masked encoding.

    Attributes:
        names: the column names.
        width: the number of summary columns.
        ties: (columns, p), which columns may have longer or shorter length scales together: those of one decision, and those of
            one value, where `ALIKE` to `MOST_TIED` decisions choose without order among the same values. p may be 0.
    """

    def __init__(self, space: type[Space]) -> None:
        self.genomes: Genomes = genomes_of(space)
        paths = self.genomes.paths
        groups: dict[str, list[int]] = {}
        for i, path in enumerate(paths):
            groups.setdefault(pattern(path), []).append(i)
        top = [rows[0] for name, rows in groups.items() if name == paths[rows[0]]]
        self._shared = self._of_equal_values(top)
        self._twins = self._exclusive(top)
        together = [i for rows in (*self._shared, *self._twins) for i in rows.tolist()]
        self._top = [i for i in top if i not in together]
        self._lists = [(name, np.array(rows)) for name, rows in groups.items() if name != paths[rows[0]]]
        outer = [re.search(r"\.(\d+)\.", path) for path in paths]
        self._place = np.array([int(m[1]) if m else 0 for m in outer], dtype=float)
        self.names = [label for i in self._top for label in self._labels(i, paths[i])]
        for name, rows in self._lists:
            labels = self._labels(int(rows[0]), name)
            self.names += [f"mean of {label}" for label in labels]
            self.names += [f"curvature of {name}"] * self._curved(int(rows[0]))
            self.names += [f"trend of {label}" for label in labels] + [f"share of {name}"]
        for rows in self._shared:
            of = "|".join(paths[i] for i in rows)
            self.names += [f"share of {label}" for label in self._labels(int(rows[0]), of)]
        for rows in self._twins:
            self.names += self._labels(int(rows[0]), "|".join(paths[i] for i in rows))
        self.width = len(self.names)
        self.names += [label for i, path in enumerate(paths) for label in self._labels(i, path)]
        self.ties = self._tied([*self._shared, *(rows for _, rows in self._lists if self._hot(int(rows[0])))])

    def _of_equal_values(self, top: Sequence[int]) -> list[np.ndarray]:
        """Unordered decisions of the same values, `ALIKE` of them or more."""
        found: dict[str, list[int]] = {}
        for i in top:
            domain = self.genomes.domains[i]
            if self._hot(i) and not (isinstance(domain, Choice) and domain.options):
                found.setdefault(repr(domain.values), []).append(i)
        return [np.array(rows) for rows in found.values() if len(rows) >= ALIKE]

    def _tied(self, groups: Sequence[np.ndarray]) -> np.ndarray:
        of = [(i, k) for i, path in enumerate(self.genomes.paths) for k in range(len(self._labels(i, path)))]
        found = []
        for rows in groups:
            size = int(self.genomes.size[rows[0]])
            if ALIKE <= len(rows) <= MOST_TIED and size <= MOST_TIED:
                found += [[float(i == row) for i, _ in of] for row in rows]
                found += [[float(i in rows and k == option) for i, k in of] for option in range(size)]
        encoding = np.array(found).reshape(-1, len(of)).T
        return np.concatenate([np.zeros((self.width, encoding.shape[1])), encoding])

    def _exclusive(self, top: Sequence[int]) -> list[np.ndarray]:
        """Decisions of equal domains and last names in different options of one choice."""
        slots = list(self.genomes.space.decisions().values())
        found: dict[tuple[str | None, str, str], dict[str, int]] = {}
        for i in top:
            slot = slots[i]
            if slot.value is not None and not any(i in rows for rows in self._shared):
                key = slot.parent, slot.path.rpartition(".")[2], repr(slot.domain)
                found.setdefault(key, {}).setdefault(slot.value, i)
        return [np.array(list(rows.values())) for rows in found.values() if len(rows) > 1]

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
        for rows in self._shared:
            options = np.arange(self.genomes.size[rows[0]])
            number = np.maximum(1, active[:, rows].sum(1))[:, None]
            found.append((genomes[:, rows, None] == options).sum(1) / number)
        for rows in self._twins:  # at most one of them is active; what is not is 0
            found.append(np.sum([self._values(i, genomes, level) for i in rows], axis=0))
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
    span = np.ptp(columns, axis=0)
    keep = span > 1e-9
    if not keep.any():
        return np.asarray(keep)
    scaled = np.round((columns[:, keep] - columns[:, keep].min(0)) / span[keep], 9).T
    first: dict[bytes, int] = {}
    for i, row in zip(np.flatnonzero(keep), scaled, strict=True):
        if first.setdefault(row.tobytes(), int(i)) != i:
            keep[i] = False
    return np.asarray(keep)
