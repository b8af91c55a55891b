"""Real runtimes on real models: their logits are those of eager torch, and what they cannot run is infeasible.

torch.compile takes half a minute for one model: `pytest -m slow`.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace

import numpy as np
import pytest

from nas_bo.architecture import Node
from nas_bo.errors import MissingExtra, ObjectiveError, Unsupported
from nas_bo.hardware.latency.measured import Measured
from nas_bo.hardware.measuring.session import Session, Wanted
from nas_bo.hardware.runtimes import NAMES, runtime
from nas_bo.hardware.runtimes.exported import function
from nas_bo.hardware.runtimes.interface import agree
from nas_bo.hardware.workload import Setting, workload
from nas_bo.objectives import Latency
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT
from nas_bo.trial import State

PREFILL, DECODE = Setting(context=24), Setting("decode", context=24)
ATTENTION = {"kind": "attention", "heads": 4, "kv_group": 2}


def decoder(*layers: tuple[dict, dict], **more: object) -> Node:
    made = tuple(Node({"mixer": Node(mixer), "mlp": Node(mlp)}) for mixer, mlp in layers)
    return Node({"width": 64, "layers": made, **more})


EVERY_BLOCK = decoder(
    (ATTENTION, {"kind": "dense", "ratio": 2, "gated": True}),
    ({**ATTENTION, "window": 8}, {"kind": "skip"}),
    ({"kind": "linear_attention", "heads": 4}, {"kind": "dense", "ratio": 1, "activation": "relu2"}),
    ({"kind": "conv", "kernel": 4}, {"kind": "dense", "ratio": 2, "activation": "silu"}),
    norm="layer",
    bias=True,
    tied=False,
)
EVERY_FIELD = decoder(
    ({**ATTENTION, "qk_norm": "head", "rotary_share": 0.5, "qkv_bias": True}, {"kind": "dense", "ratio": 1}),
    (
        {**ATTENTION, "sinks": True, "window": 8, "value_dim": 8},
        {"kind": "dense", "ratio": 1, "activation": "gelu_tanh"},
    ),
    ({**ATTENTION, "qk_norm": "whole", "sinks": True}, {"kind": "skip"}),
    norm_place="sandwich",
    rope_scaling="llama3",
    rope_factor=8.0,
    rope_length=16,
    embedding_scale="sqrt_width",
    logit_cap=4.0,
)
PLACED = decoder((ATTENTION, {"kind": "dense", "ratio": 1}), position="learned", max_length=24, norm_place="post")
MIXTURE = decoder((ATTENTION, {"kind": "moe", "experts": 4, "top_k": 2, "ratio": 1}))


@pytest.fixture(scope="module", autouse=True)
def installed():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Where the runtimes find what another one has exported already."""
    return str(tmp_path_factory.mktemp("exports"))


@pytest.mark.parametrize("setting", [PREFILL, DECODE], ids=["prefill", "decode"])
@pytest.mark.parametrize("arch", [EVERY_BLOCK, EVERY_FIELD, PLACED], ids=["blocks", "fields", "placed"])
def test_a_model_as_a_function_is_the_model(setting, arch):
    """Full attention written as a long window, states in and out: the same logits as the model with its own cache."""
    import torch

    from nas_bo.hardware.runtimes.eager import built

    made = function(arch, setting, "cpu", "test")
    model, tokens = built(arch, setting)
    with torch.inference_mode():
        whole = model(tokens[:, : setting.context + (setting.phase == "decode")]).numpy()
    assert np.allclose(made.expected, whole[:, -1:], atol=1e-4)


@pytest.mark.parametrize("logits", ["last", "all"])
def test_what_is_timed_is_what_is_counted(logits):
    """Without a mixer, whose FLOPs torch does not see on a CPU."""
    from torch.utils.flop_counter import FlopCounterMode

    arch = decoder(({"kind": "skip"}, {"kind": "dense", "ratio": 2}))
    setting = replace(PREFILL, batch=2, logits=logits)
    runs = runtime("eager", "cpu")
    ready = runs.prepare(arch, setting)
    with runs.running(), FlopCounterMode(display=False) as counter:
        ready.ready()()
    done = workload(arch, "prefill", 2, 24, logits=logits)
    assert counter.get_total_flops() == done.flops > 0


@pytest.mark.parametrize(
    ("name", "setting", "arch"),
    [
        ("onnxruntime", PREFILL, EVERY_BLOCK),
        ("onnxruntime", DECODE, EVERY_BLOCK),
        ("onnxruntime-int8", PREFILL, EVERY_BLOCK),
        ("openvino", DECODE, EVERY_BLOCK),
        ("onnxruntime", PREFILL, EVERY_FIELD),
        ("onnxruntime", DECODE, EVERY_FIELD),
        ("onnxruntime", DECODE, PLACED),
        ("openvino", DECODE, EVERY_FIELD),
    ],
)
def test_every_block_runs_and_agrees_with_eager_torch(name, setting, arch, exports):
    """`prepare` refuses what does not agree; here it is also timed."""
    runs = replace(runtime(name), exports=exports)
    assert runs.name == name and runs.conditions()["threads"] == 1
    found = Session(runs, clock="cpu", max_seconds=0.05).measure([Wanted(arch, setting)])
    assert not found.unsupported
    [measured] = found.measured.values()
    assert measured.median_ms > 0.005
    assert ("process" if name == "openvino" else "thread") in measured.clock


def test_what_computes_something_else_is_refused():
    logits = np.ones((1, 4, 8), dtype=np.float32)
    assert agree("it", logits, logits, 1e-3) == 0.0
    with pytest.raises(Unsupported, match="away from those of eager torch, more than 0.001"):
        agree("it", logits * 1.1, logits, 1e-3)
    with pytest.raises(Unsupported, match="nan away"):
        agree("it", logits * np.nan, logits, 1e-3)
    with pytest.raises(Unsupported, match="shape"):
        agree("it", logits[:, :2], logits, 1e-3)


def test_a_mixture_of_experts_is_infeasible_there_and_runs_in_eager_torch():
    with pytest.raises(Unsupported, match="onnxruntime: torch cannot export it to ONNX"):
        runtime("onnxruntime").prepare(MIXTURE, PREFILL)
    assert runtime("eager", "cpu").prepare(MIXTURE, PREFILL).held_bytes > 0
    with pytest.raises(Unsupported, match="not in int8"):
        runtime("eager", "cpu").prepare(MIXTURE, Setting(dtype="int8"))
    with pytest.raises(Unsupported, match="takes float32 models"):
        runtime("onnxruntime").prepare(MIXTURE, Setting(dtype="bfloat16"))


def test_latency_in_another_runtime_is_an_objective_measured_here():
    latency = Latency(context=24, runtime="onnxruntime")
    assert latency.name == "latency_ms.onnxruntime" and latency.conditions()["runtime"] == "onnxruntime"
    arch = TinyGPT.sample(1)
    trial = Problem(TinyGPT, [latency]).evaluate(arch)
    assert trial.state is State.COMPLETE, trial.reason
    told = trial.info[latency.name]
    assert told["how"] == "measured" and told["runtime"] == "onnxruntime" and told["low"] <= trial.values[latency.name]
    assert latency.predict(arch) == Latency(context=24).predict(arch)  # strategies steer by the roofline as ever
    assert isinstance(latency._timed.steps[0][0], Measured)  # type: ignore[attr-defined]
    assert latency(arch) == latency(arch)  # known by now


def test_a_runtime_that_is_not_installed_says_how_to_install_it(monkeypatch):
    real = importlib.metadata.version

    def gone(name: str) -> str:
        if name == "openvino":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("nas_bo.hardware.runtimes.onnxruntime.version", gone)
    with pytest.raises(MissingExtra, match=r"pip install .*\[openvino\]"):
        runtime("openvino")
    with pytest.raises(MissingExtra):
        Latency(runtime="openvino")


def test_loading_the_room_loads_no_runtime():
    import subprocess
    import sys

    code = "import nas_bo.hardware.runtimes, nas_bo.hardware.latency.profile, sys; print([m for m in ('torch', 'onnx', 'onnxruntime', 'openvino') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    names = [name for name in NAMES if not name.startswith("llama.cpp-")]
    assert names == ["eager", "cuda-graphs", "compile", "onnxruntime", "onnxruntime-int8", "openvino", "llama.cpp"]


def test_devices_and_threads_that_a_runtime_cannot_use():
    with pytest.raises(ObjectiveError, match="is run on the CPU here, not on 'cuda'"):
        runtime("onnxruntime", "cuda")
    with pytest.raises(ObjectiveError, match="threads=0"):
        runtime("openvino", threads=0)
    with pytest.raises(ObjectiveError, match="threads=0"):
        runtime("eager", "cpu", threads=0)
    from nas_bo.hardware.runtimes.eager import Eager

    with pytest.raises(ObjectiveError, match="CUDA graphs need a CUDA device"):
        Eager("cpu", graphs=True)


@pytest.mark.slow
@pytest.mark.parametrize("setting", [PREFILL, DECODE], ids=["prefill", "decode"])
def test_torch_compile_agrees_with_eager_torch(setting):
    """More models than torch compiles of one piece of code by default: beyond, it would run them uncompiled and say nothing."""
    import torch

    models = [
        EVERY_BLOCK,
        MIXTURE,
        *(decoder((ATTENTION, {"kind": "dense", "ratio": r})) for r in (1, 2, 3, 4, 5, 6, 7)),
    ]
    runs = runtime("compile", "cpu")
    found = Session(runs, clock="cpu", max_seconds=0.05).measure([Wanted(one, setting) for one in models])
    assert not found.unsupported, found.unsupported
    assert len(found.measured) == len(models) > torch._dynamo.config.recompile_limit
