"""What a measurement is: plain data. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Measurement:
    """A median with what it takes to judge it. Times in milliseconds.

    Attributes:
        median_ms: per prefill, or per decoded token.
        low_ms, high_ms: 95 % confidence interval of the median, from order statistics.
        spread: interquartile range over median.
        repeats: timed repeats.
        settled: whether the interval became as tight as asked before the cap.
        wall_ratio: wall time over CPU time; far above 1 the machine was busy with other work.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    spread: float
    repeats: int
    settled: bool
    wall_ratio: float
    clock: str
    device: str

    def times(self, factor: float) -> Measurement:
        """The same on another scale."""
        ends = {name: vars(self)[name] * factor for name in ("median_ms", "low_ms", "high_ms")}
        return replace(self, **ends)
