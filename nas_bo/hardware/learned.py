"""A latency model that begins at a base (the roofline, or another device's learned model) and corrects it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.hardware.additive import Posterior, fit
from nas_bo.hardware.workload import Part, Setting, Work, parts, specified, works
from nas_bo.model.counts import Arch
from nas_bo.problem import Value


class Base(Protocol):
    """Milliseconds of each operation, each above 0, in whatever setting."""

    def operations_ms(self, found: Sequence[Work]) -> np.ndarray: ...


class Learned:
    """Predicts milliseconds in one setting, with an interval, after being fitted to measured architectures.

    Args:
        base: where it begins.
        architectures, measured_ms: what was measured, at least 3.
        level: of the intervals.

    Raises:
        ObjectiveError: too few measurements, not as many as architectures, or times that are no numbers above 0.
        ModelError: an architecture cannot be built.
    """

    how = "learned"

    def __init__(
        self,
        base: Base,
        setting: Setting,
        architectures: Sequence[Arch],
        measured_ms: Sequence[float],
        level: float = 0.9,
    ) -> None:
        if len(architectures) != len(measured_ms):
            raise ObjectiveError(
                f"{len(architectures)} architectures but {len(measured_ms)} times were given; give one time for each"
            )
        self.base, self.setting, self.level, self.measured = base, setting, level, len(measured_ms)
        index: dict[Work, int] = {}
        rows = []
        for arch in architectures:
            row: dict[int, int] = {}
            for part in parts(specified(arch, setting)):
                for work in works(part, setting):
                    at = index.setdefault(work, len(index))
                    row[at] = row.get(at, 0) + 1
            rows.append(row)
        known = list(index)
        often = np.zeros((len(rows), len(known)))
        for i, row in enumerate(rows):
            often[i, list(row)] = list(row.values())
        times = np.asarray(measured_ms, dtype=float)
        self.posterior: Posterior = fit(known, often * base.operations_ms(known), times, level)
        self._index: dict[Any, int] = {}  # number 0 is the empty part, which pads
        self._seen: list[tuple[list[Work], np.ndarray]] = []
        self._mean: np.ndarray = np.zeros(1)
        self._prior: np.ndarray = np.zeros((1, 1))
        self._known: np.ndarray = np.zeros((1, len(measured_ms)))

    def predict(self, arch: Arch) -> Value:
        """Milliseconds; `info` has the interval (`low`, `high`) and says which model it is."""
        mean, half = self.predict_many([arch])
        return Value(
            float(mean[0]),
            how=self.how,
            low=float(max(0.0, mean[0] - half[0])),
            high=float(mean[0] + half[0]),
            level=self.level,
            measured=self.measured,
        )

    def predict_many(self, architectures: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Milliseconds and half widths of their intervals, (n,) each."""
        index, setting = self._index, self.setting
        rows = []
        for arch in architectures:
            spec = specified(arch, setting)
            frame = (spec.width, *spec[2:])
            # plain keys: a search asks for the same layers again and again, and this is the whole cost of an answer
            row = [index.get((layer, frame), -1) for layer in (None, *spec.layers)]
            if -1 in row:
                row = [self._learn((part.layer, frame), part) for part in parts(spec)]
            rows.append(row)
        longest = max(map(len, rows), default=0)
        padded = np.array([row + [0] * (longest - len(row)) for row in rows], dtype=int).reshape(len(rows), longest)
        mean: np.ndarray = self._mean[padded].sum(1)
        variance = np.empty(len(rows))
        for start in range(0, len(rows), 1000):
            some = padded[start : start + 1000]
            prior = self._prior[some[:, :, None], some[:, None, :]].sum((1, 2))
            variance[start : start + 1000] = prior - (self._known[some].sum(1) ** 2).sum(1)
        after = self.posterior
        spread = np.sqrt(np.maximum(variance, 0) + after.kernel.noise * mean**2)
        return mean, after.reach * after.widen * spread

    def operations_ms(self, found: Sequence[Work]) -> np.ndarray:
        """Corrected time of each operation: a base for the model of another device."""
        after, base = self.posterior, self.base.operations_ms(found)
        corrected = 1 + after.kernel.between(list(found), after.known) @ after.pull
        return np.asarray(after.scale * base * np.maximum(corrected, 0.02))

    def _learn(self, key: Any, part: Part) -> int:
        """Mean and covariance of one more part."""
        if key in self._index:
            return self._index[key]
        after, found = self.posterior, list(works(part, self.setting))
        base = after.scale * self.base.operations_ms(found)
        cross = after.kernel.between(after.known, found) @ base
        prior = [0.0]
        for other, times in self._seen:
            prior.append(float(times @ after.kernel.between(other, found) @ base))
        prior.append(float(base @ after.kernel.between(found, found) @ base))
        at = len(self._seen) + 1
        grown = np.zeros((at + 1, at + 1))
        grown[:at, :at] = self._prior
        grown[at, :] = grown[:, at] = prior
        self._prior = grown
        self._mean = np.append(self._mean, base.sum() + cross @ after.pull)
        self._known = np.vstack([self._known, after.root @ cross])
        self._seen.append((found, base))
        self._index[key] = at
        return at
