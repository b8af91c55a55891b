"""`device=` is the torch device that it is measured on, `target=` the device that it is predicted for; one word each."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace

import pytest

from nas_bo.errors import DeviceError, ObjectiveError
from nas_bo.hardware.devices.device import Device
from nas_bo.objectives import Energy, Fits, Latency, Memory, Throughput
from nas_bo.serialization import describe, rebuild

V100, PI = "v100", Device.named("pi5")


@pytest.mark.parametrize("kind", [Latency, Throughput, Energy, Memory, Fits])
def test_the_old_word_means_the_same_and_says_the_new_one(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = kind(target=V100)
        assert replace(new, name="x").target == V100 and pickle.loads(pickle.dumps(new)) == new
        stored = rebuild(describe(new))
    with pytest.warns(DeprecationWarning, match=rf"{kind.__name__}\(target=...\) since version 0.2.*0.3") as caught:
        old = kind(device=V100)
    assert caught[0].filename == __file__
    assert old == new == stored and old.name == new.name and old.conditions() == new.conditions()
    assert (old.device, old.target) == (None, V100)
    described = describe(new)
    described["fields"] = {**described["fields"], "device": V100, "target": None}  # as version 0.1 stored it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rebuild(described) == new


def test_a_torch_device_is_measured_on_and_a_described_one_predicted_for():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Latency(device="cpu").name == "latency_ms"
        assert Latency(target=PI).name == "latency_ms@pi5.roofline"
        assert Fits("pi5").name == Fits(target="pi5").name == "fits@pi5"
        assert Memory(target=PI).at_most == PI.memory_bytes


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Latency(device="cpu", target="pi5"), ObjectiveError, "give one of them"),
        (lambda: Latency(target="cpu"), ObjectiveError, "give it as device="),
        (lambda: Throughput(target="cuda:0"), ObjectiveError, "give it as device="),
        (lambda: Energy(target="cpu"), ObjectiveError, "give it as device="),
        (lambda: Memory(target="cpu"), ObjectiveError, "give it as device="),
        (lambda: Fits("cpu"), ObjectiveError, "give it as device="),
        (lambda: Memory(device="cpu"), DeviceError, "no device 'cpu'"),
        (lambda: Fits(), DeviceError, "give a Device"),
        (lambda: Latency(target="pi6"), DeviceError, "did you mean"),
        (lambda: Energy(model="measured", target="pi5"), ObjectiveError, "measured is what is here"),
    ],
)
def test_refusals(make, error, says):
    with pytest.raises(error, match=says):
        make()
