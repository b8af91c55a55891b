"""How often parameters of finished trials were there together: all that their structure is learned from.

A study grows and its structure is learned again after every trial, so nothing here keeps or reads the trials themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas_bo.optuna.coding import Coding

MOST_COUNTED = 512  # different values of a parameter; with more of them nothing is taken to depend on it


@dataclass(frozen=True)
class Table:
    """What finished trials, or their records, had.

    Attributes:
        names: of the parameters, (columns,), in the order in which they were first asked for.
        codings: theirs (columns,).
        rows: number of trials or records.
        there: in how many of them each parameter was (columns,).
        values: by column, the values it had as Optuna's internal numbers (values,), and for each of these in how many rows with
            it each parameter was (values, columns), possibly in parts; for parameters of few values.
    """

    names: tuple[str, ...]
    codings: tuple[Coding, ...]
    rows: int
    there: np.ndarray
    values: Mapping[int, tuple[np.ndarray, np.ndarray]]
    _by_place: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def by_place(self, column: int) -> np.ndarray:
        """For each value of the (finite) domain of `column` in how many rows each parameter was (size, columns)."""
        if column not in self._by_place:
            size = self.codings[column].domain.size
            assert size is not None
            found = self._by_place[column] = np.zeros((size, len(self.names)), dtype=int)
            if column in self.values:
                internal, there = self.values[column]
                np.add.at(found, self.codings[column].codes(internal), there)
        return self._by_place[column]

    def pooled(
        self, names: Sequence[str], codings: Sequence[Coding], columns: Sequence[Mapping[int, int]], rows: int
    ) -> Table:
        """The table of `rows` records: `columns` holds, for each of `names`, the columns of this table by the index of the record."""
        there = np.array([self.there[list(c.values())].sum() for c in columns], dtype=int)
        places = {index: [k for k, c in enumerate(columns) if index in c] for c in columns for index in c}
        inside = {index: (here, [columns[k][index] for k in here]) for index, here in places.items()}
        values = {}
        for place, (code, column) in enumerate(zip(codings, columns, strict=True)):
            if _few(code) and all(gate in self.values for gate in column.values()):
                internal = [self.values[gate][0] for gate in column.values()]
                found = np.zeros((sum(map(len, internal)), len(columns)), dtype=int)
                start = 0
                for index, gate in column.items():
                    here, others = inside[index]
                    counted = self.values[gate][1]
                    found[start : start + len(counted), here] = counted[:, others]
                    start += len(counted)
                values[place] = np.concatenate(internal), found
        return Table(tuple(names), tuple(codings), rows, there, values)


class Tally:
    """Counts of what finished trials had, to which a trial is added at a time."""

    def __init__(self) -> None:
        self.rows = 0
        self._columns: dict[str, int] = {}
        self._there = np.zeros(32, dtype=int)
        self._values: list[
            dict[float, np.ndarray] | None
        ] = []  # by column and value as `_there`; None: too many to count

    def add(self, values: Mapping[str, float]) -> None:
        """A trial with Optuna's internal numbers by name; NaN: not there."""
        self.rows += 1
        given = {name: value for name, value in values.items() if not math.isnan(value)}
        columns = [self._columns.setdefault(name, len(self._columns)) for name in given]
        self._values += [{} for _ in range(len(self._columns) - len(self._values))]
        while len(self._columns) > len(self._there):
            self._there = _widened(self._there, 2 * len(self._there))
        self._there[columns] += 1
        for column, value in zip(columns, given.values(), strict=True):
            counted = self._values[column]
            if counted is not None:
                row = counted[value] = _widened(counted.get(value), len(self._there))
                row[columns] += 1
                if len(counted) > MOST_COUNTED:
                    self._values[column] = None

    def table(self, codings: Mapping[str, Coding]) -> Table:
        """The table of these parameters, of which some may never have been there."""
        names = tuple(codings)
        known = [place for place, name in enumerate(names) if name in self._columns]
        columns = [self._columns[names[place]] for place in known]
        there = np.zeros(len(names), dtype=int)
        there[known] = self._there[columns]
        values = {}
        for place, column in zip(known, columns, strict=True):
            counted = self._values[column]
            if counted is not None and _few(codings[names[place]]):
                found = np.zeros((len(counted), len(names)), dtype=int)
                found[:, known] = np.stack([_widened(row, len(self._there)) for row in counted.values()])[:, columns]
                values[place] = np.array(list(counted), dtype=float), found
        return Table(names, tuple(codings.values()), self.rows, there, values)


def _few(code: Coding) -> bool:
    return code.domain.size is not None and code.domain.size <= MOST_COUNTED


def _widened(row: np.ndarray | None, width: int) -> np.ndarray:
    if row is not None and len(row) == width:
        return row
    wide = np.zeros(width, dtype=int)
    if row is not None:
        wide[: len(row)] = row
    return wide
