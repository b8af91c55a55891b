"""Where in depth an architecture has what: the columns for spaces in which the place of a layer matters.

Means over layers (`nas_bo.surrogate.features`) cannot say that the first layer has no attention, or that the values of its heads
are narrow. Here the layers are aligned from the start, from the end, and by relative depth. Sizes are logarithms, so that a product of two
sizes is a sum: heads times width of a head, for two decisions of the same block, is a quantity of its own. A size of 0 counts as a block that
is not there.

Notation: n architectures, r records of a list. Of any space, since only its decisions are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.space import Space
from nas_bo.space.domain import Integer, Real
from nas_bo.surrogate.genomes import Genomes, genomes_of

FROM_START, FROM_END, PARTS = 6, 3, 3  # records from the start and from the end, parts of the depth
MOST_SIZES = 6  # of a block, whose products are looked at
ABSENT = -0.7  # how far below the smallest size that which is not there lies, as a logarithm: half of it
MOST_OPTIONS = 6  # of an unordered decision
OUTSIDE, COUNTS, MEANS, RANGES, FIRST, START, EARLY, LATE, PART = range(9)  # kinds of columns, in this order

Add = Callable[[int, str, np.ndarray], None]


class Profile:
    """The columns of a space, kind by kind.

    Attributes:
        names: the column names.
        ends: where each kind of columns ends: decisions outside lists; numbers of records; means and sums; least, largest and spread; the first record that
            has it; the first record; the next ones; the last ones; parts of the depth.
    """

    def __init__(self, space: type[Space]) -> None:
        self.genomes: Genomes = genomes_of(space)
        labels: list[tuple[int, str]] = []
        self._least = [_least(self.genomes, i) for i in range(len(self.genomes.paths))]
        self._columns(np.zeros((0, len(self.genomes.paths))), labels)
        kinds = np.array([kind for kind, _ in labels], dtype=int)
        self._order = np.argsort(kinds, kind="stable")
        self.names = [labels[i][1] for i in self._order]
        self.ends = tuple(np.cumsum(np.bincount(kinds, minlength=PART + 1)).tolist()) if len(kinds) else ()

    def __call__(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, columns) of architectures; see `of`."""
        return self.of(self.genomes.encode(archs))

    def of(self, genomes: np.ndarray) -> np.ndarray:
        """(n, columns) of genomes (n, genes)."""
        found = self._columns(genomes, [])
        return np.asarray(found[:, self._order])

    def _columns(self, genomes: np.ndarray, labels: list[tuple[int, str]]) -> np.ndarray:
        """(n, columns) in the order in which they are made; their kinds and names go to `labels`."""
        made: list[np.ndarray] = []

        def add(kind: int, name: str, column: np.ndarray) -> None:
            labels.append((kind, name))
            made.append(np.asarray(column, dtype=float))

        inside = {i for records in self.genomes.lists for i in records.genes.ravel().tolist()}
        counts = {records.count for records in self.genomes.lists}
        for i, name in enumerate(self.genomes.paths):
            if i not in inside and i not in counts and self.genomes.size[i] != 1:
                self._alone(add, i, name, genomes[:, i])
        for records in self.genomes.lists:
            length = np.maximum(records.length(genomes), 1)
            there = np.arange(len(records.genes)) < length[:, None]  # (n, r)
            if records.count is not None:
                add(COUNTS, f"log number of {self.genomes.paths[records.count]}", np.log(length))
            blocks: dict[str, list[tuple[str, np.ndarray, float]]] = {}
            for rows in records.genes.T:
                i = int(rows[0])
                name = self.genomes.paths[i]
                if self.genomes.size[i] == 1:
                    continue
                if self.genomes.ordered[i]:
                    size = _levels(self.genomes, i, genomes[:, rows])
                    low = self._least[i]
                    self._size(add, name, size, length, low, whole=True)
                    if self.genomes.size[i] != 2:
                        blocks.setdefault(name.rpartition(".")[0], []).append((name, size, low))
                elif self.genomes.size[i] <= MOST_OPTIONS:
                    for k, value in enumerate(self.genomes.domains[i].values):
                        here, option = (genomes[:, rows] == k) & there, f"{name}={value}"
                        add(MEANS, f"share of {option}", here.sum(1) / length)
                        add(MEANS, f"log number of {option}", np.log1p(here.sum(1)))
                        add(FIRST, f"first {option}", np.log1p(np.where(here.any(1), here.argmax(1), length)))
                        self._places(add, option, here.astype(float), there, length, 0.0)
            for alike in blocks.values():
                for (name, size, low), (other, factor, least) in combinations(alike[:MOST_SIZES], 2):
                    both = f"{name} * {other.rpartition('.')[2]}"
                    self._size(add, both, size + factor, length, low + least, whole=False)
        return np.column_stack(made) if made else np.zeros((len(genomes), 0))

    def _alone(self, add: Add, i: int, name: str, code: np.ndarray) -> None:
        """The columns of a decision outside lists, with codes (n,)."""
        if self.genomes.ordered[i] or self.genomes.size[i] == 2:
            level = _levels(self.genomes, i, code)
            add(OUTSIDE, name, np.where(np.isfinite(level), level, self._least[i] + ABSENT))
        else:
            for k, value in enumerate(self.genomes.domains[i].values):
                add(OUTSIDE, f"{name}={value}", code == k)

    def _size(self, add: Add, name: str, size: np.ndarray, length: np.ndarray, low: float, *, whole: bool) -> None:
        """The columns of one size (n, r), a logarithm, NaN where it is not there; `whole` with least, largest and spread."""
        known = np.isfinite(size)
        some, number, nothing = known.any(1), np.maximum(known.sum(1), 1), low + ABSENT
        zero = np.where(known, size, 0.0)
        mean = np.where(some, zero.sum(1) / number, nothing)
        add(MEANS, f"mean of {name}", mean)
        add(MEANS, f"log sum of {name}", np.log(np.exp(nothing) + np.where(known, np.exp(zero), 0.0).sum(1)))
        if whole:
            add(RANGES, f"least {name}", np.where(some, np.where(known, size, np.inf).min(1), nothing))
            add(RANGES, f"largest {name}", np.where(known, size, nothing).max(1))
            away = np.where(known, zero - mean[:, None], 0.0)
            add(RANGES, f"spread of {name}", np.sqrt((away**2).sum(1) / number))
        filled = np.where(known, size, nothing)
        add(FIRST, f"first {name}", filled[np.arange(len(size)), known.argmax(1)])
        self._places(add, name, filled, known, length, nothing)

    def _places(
        self, add: Add, name: str, values: np.ndarray, known: np.ndarray, length: np.ndarray, nothing: float
    ) -> None:
        """Values (n, r) at the first and the last records, and their means over parts of the depth where they are `known`."""
        rows, r = np.arange(len(values)), values.shape[1]
        for k in range(min(FROM_START, r)):  # a shorter list is filled with its last record
            add(EARLY if k else START, f"{name} at {k}", values[rows, np.minimum(k, length - 1)])
        for k in range(min(FROM_END, r)):
            add(LATE, f"{name} at {-1 - k}", values[rows, np.maximum(length - 1 - k, 0)])
        for k in range(PARTS if r >= PARTS else 0):
            inside = (np.arange(r) * PARTS // length[:, None] == k) & known
            number = inside.sum(1)
            mean = np.where(inside, values, 0.0).sum(1) / np.maximum(number, 1)
            add(PART, f"{name} in part {k + 1}", np.where(number > 0, mean, nothing))


def _levels(genomes: Genomes, i: int, code: np.ndarray) -> np.ndarray:
    """The logarithm of the value of gene i at `code` (...), NaN where it is not there or 0; a place from 0 to 1 where the values are not sizes."""
    domain = genomes.domains[i]
    there = code >= 0
    if genomes.real[i]:
        assert isinstance(domain, (Integer, Real))
        place = np.where(there, code, 0.0)
        if domain.low > 0 and not domain.log:
            place = np.log(domain.low + place * (domain.high - domain.low))
        elif domain.low > 0:
            place = np.log(domain.low) + place * (np.log(domain.high) - np.log(domain.low))
        return np.where(there, place, np.nan)
    values = domain.values
    sizes = all(isinstance(v, (int, float)) and not isinstance(v, bool) and v >= 0 for v in values)
    table = np.linspace(0.0, 1.0, len(values))
    if sizes:
        plain = np.array(values, dtype=float)
        table = np.where(plain > 0, np.log(np.where(plain > 0, plain, 1.0)), np.nan)
    return np.where(there, table[np.maximum(code, 0).astype(int)], np.nan)


def _least(genomes: Genomes, i: int) -> float:
    """The least that `_levels` says about gene i."""
    ends = np.array([0.0, 1.0]) if genomes.real[i] else np.arange(float(genomes.size[i]))
    found = _levels(genomes, i, ends)
    return float(np.nanmin(found)) if np.isfinite(found).any() else 0.0


def profile_of(space: type[Space]) -> Profile:
    """The `Profile` of a space, made once and kept by the space."""
    if "profile" not in space._cache:
        space._cache["profile"] = Profile(space)
    found: Profile = space._cache["profile"]
    return found
