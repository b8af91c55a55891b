"""Measuring a device with three small benchmarks: a matrix product, a copy, and the smallest operation there is.

What comes out is what eager torch attains, not what a data sheet promises: matrix products of one size, a copy that
no cache holds, the start of an operation from Python. On a CPU with one thread the clock is the thread's own time.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypedDict

import torch

from nas_bo.errors import DeviceError
from nas_bo.hardware.measuring.clock import check_timed
from nas_bo.model.device import dtype_of, named, pick_device
from nas_bo.validated import check_values, number, whole_number
from nas_bo.wording import counted

SIDE = {"cpu": 512, "cuda": 4096}  # of the matrices
COPIED = {"cpu": 64 << 20, "cuda": 512 << 20}  # bytes
STARTED = 200  # operations per timed repeat
REPEATS = 7
TYPES = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16")}


class Figures(TypedDict):
    """The fields of a `nas_bo.hardware.devices.device.Device` that are measured."""

    name: str
    kind: Literal["cpu", "gpu"]
    title: str
    gflops: dict[str, float]
    gbytes: float
    memory_bytes: int | None
    cache_bytes: int | None
    overhead_us: float
    sources: dict[str, str]


def benchmark(device: str | None = None, threads: int = 1, seconds: float = 0.3) -> Figures:
    """What `Device.here` is made of; see there."""
    check_values("Device.here", DeviceError, whole_number(1), threads=threads)
    check_values("Device.here", DeviceError, number(above=0, below=60), seconds=seconds)
    where = torch.device(pick_device(device))
    check_timed(str(where))
    kind = where.type
    before = torch.get_num_threads()
    if where.type == "cpu":
        torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            gflops = {dtype: _products(where, kind, dtype, threads, seconds) for dtype in TYPES[kind]}
            gbytes = _copies(where, kind, threads, seconds)
            overhead = _starts(where, threads, seconds)
    finally:
        torch.set_num_threads(before)
    title = named(str(where))
    name = re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.") or where.type
    said = f"measured on {title} with torch {torch.__version__}" + (
        f", {counted(threads, 'thread')}" if where.type == "cpu" else ""
    )
    memory, cache = _memory(where), _cache(where)
    sources = {"gflops": f"{said}: product of two {SIDE[kind]} x {SIDE[kind]} matrices"}
    sources["gbytes"] = f"{said}: copy of {COPIED[kind] >> 20} MiB, read and written bytes"
    sources["overhead_us"] = f"{said}: adding 1 to one number, median of runs of {STARTED}"
    if memory:
        sources["memory_bytes"] = "what the operating system reports" if where.type == "cpu" else "what CUDA reports"
    if cache:
        sources["cache_bytes"] = "what the operating system reports" if where.type == "cpu" else "what CUDA reports"
    return {
        "name": name[:40].rstrip("-."),
        "kind": "cpu" if where.type == "cpu" else "gpu",
        "title": title,
        "gflops": {dtype: float(f"{value:.4g}") for dtype, value in gflops.items()},
        "gbytes": float(f"{gbytes:.4g}"),
        "memory_bytes": memory,
        "cache_bytes": cache,
        "overhead_us": float(f"{overhead:.4g}"),
        "sources": sources,
    }


def _products(where: torch.device, kind: str, dtype: str, threads: int, seconds: float) -> float:
    side = SIDE[kind]
    left = torch.randn(side, side, device=where).to(dtype_of(dtype))
    right = torch.randn(side, side, device=where).to(dtype_of(dtype))
    spent = _seconds(lambda: torch.mm(left, right), where, threads, seconds)
    return 2 * side**3 / spent / 1e9


def _copies(where: torch.device, kind: str, threads: int, seconds: float) -> float:
    source = torch.zeros(COPIED[kind] // 4, device=where)
    target = torch.empty_like(source)
    spent = _seconds(lambda: target.copy_(source), where, threads, seconds)
    return 2 * COPIED[kind] / spent / 1e9


def _starts(where: torch.device, threads: int, seconds: float) -> float:
    number = torch.zeros(1, device=where)

    def run() -> None:
        for _ in range(STARTED):
            number.add_(1)

    return _seconds(run, where, threads, seconds) / STARTED * 1e6


def _seconds(run: Callable[[], object], where: torch.device, threads: int, seconds: float) -> float:
    """Median time of `run`, after a warm-up."""
    cuda = where.type == "cuda"
    clock = time.thread_time if where.type == "cpu" and threads == 1 else time.perf_counter

    def once() -> float:
        if cuda:
            torch.cuda.synchronize(where)
        start = clock()
        run()
        if cuda:
            torch.cuda.synchronize(where)
        return clock() - start

    until = time.perf_counter() + 2 * seconds  # a busy machine gets more time, not endless
    once()
    times: list[float] = []
    while len(times) < REPEATS or sum(times) < seconds:
        times.append(once())
        if len(times) >= 3 and time.perf_counter() > until:
            break
    return max(statistics.median(times), 1e-12)


def _memory(where: torch.device) -> int | None:
    if where.type == "cuda":
        return int(torch.cuda.get_device_properties(where).total_memory)
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return None


def _cache(where: torch.device) -> int | None:
    if where.type == "cuda":
        return int(getattr(torch.cuda.get_device_properties(where), "L2_cache_size", 0)) or None
    found = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        match = re.fullmatch(r"(\d+)([KMG]?)", path.read_text().strip())
        if match:
            found.append(int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]])
    return max(found, default=None)
