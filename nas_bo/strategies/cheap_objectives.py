"""The objectives of a problem that are known without an evaluation: exactly for one architecture at a time, and
approximately for thousands of genomes at once.

The approximation (kernel ridge regression with a cubic kernel on the summaries, of logarithms where values are
positive) decides only which candidates are looked at; what is proposed was always computed exactly. Everything is
minimised; e known objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.strategy import admissible, generator
from nas_bo.surrogate.features import features_of

TAUGHT = 300  # random architectures that the approximation learns from, once
RIDGE = 1e-5  # of the mean of the kernel's diagonal
REMEMBERED = 50_000  # architectures kept per problem


class Known:
    """What a problem tells about architectures for nothing.

    Attributes:
        positions: which of the problem's objectives are known, (e,) of their positions.
    """

    def __init__(self, problem: Problem) -> None:
        self._columns = problem.columns
        self._features = features_of(problem.space)
        self._memory: dict[str, tuple[np.ndarray, bool]] = {}
        genomes = self._features.genomes
        rng = np.random.default_rng(generator("known").getrandbits(63))
        taught = np.concatenate([genomes.tilted(2 * TAUGHT // 3, rng), genomes.random(TAUGHT // 3, rng)])
        self.positions = self._find([genomes.decode(row) for row in taught[:20]], problem)
        if self.positions:
            self._teach(taught, np.array([self.exact(problem, genomes.decode(row))[0] for row in taught]))

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
        self._signs = np.where(((values * signs) > 0).all(0), signs, 0.0) if len(values) else np.zeros(len(signs))
        inputs = self._features.of(genomes)[:, : self._features.width]
        low, high = inputs.min(0, initial=0.0), inputs.max(0, initial=0.0)
        self._keep = np.flatnonzero(high > low)
        self._low, self._span = low[self._keep], (high - low)[self._keep]
        self._inputs = self._places(inputs)
        targets = self.to_scale(values)
        self._mean = targets.mean(0) if len(targets) else np.zeros(len(signs))
        kernel = self._cubic(self._inputs)
        if len(kernel):
            kernel += RIDGE * np.trace(kernel) / len(kernel) * np.eye(len(kernel))
        self._weights = np.linalg.solve(kernel, targets - self._mean)

    def _places(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(2 * (inputs[:, self._keep] - self._low) / self._span - 1)

    def _cubic(self, places: np.ndarray) -> np.ndarray:
        return np.asarray((1 + places @ self._inputs.T / max(1, places.shape[1]) ** 0.5) ** 3)

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
        return np.asarray(self._mean + self._cubic(self._places(features[:, : self._features.width])) @ self._weights)


_made: WeakKeyDictionary[Problem, Known] = WeakKeyDictionary()


def known_of(problem: Problem) -> Known:
    """The `Known` of a problem, made once."""
    if problem not in _made:
        _made[problem] = Known(problem)
    return _made[problem]
