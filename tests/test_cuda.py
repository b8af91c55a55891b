"""What only a GPU can show: trainings, measurements and meters on a real CUDA device. Skipped where there is none.

pytest -n 0 tests/test_cuda.py
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_bo.errors import ObjectiveError, Unsupported
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.measuring.measure import check_idle
from nas_bo.hardware.measuring.meters import NvmlMeter, measured_energy
from nas_bo.hardware.measuring.session import Session, Wanted
from nas_bo.hardware.runtimes import runtime
from nas_bo.hardware.workload import Setting
from nas_bo.model import Training, build, load_corpus, train, train_many
from nas_bo.model.data import Corpus
from nas_bo.model.run import Run
from nas_bo.model.schedule import DEFAULTS
from nas_bo.model.training_loop import CURVE_POINTS
from nas_bo.objectives import Energy, Latency, SharedWeightLoss, ValidationLoss
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import GDAS, Darts, ProxylessNAS
from tests.model.architectures import ATTENTION, CONV, DENSE, GATED, LINEAR, MOE, WINDOW, decoder, layer

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

TEXT = np.frombuffer(b"".join(b"abc%d the cat sat on the mat; " % (i % 97) for i in range(4000)), np.uint8)
CORPUS = Corpus("cats", TEXT[:80_000], TEXT[80_000:96_000], 256, 80_000, 16_000)
LOOK = {"evaluation_tokens": 2_048}
EVERY_BLOCK = decoder(layer(ATTENTION, DENSE), layer(WINDOW, GATED), layer(LINEAR, DENSE), layer(CONV, GATED), width=64)
MIXTURE = decoder(layer(ATTENTION, MOE), layer(CONV, DENSE), width=64)
SMALL = decoder(layer(ATTENTION, GATED), layer(ATTENTION, GATED), width=64)
PREFILL, DECODE = Setting("prefill", 1, 128), Setting("decode", 1, 128)


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", [EVERY_BLOCK, MIXTURE], ids=["blocks", "mixture"])
def test_a_training_gives_what_it_gives_on_the_cpu(arch):
    there = train(arch, CORPUS, 60_000, device="cpu", bf16=False, **LOOK)
    here = train(arch, CORPUS, 60_000, device="cuda", bf16=False, **LOOK)
    narrow = train(arch, CORPUS, 60_000, device="cuda", **LOOK)
    assert here.curve[0][1] == pytest.approx(there.curve[0][1], rel=1e-3)
    assert here.bits_per_byte == pytest.approx(there.bits_per_byte, abs=0.05)
    assert narrow.bits_per_byte == pytest.approx(there.bits_per_byte, abs=0.05)
    assert narrow.bits_per_byte != here.bits_per_byte and next(narrow.model.parameters()).is_cuda
    assert next(narrow.model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("bf16", [False, True])
def test_the_same_training_twice_gives_the_same_bits(bf16):
    for arch in (EVERY_BLOCK, MIXTURE):
        one, other = (train(arch, CORPUS, 30_000, device="cuda", bf16=bf16, **LOOK) for _ in range(2))
        assert one.curve == other.curve and one.bits_per_byte == other.bits_per_byte


def waits(run: Run, steps: int) -> int:
    """How often the host waits for the device."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run.go((), run.step + steps)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in found)


def test_the_host_waits_only_to_look_at_losses():
    model = build(EVERY_BLOCK, 256).to("cuda")
    run = Run(model, CORPUS, dict(DEFAULTS), 400, 0)
    run.go((), 10)
    looks = math.ceil(100 / math.ceil(400 / CURVE_POINTS))
    assert waits(run, 100) <= looks + 1


def test_a_run_that_is_cut_off_goes_on_from_its_checkpoint(tmp_path):
    whole = train(SMALL, CORPUS, 40_000, device="cuda", **LOOK)
    path = tmp_path / "run.pt"
    train(SMALL, CORPUS, 40_000, device="cuda", stop_at=0.5, checkpoint=path, **LOOK)
    rest = Training(SMALL, CORPUS, 40_000, device="cuda", checkpoint=path, **LOOK)
    assert rest.done == pytest.approx(0.5, abs=0.02)
    result = rest.to()
    assert result.bits_per_byte == whole.bits_per_byte and result.resumed > 0


def test_stacked_runs_do_not_depend_on_who_shares_their_kernels():
    arch = TinyGPT.sample(4)
    three = train_many([arch] * 3, CORPUS, 20_000, (0, 1, 2), device="cuda", together=3, **LOOK)
    alone = train(arch, CORPUS, 20_000, 1, device="cuda", **LOOK)
    assert three[1].bits_per_byte == pytest.approx(alone.bits_per_byte, abs=0.03)
    assert three[1].curve[0][1] == pytest.approx(alone.curve[0][1], rel=1e-2)
    again = train_many([arch] * 3, CORPUS, 20_000, (7, 1, 8), device="cuda", together=3, **LOOK)
    assert again[1].bits_per_byte == three[1].bits_per_byte


def test_a_supernet_is_trained_here_and_scores(tmp_path):
    path = str(tmp_path / "net.pt")
    loss = SharedWeightLoss(TinyGPT, tokens=60_000, checkpoint=path, held_out_tokens=2_048, device="cuda")
    value = loss(TinyGPT.sample(1))
    assert 0 < value < 8 and value == loss(TinyGPT.sample(1))
    there = SharedWeightLoss(TinyGPT, checkpoint=path, held_out_tokens=2_048, device="cpu")
    assert there(TinyGPT.sample(1)) == pytest.approx(float(value), abs=0.02)
    tuned = replace(loss, fine_tune=0.2, reference_tokens=100_000)
    assert tuned(TinyGPT.sample(1)) < value


@pytest.mark.parametrize("kind", [Darts, GDAS, ProxylessNAS])
def test_searches_by_gradients(kind):
    result = kind(lambdas=(0.0, 1.0), tokens=40_000, updates=8, device="cuda").search(TinyGPT, CORPUS, lambda a: 1.0)
    assert len(result.front) == 2 and all(TinyGPT.contains(a) for a in result.front)
    assert all(math.isfinite(x) for one in result.logits for x in one)


def test_zero_cost_scores_are_those_of_the_cpu():
    from nas_bo.objectives import zero_cost

    arch = TinyGPT.sample(2)
    for name in ("GradientNorm", "Grasp", "InitialLoss", "JacobianCovariance", "Naswot", "Snip", "Synflow", "ZenScore"):
        kind = getattr(zero_cost, name)
        here, there = kind(seeds=1, device="cuda")(arch), kind(seeds=1, device="cpu")(arch)
        assert float(here) == pytest.approx(float(there), rel=0.05), name


# ---- measuring ------------------------------------------------------------------------------------------------------


def test_the_device_describes_itself():
    here = Device.here("cuda")
    assert here.kind == "gpu" and here.gflops["bfloat16"] > 2 * here.gflops["float32"] > 0
    assert here.gbytes > 50 and here.memory_bytes > 2**30 and 0 < here.overhead_us < 200
    assert Device.from_dict(json.loads(json.dumps(here.to_dict()))) == here


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_graphs_compute_the_same_and_are_faster_for_small_models(phase, dtype):
    setting = Setting(phase, 2, 64, dtype)
    asked = [Wanted(arch, setting) for arch in (EVERY_BLOCK, SMALL)]
    eager = Session(runtime("eager", "cuda"), max_seconds=0.3).measure(asked)
    graphs = Session(runtime("cuda-graphs", "cuda"), max_seconds=0.3).measure(asked)
    assert not eager.unsupported and not graphs.unsupported
    for one in asked:
        slow, fast = eager.measured[one.key], graphs.measured[one.key]
        assert slow.clock == fast.clock == "CUDA events"
        assert 0 < fast.low_ms <= fast.median_ms < slow.median_ms


def test_what_cannot_be_captured_is_unsupported_and_harms_nothing():
    runs = runtime("cuda-graphs", "cuda")
    with runs.running():
        with pytest.raises(Unsupported, match="captured as a CUDA graph.*take the runtime 'eager'"):
            runs.prepare(MIXTURE, PREFILL)
        assert runs.prepare(SMALL, PREFILL).held_bytes > 0
    found = Session(runs, max_seconds=0.2).measure([Wanted(MIXTURE, DECODE), Wanted(SMALL, DECODE)])
    assert len(found.measured) == len(found.unsupported) == 1


def test_latencies_are_measured_here():
    arch = TinyGPT.sample(0)
    for latency in (Latency(), Latency(phase="decode"), Latency(runtime="cuda-graphs"), Latency(dtype="bfloat16")):
        value = latency(arch)
        assert 0 < value.info["low"] <= value <= value.info["high"] and value.info["how"] == "measured"
        assert torch.cuda.get_device_name() in str(value.info)
    assert Latency(runtime="cuda-graphs").name == "latency_ms.cuda-graphs"
    assert float(Latency(batch=512, context=256)(arch)) > float(Latency()(arch))


def test_a_profile_is_made_here_and_used(tmp_path):
    from nas_bo.workflows.profile import profile

    path = tmp_path / "gpu.json"
    made = profile(TinyGPT, path, device="cuda", runtime_name="cuda-graphs", architectures=12, max_seconds=0.3)
    assert made.runtime == "cuda-graphs" and made.device.kind == "gpu" and len(made.records) == 24
    latency = Latency(target=str(path), phase="decode")
    arch = TinyGPT.sample(5)
    truth = Latency(phase="decode", runtime="cuda-graphs")(arch)
    assert float(latency(arch)) == pytest.approx(float(truth), rel=0.5)


BUSY = """
import time, torch
a = torch.randn(4096, 4096, device="cuda")
print("ready", flush=True)
until = time.monotonic() + 60
while time.monotonic() < until:
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
"""


def test_a_gpu_that_works_for_somebody_else_is_not_measured():
    pytest.importorskip("pynvml")
    check_idle("cuda")
    other = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        time.sleep(2)
        with pytest.raises(ObjectiveError, match="busy with other work"):
            Session(runtime("eager", "cuda")).measure([Wanted(SMALL, PREFILL)])
    finally:
        other.kill()
        other.wait()
    time.sleep(2)
    check_idle("cuda")


# ---- energy ---------------------------------------------------------------------------------------------------------


def test_energy_is_that_of_the_meter():
    pytest.importorskip("pynvml")
    meter = NvmlMeter()
    assert torch.cuda.get_device_name() in meter.name
    before = meter.joules()
    time.sleep(1)
    idle = meter.joules() - before
    assert 1 < idle < 500  # watts of a board that does nothing
    small = measured_energy(SMALL, Setting("prefill", 1, 64), meter, "cuda")
    large = measured_energy(SMALL, Setting("prefill", 512, 128), meter, "cuda")
    assert 0 < small.low <= small.millijoules <= small.high < large.low
    watts = small.millijoules / 1e3 * small.runs / small.seconds
    assert idle / 2 < watts < 1_500
    energy = Energy(model="measured", device="cuda", phase="decode")
    value = energy(TinyGPT.sample(0))
    assert value > 0 and value.info["how"] == "measured" and "NVML" in str(energy.conditions()["meter"])


# ---- a whole search -------------------------------------------------------------------------------------------------


def test_a_search_with_two_workers(tmp_path, monkeypatch):
    from nas_bo import search

    monkeypatch.chdir(tmp_path)
    objectives = [ValidationLoss(tokens=20_000, device="cuda"), Latency(device="cuda")]
    result = search(TinyGPT, objectives, trials=6, workers=2, storage="study.db", retrain_others=0)
    done = [trial for trial in result.trials if trial.state.name == "COMPLETE"]
    assert len(done) == 6 and result.front
    for trial in done:
        assert trial.values["latency_ms"] > 0 and trial.info["latency_ms"]["clock"] == "CUDA events"


def test_the_command_profiles_this_device(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "nas_bo", "profile", "--space", "tiny_gpt", "--device", "cuda", "--runtime", "cuda-graphs",
         "--architectures", "8", "--out", str(tmp_path / "gpu.json")],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(Path(tmp_path / "gpu.json").read_text())["runtime"] == "cuda-graphs"


def test_the_default_corpus_trains_at_speed():
    """Real text, bf16: a model of a few million parameters."""
    arch = decoder(*(layer(ATTENTION, GATED) for _ in range(4)), width=256)
    result = train(arch, load_corpus(), 400_000, device="cuda", batch_size=32, sequence=128)
    assert result.curve[-1][1] < result.curve[0][1] - 1
