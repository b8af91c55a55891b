"""`Fits` and `Energy` with a model of one's own: judged by its traced memory, and refused in one paragraph."""

from dataclasses import replace

import pytest

from nas_bo.errors import DeviceError, NasBoError, ObjectiveError
from nas_bo.objectives import Energy, Fits, Memory
from nas_bo.objectives.target import plain_device
from tests.own_models import Stack, Stacks

BOARD = plain_device("pi5")


def test_a_model_of_ones_own_fits_by_its_traced_memory():
    arch = Stacks.sample(0)
    peak = float(Memory(build=Stack, context=64)(arch))
    roomy, tight = replace(BOARD, memory_bytes=int(peak) + 1), replace(BOARD, memory_bytes=int(peak) // 2)
    assert float(Fits(roomy, build=Stack, context=64)(arch)) == 0 and Fits(roomy, build=Stack, context=64).holds(arch)
    short = Fits(tight, build=Stack, context=64)(arch)
    assert float(short) == pytest.approx(1, rel=0.01) and short.info["needed_bytes"] == peak
    assert Fits(roomy, build=Stack).conditions()["build"] == "Stack" and "build" not in Fits(roomy).conditions()


def test_fits_of_ones_own_needs_a_memory():
    with pytest.raises(DeviceError, match="memory_bytes"):
        Fits(replace(BOARD, memory_bytes=None, operations=("attention",)), build=Stack)
    with pytest.raises(ObjectiveError, match="cannot be called"):
        Fits("pi5", build=3)


@pytest.mark.parametrize("more", [{"target": "v100"}, {"device": "cpu", "model": "measured"}, {}])
def test_energy_of_ones_own_is_refused_in_one_paragraph(more):
    with pytest.raises(NasBoError, match=r"Energy\(build=Stack\).*Latency\(build=") as told:
        Energy(build=Stack, **more)
    assert "\n" not in str(told.value)
