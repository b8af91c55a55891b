"""Many architectures as one matrix of numbers, so that thousands of candidates can be varied and scored at once.

A *genome* has one gene per decision that can ever be active, parents before children: the index of the value, for a
real decision (and a whole number of more than `COUNTED` values) its position in [0, 1]; `OFF` where the decision is not active. Genomes are always canonical: exactly the
active decisions have a value, so equal architectures have equal genomes. Rules are not looked at here.

Notation: genomes (n, genes) float64.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import SpaceError
from nas_bo.space import Space
from nas_bo.space.domain import Choice, Domain, Integer, Real
from nas_bo.space.neighbours import pattern
from nas_bo.space.tree import Decision, Record

OFF = -1.0
COUNTED = 2**31  # whole numbers of a larger range are positions: few such indices are exact, or steps of one useful
REMEMBERED = 50_000  # genomes of architectures kept per space
DECODED = 5_000  # architectures of genomes kept per space: those that look best are looked at again and again


class List:
    """The records of one list.

    Attributes:
        genes: (records, genes of a record), which genes of the whole they are.
        count: the gene of the number of records; None where it is constant.
        sizes: value of that gene -> number of records.
    """

    def __init__(self, genes: np.ndarray, count: int | None, sizes: np.ndarray) -> None:
        self.genes, self.count, self.sizes = genes, count, sizes

    def length(self, genomes: np.ndarray) -> np.ndarray:
        """How many records there are, (n,) int."""
        if self.count is None:
            return np.full(len(genomes), len(self.genes))
        code = genomes[:, self.count]
        return np.asarray(np.where(code >= 0, self.sizes[np.maximum(code, 0).astype(int)], 0))

    def next(self, length: np.ndarray, up: bool) -> np.ndarray:
        """The next larger (or smaller) size, (n,) int; -1 where there is none."""
        beyond = self.sizes > length[:, None] if up else self.sizes < length[:, None]
        found = np.where(beyond, self.sizes, np.iinfo(int).max if up else -1)
        found = found.min(1) if up else found.max(1)
        return np.asarray(np.where(beyond.any(1), found, -1))

    def code(self, length: np.ndarray) -> np.ndarray:
        """The values of the count gene that stand for these sizes, (n,)."""
        return np.asarray(np.argmax(self.sizes == length[:, None], axis=1).astype(float))


class Genomes:
    """The genes of a space and what can be done with them.

    Attributes:
        paths: the name of every gene.
        size: the number of values of every gene, 0 for one that is a position.
        real: whether a gene is a position.
        ordered: whether neighbouring values are alike.
        lists: all lists of records.
    """

    def __init__(self, space: type[Space]) -> None:
        self.space = space
        slots = list(space.decisions().values())
        self.paths = [slot.path for slot in slots]
        self.domains: list[Domain] = [slot.domain for slot in slots]
        at = {path: i for i, path in enumerate(self.paths)}
        self.size = np.array([_count(d) for d in self.domains], dtype=int)
        self.real = self.size == 0
        self.ordered = np.array([d.ordered for d in self.domains])
        self._at = at
        self._encoded: dict[tuple[tuple[str, Primitive], ...], np.ndarray] = {}
        self._decoded: dict[bytes, Architecture] = {}
        self.records: dict[
            tuple[str, bytes], Record
        ] = {}  # of lists, by their genes: architectures have most of them in common
        self._below: dict[str, np.ndarray] = {}
        self._index = [
            {(type(v), v): i for i, v in enumerate(d.values)} if isinstance(d, Choice) else None for d in self.domains
        ]
        kinds = {p: i for i, p in enumerate(dict.fromkeys(map(pattern, self.paths)))}
        self.kind = np.array([kinds[pattern(p)] for p in self.paths], dtype=int)
        # gene -> (gene of the parent, which of the parent's values make it active)
        self._conditions: list[tuple[int, int, np.ndarray]] = []
        for i, slot in enumerate(slots):
            if slot.parent is None:
                continue
            parent = at[slot.parent]
            values = list(self.domains[parent].values)
            if slot.index is not None:
                opens = np.array([int(v) > slot.index for v in values])  # type: ignore[arg-type]
            elif slot.values is not None:
                opens = np.array([v in slot.values for v in values])
            else:
                opens = np.array([v == slot.value for v in values])
            self._conditions.append((i, parent, opens))
        self.lists = self._find_lists(slots)
        self._coarse = [  # positions at whose low end several are the same number
            (i, math.log(d.low), math.log(d.high) - math.log(d.low))
            for i, d in enumerate(self.domains)
            if isinstance(d, Integer) and d.log and self.real[i]
        ]
        self._settled = [
            (at[path], np.array([self._code(at[path], value) for value in values]))
            for path, values in space._settled.items()
        ]

    def _find_lists(self, slots: Sequence[object]) -> list[List]:
        records: dict[str, dict[int, dict[str, int]]] = {}
        for i, path in enumerate(self.paths):
            for match in re.finditer(r"\.(\d+)\.", path):
                rest = records.setdefault(path[: match.start()], {}).setdefault(int(match[1]), {})
                rest[path[match.end() :]] = i
        counts = {slot.records: slot.parent for slot in slots if slot.records is not None}  # type: ignore[attr-defined]
        found = []
        for prefix, rows in records.items():
            names = sorted(set.intersection(*(set(row) for row in rows.values())))
            if len(rows) < 2 or not names:
                continue
            genes = np.array([[rows[i][name] for name in names] for i in sorted(rows)])
            above = counts.get(prefix)
            count = self._at[above] if above is not None else None
            sizes = np.array([int(v) for v in self.domains[count].values] if count is not None else [len(rows)])  # type: ignore[arg-type]
            found.append(List(genes, count, sizes))
        return found

    # ---- to and from architectures ----------------------------------------------------------------------------

    def encode(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Architectures as genomes, (n, genes)."""
        rows = []
        for arch in archs:
            key = tuple(arch.flat.items())  # not the id: that leaves out the names of counts
            row = self._encoded.get(key)
            if row is None:
                row = self._row(arch)
                if len(self._encoded) >= REMEMBERED:
                    self._encoded.clear()
                self._encoded[key] = row
            rows.append(row)
        return np.array(rows).reshape(len(archs), len(self.paths))

    def _row(self, arch: Architecture) -> np.ndarray:
        """The genome of one architecture; of one from another space what fits, and the first values elsewhere."""
        row = np.full(len(self.paths), OFF)
        for path, value in arch.flat.items():
            if path in self._at:
                with suppress(SpaceError):
                    i = self._at[path]
                    row[i] = self._code(i, self.domains[i].canonical(value))
        row[row < 0] = 0.0
        for i, parent, opens in self._conditions:
            if not (row[parent] >= 0 and opens[int(row[parent])]):
                row[i] = OFF
        return row

    def _code(self, i: int, value: Primitive) -> float:
        index, domain = self._index[i], self.domains[i]
        if index is not None:
            return float(index[type(value), value])
        if isinstance(domain, Integer) and not self.real[i]:
            return float((int(value) - domain.low) // domain.step)  # type: ignore[arg-type]
        return domain.position(value)

    def decode(self, row: np.ndarray) -> Architecture:
        """The architecture of one genome (genes,)."""
        key = row.tobytes()
        arch = self._decoded.get(key)
        if arch is None:
            arch = self._built(row)
            if len(self._decoded) >= DECODED:
                self._decoded.clear()
            self._decoded[key] = arch
        return arch

    def _built(self, row: np.ndarray) -> Architecture:
        def pick(path: str, decision: Decision) -> Primitive:
            i, domain = self._at[path], decision.domain
            return _at(domain, float(row[i])) if self.real[i] or domain.size is None else domain.values[int(row[i])]

        return self.space.decide_canonical(pick, _Records(self, row))

    def below(self, prefix: str) -> np.ndarray:
        """The genes whose names begin with `prefix`."""
        found = self._below.get(prefix)
        if found is None:
            found = np.array([i for i, path in enumerate(self.paths) if path.startswith(prefix)], dtype=int)
            self._below[prefix] = found
        return found

    def positions(self, genomes: np.ndarray) -> np.ndarray:
        """Where every gene lies between the ends of its domain, in [0, 1] (meaningless for unordered ones and OFF)."""
        found = genomes / np.maximum(self.size - 1, 1)
        for i, domain in enumerate(self.domains):
            if isinstance(domain, Integer) and domain.log and self.size[i] > 1:
                value = domain.low + domain.step * np.maximum(genomes[:, i], 0.0)
                found[:, i] = np.log(value / domain.low) / np.log(domain.values[-1] / domain.low)
        return np.where(self.real, genomes, found)

    # ---- making them ------------------------------------------------------------------------------------------

    def complete(self, genomes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Canonical genomes: what is not active is OFF, what is active and OFF is drawn ~ uniform."""
        genomes = np.where(genomes < 0, self._uniform(len(genomes), rng), genomes)
        for i, low, span in self._coarse:
            genomes[:, i] = (np.log(np.round(np.exp(low + genomes[:, i] * span))) - low) / span
        for i, codes in self._settled:
            genomes[:, i] = codes[np.argmin(np.abs(genomes[:, i, None] - codes), axis=1)]
        for i, parent, opens in self._conditions:
            above = genomes[:, parent]  # parents come before their children, so they are canonical already
            genomes[~((above >= 0) & opens[np.maximum(above, 0).astype(int)]), i] = OFF
        return genomes

    def _uniform(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self._at_quantile(rng.random((n, len(self.paths))))

    def _at_quantile(self, u: np.ndarray) -> np.ndarray:
        """Genes from numbers in [0, 1): uniform numbers give what `Domain.sample` draws."""
        found = np.where(self.real, u, np.floor(u * np.maximum(self.size, 1)))
        for i, domain in enumerate(self.domains):
            if isinstance(domain, Integer) and domain.log and not self.real[i]:
                low, high = np.log(domain.low - 0.5), np.log(domain.high + 0.5)
                found[:, i] = np.clip(np.round(np.exp(low + u[:, i] * (high - low))) - domain.low, 0, domain.size - 1)
        return found

    def random(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Every choice uniform (log-uniform on a log scale), (n, genes)."""
        return self.complete(np.full((n, len(self.paths)), OFF), rng)

    def tilted(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Random architectures that also reach the corners, (n, genes): each is tilted towards low or high values.

        Independent draws of many layers all have average layers. Here every architecture has a level ~ uniform, every
        kind of decision either this level or one of its own, and each ordered gene is ~ Beta around it; the values of
        an unordered kind have weights ~ Dirichlet(1/2) that all layers share.
        """
        kinds = int(self.kind.max(initial=-1)) + 1
        own = rng.random((n, kinds))
        level = np.where(rng.random((n, kinds)) < 0.5, rng.random((n, 1)), own)[:, self.kind]
        u = rng.beta(1 + 4 * level, 1 + 4 * (1 - level))
        genomes = self._at_quantile(np.minimum(u, 1 - 1e-12))
        for kind in range(kinds):
            genes = np.flatnonzero(self.kind == kind)
            size = int(self.size[genes[0]])
            if not self.ordered[genes[0]] and size > 1:
                weights = np.cumsum(rng.dirichlet(np.full(size, 0.5), n), axis=1)
                draws = rng.random((n, len(genes)))
                genomes[:, genes] = np.minimum((draws[:, :, None] > weights[:, None, :]).sum(-1), size - 1)
        return self.complete(genomes, rng)

    def corners(self, rng: np.random.Generator) -> np.ndarray:
        """All ordered genes at their lowest, and all at their highest; what is unordered ~ uniform, (2, genes)."""
        ends = self._uniform(2, rng)
        last = np.where(self.real, 1.0, self.size - 1)
        ends[0, self.ordered], ends[1, self.ordered] = 0.0, last[self.ordered]
        return self.complete(ends, rng)


class _Records:
    """The records of one genome, as far as any genome had them."""

    def __init__(self, genomes: Genomes, row: np.ndarray) -> None:
        self._genomes, self._row = genomes, row

    def record(self, prefix: str, made: Callable[[], Record]) -> Record:
        known, key = self._genomes.records, (prefix, self._row[self._genomes.below(prefix)].tobytes())
        found = known.get(key)
        if found is None:
            found = made()
            if len(known) >= REMEMBERED:
                known.clear()
            known[key] = found
        return found


def _count(domain: Domain) -> int:
    """The number of values that a gene has; 0 where it is a position."""
    if isinstance(domain, Real):
        return int(domain.low == domain.high)
    return domain.size if isinstance(domain, Choice) or domain.size <= COUNTED else 0


def _at(domain: Domain, position: float) -> Primitive:
    """The value at `position` (0 to 1) of a real interval, or of a whole number of many values."""
    if isinstance(domain, Real):
        return domain.at(position)
    assert isinstance(domain, Integer)
    position = min(1.0, max(0.0, position))
    if domain.log and position < 1:
        low, high = math.log(domain.low), math.log(domain.high)
        return min(domain.high, max(domain.low, round(math.exp(low + position * (high - low)))))
    above, below = position.as_integer_ratio()  # exact, where a product of floats would miss the upper end
    return domain.low + domain.step * ((2 * above * (domain.size - 1) + below) // (2 * below))


def genomes_of(space: type[Space]) -> Genomes:
    """The `Genomes` of a space, made once and kept by the space.

    Raises:
        SpaceError: the space has nothing to decide.
    """
    if "genomes" not in space._cache:
        if not space.decisions():
            raise SpaceError(f"{space.title} has nothing to decide")
        space._cache["genomes"] = Genomes(space)
    found: Genomes = space._cache["genomes"]
    return found
