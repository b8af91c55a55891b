"""Lists of records among parameters whose names have numbers in them (see `nas_bo.optuna.inferred.conditions`)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nas_bo.optuna.coding import Coding, coding, cover
from nas_bo.optuna.inferred.branches import Table, values_with

MOST_RECORDS = 128  # values above which a parameter is not taken for a number of records
CONSTANT_LIST = 4  # from how many on the names x_0, x_1, ... that always exist are a list
MARKS = [chr(0xE000 + depth) for depth in range(8)]  # stand for the index in the names of records, by depth


@dataclass(frozen=True)
class Family:
    """Parameters whose names differ in one number."""

    stem: str
    columns: Mapping[int, int]  # index -> column
    coding: Coding

    @property
    def first(self) -> int:
        return min(self.columns)

    @property
    def gapless(self) -> bool:
        return max(self.columns) - self.first + 1 == len(self.columns)


@dataclass(frozen=True)
class Records:
    """Families that have their records in common; `count` is the column of their number, None where it is constant."""

    count: int | None
    first: int  # the lowest index
    most: int
    number: np.ndarray  # of records (rows,)
    families: list[Family]

    def pooled(self, values: np.ndarray, family: Family) -> np.ndarray:
        """The column of `family` in a table with one row for each record of each row of `values`."""
        most = int(self.number.max(initial=0))
        columns = np.full((len(values), most), np.nan)
        for j in range(most):
            if self.first + j in family.columns:
                columns[:, j] = values[:, family.columns[self.first + j]]
        return columns[np.arange(most) < self.number[:, None]]


def _families(table: Table, given: Collection[str], depth: int) -> Iterator[Family]:
    """Every name belongs to one family at most, by the leftmost number that makes it one of several."""
    if depth >= len(MARKS):
        return
    readings: list[list[tuple[str, int]]] = []
    groups: dict[str, dict[int, int]] = {}
    for c, name in enumerate(table.names):
        numbers = [] if name in given else [m for m in re.finditer("[0-9]+", name) if str(int(m[0])) == m[0]]
        readings.append([(name[: m.start()] + MARKS[depth] + name[m.end() :], int(m[0])) for m in numbers])
        for stem, index in readings[c]:
            groups.setdefault(stem, {})[index] = c
    members: dict[str, dict[int, int]] = {}
    for c, reading in enumerate(readings):
        for stem, index in reading:
            if len(groups[stem]) > 1:
                members.setdefault(stem, {})[index] = c
                break
    for stem, columns in members.items():
        dist = cover(table.codings[c].distribution for c in columns.values())
        code = None if dist is None else coding(dist)
        if code is not None:
            yield Family(stem, columns, code)


def find_lists(table: Table, active: np.ndarray, given: Collection[str], depth: int) -> Iterator[Records]:
    families = {f.stem: f for f in _families(table, given, depth)}
    in_family = {c for f in families.values() for c in f.columns.values()}
    found: list[Records] = []
    counts = {c: n for c in range(len(table.names)) if c not in in_family and (n := _number(table, c)) is not None}
    while True:  # the parameter that counts most goes first: two may agree by chance while there are few trials
        counted = {c: [f for f in families.values() if _counted_by(f, active, n)] for c, n in counts.items()}
        best = max(counted, key=lambda c: (sum(len(f.columns) for f in counted[c]), -c), default=None)
        if best is None or not counted[best]:
            break
        most = max(int(v) for v in table.codings[best].domain.values)  # type: ignore[arg-type]
        for first in sorted({f.first for f in counted[best]}):
            same = [f for f in counted[best] if f.first == first]
            found.append(Records(best, first, most, counts[best], same))
        families = {stem: f for stem, f in families.items() if f not in counted[best]}
    always = [f for f in families.values() if f.gapless and active[:, list(f.columns.values())].all()]
    for first, most in sorted({(f.first, len(f.columns)) for f in always}):
        same = [f for f in always if (f.first, len(f.columns)) == (first, most)]
        if most >= CONSTANT_LIST:
            found.append(Records(None, first, most, np.full(len(active), most), same))
            families = {stem: f for stem, f in families.items() if f not in same}
    for records in found:
        _adopt(records, families, table)
    yield from found


def _number(table: Table, c: int) -> np.ndarray | None:
    """The values of a parameter that may count records (rows,), 0 where it does not exist; None for any other."""
    code = table.codings[c]
    size = code.domain.size
    if code.by_index or size is None or size > MOST_RECORDS:
        return None
    values = list(code.domain.values)
    if not all(type(v) is int and 0 <= v <= MOST_RECORDS for v in values):
        return None
    places = code.codes(table.values[:, c])
    return np.where(places >= 0, np.array(values)[places], 0)


def _counted_by(family: Family, active: np.ndarray, number: np.ndarray) -> bool:
    """Whether there were always exactly the first `number` members of the family."""
    there = active[:, [family.columns[i] for i in sorted(family.columns)]]
    return (
        family.gapless
        and bool((there == (np.arange(there.shape[1]) < number[:, None])).all())
        and bool((there.sum(1) == number).all())
    )


def _adopt(records: Records, families: dict[str, Family], table: Table) -> None:
    """Move into `records` the families that exist in some records only, by the value of something in the record."""
    changed = True
    while changed:
        changed = False
        gates = [(f.coding, records.pooled(table.values, f)) for f in records.families]
        for stem, family in list(families.items()):
            column = records.pooled(table.values, family)
            there = ~np.isnan(column)
            whole = ~np.isnan(table.values[:, list(family.columns.values())])
            if there.sum() < whole.sum() or min(family.columns) < records.first:
                continue
            if any(values_with(code, gate, there[:, None])[0] is not None for code, gate in gates):
                records.families.append(families.pop(stem))
                changed = True
