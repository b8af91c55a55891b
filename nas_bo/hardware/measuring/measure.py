"""Measuring how long a model takes, so that two measurements of the same model agree.

On a CPU: one thread, CPU time of that thread (wall time of a shared machine measures the neighbours), median of
repeats. On CUDA: device events. Repeats continue until the confidence interval of the median is tight, or a cap.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from nas_bo import measurement_lock
from nas_bo.errors import ObjectiveError
from nas_bo.hardware.measuring.clock import Asked, clock_for
from nas_bo.hardware.measuring.measurement import Measurement
from nas_bo.hardware.runtimes.eager import InTorch
from nas_bo.hardware.runtimes.interface import DECODED
from nas_bo.hardware.workload import Setting
from nas_bo.model.device import device_name, named, pick_device

__all__ = ["check_idle", "device_name", "interval", "named", "pick_device"]

if TYPE_CHECKING:
    import torch

WARM_UP = 2
MIN_REPEATS = 9
MAX_BUSY = 10  # percent
CALM = 3.0  # seconds that a driver's figure, a mean over up to one, has to come down after work of our own


def measure(
    model: torch.nn.Module,
    vocab_size: int,
    phase: Literal["prefill", "decode"] = "prefill",
    context: int = 128,
    batch: int = 1,
    precision: float = 0.03,
    max_seconds: float = 1.0,
    clock: Asked = "cpu",
) -> Measurement:
    """Time `model` where its parameters are. While it is timed no worker of the same search trains (`model.quiet`).

    Args:
        phase: "prefill" times one call on (batch, context) tokens; "decode" times one more token per sequence after
            `context` cached ones (`model.new_cache(batch, length)` and ``model(tokens, cache=cache)``).
        precision: stop when half the confidence interval is at most this share of the median.
        max_seconds: stop then in any case, after at least 9 repeats.
        clock: "cpu", "wall" or "auto", on a CPU.
    """
    import torch

    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocab_size, (batch, context + DECODED), generator=generator).to(device)
    model.eval()
    timer = clock_for(clock, str(device))
    times: list[float] = []
    ratios: list[float] = []
    with torch.inference_mode(), _one_thread(device), measurement_lock.alone():
        work = InTorch(model, tokens, Setting(phase, batch, context, vocab_size=vocab_size))
        start = time.perf_counter()
        for i in range(WARM_UP + 10_000):
            spent, ratio = timer(work.ready())
            if i < WARM_UP:
                continue
            times.append(spent / work.steps)
            ratios.append(ratio)
            if len(times) >= MIN_REPEATS:
                low, high = interval(times)
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
        wall_ratio=statistics.median(ratios),
        clock=timer.said,
        device=named(str(device)),
    )


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interval(times: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the median from order statistics: the innermost ranks whose binomial coverage is at
    least that; the smallest and largest where there are too few times for it."""
    ordered = sorted(times)
    rank = _rank(len(ordered))
    return ordered[rank], ordered[-1 - rank]


@lru_cache
def _rank(n: int) -> int:
    """The largest k for which x_(k), x_(n - 1 - k) (from 0) enclose the median with 95 %: P(Bin(n, 1/2) <= k) <= 2.5 %."""
    below, rank = 0.0, 0
    for k in range(n // 2):
        below += math.comb(n, k) / 2**n if n < 1000 else 0.0
        if below > 0.025:
            break
        rank = k
    return rank if n < 1000 else max(0, math.floor(n / 2 - 0.98 * math.sqrt(n)))


def check_idle(device: str, busy_percent: float | None = None) -> None:
    """Raise ObjectiveError when an accelerator is at work for somebody else: its times would be of both.

    Args:
        busy_percent: how busy it is; None asks the driver, where its package (nvidia-ml-py) is installed, and again for
            some seconds, since it counts what this process did a moment ago as well.
    """
    if not device.startswith("cuda"):
        return
    import torch

    until = time.monotonic() + CALM
    while busy_percent is None:
        try:
            told = float(torch.cuda.utilization(device))
        except Exception:  # no package, no driver, or a share of a GPU: its errors have no common base with torch's
            return
        if told <= MAX_BUSY or time.monotonic() > until:
            busy_percent = told
        else:
            time.sleep(0.1)
    if busy_percent > MAX_BUSY:
        raise ObjectiveError(
            f"{device} is {busy_percent:.0f} % busy with other work (at most {MAX_BUSY} %): its times would be of both; end "
            "the other work, or name another device"
        )
