"""The roofline model: Williams, Waterman and Patterson, "Roofline", CACM 2009, plus a fixed cost per kernel start.

An operation takes the longer of its arithmetic and its memory traffic, and every kernel that it starts costs the
overhead of a dispatch (which is what orders the decoding of small models). Uncalibrated it ranks well and errs in scale.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nas_bo.model.after_training import deployed
from nas_bo.model.counts import Arch, operations
from nas_bo.model.spec import DecoderSpec, check

if TYPE_CHECKING:
    import numpy as np

    from nas_bo.hardware.devices.device import Device
    from nas_bo.hardware.workload import Work


@dataclass(frozen=True)
class Roofline:
    """A device as three numbers. The defaults are one core of a common server CPU running eager fp32.

    Attributes:
        gflops: attainable arithmetic, 1e9 FLOP/s.
        gbytes: attainable memory bandwidth, 1e9 bytes/s.
        overhead_us: microseconds per kernel start.
        bytes_per_value: of weights and activations.
    """

    gflops: float = 60.0
    gbytes: float = 10.0
    overhead_us: float = 8.0
    bytes_per_value: float = 4.0

    @classmethod
    def of(cls, device: Device, dtype: str = "float32") -> Roofline:
        """The roofline of a device for one data type. An overhead that is not known counts as none.

        Raises:
            DeviceError: the device has no figure for that data type, or no bandwidth.
        """
        from nas_bo.hardware.workload import BYTES

        arithmetic = device.figure("gflops", dtype, "a roofline")
        memory = device.figure("gbytes", use="a roofline")
        return cls(arithmetic, memory, device.overhead_us or 0.0, float(BYTES[dtype]))

    def milliseconds(
        self,
        arch: Arch,
        vocab_size: int,
        phase: Literal["prefill", "decode"],
        context: int,
        batch: int = 1,
        ignore: Collection[str] = (),
    ) -> float:
        """Modelled time of one prefill of (batch, context) tokens, or of one more token per sequence.

        Raises:
            ModelError: the architecture cannot be built, or the phase or sizes are none.
        """
        total_us = 0.0
        spec = deployed(arch if isinstance(arch, DecoderSpec) else check(arch, ignore))
        if spec.after is not None:
            return self._of_kept(spec, vocab_size, phase, context, batch)
        for op in operations(spec, vocab_size, phase, context, batch):
            moved = (op.weight_elements + op.activation_elements) * self.bytes_per_value
            total_us += max(op.flops / self.gflops, moved / self.gbytes) * 1e-3 + self.overhead_us * op.kernels
        return total_us * 1e-3

    def _of_kept(
        self, spec: DecoderSpec, vocab_size: int, phase: Literal["prefill", "decode"], context: int, batch: int
    ) -> float:
        """The same where weights or caches have fewer bits than the data type."""
        from nas_bo.hardware.workload import BYTES, workload

        dtype = next((name for name, size in BYTES.items() if size == self.bytes_per_value), "float32")
        found = workload(spec, phase, batch, context, dtype, vocab_size).operations
        return float(self.operations_ms(found).sum())

    def columns(self, found: Sequence[Work]) -> np.ndarray:
        """(n, 3): milliseconds of arithmetic or traffic without any overhead, kernels started, and millions of softmax terms, of
        each operation."""
        import numpy as np

        rows = [(work.flops / self.gflops, work.moved_bytes / self.gbytes, work.kernels, work.scores) for work in found]
        arithmetic, memory, kernels, scores = np.array(rows, dtype=float).reshape(-1, 4).T
        return np.stack([np.maximum(arithmetic, memory) * 1e-6, kernels, scores * 1e-6], axis=1)

    def operations_ms(self, found: Sequence[Work]) -> np.ndarray:
        """(n,) modelled time of each operation: what a learned model begins with. Bytes are those of its data type."""
        busy, kernels, _ = self.columns(found).T
        milliseconds: np.ndarray = busy + self.overhead_us * kernels * 1e-3
        return milliseconds


GPU = Roofline(gflops=50_000.0, gbytes=3_000.0, overhead_us=12.0)
"""A server GPU running eager float32, which starts kernels for longer than small ones take: round figures of an H200 with
torch 2.11. How far one of this form orders what is measured there: benchmarks/results/hardware_cuda.json."""
