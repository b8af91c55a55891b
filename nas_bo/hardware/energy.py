"""Energy of a phase: modelled from the operations, or measured by a real meter. The two are never mixed up.

The model adds what arithmetic and moving bytes cost (Horowitz, 2014, "Computing's energy problem", ISSCC, figure 1.1.9: one
price per operation and one per byte), and may add what the device draws while it does nothing. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.parts_index import PartsTable
from nas_bo.hardware.latency.roofline_model import RooflineModel
from nas_bo.hardware.workload import Part, Setting, works
from nas_bo.model.counts import Arch
from nas_bo.objective import Value


@dataclass(frozen=True)
class Prices:
    """1e-12 J per floating-point operation and per byte that is moved."""

    pj_per_flop: float = 1.0
    pj_per_byte: float = 30.0


class EnergyModel:
    """Modelled millijoules of one run of a phase.

    Args:
        device: its figures pj_per_flop and pj_per_byte are needed, or `Prices`.
        idle: add idle_watts for as long as the roofline says that the run takes.

    Raises:
        DeviceError: a figure is missing.
    """

    how = "modelled"

    def __init__(self, device: Device | Prices, setting: Setting, idle: bool = False) -> None:
        self.setting, self.device = setting, device.name if isinstance(device, Device) else ""
        self._watts, self._roofline = 0.0, None
        if isinstance(device, Device):
            use = "modelled energy"
            if idle:
                self._watts = device.figure("idle_watts", use=f"{use} with what the device draws when idle")
                self._roofline = RooflineModel(device, setting)
            self.prices = Prices(
                device.figure("pj_per_flop", setting.dtype, use), device.figure("pj_per_byte", use=use)
            )
        else:
            self.prices = device
        self._parts = PartsTable(setting, 1, self._millijoules)

    def predict(self, arch: Arch) -> Value:
        """Millijoules; `info` says that they are modelled.

        Raises:
            ModelError: the architecture cannot be built.
        """
        return Value(float(self.predict_many([arch])[0]), how=self.how, device=self.device, idle=self._watts > 0)

    def predict_many(self, architectures: Sequence[Arch]) -> np.ndarray:
        """(n,) millijoules."""
        found = self._parts.sums(architectures)[:, 0]
        if self._roofline is not None:
            found = found + self._watts * self._roofline.predict_many(architectures)[0]  # W * ms = mJ
        return found

    def _millijoules(self, part: Part) -> list[float]:
        found = works(part, self.setting)
        flops, moved = sum(work.flops for work in found), sum(work.moved_bytes for work in found)
        return [(flops * self.prices.pj_per_flop + moved * self.prices.pj_per_byte) * 1e-9]
