"""The contract of a runtime: it makes architectures ready to be timed. No base class is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import numpy as np

from nas_bo.errors import Unsupported
from nas_bo.hardware.workload import Setting
from nas_bo.model.counts import Arch, parameters

DECODED = 8  # tokens per timed repeat of decoding
# of `agree`, for what torch itself compiles or replays
BOUND = {"float64": 1e-6, "float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}


class Prepared(Protocol):
    """One architecture in one setting.

    Attributes:
        steps: by how many the time of one call of `run` is divided: tokens decoded, else 1.
        held_bytes: memory that it keeps while it is there.
    """

    steps: int
    held_bytes: int

    def ready(self) -> Callable[[], object]:
        """Set back to the start, untimed; what comes back is what is timed. On CUDA it need not wait for the device."""


class Runtime(Protocol):
    """A way to run models on a device.

    Attributes:
        name: as in `nas_bo.hardware.runtimes.NAMES`; it is in every profile.
        device: "cpu" or "cuda", with a number where there are several.
        threads: of the CPU.
        inside: the work runs on threads of its own.
    """

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str | None: ...
    @property
    def threads(self) -> int: ...
    @property
    def inside(self) -> bool: ...

    def conditions(self) -> Mapping[str, object]:
        """Versions and settings on which times depend. Raises MissingExtra, and ObjectiveError for a missing device."""

    def running(self) -> AbstractContextManager[None]:
        """Around everything that is timed."""

    def prepare(self, arch: Arch, setting: Setting) -> Prepared:
        """Build with random weights (the same for every runtime) and make ready.

        Raises:
            Unsupported: this runtime cannot run the architecture in this setting, or runs it to another result.
            ModelError: the architecture cannot be built.
        """


@runtime_checkable
class Weighs(Protocol):
    """What a runtime of models other than our decoder offers beyond the minimum: the size of what it will build."""

    def weight_bytes(self, arch: object, setting: Setting) -> float:
        """Bytes of the weights, known before anything is prepared (raises ModelError)."""


def held_together(runtime: Runtime, models: Sequence[tuple[Arch, Setting]], room: float) -> Iterator[list[int]]:
    """The numbers of models, in their order, in blocks whose weights fit into `room` bytes; twice, since some runtimes keep a copy of
    their own. A model that is too large is a block by itself."""
    block: list[int] = []
    held = 0.0
    for at, (arch, setting) in enumerate(models if len(models) > 1 else ()):
        if isinstance(runtime, Weighs):
            size = 2 * runtime.weight_bytes(arch, setting)
        else:
            size = 8.0 * parameters(arch, setting.vocab_size, setting.ignore)
        if block and held + size > room:
            yield block
            block, held = [], 0.0
        block.append(at)
        held += size
    if models:
        yield block or [0]


def agree(name: str, got: np.ndarray, expected: np.ndarray, bound: float) -> float:
    """How far logits are from those of eager torch, as a share of their norm.

    Raises:
        Unsupported: further than `bound`, or not finite: what computes something else has no latency to be compared.
    """
    if got.shape != expected.shape:
        raise Unsupported(f"{name} gives logits of shape {got.shape}, eager torch of shape {expected.shape}")
    apart = float(np.linalg.norm(got - expected)) / max(float(np.linalg.norm(expected)), 1e-30)
    if not apart <= bound:
        raise Unsupported(
            f"the logits of {name} are {apart:.2g} away from those of eager torch, more than {bound:g}: its time is that of "
            "another computation"
        )
    return apart
