"""Tokens per second, from the latency of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from nas_bo.architecture import Architecture
from nas_bo.errors import Unsupported
from nas_bo.model.own_model import Build, check_build
from nas_bo.objective import Say, Value
from nas_bo.objectives.latency import NAMES, Latency
from nas_bo.objectives.measuring import silent
from nas_bo.objectives.target import BOUND, settle_target
from nas_bo.trial import Direction


@dataclass(frozen=True)
class Throughput:
    """Tokens per second that a batch of sequences makes (``phase="decode"`` or "request"), or that are read ("prefill").

    It is what `Latency` says, turned round, and takes its arguments, `build` for a model of your own among them; a limit is a
    number of tokens per second.

    Raises:
        ObjectiveError, DeviceError: see `Latency`.
    """

    phase: Literal["prefill", "decode", "request"] = "decode"
    context: int = 128
    batch: int = 8
    vocab_size: int = 256
    at_most: float | None = None
    at_least: float | None = None
    device: str | None = None
    model: object = None
    dtype: str = "float32"
    output_length: int = 64
    runtime: str | None = None
    precision: float = 0.03
    max_seconds: float = 0.5
    ignore: tuple[str, ...] = ()
    name: str = ""
    unit: str = "tokens/s"
    direction: Direction = "maximize"
    cost: Literal["measured"] = "measured"
    build: Build | None = None
    target: object = field(default=None, kw_only=True)
    on: str | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        settle_target(self)
        check_build("Throughput", self.build)
        same = (
            "phase", "context", "batch", "vocab_size", "device", "target", "model", "dtype", "output_length",
            "runtime", "build", "on", "precision", "max_seconds", "ignore",
        )  # fmt: skip
        timing = Latency(**{name: vars(self)[name] for name in same})
        object.__setattr__(self, "latency", timing)
        if timing.unit == BOUND and self.unit == "tokens/s":
            object.__setattr__(self, "unit", f"tokens/s, {BOUND}")
        if not self.name:
            words = {"prefill": "prefill_tokens_per_s", "decode": "tokens_per_s", "request": "request_tokens_per_s"}
            object.__setattr__(self, "name", words[self.phase] + timing.name.removeprefix(NAMES[self.phase]))

    @property
    def tokens(self) -> int:
        """Of one batch."""
        return self.batch * {"prefill": self.context, "decode": 1, "request": self.output_length}[self.phase]

    def conditions(self) -> dict[str, object]:
        found: dict[str, object] = self.latency.conditions()  # type: ignore[attr-defined]
        return found

    def check_space(self, space: object) -> None:
        """Raise ProfileError when the models are of a profile of another space."""
        self.latency.check_space(space)  # type: ignore[attr-defined]

    def check_architecture(self, arch: Architecture) -> None:
        """Raise where the model cannot be built or run."""
        self.latency.check_architecture(arch)  # type: ignore[attr-defined]

    def predict(self, arch: Architecture) -> float:
        """The prediction, or for a measured throughput what the roofline says."""
        return self._rate(self.latency.predict(arch))  # type: ignore[attr-defined]

    def __call__(self, arch: Architecture, /) -> Value:
        return self._turned(self.latency(arch))  # type: ignore[attr-defined]

    def ready(self, space: object, profile: object, say: Say = silent) -> None:
        """As of `Latency`."""
        self.latency.ready(space, profile, say)  # type: ignore[attr-defined]

    def remeasure(self, archs: Sequence[Architecture], say: Say = silent) -> list[Value | Unsupported]:
        """As of `Latency`."""
        found = self.latency.remeasure(archs, say)  # type: ignore[attr-defined]
        return [one if isinstance(one, Unsupported) else self._turned(one) for one in found]

    @property
    def measures_here(self) -> bool:
        """As of `Latency`."""
        found: bool = self.latency.measures_here  # type: ignore[attr-defined]
        return found

    def _turned(self, value: Value) -> Value:
        info = {**value.info, "batch_ms": float(value)}
        for end, other in (("low", "high"), ("high", "low")):
            info[end] = self._rate(value.info[other]) if value.info.get(other) else None
        if "predicted" in info:
            info["predicted"] = round(self._rate(info["predicted"]), 3)
        return Value(self._rate(value), **info)

    def _rate(self, milliseconds: float) -> float:
        return self.tokens / float(milliseconds) * 1e3
