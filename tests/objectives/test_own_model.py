"""Costs of models of the user's own: any torch module that a function builds from an architecture."""

import pickle

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas_bo import Problem, search, serialization
from nas_bo.errors import ModelError, ObjectiveError
from nas_bo.hardware.measuring.memory_measure import StorageTracker
from nas_bo.hardware.runtimes.own_model import OwnModel
from nas_bo.hardware.traced import size, traced, training_peak
from nas_bo.hardware.workload import Setting, workload
from nas_bo.model import CachedDecoder, build, parameters
from nas_bo.objectives import Flops, Latency, Memory, Parameters, Throughput
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from tests.own_models import Attention, OnlyNumbers, Stack, Stacks, broken, huggingface, no_module

ARCH = Stacks.architecture({"width": 32, "depth": 2, "layers.0.cell": "gru", "layers.1.cell": "mlp", "layers.1.cell.mlp.ratio": 2})  # fmt: skip
QUICK = {"context": 16, "max_seconds": 0.05}


def ours(arch):
    return build(arch, 256)


def unique(model: nn.Module) -> int:
    return sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())


@pytest.mark.parametrize("made", [Stack, Attention, OnlyNumbers, huggingface])
def test_parameters_are_those_of_the_module_tied_ones_once(made) -> None:
    value = Parameters(build=made)(ARCH)
    assert value == unique(made(ARCH))
    assert value.info["how"] == "counted on the meta device"


@pytest.mark.parametrize("made", [Stack, Attention])
def test_flops_are_those_of_torch_and_attention_counts(made) -> None:
    with torch.device("meta"):
        model = made(ARCH)
    tokens = torch.zeros(1, 24, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:  # with gradients: without them it drops attention
        model(tokens)
    assert Flops(tokens=24, build=made)(ARCH) * 1e6 == pytest.approx(counter.get_total_flops())
    attended = 4 * 24 * 24 * ARCH.width if made is Attention else 0
    assert counter.get_total_flops() >= attended


def test_a_model_that_looks_at_numbers_is_counted_on_the_cpu_and_attention_is_not_dropped() -> None:
    value = Flops(tokens=24, build=OnlyNumbers)(ARCH)
    assert value.info["how"] == "counted on the cpu device"
    assert value == Flops(tokens=24, build=Attention)(ARCH)


@pytest.mark.parametrize("seed", range(4))
def test_traces_of_our_own_decoder_agree_with_what_is_known_of_it(seed: int) -> None:
    arch = TinyGPT.sample(seed)
    for phase in ("prefill", "decode"):
        assert (
            traced(ours, arch, Setting(phase)).flops == workload(arch, phase, logits="all").flops
        )  # as a model of one's own
    assert size(ours, arch).parameters == parameters(arch, 256)
    near = Memory(context=128)(arch)
    assert Memory(context=128, build=ours)(arch) == pytest.approx(float(near), rel=0.4)
    assert training_peak(ours, arch, 8, 64, 256)[0] == pytest.approx(float(Memory(training=(8, 64))(arch)), rel=0.15)


@pytest.mark.parametrize("made", [Stack, Attention])
def test_the_traced_peak_is_that_of_a_real_run(made) -> None:
    model, tokens = made(ARCH).eval(), torch.zeros(1, 32, dtype=torch.long)
    with torch.no_grad(), StorageTracker() as tracker:
        tracker.watch([*model.parameters(), tokens])
        model(tokens)
    found = traced(made, ARCH, Setting(context=32))
    assert found.where == "meta" and found.peak_bytes == pytest.approx(tracker.peak, rel=0.25)
    value = Memory(context=32, build=made)(ARCH)
    assert value.info["how"] == "traced on the meta device" and value.info["weight_bytes"] == 4 * unique(model)
    assert ("no cache" in value.info["of"]) == (made is Stack)


@pytest.mark.parametrize("made", [Stack, Attention, huggingface])
def test_latency_is_measured_and_guided(made) -> None:
    objective = Latency(build=made, **QUICK)
    value = objective(ARCH)
    assert value > 0 and value.info["how"] == "measured" and value.info["predicted"] > 0
    assert objective.name == "latency_ms"
    assert objective.conditions()["build"] == made.__qualname__
    assert objective.predict(ARCH) == objective.predict(ARCH) > 0
    rate = Throughput("prefill", 16, 2, max_seconds=0.05, build=made)
    assert rate(ARCH) > 0 and rate.predict(ARCH) > 0


@pytest.mark.parametrize("made", [Attention, huggingface])
def test_decoding_is_run_where_there_is_a_cache(made) -> None:
    objective = Latency("decode", build=made, **QUICK)
    assert objective(ARCH) > 0 and objective.predict(ARCH) > 0
    assert Latency("request", output_length=4, build=made, **QUICK)(ARCH) > 0
    assert isinstance(Attention(ARCH), CachedDecoder) and not isinstance(Stack(ARCH), CachedDecoder)


@pytest.mark.parametrize("made", [Attention, huggingface])
def test_every_repeat_of_decoding_begins_after_the_prompt(made) -> None:
    prepared = OwnModel(made, "cpu").prepare(ARCH, Setting("decode", context=5))
    with torch.inference_mode():
        first = prepared.ready()()
        again = prepared.ready()()
    first, again = (one[0] if isinstance(one, tuple) else one.logits for one in (first, again))
    assert torch.equal(first, again) and prepared.steps == 8


def test_decoding_without_a_cache_is_refused_with_what_to_do() -> None:
    for call in (Latency("decode", build=Stack, **QUICK), Latency("decode", build=Stack, **QUICK).predict):
        with pytest.raises(ObjectiveError, match=r"Stack has none: give it new_cache\(batch, length\)"):
            call(ARCH)


@pytest.mark.parametrize(
    ("made", "says"),
    [(broken, "broken raised KeyError: 'no_such_field'"), (no_module, "no_module returned 'a model'")],
)
def test_what_cannot_be_built_says_why(made, says) -> None:
    for objective in (Parameters(build=made), Flops(build=made), Memory(build=made), Latency(build=made, **QUICK)):
        with pytest.raises(ModelError, match=says):
            objective(ARCH)


@pytest.mark.parametrize("owner", [Parameters, Flops, Memory, Latency, Throughput])
def test_a_build_that_is_none_is_refused_when_the_objective_is_made(owner) -> None:
    with pytest.raises(ObjectiveError, match="cannot be called; give a function"):
        owner(build=3)
    with pytest.raises(ObjectiveError, match="build=Stack"):
        owner(build=Stack(ARCH))
    with pytest.raises(ObjectiveError, match="with the architecture alone"):
        owner(build=lambda arch, width: None)


def test_what_speaks_of_our_decoder_is_refused() -> None:
    with pytest.raises(ObjectiveError, match="run in eager torch"):
        Latency(build=Stack, runtime="onnxruntime")
    with pytest.raises(ObjectiveError, match="describes the decoder of nas_bo"):
        Latency(build=Stack, target="pi5", model="learned")


def test_a_device_that_is_not_here_gets_a_roofline() -> None:
    objective = Latency(build=Stack, target="pi5")
    assert objective.name == "latency_ms@pi5.roofline"
    small = Stacks.architecture({"width": 16, "depth": 1, "layers.0.cell": "mlp", "layers.0.cell.mlp.ratio": 1})
    assert 0 < objective(small) < objective(ARCH)


def test_weights_are_repeatable_and_the_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Latency(build=Stack, **QUICK)(ARCH)
    Parameters(build=OnlyNumbers)(ARCH)
    assert torch.equal(before, torch.get_rng_state())


def test_objectives_of_own_models_travel_and_can_be_built_again() -> None:
    for objective in (Parameters(build=Stack), Memory(build=Stack), Latency(build=Stack, **QUICK)):
        assert pickle.loads(pickle.dumps(objective)) == objective
        assert serialization.rebuild(serialization.describe(objective), ["tests"]) == objective
    assert (
        "a function of tests"
        in serialization.unknown(serialization.describe(Parameters(build=lambda arch: Stack(arch))))[0]
    )


def test_a_whole_search_of_an_own_model_in_worker_processes(tmp_path) -> None:
    objectives = [Latency(build=Stack, **QUICK), Parameters(build=Stack)]
    found = search(Stacks, objectives, strategy=Random(seed=0), trials=4, workers=2, storage=str(tmp_path / "s.db"))
    assert [t.state.name for t in found.trials] == ["COMPLETE"] * 4
    assert Problem(Stacks, objectives).known(ARCH)["parameters"] == unique(Stack(ARCH))


def test_a_lambda_is_refused_by_worker_processes_in_one_message() -> None:
    from nas_bo.errors import SearchError

    with pytest.raises(SearchError, match="workers=2 needs a space and objectives that can be sent"):
        search(Stacks, [Parameters(build=lambda arch: Stack(arch))], trials=2, workers=2)
