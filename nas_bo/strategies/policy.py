"""A log-linear autoregressive policy over the tree of decisions of a space; `Reinforce` trains it (numpy only)."""

from __future__ import annotations

import math
import random
import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from weakref import WeakKeyDictionary

import numpy as np

from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import SpaceError
from nas_bo.space import Space
from nas_bo.space.domain import Choice, Domain, Integer, Real
from nas_bo.space.neighbours import pattern

CELLS = 8  # a real decision, or one among more numbers, is one among so many equal parts of its range
CHOICES = 32  # a choice among more values is one among `CELLS` parts of the list of its values
BEFORE = 6  # how many earlier decisions a decision looks at, fewer where that makes too many parameters
PARAMETERS = 4_000
# Prior deviations of what holds for one path or one neighbour, and after one earlier decision, in addition to 1 of what holds wherever a
# pattern occurs; of that each trial says more, so it is learned first anyway.
LOCAL, PAIR = 1.0, 0.7
REMEMBERED = 5_000  # architectures per space whose scores are kept


class Cells:
    """A domain as a few cells: its values, or equal parts of its range where it has too many."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.exact = domain.size is not None and domain.size <= (CHOICES if isinstance(domain, Choice) else CELLS)
        self.count = domain.size if domain.size is not None and self.exact else CELLS

    def of(self, value: Primitive) -> int:
        """The cell of a value (raises SpaceError)."""
        domain = self.domain
        if isinstance(domain, Choice):
            at = domain.index(value)
            return at if self.exact else at * CELLS // domain.size
        value = domain.canonical(value)
        if self.exact and isinstance(domain, Integer):
            return (int(value) - domain.low) // domain.step
        return min(CELLS - 1, int(domain.position(value) * CELLS))

    def value(self, cell: int, rng: random.Random) -> Primitive:
        """A value of the cell. ~ uniform inside it, on the domain's own scale"""
        domain = self.domain
        at = (cell + rng.random()) / self.count
        if isinstance(domain, Real):
            return domain.at(at)
        if isinstance(domain, Integer) and domain.log and not self.exact:
            return min(domain.high, round(float(domain.low * (domain.high / domain.low) ** at)))
        values: Sequence[Primitive] = domain.values
        return values[cell if self.exact else min(int(domain.size or 1) - 1, int(at * int(domain.size or 1)))]


@dataclass(frozen=True)
class Place:
    """One decision of the space, and where the parameters begin that its context selects.

    Attributes:
        own: of its pattern and of its path, always selected.
        before: (path of an earlier decision, where those of its first cell begin).
    """

    cells: Cells
    own: tuple[int, ...]
    before: tuple[tuple[str, int], ...]

    def starts(self, chosen: Mapping[str, int]) -> list[int]:
        """Where the selected parameters begin; `chosen` are the cells of the decisions made so far, by path."""
        here = [start + chosen[path] * self.cells.count for path, start in self.before if path in chosen]
        return [*self.own, *here]


class Policy:
    """p(architecture) = product over its decisions of softmax(sum of the parameters that the context selects).

    The context of a decision: its pattern (``layers.*.mixer``, so that layers share what they learn), its path, the
    same decision one record earlier, and the decisions made before it in its own record and in those around it.
    A function of the space alone.

    Attributes:
        scale: (parameters,) their prior deviations.
    """

    def __init__(self, space: type[Space]) -> None:
        cells = {path: Cells(domain) for path, domain in space.domains().items()}
        for before in range(BEFORE, -1, -1):
            self.places, scale = _places(cells, before)
            if len(scale) <= PARAMETERS:
                break
        self.scale = np.array(scale)
        self._scores: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def scores(self, archs: Sequence[Architecture]) -> np.ndarray:
        """The gradients of log p at the uniform policy, in units of the prior deviations: (n, parameters).

        What does not belong to the space is skipped.
        """
        found = np.zeros((len(archs), len(self.scale)))
        for row, arch in zip(found, archs, strict=True):
            known = self._scores.get(arch.id)
            if known is None:
                score = self._score(arch)
                at = np.flatnonzero(score)
                known = at, score[at]
                if len(self._scores) >= REMEMBERED:
                    self._scores.clear()
                self._scores[arch.id] = known
            row[known[0]] = known[1]
        return found

    def _score(self, arch: Architecture) -> np.ndarray:
        """d log p / d parameters = 1 for what was chosen - its probability, summed over the decisions."""
        chosen: dict[str, int] = {}
        found = np.zeros(len(self.scale))
        for path, value in arch.flat.items():
            place = self.places.get(path)
            try:
                cell = None if place is None else place.cells.of(value)
            except SpaceError:
                continue
            if place is None or cell is None:
                continue
            for start in place.starts(chosen):
                found[start : start + place.cells.count] -= 1 / place.cells.count
                found[start + cell] += 1
            chosen[path] = cell
        return np.asarray(found * self.scale)

    def draw(self, space: type[Space], parameters: np.ndarray, rng: random.Random) -> Architecture:
        """An architecture. ~ the policy with `parameters`; rules are not looked at"""
        chosen: dict[str, int] = {}

        def pick(path: str, _domain: Domain) -> Primitive:
            place = self.places[path]
            count = place.cells.count
            logits = np.zeros(count)
            for start in place.starts(chosen):
                logits += parameters[start : start + count]
            sums = list(accumulate(math.exp(v) for v in (logits - logits.max()).tolist()))
            chosen[path] = cell = min(bisect(sums, rng.random() * sums[-1]), count - 1)
            return place.cells.value(cell, rng)

        return space.decide(pick)


def _places(cells: Mapping[str, Cells], most_before: int) -> tuple[dict[str, Place], list[float]]:
    """The places by path, and the prior deviation of every parameter."""
    places: dict[str, Place] = {}
    starts: dict[tuple[str, ...], int] = {}
    scale: list[float] = []
    records: dict[str, list[str]] = {}  # the decisions of every record so far

    def begin(key: tuple[str, ...], size: int, deviation: float = LOCAL) -> int:
        if key not in starts:
            starts[key] = len(scale)
            scale.extend([deviation] * size)
        return starts[key]

    for path, here in cells.items():
        name, (*parts, _) = pattern(path), path.split(".")
        own = [begin((name,), here.count, 1.0)]
        if name != path:
            own.append(begin(("path", path), here.count))
        around = [p for i in range(len(parts) + 1) for p in records.get(".".join(parts[:i]), ())]
        nearest = around[-most_before:] if most_before else []
        before = [(p, begin(("after", name, pattern(p)), here.count * cells[p].count, PAIR)) for p in nearest]
        if (last := _one_earlier(path)) is not None:
            before.append((last, begin(("last", name), here.count**2)))
        places[path] = Place(here, tuple(own), tuple(before))
        records.setdefault(".".join(parts), []).append(path)
    return places, scale


def _one_earlier(path: str) -> str | None:
    """The same decision one record earlier in its innermost list; None where there is none."""
    found = re.match(r"(.*\.)(\d+)(\..*)$", path)
    if found is None or found[2] == "0":
        return None
    return f"{found[1]}{int(found[2]) - 1}{found[3]}"


_policies: WeakKeyDictionary[type[Space], Policy] = WeakKeyDictionary()


def policy_of(space: type[Space]) -> Policy:
    """The policy of a space, remembered."""
    if space not in _policies:
        _policies[space] = Policy(space)
    return _policies[space]
