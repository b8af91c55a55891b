"""One training serves all that is done after it: kept and found again, evaluated as it is used, proposed by the strategy."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import pytest
import torch

from nas_bo import search
from nas_bo.compress import quantize
from nas_bo.model import build, evaluate, label, parameters
from nas_bo.model.after_training import deployed
from nas_bo.model.inference import window_losses
from nas_bo.model.spec import check
from nas_bo.objectives import Latency, Memory, Parameters, ValidationLoss, WeightBytes, after_training
from nas_bo.search_spaces import TinyGPT, TinyGPTBits, with_bits
from nas_bo.strategies import NSGA2, Bayes

TOKENS = 4_096
Every = with_bits(TinyGPT, (32, 8, 4, 2), (32, 4), (0.0, 0.5), (0.0, 0.5), around=32, title="Every")


def made(depth: int = 2, **values: object):
    """An architecture of `Every` with attention and an MLP in each layer, and the same values in all layers."""
    flat: dict[str, object] = {"depth": depth, "width": 32, "kv_bits": values.pop("kv_bits", 32)}
    for index in range(depth):
        inside = {
            "mixer": "attention",
            "mixer.attention.heads": 2,
            "mixer.attention.kv_group": 1,
            "mlp": "dense",
            "mlp.dense.ratio": 2,
        }
        inside |= {"bits": 32, "sparsity": 0.0, "prune": 0.0, **values}
        flat |= {f"layers.{index}.{name}": value for name, value in inside.items()}
    return Every.architecture(flat)


@pytest.fixture(scope="module")
def loss(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"the square of {i} is {i * i}; " for i in range(2000)))
    return ValidationLoss(tokens=TOKENS, data=str(path), evaluation_tokens=4096)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "cache"))
    after_training._here.clear()
    return tmp_path / "cache" / after_training.FOLDER


def trainings(monkeypatch):
    """Counts the trainings from now on."""
    import nas_bo.model.training as training

    begun, real = [], training.Training.__init__

    def counted(self, *given, **options):
        begun.append(given[0])
        real(self, *given, **options)

    monkeypatch.setattr(training.Training, "__init__", counted)
    return begun


def test_one_training_serves_every_setting(loss, cache, monkeypatch):
    begun = trainings(monkeypatch)
    plain = loss(TinyGPT.architecture({k: v for k, v in made().flat.items() if k in TinyGPT.decisions()}))
    assert not cache.exists()  # of an architecture without such fields nothing is kept
    whole = loss(made())
    assert float(whole) == float(plain) and len(begun) == 2
    values = {bits: loss(made(bits=bits)) for bits in (8, 4, 2)}
    values |= {name: loss(made(**{name: 0.5})) for name in ("sparsity", "prune")}
    values["kv"] = loss(made(kv_bits=4))
    assert len(begun) == 2 and len(list(cache.glob("*.safetensors"))) == 1 and not list(cache.glob("*.lock"))
    assert abs(values[8] - whole) < 0.01 < values[2] - whole and values[4] < values[2]
    for value in values.values():
        info = value.info
        assert info["reused"] and info["trained"] == float(whole) and info["how"] == "trained, then as it is used"
        assert float(value) == info["trained"] + info["gap"] and 0 <= info["gap_sd"] < 1
        json.dumps(info, allow_nan=False)
    after_training._here.clear()  # as another process has it
    again = loss(made(bits=4))
    assert float(again) == float(values[4]) and len(begun) == 2
    loss(made(depth=1, bits=4))
    replace(loss, seed=1)(made(bits=4))
    assert len(begun) == 4


def test_a_setting_is_evaluated_as_the_smaller_model(loss):
    loss(made())
    (one,) = after_training._here.values()
    corpus = loss.corpus()
    spec = check(made(bits=4, prune=0.5, sparsity=0.5, kv_bits=4))
    used = after_training.as_used(one.model, spec, corpus)
    assert used.spec == deployed(spec)._replace(after=None)
    for name, weight in used.named_parameters():
        if name.startswith("layers.") and weight.dim() == 2:
            rows = weight.view(weight.shape[0], -1, 32) if weight.shape[1] % 32 == 0 else weight.unsqueeze(1)
            assert all(len(group.unique()) <= 16 for row in rows for group in row)  # 4 bits
    assert all(layer.mixer.kv_bits == 4 for layer in used.layers) and one.model.layers[0].mixer.kv_bits == 32
    whole = evaluate(used, corpus, 4096, one.sequence)
    assert float(window_losses(used, corpus, 4096, one.sequence).mean()) == pytest.approx(whole, rel=1e-6)
    value = loss(made(bits=4, prune=0.5, sparsity=0.5, kv_bits=4))
    assert float(value) == pytest.approx(whole, abs=4 * value.info["gap_sd"] + 1e-6)
    mixed = after_training.as_used(
        one.model, check(Every.architecture({**made(bits=4).flat, "layers.1.bits": 32})), corpus
    )
    assert torch.equal(mixed.layers[1].mlp.up.weight, one.model.layers[1].mlp.up.weight)
    assert not torch.equal(mixed.layers[0].mlp.up.weight, one.model.layers[0].mlp.up.weight)


def test_checkpoints_and_rungs_belong_to_the_training(loss, cache, tmp_path, monkeypatch):
    staged = replace(loss, checkpoints=str(tmp_path / "runs"), rungs=(0.5,))
    walk = list(staged.stages(made(bits=2)))
    assert [share for share, _ in walk] == [0.5, 1.0] and walk[1][1].info["how"] == "trained, then as it is used"
    assert len(list((tmp_path / "runs").glob("*.pt"))) == 1
    again = list(staged.stages(made(bits=8)))
    assert again[0][1] == walk[0][1] and again[1][1] < walk[1][1]  # the same rung, another end
    assert len(list((tmp_path / "runs").glob("*.pt"))) == 1


def test_a_damaged_file_is_trained_again_and_a_full_disk_costs_no_trial(loss, cache, tmp_path, monkeypatch, caplog):
    value = loss(made(bits=4))
    (file,) = cache.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    after_training._here.clear()
    assert float(loss(made(bits=4))) == float(value) and "trained again" in caplog.text
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "file"))
    after_training._here.clear()
    assert float(loss(made(bits=4))) == float(value) and "NAS_BO_CACHE" in caplog.text


def test_no_more_than_so_many_bytes_are_kept(loss, cache, monkeypatch):
    monkeypatch.setattr(after_training, "MOST_BYTES", 200_000)
    for seed in range(3):
        replace(loss, tokens=1024, seed=seed)(made())
    kept = list(cache.glob("*.safetensors"))
    assert 0 < len(kept) < 3 and sum(path.stat().st_size for path in kept) <= 200_000


def test_what_a_measured_latency_does_not_see_is_said_once(caplog):
    from nas_bo.objectives import target

    target._said.clear()
    Latency().check_space(TinyGPTBits)
    Latency().check_space(TinyGPTBits)
    Latency(target="pi5").check_space(TinyGPTBits)
    Latency().check_space(TinyGPT)
    assert caplog.text.count("is that of weights and caches in its data type") == 1
    four, two = (Latency().predict(made(bits=bits)) for bits in (4, 2))
    assert four == two == Latency().predict(made()) > Latency().predict(made(prune=0.5))
    phone = Latency(phase="decode", target="pi5")
    assert float(phone(made(bits=2))) < float(phone(made(bits=4))) < float(phone(made()))


# ---- the search ---------------------------------------------------------------------------------------------------------


class Cheap:
    """A stand-in for a loss: of the training, plus what few bits cost; counts what it trains."""

    name, unit, direction, cost = "loss", "bits/byte", "minimize", "trained"

    def __call__(self, arch):
        size = sum(1 + ("heads" in layer.mixer) for layer in arch.layers) * arch.width
        return 3 - 0.2 * math.log(size) + sum({8: 0, 4: 0.004, 3: 0.02, 2: 0.15}[layer.bits] for layer in arch.layers)


def test_settings_of_trained_architectures_follow_each_training():
    strategy = Bayes(seed=0, startup=4, candidates=100, settings=4)
    found, again = (
        search(TinyGPTBits, [Cheap(), Memory(context=64)], strategy=one, trials=16, retrain=0)
        for one in (strategy, pickle.loads(pickle.dumps(strategy)))
    )
    trained = [t.architecture.training_id for t in found.trials]
    assert len({t.architecture.id for t in found.trials}) == 16
    assert len(set(trained[:4])) == 4 and 4 <= len(set(trained)) <= 8
    assert [t.architecture.id for t in again.trials] == [t.architecture.id for t in found.trials]


def test_other_spaces_and_strategies_are_as_they_were():
    one, other = (
        search(
            TinyGPT, [Flat(), Parameters()], strategy=Bayes(seed=0, candidates=200, settings=s), trials=12, retrain=0
        )
        for s in (1, 6)
    )
    assert [t.architecture.id for t in one.trials] == [t.architecture.id for t in other.trials]
    assert len(search(TinyGPTBits, [Cheap(), Parameters()], strategy=NSGA2(seed=0), trials=6, retrain=0).trials) == 6


class Flat:
    name, unit, direction, cost = "loss", "", "minimize", "trained"

    def __call__(self, arch):
        return 1 / arch.width


def test_a_search_with_processes_trains_each_architecture_once(loss, cache):
    found = search(
        TinyGPTBits, [replace(loss, tokens=1024), Memory(context=64)], strategy=Bayes(seed=0, startup=2, candidates=100, settings=4), trials=8,
        workers=2, retrain=0,
    )  # fmt: skip
    distinct = {t.architecture.training_id for t in found.trials}
    assert len(found.trials) == 8 > len(distinct) and len(list(cache.glob("*.safetensors"))) == len(distinct)
    assert all(" b8" in label(t.architecture) or " v" in label(t.architecture) for t in found.trials)


@pytest.mark.parametrize("seed", range(4))
def test_weight_bytes_are_those_that_are_written(seed):
    arch = TinyGPTBits.sample(seed)
    spec = check(arch)
    model = build(arch, 256, generator=torch.Generator().manual_seed(0))
    bits = {f"layers.{index}": one.bits for index, one in enumerate(spec.after[1:]) if index < len(spec.layers)}
    there = {
        name.split(".")[1]
        for name, weight in model.named_parameters()
        if name.startswith("layers.") and weight.dim() > 1
    }
    asked = {name: value for name, value in bits.items() if name.split(".")[1] in there}
    packed = quantize(model, {**asked, "default": spec.after[0].bits})
    assert WeightBytes()(arch) == pytest.approx(
        packed.nbytes, abs=4 * len(packed.packed)
    )  # whole bytes of each matrix or of each block
    half = made(prune=0.5)
    assert WeightBytes()(half) == 4 * parameters(half, 256) < WeightBytes()(made())
    assert WeightBytes(dtype="bfloat16")(made()) == 2 * parameters(made(), 256)
