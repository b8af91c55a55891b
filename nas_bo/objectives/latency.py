"""Latency of an architecture, measured on the device where the search runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.hardware.roofline import Roofline
from nas_bo.objectives.cost import positive
from nas_bo.problem import Value
from nas_bo.trial import Direction


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one prefill of `context` tokens, or (``phase="decode"``) of one token after `context` cached ones.

    Measured with randomly initialised weights: warm-up, then repeats until the median's confidence interval is tight.
    On a CPU it is the CPU time of one thread, which other processes on the machine disturb little; on CUDA, device
    events. Strategies steer by `predict`, a roofline estimate that ranks alike and is the same in every run.

    Args:
        at_most, at_least: hard limits in milliseconds, applied to the measurement, before training.
        device: a torch device; None is CUDA where there is one, else the CPU.
        precision: half width of the 95 % interval of the median at which measuring stops, as a share of it.
        max_seconds: cap on measuring one architecture.
        guide: the model behind `predict`.
    """

    phase: Literal["prefill", "decode"] = "prefill"
    context: int = 128
    batch: int = 1
    vocab_size: int = 256
    at_most: float | None = None
    at_least: float | None = None
    device: str | None = None
    precision: float = 0.04
    max_seconds: float = 0.5
    guide: Roofline = field(default_factory=Roofline)
    ignore: tuple[str, ...] = ()
    name: str = ""
    unit: str = "ms"
    direction: Direction = "minimize"
    cost: Literal["measured"] = "measured"

    def __post_init__(self) -> None:
        if self.phase not in ("prefill", "decode"):
            raise ObjectiveError(f"Latency(phase={self.phase!r}): it is 'prefill' or 'decode'")
        positive(self, "context", "batch", "precision", "max_seconds")
        if not self.name:
            object.__setattr__(self, "name", "latency_ms" if self.phase == "prefill" else "decode_ms")

    def conditions(self) -> dict[str, Any]:
        from nas_bo.hardware.measure import device_name, pick_device

        device = pick_device(self.device)
        return {
            "phase": self.phase,
            "context": self.context,
            "batch": self.batch,
            "vocab_size": self.vocab_size,
            "device": device_name(device.partition(":")[0]),
        }

    def predict(self, arch: Architecture) -> float:
        """The roofline estimate, in milliseconds: right in rank, not in scale."""
        return self.guide.milliseconds(arch, self.vocab_size, self.phase, self.context, self.batch, self.ignore)

    def __call__(self, arch: Architecture, /) -> Value:
        import torch

        from nas_bo.hardware.measure import measure, pick_device
        from nas_bo.model import build

        with torch.random.fork_rng(devices=[]):
            model = build(arch, self.vocab_size, self.ignore, device=pick_device(self.device))
        got = measure(model, self.vocab_size, self.phase, self.context, self.batch, self.precision, self.max_seconds)
        return Value(
            got.median_ms,
            how="measured",
            device=got.device,
            clock=got.clock,
            repeats=got.repeats,
            spread=round(got.spread, 4),
            low=round(got.low_ms, 5),
            high=round(got.high_ms, 5),
            settled=got.settled,
            wall_ratio=round(got.wall_ratio, 3),
            predicted=round(self.predict(arch), 5),
        )
