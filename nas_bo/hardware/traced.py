"""What one forward pass of a model of the user's own does: its operations as torch dispatches them, their FLOPs, bytes and
the peak of memory. Traced without weights on torch's meta device; where a model cannot run there, on the CPU.

FLOPs are those of torch's `FlopCounterMode`, fused attention included. An operation that only looks at its input otherwise (a view) counts nothing;
every other is one kernel that reads its inputs and writes its outputs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from nas_bo.errors import ModelError
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.model import Fitted
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.workload import BYTES, Setting, Work
from nas_bo.model import own_model
from nas_bo.model.device import dtype_of

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
KEPT = 4096  # traces per process


@dataclass(frozen=True)
class Size:
    """The weights of a model: unique parameters (tied ones once), and of them and its buffers the bytes.

    Attributes:
        floats: values of floating point, parameters and buffers, whose size is that of the data type.
        other_bytes: of whole numbers and truth values.
        where: "meta", or "cpu" where it could not be built without weights.
    """

    parameters: int
    floats: int
    other_bytes: int
    where: Literal["meta", "cpu"]

    def parameter_bytes(self, dtype: str = "float32") -> int:
        return self.floats * BYTES[dtype] + self.other_bytes


@dataclass(frozen=True)
class Traced:
    """One forward pass.

    Attributes:
        operations: equal ones added up.
        peak_bytes: the largest sum of storages alive at once, weights, cache and tokens included; without `cache` a lower bound
            where there are recurrent layers.
        cache: there was a cache that the model offers, and it is in `peak_bytes`.
        where: "meta" or "cpu".
    """

    operations: tuple[Work, ...]
    peak_bytes: int
    cache: bool
    where: Literal["meta", "cpu"]

    @property
    def flops(self) -> int:
        return sum(work.flops for work in self.operations)


class _Same:
    """A build as a key: the same only as itself."""

    def __init__(self, build: own_model.Build) -> None:
        self.build = build

    def __hash__(self) -> int:
        return id(self.build)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.build is self.build


def size(build: own_model.Build, arch: object) -> Size:
    """The weights of an architecture (raises ModelError as `nas_bo.model.own_model.built`)."""
    return _size(_Same(build), arch)


def traced(build: own_model.Build, arch: object, setting: Setting, cache: bool = False) -> Traced:
    """One forward pass of an architecture in a setting.

    Args:
        cache: let a prefill fill a cache of its length, where the model offers one.

    Raises:
        ModelError: it cannot be built or run.
        ObjectiveError: decoding of a model without a cache.
    """
    return _traced(_Same(build), arch, setting, cache)


def training_peak(build: own_model.Build, arch: object, batch: int, sequence: int, vocab_size: int) -> tuple[int, str]:
    """Peak bytes of a training step in float32 with AdamW (8 bytes of state per parameter), and where it was traced."""
    return _training_peak(_Same(build), arch, batch, sequence, vocab_size)


class TracedRoofline(Fitted):
    """The roofline of traced operations: what `RooflineModel` is for our decoder.

    Args:
        base: a device or its roofline.

    Raises:
        DeviceError: the device lacks a figure for the data type of the setting.
    """

    how, level = "roofline", 0.9
    measured = 0

    def __init__(self, build: own_model.Build, base: Device | Roofline, setting: Setting, device: str = "") -> None:
        self.build, self.setting, self.runtime = build, setting, "eager"
        self.base = Roofline.of(base, setting.dtype) if isinstance(base, Device) else base
        self.device = device or (base.name if isinstance(base, Device) else "")

    def predict_many(self, architectures: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
        found = [self.base.operations_ms(traced(self.build, a, self.setting).operations).sum() for a in architectures]
        return np.array(found, dtype=float), np.full(len(found), np.inf)


# ---- tracing --------------------------------------------------------------------------------------------------------


def _anywhere(trace: Callable[[str], T]) -> T:
    """`trace` on the meta device; on the CPU where a model cannot be built or run without numbers."""
    try:
        return trace("meta")
    except (ModelError, NotImplementedError, RuntimeError):
        return trace("cpu")


class _Made(threading.local):
    """The model without numbers that this thread has made last, until it is run, which may change it; and its size."""

    def __init__(self) -> None:
        self._of: tuple[_Same, object] | None = None
        self._model: torch.nn.Module | None = None
        self._size: Size | None = None

    def size(self, key: _Same, arch: object) -> Size:
        if self._size is None or self._of != (key, arch):
            self._of = None
            self._model = own_model.built(key.build, arch, "meta")
            self._size, self._of = _size_of(self._model, "meta"), (key, arch)
        return self._size

    def model(self, key: _Same, arch: object) -> torch.nn.Module:
        """One that nobody has run."""
        if self._model is None:
            self._of = None
        self.size(key, arch)
        model, self._model = self._model, None
        assert model is not None
        return model


_made = _Made()


def _size_of(model: torch.nn.Module, where: Literal["meta", "cpu"]) -> Size:
    held = [*model.parameters(), *model.buffers()]
    floats = sum(t.numel() for t in held if t.is_floating_point())
    others = sum(t.numel() * t.element_size() for t in held if not t.is_floating_point())
    return Size(sum(p.numel() for p in model.parameters()), floats, others, where)


@lru_cache(maxsize=KEPT)
def _size(key: _Same, arch: object) -> Size:
    def counted(where: str) -> Size:
        return _made.size(key, arch) if where == "meta" else _size_of(own_model.built(key.build, arch, where), "cpu")

    return _anywhere(counted)


@lru_cache(maxsize=KEPT)
def _traced(key: _Same, arch: object, setting: Setting, cache: bool) -> Traced:
    import torch

    from nas_bo.hardware.measuring.recorder import Recorder

    def trace(where: str) -> Traced:
        model = _made.model(key, arch) if where == "meta" else own_model.built(key.build, arch, where)
        if setting.dtype != "float32":
            model = model.to(dtype_of(setting.dtype))
        tokens = torch.zeros(setting.batch, setting.context, dtype=torch.long, device=where)
        has_cache = own_model.decodes(model)
        decoding: own_model.Decoding | None = None
        recorder = Recorder([*model.parameters(), *model.buffers()])
        if where == "meta" and not cache:
            recorder.shorten(model)
        with torch.no_grad():
            if setting.phase == "decode":
                decoding = own_model.Decoding(model, tokens[:, : max(1, setting.context - 1)], setting.context + 1)
                decoding.again()
                token = tokens[:, :1].clone()
                with recorder:
                    recorder.watch([token])
                    kept = own_model.logits_of(decoding.step(token), model)
            elif cache and isinstance(model, own_model.CachedDecoder):
                with recorder:
                    recorder.watch([tokens])
                    room = model.new_cache(setting.batch, setting.context)
                    kept = own_model.run(model, tokens, cache=room)
            else:
                with recorder:
                    recorder.watch([tokens])
                    kept = own_model.run(model, tokens)
        del kept
        return Traced(recorder.works(), recorder.peak, has_cache, "meta" if where == "meta" else "cpu")

    return _anywhere(trace)


@lru_cache(maxsize=KEPT)
def _training_peak(key: _Same, arch: object, batch: int, sequence: int, vocab_size: int) -> tuple[int, str]:
    import torch

    from nas_bo.hardware.measuring.recorder import Recorder

    def trace(where: str) -> tuple[int, str]:
        model = own_model.built(key.build, arch, where).train()
        tokens = torch.zeros(batch, sequence + 1, dtype=torch.long, device=where)
        recorder = Recorder([*model.parameters(), *model.buffers()])
        with torch.random.fork_rng(devices=[]), recorder:
            recorder.watch([tokens])
            logits = own_model.run(model, tokens[:, :-1]).float()
            if logits.shape[1] != sequence:
                raise ModelError(short_logits(model, logits.shape[1], sequence))
            # cross_entropy itself does not run on the meta device
            loss = -logits.log_softmax(-1).gather(2, tokens[:, 1:, None]).mean()
            del logits
            loss.backward()  # type: ignore[no-untyped-call]
        states = 8 * sum(p.numel() for p in model.parameters() if p.requires_grad)
        return int(recorder.peak) + states, where

    return _anywhere(trace)


def short_logits(model: object, has: int, wants: int) -> str:
    return (
        f"{type(model).__name__} returned logits of {has} of {wants} positions; training needs those of every position"
    )
