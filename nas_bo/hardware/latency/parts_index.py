"""The parts of models as row numbers, so that thousands of answers are one sum over a small table."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from nas_bo.hardware.workload import Part, Setting, Work, around, as_timed, parts, specified, works
from nas_bo.model.counts import Arch


class PartsIndex:
    """Numbers distinct parts from 1 on, in the order in which they are met; 0 is the empty part, which pads.

    A search asks for the same layers again and again: plain keys and one look-up per layer are the whole cost.

    Args:
        timed: for models of measured times, which know weights and caches in the data type only: fewer bits do not count.
    """

    def __init__(self, setting: Setting, timed: bool = False) -> None:
        self.setting, self._timed = setting, timed
        self._index: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._index)

    def rows(self, architectures: Sequence[Arch], learn: Callable[[Part], None]) -> np.ndarray:
        """(n, longest) numbers of the parts of each architecture; `learn` gets every new part before its number is
        used, and may refuse it by raising."""
        index, setting = self._index, self.setting
        rows = []
        for arch in architectures:
            spec = as_timed(arch, setting) if self._timed else specified(arch, setting)
            frame = around(spec)
            row = [index.get((layer, frame), -1) for layer in (None, *spec.layers)]
            if -1 in row or spec.details.long_skips or spec.after is not None:
                row = [self._number((part.layer, part[1:]), part, learn) for part in parts(spec)]
            rows.append(row)
        longest = max(map(len, rows), default=0)
        return np.array([row + [0] * (longest - len(row)) for row in rows], dtype=int).reshape(len(rows), longest)

    def _number(self, key: Hashable, part: Part, learn: Callable[[Part], None]) -> int:
        if key not in self._index:
            learn(part)
            self._index[key] = len(self._index) + 1
        return self._index[key]


class PartsTable:
    """Rows of numbers, one for each distinct part, and their sums over the parts of models.

    Args:
        row: the (columns,) numbers of a part, asked for once; it may refuse the part by raising.
        timed: as of `PartsIndex`.
    """

    def __init__(
        self, setting: Setting, columns: int, row: Callable[[Part], Sequence[float] | np.ndarray], timed: bool = False
    ) -> None:
        self._index, self._row = PartsIndex(setting, timed), row
        self._table = np.zeros((1, columns))

    def sums(self, architectures: Sequence[Arch]) -> np.ndarray:
        """(n, columns)."""
        rows = self._index.rows(architectures, self._learn)
        found: np.ndarray = self._table[rows].sum(1)
        return found

    def _learn(self, part: Part) -> None:
        self._table = np.vstack([self._table, self._row(part)])


def occurrences(architectures: Sequence[Arch], setting: Setting) -> tuple[list[Work], np.ndarray]:
    """The distinct operations of architectures as they are timed, and how often each has each: (n, operations)."""
    index: dict[Work, int] = {}
    rows: list[dict[int, int]] = []
    for arch in architectures:
        row: dict[int, int] = {}
        for part in parts(as_timed(arch, setting)):
            for work in works(part, setting):
                at = index.setdefault(work, len(index))
                row[at] = row.get(at, 0) + 1
        rows.append(row)
    often = np.zeros((len(rows), len(index)))
    for i, row in enumerate(rows):
        often[i, list(row)] = list(row.values())
    return list(index), often
