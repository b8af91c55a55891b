"""What every latency model offers, and what their answers say about themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from nas_bo.hardware.workload import Setting
from nas_bo.model.counts import Arch
from nas_bo.objective import Value

How = Literal["roofline", "lookup", "learned", "measured"]


@runtime_checkable
class LatencyModel(Protocol):
    """Milliseconds of an architecture in one setting on one device. No base class is needed.

    Attributes:
        how: which kind of model it is.
        device, runtime: of what it speaks; "" where nobody said.
        setting: the phase, sizes and data type.
        measured: how many measured architectures it has seen.
    """

    @property
    def how(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def runtime(self) -> str: ...
    @property
    def setting(self) -> Setting: ...
    @property
    def measured(self) -> int: ...

    def predict(self, arch: Arch) -> Value:
        """Milliseconds. `info` has `low` and `high` (None while no interval is known), their `level`, `how`, `device`,
        `runtime` and `measured`."""
        ...

    def predict_many(self, architectures: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Milliseconds and half widths of their intervals (inf while none is known), (n,) each."""
        ...


def answer(model: LatencyModel, milliseconds: float, half: float, level: float) -> Value:
    """What `predict` returns, from one row of what `predict_many` does."""
    bounded = bool(half < float("inf"))
    info: dict[str, Any] = {
        "how": model.how,
        "low": float(max(0.0, milliseconds - half)) if bounded else None,
        "high": float(milliseconds + half) if bounded else None,
        "level": level if bounded else None,
        "device": model.device,
        "runtime": model.runtime,
        "measured": model.measured,
    }
    return Value(float(milliseconds), **info)
