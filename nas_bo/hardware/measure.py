"""Measuring how long a model takes, so that two measurements of the same model agree.

On a CPU: one thread, CPU time of that thread (wall time of a shared machine measures the neighbours), median of
repeats. On CUDA: device events. Repeats go on until the confidence interval of the median is tight, or a cap.
"""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from nas_bo.errors import ObjectiveError

WARM_UP = 2
MIN_REPEATS = 9
DECODED = 8  # tokens per timed repeat of decoding


@dataclass(frozen=True)
class Measurement:
    """A median with what it takes to judge it. Times in milliseconds.

    Attributes:
        median_ms: per prefill, or per decoded token.
        low_ms, high_ms: 95 % confidence interval of the median, from order statistics.
        spread: interquartile range over median.
        repeats: timed repeats.
        settled: whether the interval became as tight as asked before the cap.
        wall_ratio: wall time over the reported clock; far above 1 the machine was busy with other work.
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


def measure(
    model: torch.nn.Module,
    vocab_size: int,
    phase: Literal["prefill", "decode"] = "prefill",
    context: int = 128,
    batch: int = 1,
    precision: float = 0.03,
    max_seconds: float = 1.0,
) -> Measurement:
    """Time `model` where its parameters are.

    Args:
        phase: "prefill" times one call on (batch, context) tokens; "decode" times one more token per sequence after
            `context` cached ones (`model.new_cache(batch, length)` and ``model(tokens, cache=cache)``).
        precision: stop when half the confidence interval is at most this share of the median.
        max_seconds: stop then in any case, after at least 9 repeats.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocab_size, (batch, context + DECODED), generator=generator).to(device)
    model.eval()
    with torch.inference_mode(), _one_thread(device):
        work = _prefill(model, tokens[:, :context]) if phase == "prefill" else _decode(model, tokens, context)
        clock = _cuda_clock if device.type == "cuda" else _cpu_clock
        scale = 1.0 if phase == "prefill" else 1.0 / DECODED
        times: list[float] = []
        walls: list[float] = []
        start = time.perf_counter()
        for i in range(WARM_UP + 10_000):
            run = work()
            spent, wall = clock(run)
            if i < WARM_UP:
                continue
            times.append(spent * scale)
            walls.append(wall * scale)
            if len(times) >= MIN_REPEATS:
                low, high = _interval(times)
                settled = (high - low) / 2 <= precision * statistics.median(times)
                if settled or time.perf_counter() - start > max_seconds:
                    break
    median = statistics.median(times)
    quartiles = statistics.quantiles(times, n=4)
    return Measurement(
        median_ms=median,
        low_ms=low,
        high_ms=high,
        spread=(quartiles[2] - quartiles[0]) / median if median else math.inf,
        repeats=len(times),
        settled=settled,
        wall_ratio=statistics.median(walls) / median if median else math.inf,
        clock="CUDA events" if device.type == "cuda" else "thread CPU time, one thread",
        device=device_name(device.type),
    )


def pick_device(device: str | None) -> str:
    """The device that is meant: `None` is CUDA where there is one, else the CPU.

    Raises:
        ObjectiveError: the device is named but not there.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ObjectiveError(
            f"the device {device!r} cannot be used here ({str(error).splitlines()[0]}); leave it out, or use 'cpu'"
        ) from error
    return device


@lru_cache
def device_name(kind: str) -> str:
    """What the device calls itself."""
    if kind == "cuda":
        return str(torch.cuda.get_device_name())
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _prefill(model: Any, tokens: torch.Tensor) -> Callable[[], Callable[[], Any]]:
    return lambda: lambda: model(tokens)


def _decode(model: Any, tokens: torch.Tensor, context: int) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        cache = model.new_cache(tokens.shape[0], context + DECODED)
        model(tokens[:, :context], cache=cache)

        def run() -> None:
            for i in range(DECODED):
                model(tokens[:, context + i : context + i + 1], cache=cache)

        return run

    return prepare


def _cpu_clock(run: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    run()
    return (time.thread_time_ns() - cpu) / 1e6, (time.perf_counter_ns() - wall) / 1e6


def _cuda_clock(run: Callable[[], Any]) -> tuple[float, float]:
    events: Any = torch.cuda.Event  # untyped in torch
    begin, end = events(enable_timing=True), events(enable_timing=True)
    torch.cuda.synchronize()
    wall = time.perf_counter_ns()
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end), (time.perf_counter_ns() - wall) / 1e6


def _interval(times: list[float]) -> tuple[float, float]:
    """95 % confidence interval of the median from order statistics: ranks n/2 -+ 0.98 sqrt(n)."""
    ordered, n = sorted(times), len(times)
    reach = 0.98 * math.sqrt(n)
    return ordered[max(0, math.floor(n / 2 - reach))], ordered[min(n - 1, math.ceil(n / 2 + reach))]
