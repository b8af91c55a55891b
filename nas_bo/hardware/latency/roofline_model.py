"""The roofline as a latency model: uncalibrated from a device's figures, or fitted to a few measured architectures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.calibration import Calibration, calibrate
from nas_bo.hardware.latency.model import MadeByProfile, answer
from nas_bo.hardware.latency.parts_index import PartsIndex
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.workload import Part, Setting, Work, works
from nas_bo.model.counts import Arch
from nas_bo.objective import Value


class RooflineModel(MadeByProfile):
    """``busy * scale + kernels * overhead + scores * score + fixed``, where `busy` is the longer of arithmetic and traffic,
    and `scores` are the terms of softmaxes, summed over operations. Before anything is measured: scale 1, the device's
    overhead (none where it is not known), softmaxes for free, no fixed part, and no interval, since nobody knows how much of
    its peak a device attains.

    Args:
        base: a device or its roofline.
        setting: what is run.
        device, runtime: what answers say about themselves; the name of a `Device` by default.
        level: of the intervals after `fit`.

    Raises:
        DeviceError: the device lacks a figure for the data type of the setting.
    """

    how = "roofline"

    def __init__(
        self,
        base: Device | Roofline,
        setting: Setting,
        *,
        device: str = "",
        runtime: str = "",
        level: float = 0.9,
    ) -> None:
        self.base = Roofline.of(base, setting.dtype) if isinstance(base, Device) else base
        self.device = device or (base.name if isinstance(base, Device) else "")
        self.setting, self.runtime, self.level = setting, runtime, level
        self._index = PartsIndex(setting)
        self._table = np.zeros((1, 3))
        self._set(Calibration(self._believed, float("inf"), 0))

    def fit(self, architectures: Sequence[Arch], measured_ms: Sequence[float]) -> RooflineModel:
        """The same model with scale, overhead, score and fixed part fitted; three measurements give an interval, ten a good one.

        Raises:
            ObjectiveError: nothing measured, not one time per architecture, or times that are not numbers above 0.
            ModelError: an architecture cannot be built.
        """
        made = RooflineModel(self.base, self.setting, device=self.device, runtime=self.runtime, level=self.level)
        sums = made._sums(architectures)
        columns = np.column_stack([sums, np.ones(len(sums))])
        made._set(calibrate(columns, np.array(self._believed), measured_ms, self.level))
        return made

    @property
    def measured(self) -> int:
        return self.calibration.measured

    @property
    def fitted(self) -> dict[str, float]:
        """The four numbers: `scale`, `overhead_us` per kernel, `score_ns` per term of a softmax, `fixed_ms`."""
        scale, overhead, score, fixed = self.calibration.weights
        return {"scale": scale, "overhead_us": overhead * 1e3, "score_ns": score, "fixed_ms": fixed}

    @property
    def _believed(self) -> tuple[float, ...]:
        return 1.0, self.base.overhead_us * 1e-3, 0.0, 0.0

    def predict(self, arch: Arch) -> Value:
        """Milliseconds; see `LatencyModel`."""
        milliseconds, half = self.predict_many([arch])
        return answer(self, float(milliseconds[0]), float(half[0]), self.level)

    def predict_many(self, architectures: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        milliseconds = self._sums(architectures) @ self._weights[:3] + self._weights[3]
        return milliseconds, milliseconds * self.calibration.share

    def operations_ms(self, found: Sequence[Work]) -> np.ndarray:
        """Time of each operation without the fixed part: a base for learned models, and what a breakdown shows."""
        milliseconds: np.ndarray = np.maximum(self.base.columns(found) @ self._weights[:3], 1e-12)
        return milliseconds

    def _set(self, calibration: Calibration) -> None:
        self.calibration, self._weights = calibration, np.array(calibration.weights)

    def _sums(self, architectures: Sequence[Arch]) -> np.ndarray:
        rows = self._index.rows(architectures, self._learn)
        found: np.ndarray = self._table[rows].sum(1)
        return found

    def _learn(self, part: Part) -> None:
        self._table = np.vstack([self._table, self.base.columns(works(part, self.setting)).sum(0)])
