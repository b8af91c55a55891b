"""What every latency model offers, and what their answers say about themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from nas_bo.hardware.workload import Setting
from nas_bo.model.counts import Arch
from nas_bo.objective import Value
from nas_bo.space.space import Space


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

    def predict_many(self, architectures: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Milliseconds and half widths of their intervals (inf while none is known), (n,) each."""


@runtime_checkable
class LeastModel(Protocol):
    """What an objective needs of a latency model at least: one of the user's own may have no more."""

    @property
    def how(self) -> str: ...
    @property
    def setting(self) -> Setting: ...

    def predict(self, arch: Arch) -> Value: ...


@runtime_checkable
class Marked(Protocol):
    """A model or a profile with a mark that changes when the figures or measurements behind it do."""

    @property
    def fingerprint(self) -> str | None: ...


class SpaceCheck(Protocol):
    def check(self, space: type[Space], /) -> object:
        """Raise ProfileError for another space."""


@runtime_checkable
class OfOneSpace(Protocol):
    """A model that was learned in one space, and checks that it is asked about that one."""

    @property
    def of_space(self) -> SpaceCheck | None: ...


class MadeByProfile:
    """What a profile says to the models that it makes; None of a model that was made by itself."""

    of_space: SpaceCheck | None = None
    fingerprint: str | None = None


class Fitted(MadeByProfile, ABC):
    """A latency model whose `predict` is one row of its `predict_many`."""

    how: str
    device: str
    runtime: str
    setting: Setting
    measured: int
    level: float

    def predict(self, arch: Arch) -> Value:
        """Milliseconds; see `LatencyModel`."""
        milliseconds, half = self.predict_many([arch])
        return answer(self, float(milliseconds[0]), float(half[0]), self.level)

    @abstractmethod
    def predict_many(self, architectures: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Milliseconds and half widths of their intervals, (n,) each."""


@runtime_checkable
class DeviceProfile(Protocol):
    """What is known about a device from measurements there: a `nas_bo.hardware.latency.profile.Profile`, or one of the
    user's own."""

    @property
    def device(self) -> object: ...  # a Device; one that is not is refused with a message

    def model(self, setting: Setting, *, kind: str = "learned") -> LatencyModel: ...


@runtime_checkable
class OnDevice(Protocol):
    """A model of one device, by its name."""

    @property
    def device(self) -> str: ...


@runtime_checkable
class OnRuntime(Protocol):
    """A model or profile of one runtime."""

    @property
    def runtime(self) -> str: ...


def answer(model: LatencyModel, milliseconds: float, half: float, level: float) -> Value:
    """What `predict` returns, from one row of what `predict_many` does."""
    bounded = bool(half < float("inf"))
    info = {
        "how": model.how,
        "low": float(max(0.0, milliseconds - half)) if bounded else None,
        "high": float(milliseconds + half) if bounded else None,
        "level": level if bounded else None,
        "device": model.device,
        "runtime": model.runtime,
        "measured": model.measured,
    }
    return Value(float(milliseconds), **info)
