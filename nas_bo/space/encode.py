"""Architectures as numbers: a fixed-width matrix with a mask of what is active, for Gaussian processes and the like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.space.domain import Choice

if TYPE_CHECKING:
    from nas_bo.space.space import Space


class Encoding:
    """The columns of a space.

    An ordered decision is one column, its position in [0, 1]; an unordered one among two values also, among more
    it is one column per value (one-hot). Decisions of records that do not exist are inactive: value 0, mask False.

    Attributes:
        columns: the column names, ``layers.0.width`` or ``layers.0.mixer=conv``.
        groups: path -> slice of its columns.
    """

    def __init__(self, space: type[Space]) -> None:
        self.columns: list[str] = []
        self.groups: dict[str, slice] = {}
        for path, domain in space.domains().items():
            start = len(self.columns)
            if isinstance(domain, Choice) and not domain.ordered and len(domain.values) > 2:
                self.columns += [f"{path}={value}" for value in domain.values]
            else:
                self.columns.append(path)
            self.groups[path] = slice(start, len(self.columns))
        self._domains = space.domains()

    def encode(self, archs: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        """Values (n, columns) float64 in [0, 1] and the mask of active columns (n, columns) bool."""
        values = np.zeros((len(archs), len(self.columns)))
        active = np.zeros((len(archs), len(self.columns)), dtype=bool)
        for row, arch in enumerate(archs):
            for path, value in arch.flat.items():
                group, domain = self.groups[path], self._domains[path]
                active[row, group] = True
                if group.stop - group.start > 1:
                    values[row, group.start + domain.index(value)] = 1.0  # type: ignore[union-attr]
                else:
                    values[row, group.start] = domain.position(value)
        return values, active
