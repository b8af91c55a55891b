"""Modelled energy, and meters: one that is not there, or does not move, never gives 0 J."""

from __future__ import annotations

import pickle
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from nas_bo.errors import DeviceError, MissingExtra, NasBoError, ObjectiveError
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.energy import EnergyModel, Prices
from nas_bo.hardware.latency.roofline_model import RooflineModel
from nas_bo.hardware.measuring.meters import NvmlMeter, RaplMeter, Reading, measure_energy, measured_energy
from nas_bo.hardware.workload import Setting, workload
from nas_bo.objectives import Energy, Latency
from nas_bo.search_spaces import TinyGPT

ARCHS = [TinyGPT.sample(seed) for seed in range(12)]
PRICED = Device(
    "mine", "cpu", gflops={"float32": 60}, gbytes=10, pj_per_flop={"float32": 5}, pj_per_byte=50, idle_watts=2
)


class Clock:
    """A meter of a device that draws 7 W whatever it does."""

    name = "7 W"

    def joules(self) -> float:
        return 7 * time.perf_counter()


class Stuck:
    name = "stuck"

    def joules(self) -> float:
        return 0.0


def test_the_model_adds_arithmetic_traffic_and_idling() -> None:
    setting = Setting("decode", 4, 100)
    plain, idle = EnergyModel(PRICED, setting), EnergyModel(PRICED, setting, idle=True)
    for arch in ARCHS:
        work = workload(arch, "decode", 4, 100)
        expected = (5 * work.flops + 50 * work.moved_bytes) * 1e-9
        assert plain.predict(arch) == pytest.approx(expected)
        milliseconds = RooflineModel(PRICED, setting).predict(arch)
        assert idle.predict(arch) == pytest.approx(expected + 2 * milliseconds)
    assert plain.predict(ARCHS[0]).info == {"how": "modelled", "device": "mine", "idle": False}
    assert idle.predict(ARCHS[0]).info["idle"] and list(plain.predict_many(ARCHS)) == pytest.approx(
        [plain.predict(a) for a in ARCHS]
    )
    with pytest.raises(DeviceError, match=r"no pj_per_byte, which modelled energy needs") as refused:
        EnergyModel(Device.named("h100"), setting)
    assert "Device.here()" not in str(refused.value)  # it measures no energy
    with pytest.raises(DeviceError, match=r"no idle_watts"):
        EnergyModel(Device.named("v100"), setting, idle=True)


def test_a_meter_that_does_not_move_is_an_error() -> None:
    with pytest.raises(ObjectiveError, match="'stuck' advanced by 0 J"):
        measure_energy(lambda: None, Stuck())


def test_a_meter_that_moves_is_divided_among_the_runs(monkeypatch) -> None:
    now = [0.0]
    with monkeypatch.context() as told:
        told.setattr("nas_bo.hardware.measuring.meters.time", SimpleNamespace(perf_counter=lambda: now[0]))
        reading = measure_energy(
            lambda: now.append(now.pop() + 0.125), SimpleNamespace(name="7 W", joules=lambda: 7 * now[0])
        )
    assert reading.millijoules == reading.low == reading.high == 7 * 125 and reading.runs == 3 * 16  # of 2 s each
    monkeypatch.setattr("nas_bo.hardware.measuring.meters.RUN_SECONDS", 0.05)
    for phase in ("prefill", "decode"):
        assert measured_energy(ARCHS[0], Setting(phase, 1, 16), Clock(), "cpu").millijoules > 0  # type: ignore[arg-type]


@pytest.mark.parametrize("meter", [NvmlMeter, RaplMeter])
def test_a_meter_is_there_or_says_that_it_is_not(meter) -> None:
    try:
        made = meter()
    except (ObjectiveError, MissingExtra) as error:
        assert "modelled energy" in str(error) or "[energy]'" in str(error)
        return
    first = made.joules()
    time.sleep(0.3)
    assert pickle.loads(pickle.dumps(made)).joules() >= first > 0 and made.name


def test_a_gpu_is_found_by_what_torch_calls_it(monkeypatch) -> None:
    """With CUDA_VISIBLE_DEVICES=1 the first GPU of torch is the second of the driver."""

    class Failed(Exception):
        pass

    class Nvml:
        NVMLError = Failed

        def nvmlInit(self): ...
        def nvmlDeviceGetHandleByIndex(self, index):
            return f"GPU-{'ab'[index]}"

        def nvmlDeviceGetHandleByUUID(self, uuid):
            return uuid

        def nvmlDeviceGetTotalEnergyConsumption(self, handle):
            return {"GPU-a": 1000, "GPU-b": 2000}[handle]

        def nvmlDeviceGetName(self, handle):
            return handle

    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="b"))
    assert NvmlMeter(0).joules() == 2.0
    with pytest.raises(ObjectiveError, match="no GPU 1, torch sees 1"):
        NvmlMeter(1)


def test_what_cannot_be_run_here_is_refused_when_it_is_asked_for() -> None:
    for made in (Latency, lambda dtype: Energy(model="measured", meter=Clock(), dtype=dtype)):
        for dtype in ("float8", "int8"):
            with pytest.raises(ObjectiveError, match=f"dtype='{dtype}'.*is measured here, where models run in float64"):
                made(dtype=dtype)


def test_prices_need_no_device() -> None:
    assert EnergyModel(Prices(1, 0), Setting()).predict(ARCHS[0]) == pytest.approx(workload(ARCHS[0]).flops * 1e-9)
    assert issubclass(MissingExtra, NasBoError)


def test_measured_energy_is_told_against_an_anchor_whose_energy_is_kept(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path))
    asked: list[float] = []

    def reading(run, meter, wait, readings) -> Reading:
        asked.append((10.0, 4.0)[len(asked) % 2] * drawn)  # the model, then the anchor
        return Reading(asked[-1], asked[-1], asked[-1], 1, 0.1)

    monkeypatch.setattr("nas_bo.hardware.measuring.meters.measure_energy", reading)
    found = []
    for drawn in (1.0, 1.7):  # a warm device draws more for everything  # noqa: B007
        found.append(measured_energy(ARCHS[0], Setting("prefill", 1, 16), Clock(), "cpu"))
    assert found[0].millijoules == pytest.approx(10.0) and found[1].millijoules == pytest.approx(10.0)
    assert found[0].low < found[1].millijoules < found[0].high
