"""The roofline as a latency model: uncalibrated from a device's figures, or fitted to a few measured architectures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.latency.weighted_sum import WeightedSum
from nas_bo.hardware.workload import Part, Setting, Work, works


class RooflineModel(WeightedSum):
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
        super().__init__((1.0, self.base.overhead_us * 1e-3, 0.0, 0.0))

    @property
    def fitted(self) -> dict[str, float]:
        """The four numbers: `scale`, `overhead_us` per kernel, `score_ns` per term of a softmax, `fixed_ms`."""
        scale, overhead, score, fixed = self.calibration.weights
        return {"scale": scale, "overhead_us": overhead * 1e3, "score_ns": score, "fixed_ms": fixed}

    def operations_ms(self, found: Sequence[Work]) -> np.ndarray:
        """Time of each operation without the fixed part: a base for learned models, and what a breakdown shows."""
        weights = np.array(self.calibration.weights[:3])
        milliseconds: np.ndarray = np.maximum(self.base.columns(found) @ weights, 1e-12)
        return milliseconds

    def _row(self, part: Part) -> np.ndarray:
        columns: np.ndarray = self.base.columns(works(part, self.setting)).sum(0)
        return columns

    def _again(self) -> RooflineModel:
        return RooflineModel(self.base, self.setting, device=self.device, runtime=self.runtime, level=self.level)
