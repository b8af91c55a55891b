"""What time is measured with: CPU time where other work shares the machine, wall time where it does not, device events.

The processor time of one thread is what neighbours disturb least: on a loaded machine the medians of two sessions
agreed with Kendall tau .96 where wall time gave .83. It says nothing about work on several threads, or of waiting.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nas_bo.errors import ObjectiveError
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.hardware.runtimes.interface import Prepared

Asked = Literal["auto", "cpu", "wall"]
BUSY = 1.05  # wall time over CPU time of a fixed piece of work, above which a machine counts as shared
PROBE_NS = 60_000_000


@dataclass(frozen=True)
class Clock:
    """Times one call.

    Attributes:
        kind: "thread" and "process" are CPU time, "wall" is wall time, "cuda" is device events.
        said: how a measurement names it.
        device: whose events, of CUDA.
    """

    kind: Literal["thread", "process", "wall", "cuda"]
    said: str
    device: str = "cuda"

    def __call__(self, run: Callable[[], object]) -> tuple[float, float]:
        """Milliseconds, and how many times longer it took on the wall than in CPU time (CUDA: than on the device)."""
        if self.kind == "cuda":
            return _cuda(run, self.device)
        processor = time.thread_time_ns if self.kind == "thread" else time.process_time_ns
        wall, begun = time.perf_counter_ns(), processor()
        run()
        spent, elapsed = processor() - begun, time.perf_counter_ns() - wall
        return (elapsed if self.kind == "wall" else spent) / 1e6, elapsed / max(1, spent)


def clock_for(asked: Asked, device: str, inside: bool = False, threads: int = 1) -> Clock:
    """The clock for work on `device`.

    Args:
        asked: "auto" on a CPU is wall time where nobody else is at work or several threads are, else CPU time.
        inside: the work runs on threads of the runtime's own, so that CPU time is that of the whole process.
        threads: that the work runs on.

    Raises:
        ObjectiveError: no such clock, a device that has none, or CPU time of several threads, which is not a latency.
    """
    check_timed(device)
    if asked not in ("auto", "cpu", "wall"):
        raise ObjectiveError(f"clock={asked!r}: it is 'auto', 'cpu' or 'wall'")
    if device.startswith("cuda"):
        return Clock("cuda", "CUDA events", device)
    if asked == "cpu" and threads > 1:
        raise ObjectiveError(
            f"clock='cpu' with threads={threads}: CPU time adds up over threads and is not a latency; use one thread, or "
            "clock='wall' on a machine that does nothing else"
        )
    if asked == "wall" or threads > 1 or (asked == "auto" and busy() < BUSY):
        return Clock("wall", f"wall time, {counted(threads, 'thread')}")
    return (
        Clock("process", "process CPU time, one thread") if inside else Clock("thread", "thread CPU time, one thread")
    )


def check_timed(device: str) -> None:
    """Raise ObjectiveError for a device that is neither a CPU nor CUDA: others keep working after a call is back, and what
    would be timed is the call."""
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise ObjectiveError(
            f"nothing is measured on the device {device!r}: there is a clock for 'cpu' and 'cuda' only; take one of these, or "
            "a prediction for another device (device= a `Device`, the name of one, or a file)"
        )


def busy() -> float:
    """How many times longer than its CPU time work takes here: 1.0 on a machine that does nothing else. What waits for
    a processor counts (the load of the last minute beyond one, which is us), since it may run in the next moment.
    Takes about 60 ms."""
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    while time.perf_counter_ns() - wall < PROBE_NS:
        sum(range(10_000))
    spent = time.thread_time_ns() - cpu
    ratio = (time.perf_counter_ns() - wall) / max(1, spent)
    try:
        others = max(0.0, os.getloadavg()[0] - 1.5)
    except (AttributeError, OSError):  # a system without such a thing
        others = 0.0
    return max(ratio, 1.0 + others)


def visited(prepared: Prepared, clock: Clock, first: int, counted: int) -> tuple[float, float]:
    """Milliseconds and wall over CPU time: medians of so many runs, after `first` ones that do not count."""
    times, ratios = [], []
    with undisturbed():
        for _ in range(first):
            prepared.ready()()
        for _ in range(counted):
            spent, ratio = clock(prepared.ready())
            times.append(spent)
            ratios.append(ratio)
    return statistics.median(times) / prepared.steps, statistics.median(ratios)


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection in between."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _cuda(run: Callable[[], object], device: str) -> tuple[float, float]:
    import torch

    events: Any = torch.cuda.Event  # untyped in torch
    with torch.cuda.device(device):  # events are recorded on the stream of the current device
        begin, end = events(enable_timing=True), events(enable_timing=True)
        torch.cuda.synchronize()
        wall = time.perf_counter_ns()
        begin.record()
        run()
        end.record()
        end.synchronize()
        spent = begin.elapsed_time(end)
        return spent, (time.perf_counter_ns() - wall) / 1e6 / max(spent, 1e-6)
