"""Roofline and look-up as latency models, on a device that is invented, and the contract that all models keep."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from nas_bo.errors import DeviceError, ObjectiveError
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency import quality
from nas_bo.hardware.latency.calibration import reach
from nas_bo.hardware.latency.learned import Learned
from nas_bo.hardware.latency.lookup import COPIES, Lookup
from nas_bo.hardware.latency.model import LatencyModel
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.latency.roofline_model import RooflineModel
from nas_bo.hardware.workload import Setting, parts, specified, workload
from nas_bo.search_spaces import TinyGPT

SETTING = Setting("decode", context=64)
DEVICE = Device("mine", "cpu", gflops={"float32": 60}, gbytes=10, overhead_us=8)
ARCHS = [TinyGPT.sample(seed) for seed in range(60)]
HELD = ARCHS[20:]
REAL = Roofline(gflops=20, gbytes=4, overhead_us=11)  # what the device attains
FIXED = 0.05


def true_ms(arch: object) -> float:
    return float(REAL.operations_ms(workload(arch, "decode", context=64).operations).sum()) + FIXED  # type: ignore[arg-type]


TRUTH = [true_ms(arch) for arch in ARCHS]


def timer(archs: object) -> list[float]:
    return [true_ms(arch) for arch in archs]  # type: ignore[attr-defined]


def error(model: LatencyModel) -> float:
    return float(np.mean(np.abs(model.predict_many(HELD)[0] / TRUTH[20:] - 1)))


MODELS = {
    "roofline, uncalibrated": RooflineModel(DEVICE, SETTING),
    "roofline": RooflineModel(DEVICE, SETTING, runtime="eager").fit(ARCHS[:10], TRUTH[:10]),
    "lookup, raw": Lookup.build(ARCHS, SETTING, timer, device="mine"),
    "lookup": Lookup.build(ARCHS, SETTING, timer, device="mine").fit(ARCHS[:10], TRUTH[:10]),
    "learned": Learned(DEVICE, SETTING, ARCHS[:10], TRUTH[:10]),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_contract(name: str) -> None:
    model = MODELS[name]
    assert isinstance(model, LatencyModel) and model.how == name.split(",")[0] and model.device == "mine"
    many, half = model.predict_many(HELD)
    copy = pickle.loads(pickle.dumps(model))
    for arch, expected, wide in zip(HELD[:5], many, half, strict=False):
        value = copy.predict(arch)
        assert value == pytest.approx(expected) and value.info["how"] == model.how
        assert value.info["measured"] == (0 if "," in name else 10) and value.info["device"] == "mine"
        if "," in name:  # nothing of whole models was measured: nobody knows an interval
            assert math.isinf(wide) and value.info["low"] is value.info["high"] is value.info["level"] is None
        else:
            assert value.info["low"] < value < value.info["high"] and value.info["level"] == 0.9
    assert len(model.predict_many([])[0]) == 0


def test_a_calibrated_roofline_finds_what_the_device_attains() -> None:
    raw, fitted = MODELS["roofline, uncalibrated"], MODELS["roofline"]
    assert error(raw) > 0.3 and error(fitted) < 0.01 and fitted.runtime == "eager"  # type: ignore[arg-type]
    found = fitted.fitted  # type: ignore[attr-defined]
    assert found["overhead_us"] == pytest.approx(11, rel=0.05) and found["scale"] == pytest.approx(2.6, rel=0.2)
    assert raw.fitted == {"scale": 1.0, "overhead_us": 8.0, "score_ns": 0.0, "fixed_ms": 0.0}  # type: ignore[attr-defined]
    one = raw.fit(ARCHS[:1], TRUTH[:1])  # type: ignore[attr-defined]
    assert one.predict(ARCHS[0]) == pytest.approx(TRUTH[0], rel=0.02) and math.isinf(one.calibration.share)


def test_intervals_of_noisy_measurements_hold() -> None:
    inside = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noisy = np.array(TRUTH) * np.exp(rng.normal(0, 0.05, len(TRUTH)))
        mean, half = RooflineModel(DEVICE, SETTING).fit(ARCHS[:12], list(noisy[:12])).predict_many(HELD)
        inside.append(np.mean(np.abs(noisy[20:] - mean) <= half))
    assert 0.85 <= np.mean(inside) <= 0.99 and min(inside) > 0.5


def test_few_errors_reach_further() -> None:
    errors = np.full(20, 0.1)
    assert (
        math.isinf(reach(errors[:2], 0.9)) and reach(errors[:4], 0.9) > 0.2 and reach(errors, 0.9) == pytest.approx(0.1)
    )


def test_a_device_without_overhead_is_a_bound() -> None:
    bare = RooflineModel(Device("bare", "gpu", gflops={"float32": 60}, gbytes=10), SETTING)
    assert all(bare.predict(arch) < MODELS["roofline, uncalibrated"].predict(arch) for arch in HELD)
    with pytest.raises(DeviceError, match="no gflops for bfloat16"):
        RooflineModel(DEVICE, Setting(dtype="bfloat16"))


def test_a_lookup_times_each_layer_once_and_adds_up() -> None:
    asked: list[object] = []

    def counting(archs: object) -> list[float]:
        asked.extend(archs)  # type: ignore[arg-type]
        return timer(archs)

    model = Lookup.build(ARCHS, SETTING, counting)
    wanted = {part for arch in ARCHS for part in parts(specified(arch, SETTING))}
    assert set(model.table) == wanted and len(asked) == len(wanted)
    assert {len(spec.layers) for spec in asked} == {0, COPIES}  # type: ignore[attr-defined]
    assert error(model) < 1e-6  # what is additive is added exactly
    slower = MODELS["lookup, raw"].fit(ARCHS[:10], [2 * one + 0.3 for one in TRUTH[:10]])  # type: ignore[attr-defined]
    assert slower.fitted["scale"] == pytest.approx(2, rel=0.05)
    wide = TinyGPT.architecture(
        {"depth": 1, "width": 96, "layers.0.mixer": "conv", "layers.0.mixer.conv.kernel": 8, "layers.0.mlp": "skip"}
    )
    with pytest.raises(ObjectiveError, match="width 96"):
        Lookup.build([arch for arch in ARCHS if arch.width != 96], SETTING, timer).predict(wide)


@pytest.mark.parametrize("bad", [[1.0, math.nan, 2.0], [1.0, 0.0, 2.0], [1.0, math.inf, 2.0], [1.0, 2.0], []])
def test_times_that_are_none_are_refused(bad: list[float]) -> None:
    for fit in (MODELS["roofline"].fit, MODELS["lookup"].fit):  # type: ignore[attr-defined]
        with pytest.raises(ObjectiveError):
            fit(ARCHS[:3], bad)
    with pytest.raises(ObjectiveError, match="finite number above 0" if bad[2:] else "at least 3|but"):
        Learned(DEVICE, SETTING, ARCHS[: len(bad)], bad)
    with pytest.raises(ObjectiveError):
        Lookup.build(ARCHS[:3], SETTING, lambda archs: bad)
    with pytest.raises(ObjectiveError, match="nan ms"):
        Lookup({parts(specified(ARCHS[0], SETTING))[0]: math.nan}, SETTING)


def test_sizes_that_are_all_alike_tell_nothing_and_say_so() -> None:
    """Not NaN, which is no JSON."""
    told = quality._line(lambda arch: 5.0)([ARCHS[0]] * 4, [1.0, 2.0, 4.0, 8.0])([ARCHS[0]] * 4)[0]
    assert list(told) == pytest.approx([8**0.5] * 4)
    assert quality.scored(told, np.array([1.0, 2.0, 4.0, 8.0]))[1] == 0.0
