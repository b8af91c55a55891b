"""The objectives of a problem that are known without an evaluation: exactly for one architecture at a time, and
approximately for thousands of genomes at once.

The approximation (kernel ridge regression with a cubic kernel, of logarithms where values are positive; on the summaries or
on the encoding as well, whichever has the smaller leave-one-out error) decides only which candidates are looked at; what is proposed was always computed exactly. Everything is
minimised; e known objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.strategy import admissible, generator
from nas_bo.surrogate.features import features_of

TAUGHT = 300  # random architectures that the approximation learns from, once
RIDGE = 1e-5  # of the mean of the kernel's diagonal
REMEMBERED = 50_000  # architectures kept per problem
LESS = 0.7  # of the error of the one before: how much better another scale, or more columns, must be


@dataclass(frozen=True)
class _Solved:
    """A kernel ridge regression: which columns it reads, how they are scaled to [-1, 1], the examples there (n, columns) and their
    weights (n, e), and the prediction of every example without that example (n, e)."""

    columns: np.ndarray
    low: np.ndarray
    span: np.ndarray
    places: np.ndarray
    weights: np.ndarray
    left_out: np.ndarray


class Known:
    """What a problem tells about architectures for nothing.

    Args:
        given: the architectures to choose from, of which the approximation then learns: a table may know these alone. Without them
            architectures of the whole space are drawn.

    Attributes:
        positions: which of the problem's objectives are known, (e,) of their positions.
    """

    def __init__(self, problem: Problem, given: Sequence[Architecture] = ()) -> None:
        self._columns = problem.columns
        self._features = features_of(problem.space)
        self._memory: dict[str, tuple[np.ndarray, bool]] = {}
        genomes = self._features.genomes
        source = generator("known")
        if given:
            ordered = sorted(given, key=lambda arch: arch.id)
            archs = source.sample(ordered, min(TAUGHT, len(ordered)))  # ~ uniform
            taught = genomes.encode(archs)
        else:
            rng = np.random.default_rng(source.getrandbits(63))
            taught = np.concatenate([genomes.tilted(2 * TAUGHT // 3, rng), genomes.random(TAUGHT // 3, rng)])
            archs = [genomes.decode(row) for row in taught]
        self.positions = self._find(archs[:20], problem)
        if self.positions:
            self._teach(taught, np.array([self.exact(problem, arch)[0] for arch in archs]))

    def _find(self, archs: Sequence[Architecture], problem: Problem) -> list[int]:
        """Those that are known for any of the architectures; of some they may raise."""
        names: set[str] = set()
        for arch in archs:
            try:
                names |= set(problem.known(arch))
            except Exception:
                continue
        return [j for j, c in enumerate(self._columns) if c.name in names]

    def exact(self, problem: Problem, arch: Architecture) -> tuple[np.ndarray, bool]:
        """The known objectives (e,), NaN where one raises or is not finite, and whether `arch` is admissible."""
        kept = self._memory.get(arch.id)
        if kept is None:
            values = np.full(len(self.positions), np.nan)
            if self.positions:
                try:
                    found = problem.known(arch)
                except Exception:
                    found = {}
                for i, j in enumerate(self.positions):
                    values[i] = self._columns[j].sign * found.get(self._columns[j].name, np.nan)
            kept = np.where(np.isfinite(values), values, np.nan), admissible(problem, arch)
            if len(self._memory) >= REMEMBERED:
                self._memory.clear()
            self._memory[arch.id] = kept
        return kept

    def _teach(self, genomes: np.ndarray, values: np.ndarray) -> None:
        rows = np.isfinite(values).all(1)
        genomes, values = genomes[rows], values[rows]
        signs = np.array([self._columns[j].sign for j in self.positions])
        positive = np.where(((values * signs) > 0).all(0), signs, 0.0) if len(values) else np.zeros(len(signs))
        features = self._features.of(genomes)
        widths = tuple(dict.fromkeys((self._features.width, features.shape[1])))
        best: tuple[float, np.ndarray, np.ndarray, _Solved] | None = None
        # logarithms, and without them where a few tiny values would decide; from the summaries, or from everything
        for scale in (positive, np.zeros(len(signs))):
            self._signs = scale
            targets = self.to_scale(values)
            mean = targets.mean(0) if len(targets) else np.zeros(len(signs))
            for width in widths:
                found = _solved(features[:, :width], targets - mean)
                left_out = self.from_scale(mean + found.left_out)
                error = float((((left_out - values) ** 2).mean(0) / np.maximum(values.var(0), 1e-300)).sum())
                if best is None or error < LESS * best[0]:
                    best = error, scale, mean, found
            if not len(values) or not positive.any():
                break
        assert best is not None
        _, self._signs, self._mean, self._solution = best

    def to_scale(self, values: np.ndarray) -> np.ndarray:
        """(n, e) of known objectives as the approximation sees them: logarithms where all are positive."""
        positive = self._signs != 0
        return np.where(positive, np.log(np.maximum(np.where(positive, values * self._signs, 1.0), 1e-300)), values)

    def from_scale(self, scaled: np.ndarray) -> np.ndarray:
        """The inverse of `to_scale`."""
        positive = self._signs != 0
        return np.where(positive, self._signs * np.exp(np.minimum(np.where(positive, scaled, 0.0), 700.0)), scaled)

    def approximate(self, features: np.ndarray) -> np.ndarray:
        """(n, e), on the scale of `to_scale`, from the features (n, columns) of genomes."""
        if not self.positions:
            return np.zeros((len(features), 0))
        found = self._solution
        places = 2 * (features[:, found.columns] - found.low) / found.span - 1
        return np.asarray(self._mean + _cubic(places, found.places) @ found.weights)


def _solved(inputs: np.ndarray, targets: np.ndarray) -> _Solved:
    """Ridge regression of targets (n, e) on inputs (n, columns)."""
    low, high = inputs.min(0, initial=0.0), inputs.max(0, initial=0.0)
    columns = np.flatnonzero(high > low)
    low, span = low[columns], (high - low)[columns]
    places = np.asarray(2 * (inputs[:, columns] - low) / span - 1)
    kernel = _cubic(places, places)
    if not len(kernel):
        return _Solved(columns, low, span, places, np.zeros_like(targets), np.zeros_like(targets))
    inverse = np.linalg.inv(kernel + RIDGE * np.trace(kernel) / len(kernel) * np.eye(len(kernel)))
    weights = inverse @ targets
    return _Solved(columns, low, span, places, weights, targets - weights / np.diag(inverse)[:, None])


def _cubic(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray((1 + first @ second.T / max(1, first.shape[1]) ** 0.5) ** 3)


_made: WeakKeyDictionary[Problem, dict[frozenset[str], Known]] = WeakKeyDictionary()


def known_of(problem: Problem, given: Sequence[Architecture] = ()) -> Known:
    """The `Known` of a problem, and of the architectures to choose from, made once."""
    made, key = _made.setdefault(problem, {}), frozenset(arch.id for arch in given)
    if key not in made:
        for other in [one for one in made if one and given]:  # another list, which is not asked for any more
            del made[other]
        made[key] = Known(problem, given)
    return made[key]
