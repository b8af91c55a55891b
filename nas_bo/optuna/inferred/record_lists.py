"""Lists of records among parameters whose names have numbers in them (see `nas_bo.optuna.inferred.conditions`)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.optuna.coding import Coding, coding, cover
from nas_bo.optuna.inferred.branches import values_with
from nas_bo.optuna.inferred.tables import Table

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
    rows: int  # records of all trials together
    families: list[Family]

    def pooled(self, table: Table, families: Sequence[Family]) -> Table:
        """A table with one row for each record of each row of `table`."""
        columns = [
            {index: column for index, column in f.columns.items() if 0 <= index - self.first < self.most}
            for f in families
        ]
        return table.pooled([f.stem for f in families], [f.coding for f in families], columns, self.rows)


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


def find_lists(table: Table, given: Collection[str], depth: int) -> Iterator[Records]:
    families = {f.stem: f for f in _families(table, given, depth)}
    in_family = {c for f in families.values() for c in f.columns.values()}
    found: list[Records] = []
    counts = {c: n for c in range(len(table.names)) if c not in in_family and (n := _numbers(table, c)) is not None}
    while True:  # the parameter that counts most goes first: two may agree by chance while there are few trials
        counted = {c: [f for f in families.values() if _counted_by(f, table, c, n)] for c, n in counts.items()}
        best = max(counted, key=lambda c: (sum(len(f.columns) for f in counted[c]), -c), default=None)
        if best is None or not counted[best]:
            break
        rows = int(table.by_place(best)[:, best] @ counts[best])
        for first in sorted({f.first for f in counted[best]}):
            same = [f for f in counted[best] if f.first == first]
            found.append(Records(best, first, int(counts[best].max()), rows, same))
        families = {stem: f for stem, f in families.items() if f not in counted[best]}
    always = [f for f in families.values() if f.gapless and (table.there[list(f.columns.values())] == table.rows).all()]
    for first, most in sorted({(f.first, len(f.columns)) for f in always}):
        same = [f for f in always if (f.first, len(f.columns)) == (first, most)]
        if most >= CONSTANT_LIST:
            found.append(Records(None, first, most, most * table.rows, same))
            families = {stem: f for stem, f in families.items() if f not in same}
    for records in found:
        _adopt(records, families, table)
    yield from found


def _numbers(table: Table, c: int) -> np.ndarray | None:
    """The values (size,) of a parameter that may count records; None for any other."""
    code = table.codings[c]
    size = code.domain.size
    if code.by_index or size is None or size > MOST_RECORDS:
        return None
    values = list(code.domain.values)
    return np.array(values) if all(type(v) is int and 0 <= v <= MOST_RECORDS for v in values) else None


def _counted_by(family: Family, table: Table, count: int, numbers: np.ndarray) -> bool:
    """Whether there were always exactly the first members of the family, as many as `count` said and none without it."""
    if not family.gapless:
        return False
    members = [family.columns[i] for i in sorted(family.columns)]
    counted = table.by_place(count)
    total, there = counted[:, count], counted[:, members]
    asked = np.arange(len(members)) < numbers[:, None]
    return bool(
        (numbers[total > 0] <= len(members)).all()
        and (there == asked * total[:, None]).all()
        and (there.sum(0) == table.there[members]).all()
    )


def _adopt(records: Records, families: dict[str, Family], table: Table) -> None:
    """Move into `records` the families that exist in some records only, by the value of something in the record."""
    able = [family for family in families.values() if not _outside(records, family, table)]
    if not able:
        return
    pooled = records.pooled(table, [*records.families, *able])
    inside, waiting = list(range(len(records.families))), list(range(len(records.families), len(pooled.names)))
    while waiting:
        depends = [[values is not None for values in values_with(pooled, gate, waiting)] for gate in inside]
        inside = [c for c, any_gate in zip(waiting, zip(*depends, strict=True), strict=True) if any(any_gate)]
        if not inside:
            return
        records.families.extend(families.pop(pooled.names[c]) for c in inside)
        waiting = [c for c in waiting if c not in inside]


def _outside(records: Records, family: Family, table: Table) -> bool:
    """Whether a member of `family` was ever there where its record was not."""
    if any(table.there[c] and not 0 <= index - records.first < records.most for index, c in family.columns.items()):
        return True
    if min(family.columns) < records.first:
        return True
    if records.count is None:
        return False
    numbers = _numbers(table, records.count)
    assert numbers is not None
    counted = table.by_place(records.count)
    return any(
        counted[numbers > index - records.first, c].sum() < table.there[c] for index, c in family.columns.items()
    )
