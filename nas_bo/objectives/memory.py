"""Memory of an architecture in closed form, and whether it fits a device and runs there at all."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import Literal

from nas_bo.architecture import Architecture
from nas_bo.errors import DeviceError, ObjectiveError, SpaceError
from nas_bo.hardware import memory
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.workload import Setting
from nas_bo.model.own_model import Build, called, check_build
from nas_bo.model.spec import check
from nas_bo.objective import Value
from nas_bo.objectives.target import plain_device, settle_target
from nas_bo.space import Space, require
from nas_bo.trial import Direction
from nas_bo.validated import Check, check_fields, checked, number, whole_number

TRAINING = Check(
    "(batch, sequence), two integers of at least 1, or None",
    lambda value: (
        value is None or (isinstance(value, tuple) and len(value) == 2 and all(map(whole_number(1).holds, value)))
    ),
)


@dataclass(frozen=True)
class Memory:
    """Peak bytes of weights, cache and activations: of inference with `batch` sequences of `context` tokens (the larger of
    prefill and decoding), or of a training step (see `nas_bo.hardware.memory`).

    Computed, not measured: a limit rejects an architecture before anything is spent. For a model of your own the closed form is
    not known: the peak is that of the storages alive at once while torch traces one prefill (or training step) without numbers,
    with weights, activations, and the cache where the model offers one; `info` says so.

    Args:
        build: builds a torch module of your own from an architecture (`nas_bo.model.own_model`).
        training: (batch, sequence) of a training step instead of inference; float32 with AdamW.
        at_most, at_least: hard limits in bytes.
        target: a `Device`, the name of one, a file or profile: its memory is then `at_most`, unless that is given.

    Raises:
        ObjectiveError: a size or data type is impossible.
        DeviceError: there is no such device, or its memory is not known.
    """

    context: int = 2048
    batch: int = 1
    dtype: str = "float32"
    vocab_size: int = 256
    training: tuple[int, int] | None = checked(None, TRAINING)
    at_most: float | None = None
    at_least: float | None = None
    target: object = None
    ignore: tuple[str, ...] = ()
    name: str = ""
    unit: str = "B"
    direction: Direction = "minimize"
    cost: Literal["analytic"] = "analytic"
    build: Build | None = None
    device: object = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        settle_target(self)
        object.__setattr__(self, "_setting", _setting(self))
        check_fields(self, ObjectiveError)
        check_build("Memory", self.build)
        word = "peak_bytes" if self.training is None else "training_bytes"
        if self.target is not None or self.device is not None:
            figures = plain_device(self.target if self.device is None else self.device)
            word = f"{word}@{figures.name}"
            if self.at_most is None:
                object.__setattr__(self, "at_most", figures.figure("memory_bytes", use="a limit on memory"))
        if not self.name:
            object.__setattr__(self, "name", word)

    def conditions(self) -> dict[str, object]:
        return _sizes(self) if self.build is None else {**_sizes(self), "build": called(self.build)}

    def __call__(self, arch: Architecture, /) -> Value:
        setting: Setting = self._setting  # type: ignore[attr-defined]
        if self.build is not None:
            return _traced(self.build, arch, setting, self.training)
        return Value(memory.needed(arch, setting, self.training), how="closed form")


@dataclass(frozen=True)
class Fits:
    """Whether an architecture runs on a device: its memory suffices and the device supports every block. For ``limits=[...]``:
    what does not fit is never proposed and never trained.

    The value is 0 where it fits; else by what share the memory falls short, plus the number of kinds of blocks that the
    device does not support. `info` says which. A model of your own is traced, as in `Memory`, and only its memory is judged:
    which operations it needs is not known.

    Args:
        build: builds a torch module of your own from an architecture (`nas_bo.model.own_model`).
        target: a `Device`, the name of one in the table, a file or profile.
        context, batch, dtype: of inference.
        training: (batch, sequence) of a training step instead.
        share: of the device's memory that is there for the model.

    Raises:
        ObjectiveError: a size, share or data type is impossible.
        DeviceError: there is no such device, or neither its memory nor its operations are known.
    """

    target: object = None
    context: int = 2048
    batch: int = 1
    dtype: str = "float32"
    vocab_size: int = 256
    training: tuple[int, int] | None = checked(None, TRAINING)
    share: float = checked(
        1.0, number(above=0, at_most=1).advise("it is the share of the memory that is there for the model")
    )
    ignore: tuple[str, ...] = ()
    name: str = ""
    at_most: float | None = 0.0
    at_least: float | None = None
    unit: str = ""
    direction: Direction = "minimize"
    cost: Literal["analytic"] = "analytic"
    build: Build | None = None
    device: object = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        settle_target(self)
        figures = plain_device(self.target if self.device is None else self.device)
        if figures.memory_bytes is None and figures.operations is None:
            raise DeviceError(
                f"of the device {figures.name!r} neither memory_bytes nor operations are known, so everything would fit; write "
                "one of them into its file"
            )
        check_build("Fits", self.build)
        if self.build is not None and figures.memory_bytes is None:
            raise DeviceError(
                f"Fits(build={called(self.build)}): of a model of your own only the memory can be judged, and that of the device "
                f"{figures.name!r} is not known; write memory_bytes into its file"
            )
        check_fields(self, ObjectiveError)
        object.__setattr__(self, "_figures", figures)
        object.__setattr__(self, "_setting", _setting(self))
        if not self.name:
            object.__setattr__(self, "name", f"fits@{figures.name}")

    def conditions(self) -> dict[str, object]:
        figures = self._device
        there = {"memory_bytes": figures.memory_bytes, "operations": figures.operations and list(figures.operations)}
        own = {} if self.build is None else {"build": called(self.build)}
        return {**_sizes(self), "device": figures.name, "share": self.share, **there, **own}

    def __call__(self, arch: Architecture, /) -> Value:
        setting: Setting = self._setting  # type: ignore[attr-defined]
        figures = self._device
        if self.build is not None:
            peak = _traced(self.build, arch, setting, self.training)
            room = (figures.memory_bytes or 0) * self.share
            told = {"device": figures.name, "needed_bytes": int(peak), "available_bytes": int(room)}
            return Value(max(0.0, float(peak) / room - 1), **{**peak.info, **told})
        spec = check(arch, self.ignore)
        kinds = dict.fromkeys(kind for layer in spec.layers for kind in (layer.mixer.kind, layer.mlp.kind))
        missing = [kind for kind in kinds if not figures.supports(kind)]
        info: dict[str, object] = {"how": "closed form", "device": figures.name, "unsupported": missing}
        over = 0.0
        if figures.memory_bytes is not None:
            needed, there = memory.needed(arch, setting, self.training), figures.memory_bytes * self.share
            info |= {"needed_bytes": needed, "available_bytes": int(there)}
            over = max(0.0, needed / there - 1)
        return Value(over + len(missing), **info)

    def holds(self, arch: Architecture) -> bool:
        """Whether it fits: a rule for `require`, as in ``fits = require(Fits("pi5").holds)`` in the body of a space."""
        return float(self(arch)) <= 0

    @property
    def _device(self) -> Device:
        found: Device = self._figures  # type: ignore[attr-defined]
        return found


def fitting(title: str, space: type[Space], *limits: Fits) -> type[Space]:
    """The space without the architectures that do not fit: one rule for each device, so that studies of Optuna and clients
    of Ax that do not know about us never draw them as well. Bind it to its title at the top of a module::

        PiGPT = fitting("PiGPT", TinyGPT, Fits("pi5", context=4096))

    Raises:
        SpaceError: a field of the space has the name of a rule (``fits_pi5``).
    """
    module = sys._getframe(1).f_globals.get("__name__", __name__)  # where pickle is to look for it
    rules = {re.sub(r"\W+", "_", limit.name): require(limit.holds) for limit in limits}
    taken = [name for name in rules if name in space._fields]
    if taken:
        raise SpaceError(f"{space.title} has a field {taken[0]!r}; give Fits another name=")
    return type(title, (space,), {**rules, "title": title, "__module__": module})


def _traced(build: Build, arch: Architecture, setting: Setting, training: tuple[int, int] | None) -> Value:
    from nas_bo.hardware.traced import size, traced, training_peak

    weights = size(build, arch).parameter_bytes(setting.dtype)
    if training is not None:
        peak, where = training_peak(build, arch, *training, setting.vocab_size)
        return Value(peak, how=f"traced on the {where} device", of="a training step with AdamW in float32")
    found = traced(build, arch, setting, cache=True)
    of = "weights, activations, cache" if found.cache else "weights, activations; the model offers no cache"
    return Value(found.peak_bytes, how=f"traced on the {found.where} device", of=of, weight_bytes=weights)


def _setting(owner: Memory | Fits) -> Setting:
    return Setting("prefill", owner.batch, owner.context, owner.dtype, owner.vocab_size, tuple(owner.ignore))


def _sizes(owner: Memory | Fits) -> dict[str, object]:
    training = owner.training if owner.training is None else list(owner.training)
    sizes = {"context": owner.context, "batch": owner.batch, "dtype": owner.dtype, "vocab_size": owner.vocab_size}
    return {**sizes, "training": training}
