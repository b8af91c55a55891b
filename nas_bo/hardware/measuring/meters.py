"""Meters of energy that really are there. A machine without one has no measured energy: asking for it is an error.

A known library answers 0 J where there is no meter; here a meter that is not there raises when it is made, and one that
does not move while a model runs raises instead of giving 0.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from nas_bo.errors import MissingExtra, ObjectiveError
from nas_bo.hardware.workload import Setting
from nas_bo.model.counts import Arch
from nas_bo.wording import counted

RUN_SECONDS = 2.0  # of one reading: counters step only every 20 to 100 ms
READINGS = 3


class Meter(Protocol):
    """Joules since some moment; only differences count."""

    @property
    def name(self) -> str: ...

    def joules(self) -> float: ...


class NvmlMeter:
    """The counter of an NVIDIA GPU (Volta and later), whole board, through NVML.

    Args:
        index: of the GPU as torch counts them.

    Raises:
        MissingExtra: nvidia-ml-py is not installed.
        ObjectiveError: there is no driver, no such GPU, or the GPU has no counter.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise MissingExtra("nvidia-ml-py", "energy") from error
        self._nvml = pynvml
        self._index = index
        try:
            pynvml.nvmlInit()
            self._handle = _handle(pynvml, index)
            pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
            named = pynvml.nvmlDeviceGetName(self._handle)
        except pynvml.NVMLError as error:
            raise ObjectiveError(
                f"GPU {index} has no energy meter here (NVML: {error}); measure on a machine with an NVIDIA GPU of Volta or "
                "later, or take modelled energy: Energy(target=...)"
            ) from error
        self.name = f"NVML, {named.decode() if isinstance(named, bytes) else named}"

    def __reduce__(self) -> tuple[object, ...]:
        return NvmlMeter, (self._index,)

    def joules(self) -> float:
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3


def _handle(nvml: ModuleType, index: int) -> object:
    """NVML's handle of a GPU of torch. NVML does not know about CUDA_VISIBLE_DEVICES and has an order of its own: the same
    number there may be another GPU."""
    import torch

    if not torch.cuda.is_available():
        return nvml.nvmlDeviceGetHandleByIndex(index)
    if index >= torch.cuda.device_count():
        raise ObjectiveError(f"there is no GPU {index}, torch sees {torch.cuda.device_count()}; give a smaller number")
    return nvml.nvmlDeviceGetHandleByUUID(
        "GPU-" + str(torch.cuda.get_device_properties(index).uuid).removeprefix("GPU-")
    )


class RaplMeter:
    """The counters of the packages of an x86 CPU, and their memory where it has one, through zeus.

    Raises:
        MissingExtra: zeus is not installed.
        ObjectiveError: there are no counters, or they may not be read.
    """

    def __init__(self) -> None:
        try:
            from zeus.device.cpu.rapl import RAPLCPUs
        except ImportError as error:
            raise MissingExtra("zeus", "energy") from error
        try:
            self._cpus = RAPLCPUs()
            count = len(self._cpus.cpus)
        except Exception as error:
            raise ObjectiveError(
                f"this CPU has no energy meter that can be read (RAPL: {error}); measure on a machine with RAPL (bare metal, "
                "readable /sys/class/powercap), or take modelled energy: Energy(target=...)"
            ) from error
        if not count:
            raise ObjectiveError(
                "RAPL knows no package of this CPU; measure elsewhere, or take modelled energy: Energy(target=...)"
            )
        self.name = f"RAPL, {counted(count, 'package')}"

    def __reduce__(self) -> tuple[object, ...]:
        return RaplMeter, ()

    def joules(self) -> float:
        total = 0.0
        for index in range(len(self._cpus.cpus)):
            read = self._cpus.get_total_energy_consumption(index)
            total += float(read.cpu_mj) + float(read.dram_mj or 0.0)
        return total / 1e3


def meter_of(device: str | None) -> Meter:
    """The meter of a torch device: NVML for CUDA, RAPL for the CPU.

    Raises:
        MissingExtra, ObjectiveError: there is none; see the meters.
    """
    import torch

    from nas_bo.model.device import pick_device

    kind, _, index = pick_device(device).partition(":")
    return NvmlMeter(int(index or torch.cuda.current_device())) if kind == "cuda" else RaplMeter()


@dataclass(frozen=True)
class Reading:
    """Millijoules of one run: median, least and most of the readings, idle draw of the device included."""

    millijoules: float
    low: float
    high: float
    runs: int
    seconds: float


def measure_energy(
    run: Callable[[], object], meter: Meter, wait: Callable[[], object] = lambda: None, readings: int | None = None
) -> Reading:
    """Energy of `run`, repeated for long enough that the counter moves.

    Args:
        wait: returns when the device has done all its work.
        readings: how often it is read; by default three times.

    Raises:
        ObjectiveError: the meter did not move, or ran backwards.
    """
    run()
    wait()
    found, runs, start = [], 0, time.perf_counter()
    for _ in range(readings or READINGS):
        before, began, count = meter.joules(), time.perf_counter(), 0
        while time.perf_counter() - began < RUN_SECONDS:
            run()
            wait()
            count += 1
        spent = meter.joules() - before
        if not 0 < spent < float("inf"):
            raise ObjectiveError(
                f"the meter {meter.name!r} advanced by {spent:g} J while {counted(count, 'run')} took {RUN_SECONDS:g} s; it measures something "
                "else, or nothing: use another meter, or modelled energy"
            )
        found.append(spent * 1e3 / count)
        runs += count
    return Reading(statistics.median(found), min(found), max(found), runs, time.perf_counter() - start)


def measured_energy(arch: Arch, setting: Setting, meter: Meter, device: str | None = None) -> Reading:
    """Energy of one run of a phase of the eager model, while no worker of the same search trains.

    As for times (`nas_bo.hardware.measuring.bench`) it is the ratio to an anchor that is read in turn with it, times what that anchor is
    kept to need here: a device that is warm, or a processor that others use as well, needs more for both. `low` and `high`
    hold what another session gives, with a probability of about 90 %.

    Raises:
        ObjectiveError: the device is not there, or the meter does not move.
        ModelError: the architecture cannot be built.
    """
    import torch

    from nas_bo import measurement_lock
    from nas_bo.hardware.measuring import machine
    from nas_bo.hardware.measuring.anchors import anchor
    from nas_bo.hardware.measuring.bench import BETWEEN, bench, next_session
    from nas_bo.model.device import pick_device

    where = pick_device(device)
    here = bench(where, setting)
    rung = here.like(arch)

    def wait() -> None:
        if torch.device(where).type == "cuda":
            torch.cuda.synchronize(where)

    with torch.inference_mode(), measurement_lock.alone():
        own, other = _run_of(arch, setting, where), _run_of(anchor(rung), here.setting, where)
        pairs = [(measure_energy(own, meter, wait, 1), measure_energy(other, meter, wait, 1)) for _ in range(READINGS)]
    path = machine.path_of("energy", {**here.facts, "meter": meter.name})
    known = machine.read(path).get("anchors_mj")
    reference = known.get(str(rung)) if isinstance(known, dict) else None
    if not (isinstance(reference, float) and reference > 0):
        reference = statistics.median(b.millijoules for _, b in pairs)
        machine.write(path, {"anchors_mj": {**(known if isinstance(known, dict) else {}), str(rung): reference}})
    ratios = [math.log(a.millijoules / b.millijoules) for a, b in pairs]
    found = math.exp(statistics.median(ratios)) * reference
    low, high = next_session(found, math.hypot(BETWEEN, 1.2533 * statistics.stdev(ratios) / math.sqrt(len(ratios))))
    return Reading(found, low, high, sum(a.runs for a, _ in pairs), sum(a.seconds + b.seconds for a, b in pairs))


def _run_of(arch: Arch, setting: Setting, where: str) -> Callable[[], object]:
    import torch

    from nas_bo.model import build
    from nas_bo.model.device import dtype_of

    made = None if setting.dtype == "float32" else dtype_of(setting.dtype)
    with torch.random.fork_rng(devices=[]):
        model = build(arch, setting.vocab_size, setting.ignore, where, made).eval()
    tokens = torch.zeros(setting.batch, setting.context, dtype=torch.long, device=where)
    if setting.phase == "prefill":
        return lambda: model(tokens, last=setting.logits == "last")
    cache = model.new_cache(setting.batch, setting.context)
    if setting.context > 1:
        model(tokens[:, :-1], cache=cache)

    def decode() -> None:
        cache.position = setting.context - 1
        model(tokens[:, -1:], cache=cache)

    return decode
