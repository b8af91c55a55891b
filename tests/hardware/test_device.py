"""Devices as plain data: the table, files there and back, what is refused, and this machine measured."""

from __future__ import annotations

import json
import math
import pickle
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_bo.errors import DeviceError, NasBoError
from nas_bo.hardware.devices.device import FIGURES, KINDS, Device, blocks
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.workload import BYTES

numbers = st.floats(1e-6, 1e18, allow_nan=False)
by_type = st.dictionaries(st.sampled_from(sorted(BYTES)), numbers)
texts = st.text(min_size=1).filter(lambda text: text.strip() and "\x7f" not in text and text.isprintable())
devices = st.builds(
    Device,
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,20}", fullmatch=True),
    st.sampled_from(KINDS),
    texts,
    by_type,
    st.none() | numbers,
    st.none() | st.integers(1, 2**50),
    st.none() | st.integers(1, 2**50),
    st.none() | st.floats(0, 1e6),
    by_type,
    st.none() | numbers,
    st.none() | st.floats(0, 1e6),
    st.none() | st.lists(st.sampled_from(blocks()), unique=True).map(tuple),
    st.dictionaries(st.sampled_from([*FIGURES, "gflops.int8", "operations"]), texts),
)


@settings(max_examples=50, deadline=None)
@given(device=devices)
def test_files_lose_nothing(device: Device, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("devices")
    for suffix in (".toml", ".json"):
        assert Device.load(device.save(folder / f"one{suffix}")) == device
    assert pickle.loads(pickle.dumps(device)) == device and hash(device) == hash(pickle.loads(pickle.dumps(device)))


@pytest.mark.parametrize("name", Device.names())
def test_every_figure_of_the_table_has_a_source(name: str) -> None:
    device = Device.named(name)
    assert device.name == name and device.title and device.gflops
    for figure in device.known():
        source = device.source(figure)
        assert source and len(source) > 15, figure
    assert device.operations is None or device.source("operations")
    known = {figure.partition(".")[0] for figure in device.known()} | {"operations"}
    assert {name.partition(".")[0] for name in device.sources} <= known  # no source of a figure that is not there


def test_the_table_has_each_sort_and_agrees_with_itself() -> None:
    table = {name: Device.named(name) for name in Device.names()}
    assert {
        "h100", "a100-80gb", "h200", "l4", "t4", "v100", "mi300x", "rtx-3090", "rtx-4090", "rtx-5090", "pi4", "pi5",
    } <= set(table)  # fmt: skip
    assert {device.kind for device in table.values()} == set(KINDS)
    for device in table.values():  # units: no GPU of 20 MFLOP/s, no Pi of 3 TB/s
        assert 10 < max(device.gflops.values()) < 1e7
        assert device.gbytes is None or 5 < device.gbytes < 1e4
        assert device.memory_bytes is None or 1e9 < device.memory_bytes < 1e12
        halves = [device.gflops[k] for k in ("float64", "float32", "bfloat16", "float8") if k in device.gflops]
        assert halves == sorted(halves)
        assert all(0.1 < one < 100 for one in device.pj_per_flop.values())
    assert Device.named("RTX 4090") == Device.named("rtx_4090") == table["rtx-4090"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "a b"}, "'a b'"),
        ({"kind": "tpu"}, "gpu, cpu, npu"),
        ({"gbytes": 0}, "gbytes=0"),
        ({"gbytes": math.nan}, "gbytes=nan"),
        ({"gbytes": True}, "gbytes=True"),
        ({"gbytes": "fast"}, "'fast'"),
        ({"overhead_us": -1}, "overhead_us=-1"),
        ({"memory_bytes": 1.5}, "whole number"),
        ({"memory_bytes": math.inf}, "memory_bytes=inf"),
        ({"gflops": 60}, "by data type"),
        ({"gflops": {"fp32": 60}}, "'fp32'"),
        ({"gflops": {"float32": math.inf}}, "gflops.float32=inf"),
        ({"operations": "attention"}, "list of kinds"),
        ({"operations": ["attention", "convolution"]}, "'convolution'"),
        ({"sources": {"speed": "x"}}, "'speed'"),
        ({"sources": {"gbytes": " "}}, "says where"),
        ({"bandwith": 3}, "unknown field 'bandwith'"),
        ({"gbyte": 3}, "did you mean 'gbytes'"),
        ({"schema": 9}, "schema=9"),
    ],
)
def test_what_is_impossible_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(DeviceError, match=says.replace("(", r"\(")):
        Device.from_dict({"name": "mine", "kind": "cpu", "gbytes": 10, **change})


def test_files_that_are_none_are_refused(tmp_path) -> None:
    with pytest.raises(DeviceError, match=r"none\.toml"):
        Device.load(tmp_path / "none.toml")
    for name, text in (
        ("a.toml", "name = "),
        ("b.json", "{"),
        ("c.json", "[1]"),
        ("d.toml", "kind = 'cpu'"),
        ("e.toml", "name = 'x'"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DeviceError, match=name.replace(".", r"\.")):
            Device.load(tmp_path / name)
    (tmp_path / "f.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DeviceError, match="cannot be read"):
        Device.load(tmp_path / "f.toml")
    with pytest.raises(DeviceError, match="cannot be written"):
        Device("mine", "cpu").save(tmp_path / "nowhere" / "x.toml")


def test_a_missing_figure_says_what_to_do() -> None:
    with pytest.raises(
        DeviceError, match=r"'edge-tpu' has no gflops for float32, which a roofline needs \(it has int8\)"
    ):
        Roofline.of(Device.named("edge-tpu"), "float32")
    with pytest.raises(DeviceError, match=r"has no gbytes, which a roofline needs.*Device\.here"):
        Roofline.of(Device.named("edge-tpu"), "int8")
    with pytest.raises(DeviceError, match="did you mean 'h100'"):
        Device.named("h10O")
    assert not Device.named("edge-tpu").supports("attention") and Device.named("edge-tpu").supports("skip")


def test_here_measures_this_machine(tmp_path) -> None:
    import torch

    threads = torch.get_num_threads()
    device = Device.here("cpu", seconds=0.03)
    assert torch.get_num_threads() == threads
    assert device.kind == "cpu" and 0.5 < device.gflops["float32"] < 5_000 and 0.2 < device.gbytes < 2_000  # type: ignore[operator]
    assert 0.05 < device.overhead_us < 1_000 and device.memory_bytes > 1e8  # type: ignore[operator]
    assert all(device.source(figure) for figure in device.known())
    assert Device.load(device.save(tmp_path / "here.toml")) == device
    for bad in ({"threads": 0}, {"seconds": 0}, {"device": "cuda:99"}):
        with pytest.raises(NasBoError):
            Device.here(**{"device": "cpu", **bad})  # type: ignore[arg-type]


def test_the_command_lists_and_shows(tmp_path) -> None:
    from nas_bo.cli.devices import text

    assert {line.split()[0] for line in text(None, False, False).splitlines()} == set(Device.names())
    assert "17.07 GB/s" in text("pi5", False, False) and "LPDDR4X-4267" in text("pi5", False, False)
    path = Device.named("pi5").save(tmp_path / "mine.toml")
    assert json.loads(text(str(path), False, True)) == {**tomllib.loads(path.read_text())}
    with pytest.raises(DeviceError, match="not both"):
        text("pi5", True, False)
