"""A roofline without the cost of starting an operation is no time, and does not call itself one."""

from __future__ import annotations

import copy
import logging

import pytest

from nas_bo.hardware.devices.device import Device
from nas_bo.objectives import Latency, Throughput
from nas_bo.objectives import target as module
from nas_bo.search_spaces import TinyGPT

ARCHS = [TinyGPT.sample(seed) for seed in range(40)]


def test_the_unit_says_so_and_a_warning_comes_once(caplog, monkeypatch) -> None:
    monkeypatch.setattr(module, "_said", set())
    with caplog.at_level(logging.WARNING, "nas_bo"):
        for phase in ("prefill", "decode", "prefill"):
            assert Latency(phase, target="pi5").unit == "roofline bound"  # type: ignore[arg-type]
        assert Throughput(target="pi5").unit == "tokens/s, roofline bound"
        assert Latency(target="h100").unit == "ms" and Throughput(target="h200").unit == "tokens/s"
    (record,) = caplog.records
    assert "'pi5'" in record.getMessage() and "nas-bo profile" in record.getMessage()


def test_milliseconds_of_a_gpu_are_those_of_starting_its_kernels() -> None:
    """The smallest space on an H100: 0.00028 ms per token were once printed for it."""
    for arch in ARCHS:
        decoded = Latency("decode", target="h100").predict(arch)
        assert 0.01 < decoded < 2.0
    shallow = min(ARCHS, key=lambda arch: arch.depth)
    deep = max(ARCHS, key=lambda arch: arch.depth)
    assert Latency("decode", target="h100").predict(deep) > 2 * Latency("decode", target="h100").predict(shallow)


@pytest.mark.parametrize("name", Device.names())
def test_an_overhead_has_a_source_and_is_microseconds(name) -> None:
    device = Device.named(name)
    if device.overhead_us is not None:
        assert 1 <= device.overhead_us <= 20 and device.kind == "gpu"
        assert "overhead_us" in device.sources


def test_a_study_that_called_the_bound_milliseconds_goes_on() -> None:
    from nas_bo.optuna.studies import check_same
    from nas_bo.problem import Problem

    problem = Problem(TinyGPT, [Latency(target="pi5"), Throughput(target="pi5")])
    from nas_bo.strategies import Random
    from nas_bo.workflows.about import about

    stated = about(problem, Random(seed=0), 0)
    assert [c["unit"] for c in stated["columns"]] == ["roofline bound", "tokens/s, roofline bound"]
    before = copy.deepcopy(stated)
    before["columns"][0]["unit"], before["columns"][1]["unit"] = "ms", "tokens/s"
    check_same("old", before, stated)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0002786, "0.00028"), (0.2110, "0.21"), (1.96, "2.0"), (12.4, "12"), (1234.5, "1,200")]
)
def test_two_digits_are_shown(value, shown) -> None:
    from nas_bo.report.digits import known

    info = {"how": "roofline", "measured": 0, "low": None, "high": None}
    assert known(value, info) == shown
    assert known(value, {**info, "how": "measured"}) != shown
