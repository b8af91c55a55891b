"""llama.cpp as a runtime: its outputs are those of eager torch, with weights of every type within what rounding does."""

from __future__ import annotations

import pytest

from nas_bo.errors import MissingExtra, ObjectiveError, Unsupported
from nas_bo.hardware.measuring.session import Session, Wanted
from nas_bo.hardware.runtimes import NAMES, runtime
from nas_bo.hardware.workload import Setting
from nas_bo.objectives import Latency
from nas_bo.problem import Problem
from nas_bo.search_spaces import Lfm2Tiny, TinyGPT
from nas_bo.trial import State
from tests.export.test_huggingface import GATED, SMALL, A, attention, block, decoder

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

UNLIKE = decoder((A, GATED), (attention(2, 2), SMALL))
HYBRID = decoder((block("conv", kernel=3, gates="linear2"), GATED), (attention(qk_norm="head"), GATED))


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("arch", [UNLIKE, HYBRID], ids=["attention", "convolutions"])
@pytest.mark.parametrize("name", ["llama.cpp", "llama.cpp-q8_0"])
def test_it_agrees_with_eager_torch_and_is_timed(name, arch, phase):
    runs = runtime(name)
    assert runs.name == name and runs.conditions()["xllamacpp"]
    found = Session(runs, clock="cpu", max_seconds=0.05).measure([Wanted(arch, Setting(phase, context=24, batch=2))])
    assert not found.unsupported, found.unsupported
    [measured] = found.measured.values()
    assert measured.median_ms > 0.001 and "process" in measured.clock


def test_every_type_is_a_runtime():
    assert {"llama.cpp-q8_0", "llama.cpp-q6_k", "llama.cpp-q4_0"} <= set(NAMES)
    for name in ("llama.cpp-f16", "llama.cpp-q4_k_m", "llama.cpp-q2_k"):
        runtime(name).prepare(decoder((attention(4, 2, head_dim=64), GATED), width=256), Setting(context=16))


def test_what_it_does_not_hold_is_infeasible():
    with pytest.raises(Unsupported, match=r"llama\.cpp has no architecture.*--servable gguf"):
        runtime("llama.cpp").prepare(decoder((block("conv", kernel=4), GATED)), Setting(context=24))
    with pytest.raises(Unsupported, match="not bfloat16"):
        runtime("llama.cpp").prepare(UNLIKE, Setting(context=24, dtype="bfloat16"))
    with pytest.raises(ObjectiveError, match="is run on the CPU here"):
        runtime("llama.cpp", "cuda")


def test_latency_in_llama_cpp_is_an_objective():
    latency = Latency(context=24, runtime="llama.cpp-q8_0")
    trial = Problem(Lfm2Tiny, [latency]).evaluate(Lfm2Tiny.sample(1))
    assert trial.state is State.COMPLETE, trial.reason
    assert trial.info[latency.name]["runtime"] == "llama.cpp-q8_0" and latency.name == "latency_ms.llama.cpp-q8_0"
    arch = next(one for one in map(TinyGPT.sample, range(99)) if any("kernel" in layer.mixer for layer in one.layers))
    assert Problem(TinyGPT, [latency]).evaluate(arch).state is not State.COMPLETE


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    from importlib.metadata import PackageNotFoundError

    def gone(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("nas_bo.hardware.runtimes.onnxruntime.version", gone)
    with pytest.raises(MissingExtra, match=r"pip install .*\[llamacpp\]"):
        runtime("llama.cpp")
