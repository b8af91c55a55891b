"""Memory, energy and fitting as objectives and limits: in a search, in Optuna and in Ax."""

from __future__ import annotations

import pickle
import time

import optuna
import pytest

from nas_bo import search
from nas_bo.errors import DeviceError, NasBoError, ObjectiveError, SpaceError
from nas_bo.hardware import memory
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.workload import Setting
from nas_bo.objectives import Energy, Fits, KVCacheBytes, Memory, Parameters, fitting
from nas_bo.optuna import Sampler, suggest
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, choice
from nas_bo.strategies import NSGA2, Bayes, Random
from nas_bo.trial import State

ARCHS = [TinyGPT.sample(seed) for seed in range(40)]
SMALL = Device("small", "npu", memory_bytes=2_000_000, operations=("conv", "dense"))
FITS = Fits(SMALL, context=256)
Fitting = fitting("Fitting", TinyGPT, FITS)


class Clock:
    name = "7 W"

    def joules(self) -> float:
        return 7 * time.perf_counter()


def runs_there(arch) -> bool:
    allowed = all(layer.mixer.kind == "conv" for layer in arch.layers)
    return allowed and memory.needed(arch, Setting("prefill", 1, 256)) <= 2_000_000


def test_some_architectures_fit_and_some_do_not() -> None:
    assert 0 < sum(map(runs_there, ARCHS)) < 20
    for arch in ARCHS:
        value = FITS(arch)
        assert (value == 0) == FITS.holds(arch) == runs_there(arch) == Fitting.contains(arch).ok
        assert value.info["needed_bytes"] == memory.needed(arch, Setting("prefill", 1, 256))
        assert ("attention" in value.info["unsupported"]) == any(x.mixer.kind == "attention" for x in arch.layers)
    assert FITS.name == "fits@small" and [rule.name for rule in Fitting.rules()] == ["fits_small"]
    assert pickle.loads(pickle.dumps(Fitting)) is Fitting and pickle.loads(pickle.dumps(FITS)).holds(
        ARCHS[0]
    ) == FITS.holds(ARCHS[0])


@pytest.mark.parametrize("strategy", [NSGA2(population=6, seed=0), Bayes(seed=0)], ids=lambda s: type(s).__name__)
def test_what_does_not_fit_is_never_tried_in_a_search(strategy, tmp_path) -> None:
    tried = []

    def loss(arch) -> float:
        tried.append(arch)
        return 1 / sum(1 + (layer.mlp.kind == "dense") for layer in arch.layers)

    result = search(
        TinyGPT, [loss, KVCacheBytes()], limits=[FITS], strategy=strategy, trials=12, workers=1, retrain=0,
        storage=f"sqlite:///{tmp_path / 'study.db'}",
    )  # fmt: skip
    assert len(tried) == 12 and all(map(runs_there, tried))
    assert all(t.state is State.COMPLETE for t in result.trials)


def test_optuna_is_never_asked_for_what_does_not_fit() -> None:
    for space, limits in ((TinyGPT, [FITS]), (Fitting, [])):
        study = optuna.create_study(sampler=Sampler(space, Random(seed=1), limits=limits))
        study.optimize(lambda trial, space=space: float(runs_there(suggest(trial, space))), n_trials=10)
        assert [trial.value for trial in study.trials] == [1.0] * 10
    foreign = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))  # knows nothing of us
    foreign.optimize(lambda trial: float(runs_there(suggest(trial, Fitting))), n_trials=12)
    states = {trial.state for trial in foreign.trials}
    assert optuna.trial.TrialState.PRUNED in states and all(t.value in (1.0, None) for t in foreign.trials)


def test_ax_is_never_given_what_does_not_fit() -> None:
    pytest.importorskip("ax")
    import logging

    from ax.api.client import Client

    from nas_bo import ax as nas_ax

    logging.getLogger("ax").setLevel(logging.ERROR)
    for space, objectives in ((TinyGPT, [FITS]), (Fitting, [])):
        client = Client()
        client.configure_experiment(
            parameters=nas_ax.parameters(space), parameter_constraints=nas_ax.constraints(space)
        )
        client.configure_optimization(objective="-loss")
        client.set_generation_strategy(nas_ax.generation(space, Random(seed=2), objectives))
        for index, parameters in client.get_next_trials(max_trials=8).items():
            assert runs_there(nas_ax.architecture(space, parameters))
            client.complete_trial(index, raw_data={"loss": 1.0})


def test_memory_is_a_limit_that_costs_nothing() -> None:
    objective = Memory(context=256, target="pi5")
    assert objective.name == "peak_bytes@pi5" and objective.at_most == 8e9 and objective.cost == "analytic"
    assert Memory().name == "peak_bytes" and Memory(training=(8, 64)).name == "training_bytes"
    assert Memory(target="pi5", at_most=5.0).at_most == 5.0
    tight = sorted(Memory(context=256)(arch) for arch in ARCHS)[10]
    problem = Problem(TinyGPT, [Parameters()], limits=[Memory(context=256, at_most=tight)])
    assert sum(problem.admissible(arch) for arch in ARCHS) == 11
    for arch in ARCHS[:5]:
        assert Memory(training=(8, 64))(arch) == memory.training(arch, 8, 64).total > Memory(context=64)(arch)
        assert Memory(context=4096, dtype="int8")(arch) < Memory(context=4096)(arch)
    assert Memory(training=(8, 64)).conditions() == {
        "context": 2048,
        "batch": 1,
        "dtype": "float32",
        "vocab_size": 256,
        "training": [8, 64],
    }
    assert FITS.conditions()["operations"] == ["conv", "dense"]


def test_energy_is_modelled_and_says_so_or_measured(monkeypatch) -> None:
    modelled = Energy(target="v100")
    value = modelled(ARCHS[0])
    assert (
        modelled.name == "modelled_energy_mj@v100"
        and value.info["how"] == "modelled"
        and value == modelled.predict(ARCHS[0]) > 0
    )
    whole = Energy("request", context=64, output_length=9, target="v100")
    parts = Energy(context=64, target="v100").predict(ARCHS[0]) + 8 * Energy(
        "decode", context=68, target="v100"
    ).predict(ARCHS[0])
    assert whole.predict(ARCHS[0]) == pytest.approx(parts) and whole.name == "modelled_request_energy_mj@v100"
    assert modelled.conditions()["model"] == "modelled" and pickle.loads(pickle.dumps(modelled)).predict(ARCHS[1]) > 0
    monkeypatch.setattr("nas_bo.hardware.measuring.meters.RUN_SECONDS", 0.02)
    measured = Energy("decode", context=16, model="measured", meter=Clock(), device="cpu")
    value = measured(ARCHS[0])
    assert measured.name == "decode_energy_mj" and value.info["how"] == "measured" and value.info["meter"] == "7 W"
    assert value.info["low"] <= value <= value.info["high"] and measured.conditions()["meter"] == "7 W"
    order = sorted(ARCHS, key=measured.predict)
    assert measured.predict(order[0]) < measured.predict(order[-1])


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Energy(), ObjectiveError, "no device whose prices are known"),
        (lambda: Energy(target="h100"), DeviceError, "pj_per_byte"),
        (lambda: Energy(target="v100", dtype="bfloat16"), DeviceError, "pj_per_flop for bfloat16"),
        (lambda: Energy(target="v100", model="measured"), ObjectiveError, "what is here"),
        (lambda: Energy(target="v100", meter=Clock()), ObjectiveError, "prices"),
        (lambda: Energy(model="guessed"), ObjectiveError, "'modelled' or 'measured'"),
        (lambda: Energy("both", target="v100"), ObjectiveError, "'prefill', 'decode' or 'request'"),
        (lambda: Energy(context=0, target="v100"), ObjectiveError, "above 0"),
        (lambda: Memory(context=0), ObjectiveError, "context=0"),
        (lambda: Memory(dtype="fp32"), ObjectiveError, "fp32"),
        (lambda: Memory(training=(8,)), ObjectiveError, "batch, sequence"),
        (lambda: Memory(target="xeon-8380"), DeviceError, "no memory_bytes"),
        (lambda: Fits("xeon-8380"), DeviceError, "everything would fit"),
        (lambda: Fits("pi5", share=1.5), ObjectiveError, "share=1.5"),
        (lambda: Fits("pi5", training=(8, 0)), ObjectiveError, "batch, sequence"),
        (lambda: Fits("pi55"), DeviceError, "did you mean 'pi5'"),
        (lambda: fitting("Odd", Space.of("Odd", width=choice(1, 2), fits_small=choice(1, 2)), FITS), SpaceError, "fits_small"),
    ],
)  # fmt: skip
def test_what_is_impossible_is_refused_at_once(make, error, says) -> None:
    with pytest.raises(error, match=says):
        make()
    assert issubclass(error, NasBoError)


def test_measured_energy_without_a_meter_is_refused_when_it_is_asked_for(monkeypatch) -> None:
    from nas_bo.hardware.measuring import meters

    def none() -> None:
        raise ObjectiveError("this CPU has no energy meter")

    monkeypatch.setattr(meters, "RaplMeter", none)
    with pytest.raises(ObjectiveError, match="no energy meter"):
        Energy(model="measured", device="cpu")
