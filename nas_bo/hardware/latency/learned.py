"""A latency model that begins at a base (the roofline, or another device's learned model) and corrects it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.additive import Posterior, alike, fit
from nas_bo.hardware.latency.model import Fitted
from nas_bo.hardware.latency.parts_index import PartsIndex, occurrences
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.workload import Part, Setting, Work, works
from nas_bo.model.counts import Arch
from nas_bo.wording import counted


class Base(Protocol):
    """Milliseconds of each operation, each above 0, in whatever setting."""

    def operations_ms(self, found: Sequence[Work]) -> np.ndarray: ...


class Learned(Fitted):
    """Predicts milliseconds in one setting, with an interval, after being fitted to measured architectures.

    Args:
        base: where it begins: a device (its roofline), a roofline, or the learned model of another device.
        architectures, measured_ms: what was measured, at least 3.
        level: of the intervals.
        device, runtime: what answers say about themselves; the name of a `Device` by default.

    Raises:
        ObjectiveError: too few measurements, not as many as architectures, or times that are not numbers above 0.
        ModelError: an architecture cannot be built.
        DeviceError: the device lacks a figure for the data type of the setting.
    """

    how = "learned"

    def __init__(
        self,
        base: Base | Device,
        setting: Setting,
        architectures: Sequence[Arch],
        measured_ms: Sequence[float],
        level: float = 0.9,
        *,
        device: str = "",
        runtime: str = "",
    ) -> None:
        if len(architectures) != len(measured_ms):
            raise ObjectiveError(
                f"{counted(len(architectures), 'architecture')} but {counted(len(measured_ms), 'time was', 'times were')} given; give one time for each"
            )
        self.device, self.runtime = device or (base.name if isinstance(base, Device) else ""), runtime
        base = Roofline.of(base, setting.dtype) if isinstance(base, Device) else base
        self.base, self.setting, self.level, self.measured = base, setting, level, len(measured_ms)
        known, often = occurrences(architectures, setting)
        times = np.asarray(measured_ms, dtype=float)
        self.posterior: Posterior = fit(known, often, base.operations_ms(known), times, level)
        self._index = PartsIndex(setting, timed=True)
        self._seen: list[tuple[list[Work], np.ndarray]] = []
        # mean without h, ms of the scaled base, bytes moved, millions of softmax terms
        self._sums: np.ndarray = np.zeros((1, 4))
        after = self.posterior
        pull, root = after.kernel.whole * after.whole_pull, after.doubt.whole * after.whole_root.T
        self._whole: np.ndarray = np.column_stack([pull, root])
        self._priced: np.ndarray = after.doubt.price * after.price_root
        self._variances = after.doubt.whole, after.doubt.price, after.doubt.noise
        self._prior: np.ndarray = np.zeros((1, 1))
        self._known: np.ndarray = np.zeros((1, len(measured_ms)))

    def predict_many(self, architectures: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Milliseconds and half widths of their intervals, (n,) each."""
        padded, after = self._index.rows(architectures, self._learn), self.posterior
        mean, base, moved, scores = self._sums[padded].sum(1).T
        whole = base[:, None] * (alike(np.log10(moved), after.sizes) @ self._whole)
        mean = mean + whole[:, 0]
        of_whole, of_price, noise = self._variances
        variance = of_whole * base**2 + of_price * scores**2
        shared = whole[:, 1:] + scores[:, None] * self._priced
        for start in range(0, len(padded), 1000):
            some = padded[start : start + 1000]
            prior = self._prior[some[:, :, None], some[:, None, :]].sum((1, 2))
            known = self._known[some].sum(1) + shared[start : start + 1000]
            variance[start : start + 1000] += prior - (known**2).sum(1)
        spread = np.sqrt(np.maximum(variance, 0) + noise * mean**2)
        return mean, after.reach * spread

    def operations_ms(self, found: Sequence[Work]) -> np.ndarray:
        """Corrected time of each operation: a base for the model of another device."""
        after, base = self.posterior, self.base.operations_ms(found)
        corrected = 1 + after.kernel.between(list(found), after.known) @ after.pull
        priced = max(after.price_ns, 0.0) * np.array([work.scores for work in found], dtype=float) * 1e-6
        return np.asarray(after.scale * base * np.maximum(corrected, 0.02) + priced)

    def _learn(self, part: Part) -> None:
        """Mean and covariance of one more part."""
        after, found = self.posterior, list(works(part, self.setting))
        base = after.scale * self.base.operations_ms(found)
        cross = after.doubt.between(after.known, found) @ base
        prior = [0.0]
        for other, times in self._seen:
            prior.append(float(times @ after.doubt.between(other, found) @ base))
        prior.append(float(base @ after.doubt.between(found, found) @ base))
        at = len(self._seen) + 1
        grown = np.zeros((at + 1, at + 1))
        grown[:at, :at] = self._prior
        grown[at, :] = grown[:, at] = prior
        self._prior = grown
        self._known = np.vstack([self._known, after.root @ cross])
        moved, scores = sum(work.moved_bytes for work in found), 1e-6 * sum(work.scores for work in found)
        mean = base.sum() + after.pull @ (after.kernel.between(after.known, found) @ base) + after.price_ns * scores
        self._sums = np.vstack([self._sums, [mean, base.sum(), moved, scores]])
        self._seen.append((found, base))
