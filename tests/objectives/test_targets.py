"""Latency and throughput for a device that is not here: names, conditions, limits, and a real search on two devices."""

from __future__ import annotations

import math
import pickle
import statistics
from dataclasses import replace

import pytest

from nas_bo import search
from nas_bo.errors import DeviceError, NasBoError, ObjectiveError
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.learned import Learned
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.latency.roofline_model import RooflineModel
from nas_bo.hardware.workload import Setting
from nas_bo.objective import Value
from nas_bo.objectives import Latency, Parameters, Throughput
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.trial import State

ARCHS = [TinyGPT.sample(seed) for seed in range(30)]
PI5 = Device.named("pi5")


def test_a_latency_without_a_device_is_what_it_was() -> None:
    for phase, name in (("prefill", "latency_ms"), ("decode", "decode_ms")):
        plain = Latency(phase, device="cpu")  # type: ignore[arg-type]
        assert plain.name == name and set(plain.conditions()) - {"logits"} == {
            "phase",
            "context",
            "batch",
            "vocab_size",
            "device",
        }
        assert plain.conditions().get("logits") == ("last" if phase == "prefill" else None)
        assert plain.predict(ARCHS[0]) == Roofline().milliseconds(ARCHS[0], 256, phase, 128)  # type: ignore[arg-type]
    assert Latency(device="cpu").name == "latency_ms"


def test_name_log_and_conditions_say_device_and_model(tmp_path) -> None:
    path = PI5.save(tmp_path / "board.toml")
    for device in (PI5, "pi5", path, str(path)):
        objective = Latency(target=device)
        assert objective.name == "latency_ms@pi5.roofline" and objective.cost == "measured"
        value = objective(ARCHS[0])
        assert value == objective.predict(ARCHS[0]) == RooflineModel(PI5, Setting()).predict(ARCHS[0])
        assert value.info["how"] == "roofline" and value.info["device"] == "pi5" and value.info["measured"] == 0
        said = objective.conditions()
        assert said["device"] == "pi5" and said["model"] == "roofline" and said == Latency(target="pi5").conditions()
        assert pickle.loads(pickle.dumps(objective)).predict(ARCHS[1]) == objective.predict(ARCHS[1])
        assert replace(objective, at_most=3.0).at_most == 3.0
    faster = Device.from_dict({**PI5.to_dict(), "gbytes": 34})
    assert Latency(target=faster).conditions() != Latency(target="pi5").conditions()  # another study


def test_a_request_is_a_prefill_and_decoded_tokens() -> None:
    whole = Latency("request", context=100, output_length=33, target="pi5")
    first = Latency("prefill", context=100, target="pi5")
    each = Latency("decode", context=116, target="pi5")
    for arch in ARCHS:
        assert whole.predict(arch) == pytest.approx(first.predict(arch) + 32 * each.predict(arch))
    assert whole.name == "request_ms@pi5.roofline" and whole.conditions()["output_length"] == 33
    one = Latency("request", context=100, output_length=1, target="pi5")
    assert one.predict(ARCHS[0]) == first.predict(ARCHS[0])
    exact = sum(Latency("decode", context=c, target="pi5").predict(ARCHS[2]) for c in range(101, 133))
    assert 32 * each.predict(ARCHS[2]) == pytest.approx(exact, rel=0.02)  # the token in the middle stands for all


def test_a_request_is_measured_where_no_device_is_named() -> None:
    value = Latency("request", context=16, output_length=5, max_seconds=0.1, device="cpu")(ARCHS[0])
    prefill = Latency("prefill", context=16, max_seconds=0.1, device="cpu")(ARCHS[0])
    assert value > prefill and value.info["how"] == "measured" and value.info["low"] <= value <= value.info["high"]


class Least:
    """What a latency model has at least."""

    how, setting = "mine", Setting(context=64)

    def predict(self, arch: object) -> Value:
        return Value(2.0)


def test_a_model_of_ones_own_may_have_no_more_than_the_least() -> None:
    for objective in (Latency(context=64, model=Least()), Latency(context=64, model=Least(), runtime="openvino")):
        assert objective(ARCHS[0]) == 2.0 and objective.name == "latency_ms.mine"


def test_models_of_ones_own() -> None:
    setting = Setting("prefill", context=64)
    times = [2 * RooflineModel(PI5, setting).predict(arch) + 0.01 for arch in ARCHS[:10]]
    model = Learned(PI5, setting, ARCHS[:10], times, runtime="onnx")
    objective = Latency(context=64, model=model)
    assert objective.name == "latency_ms@pi5.learned" and objective(ARCHS[20]).info["low"] < objective(ARCHS[20])
    assert objective.conditions()["runtime"] == "onnx"
    pair = [RooflineModel(PI5, Setting("prefill")), RooflineModel(PI5, Setting("decode", context=160))]
    assert Latency("request", model=pair).predict(ARCHS[0]) == Latency("request", target=PI5).predict(ARCHS[0])
    with pytest.raises(ObjectiveError, match="asks for context=128, but the model is for context=64"):
        Latency(model=model)
    with pytest.raises(ObjectiveError, match="phase='decode'"):
        Latency("decode", context=64, model=model)
    with pytest.raises(ObjectiveError, match="runtime='openvino'.*'onnx'"):
        Latency(context=64, model=model, runtime="openvino")
    with pytest.raises(ObjectiveError, match="one for each of: prefill and decode"):
        Latency("request", model=pair[0])


def test_throughput_is_the_latency_of_a_batch_turned_round() -> None:
    rate, batch = (
        Throughput(target="h100", dtype="bfloat16"),
        Latency("decode", batch=8, target="h100", dtype="bfloat16"),
    )
    assert rate.name == "tokens_per_s@h100.roofline" and rate.direction == "maximize"
    for arch in ARCHS[:5]:
        assert rate(arch) == pytest.approx(8 / batch.predict(arch) * 1e3) == pytest.approx(rate.predict(arch))
    setting = Setting("decode", 8)
    model = RooflineModel(PI5, setting).fit(
        ARCHS[:10], [RooflineModel(PI5, setting).predict(a) * (2 + a.width / 90) for a in ARCHS[:10]]
    )
    value = Throughput(model=model)(ARCHS[20])
    assert value.info["low"] < value < value.info["high"]
    assert (
        Throughput("prefill", target="pi5").tokens == 8 * 128 and Throughput("request", target="pi5").tokens == 8 * 64
    )
    here = Throughput(context=16, batch=2, max_seconds=0.05, device="cpu")
    assert here.name == "tokens_per_s" and here(ARCHS[0]) > 0 and here(ARCHS[0]).info["how"] == "measured"
    trial = Problem(TinyGPT, [Parameters(), Throughput(target="pi5", at_least=1e12)]).evaluate(ARCHS[0])
    assert trial.violations["tokens_per_s@pi5.roofline>=1e+12"] > 0


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Latency(target="pi9"), DeviceError, "did you mean 'pi"),
        (lambda: Latency(target="nowhere/x.toml"), DeviceError, "cannot be read"),
        (lambda: Latency(target=3), DeviceError, "device=3"),
        (lambda: Latency(target="edge-tpu"), DeviceError, "gflops for float32"),
        (lambda: Latency(target="pi5", dtype="int4"), ObjectiveError, "int4"),
        (lambda: Latency(target="pi5", model="learned"), ObjectiveError, "nas-bo profile"),
        (lambda: Latency(target="pi5", model="measured"), ObjectiveError, "nas-bo profile"),
        (lambda: Latency(target="pi5", model="guess"), ObjectiveError, "roofline, lookup, learned, measured"),
        (lambda: Latency(model="roofline"), ObjectiveError, "needs a device"),
        (lambda: Latency(model=object()), ObjectiveError, "not a latency model"),
        (lambda: Latency("request", output_length=0), ObjectiveError, "above 0"),
        (lambda: Latency("request", output_length=math.nan), ObjectiveError, "above 0"),
        (lambda: Latency(device="cpu", runtime="onnx"), ObjectiveError, "there is no runtime .onnx.; there are eager"),
        (lambda: Throughput(target="pi9"), DeviceError, "pi9"),
        (lambda: Throughput(batch=0), ObjectiveError, "above 0"),
    ],
)
def test_what_is_meant_wrongly_is_refused_at_once(make, error, says) -> None:
    with pytest.raises(error, match=says):
        make()
    assert issubclass(error, NasBoError)


def test_two_devices_in_one_search(tmp_path) -> None:
    bound = statistics.median(Latency(target="h100").predict(arch) for arch in ARCHS)
    objectives = [Parameters(), Latency(target="h100", at_most=bound), Latency(target="pi5")]
    run = dict(strategy=Random(seed=1), storage=f"sqlite:///{tmp_path / 'study.db'}", workers=1, retrain=0)
    result = search(TinyGPT, objectives, trials=10, **run)  # type: ignore[arg-type]
    assert {t.state for t in result.trials} == {State.COMPLETE, State.INFEASIBLE}
    for trial in result.front:
        assert trial.info["latency_ms@pi5.roofline"]["device"] == "pi5"
        assert trial.values["latency_ms@h100.roofline"] <= bound and trial.values["latency_ms@pi5.roofline"] > 0
    again = search(TinyGPT, objectives, trials=12, **run)  # type: ignore[arg-type]
    assert [t.architecture.id for t in again.trials[:10]] == [t.architecture.id for t in result.trials]
    with pytest.raises(NasBoError, match="pi5"):  # another device is another study
        search(TinyGPT, [*objectives[:2], Latency(target="pi4", name="latency_ms@pi5.roofline")], trials=13, **run)  # type: ignore[arg-type]
