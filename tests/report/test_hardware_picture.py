"""Hardware pictures: that they show the numbers, by what is drawn, and that the command writes them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.axes import Axes
from typer.testing import CliRunner

from nas_bo.cli.app import app
from nas_bo.errors import DeviceError
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.profile import Profile, space_mark
from nas_bo.hardware.latency.profile_file import Record
from nas_bo.hardware.latency.quality import held_out
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.measuring.measurement import Measurement
from nas_bo.hardware.workload import Setting, workload
from nas_bo.report.hardware_picture import breakdown_picture, predicted_picture, roofline_picture
from nas_bo.search_spaces import TinyGPT

ARCHS = [TinyGPT.sample(seed) for seed in range(12)]
SETTING = Setting("decode")
DEVICE = Device.named("pi5")


def profile(n: int = 12) -> Profile:
    rng = np.random.default_rng(0)
    base = Roofline(gflops=30.0, overhead_us=5.0)
    records = []
    for arch in ARCHS[:n]:
        ms = float(base.operations_ms(workload(arch, "decode").operations).sum() * np.exp(rng.normal(0, 0.01)))
        records.append(Record(arch, 0, Measurement(ms, 0.98 * ms, 1.02 * ms, 0.01, 30, True, 1.0, "cpu", "cpu")))
    return Profile(DEVICE, "eager", TinyGPT.title, space_mark(TinyGPT), (SETTING,), tuple(records))


def test_predicted_against_measured_shows_what_was_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple] = []
    kept = Axes.errorbar
    monkeypatch.setattr(
        Axes, "errorbar", lambda self, x, y, **k: (drawn.append((x, y, k["yerr"])), kept(self, x, y, **k))[1]
    )
    made = profile()
    assert predicted_picture(made).startswith(b"\x89PNG")
    mean, half = held_out(made, 0)["learned"]
    assert np.allclose(drawn[0][0], made.measured(SETTING)[1]) and np.allclose(drawn[0][1], mean)
    assert np.allclose(drawn[0][2], np.minimum(half, 0.95 * mean))
    assert predicted_picture(profile(5)) is None


def test_the_breakdown_sums_up_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[np.ndarray] = []
    kept = Axes.barh
    monkeypatch.setattr(Axes, "barh", lambda self, y, width, **k: (widths.append(width), kept(self, y, width, **k))[1])
    roof = Roofline.of(DEVICE)
    assert breakdown_picture(ARCHS[0], roof, SETTING).startswith(b"\x89PNG")
    whole = roof.operations_ms(workload(ARCHS[0], "decode").operations).sum()
    assert sum(w.sum() for w in widths) == pytest.approx(whole) and len(widths[0]) == len(ARCHS[0].layers) + 1


def test_nothing_lies_above_the_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    dots: list[tuple[float, float]] = []
    kept = Axes.scatter
    monkeypatch.setattr(
        Axes, "scatter", lambda self, x, y, *a, **k: (dots.extend(zip(x, y, strict=True)), kept(self, x, y, *a, **k))[1]
    )
    assert roofline_picture(ARCHS[0], DEVICE, SETTING).startswith(b"\x89PNG")
    roof = Roofline.of(DEVICE)
    assert len(dots) > 4
    assert all(speed <= min(roof.gflops, at * roof.gbytes) * (1 + 1e-9) for at, speed in dots)
    with pytest.raises(DeviceError, match="float16"):
        roofline_picture(ARCHS[0], DEVICE, Setting(dtype="float16"))


def test_the_command_draws_an_architecture_on_a_device(tmp_path) -> None:
    file = tmp_path / "arch.json"
    file.write_text(ARCHS[1].to_json())
    run = CliRunner().invoke(app, ["devices", "pi5", "--pictures", str(tmp_path / "made"), "--arch", str(file)])
    assert run.exit_code == 0, run.output
    assert all(
        (tmp_path / "made" / f"{one}.png").read_bytes().startswith(b"\x89PNG") for one in ("roofline", "breakdown")
    )
    for more, said in (
        (["--arch", str(tmp_path / "none.json")], "not JSON of an architecture"),
        (["--phase", "both"], "'prefill' or 'decode'"),
        (["--dtype", "float16"], "no gflops for float16"),
    ):
        run = CliRunner().invoke(app, ["devices", "pi5", "--pictures", str(tmp_path), *more])
        assert run.exit_code == 2 and said in run.output
    file.write_text(json.dumps({"depth": 1}))
    assert CliRunner().invoke(app, ["devices", "pi5", "--pictures", str(tmp_path), "--arch", str(file)]).exit_code == 2
