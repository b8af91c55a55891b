"""Validation loss at less than the full price: prefixes, rungs, checkpoints, dials, probe, growth, noise."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_bo.architecture import Node
from nas_bo.errors import DataError, ModelError, ObjectiveError, TrainingDiverged
from nas_bo.model import build, flops, load_corpus, train
from nas_bo.model.narrow import narrower
from nas_bo.objectives import Growth, LearningRateProbe, ValidationLoss, noise_of, seed_noise
from nas_bo.search_spaces import TinyGPT

TOKENS = 10_240  # twenty steps of 8 x 64


def arch_of(depth: int = 1, width: int = 32, heads: int = 4) -> object:
    layer = {"mixer": "attention", "mixer.attention.heads": heads, "mixer.attention.kv_group": 1, "mlp": "skip"}
    flat = {f"layers.{i}.{name}": value for i in range(depth) for name, value in layer.items()}
    return TinyGPT.architecture({"depth": depth, "width": width, **flat})


ARCH, DEEP = arch_of(), arch_of(3)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("".join(f"the square of {i} is {i * i}; " for i in range(2000)))
    return str(path)


@pytest.fixture(scope="module")
def loss(text: str) -> ValidationLoss:
    return ValidationLoss(tokens=TOKENS, data=text, evaluation_tokens=4096)


def test_a_fidelity_is_a_prefix_of_the_whole_run(loss: ValidationLoss) -> None:
    part = replace(loss, fidelity=0.5)(ARCH)
    whole = train(ARCH, loss.corpus(), TOKENS, validate_at=(0.5,), evaluation_tokens=4096)
    assert float(part) == whole.validation[0][1] and float(loss(ARCH)) == whole.bits_per_byte
    assert part.info["fidelity"] == 0.5 and part.info["tokens"] == TOKENS // 2 == part.info["validation"][-1][0]
    assert part.info["validation"][-1][1] == float(part) and part.info["curve"][-1][0] <= TOKENS // 2
    json.dumps(part.info, allow_nan=False)


def test_stages_are_that_run_and_stop_when_nobody_asks(loss: ValidationLoss, tmp_path: Path) -> None:
    staged = replace(loss, rungs=(0.25, 0.5), checkpoints=str(tmp_path / "runs"))
    walk = staged.stages(ARCH)
    share, first = next(walk)
    assert share == 0.25 and first.info["tokens"] == TOKENS // 4
    (file,) = (tmp_path / "runs").glob("*.pt")
    assert torch.load(file, weights_only=True)["step"] == 5  # not a step more than was asked for
    walk.close()
    again = list(pickle.loads(pickle.dumps(staged)).stages(ARCH))
    assert [share for share, _ in again] == [0.25, 0.5, 1.0]
    assert float(again[0][1]) == float(first) and again[0][1].info["resumed"] == TOKENS // 4
    assert float(again[2][1]) == float(loss(ARCH))
    assert torch.load(file, weights_only=True)["step"] == 20
    assert float(replace(staged, fidelity=0.25)(ARCH)) == float(first)  # known, though the run is further
    between = replace(staged, fidelity=0.35, rungs=())(ARCH)  # not known: trained again, and nothing lost
    assert float(between) == float(replace(loss, fidelity=0.35)(ARCH)) and "resumed" not in between.info
    assert torch.load(file, weights_only=True)["step"] == 20


def test_rungs_too_short_to_compare_anything_are_passed_over(loss: ValidationLoss) -> None:
    short = replace(loss, tokens=2048, rungs=(0.25, 0.5))  # 512 and 1024 tokens
    assert [share for share, _ in short.stages(ARCH)] == [0.5, 1.0]


def test_a_later_call_pays_only_the_rest(loss: ValidationLoss, tmp_path: Path) -> None:
    kept = replace(loss, checkpoints=str(tmp_path))
    replace(kept, fidelity=0.5)(ARCH)
    value = kept(ARCH)
    assert value.info["resumed"] == TOKENS // 2 and float(value) == float(loss(ARCH))
    other = replace(kept, seed=1, fidelity=0.1)(ARCH)
    assert "resumed" not in other.info and len(list(tmp_path.glob("*.pt"))) == 2


def test_conditions_name_only_what_was_turned(loss: ValidationLoss) -> None:
    plain = {"corpus", "sha256", "tokens", "seed"}
    assert set(ValidationLoss(tokens=TOKENS, data=loss.data).conditions()) == plain
    assert (
        set(replace(loss, evaluation_tokens=65_536, checkpoints="x", rungs=(0.5,), noise_sd=0.1).conditions()) == plain
    )
    turned = replace(
        loss,
        fidelity=0.5,
        sequence=32,
        batch_size=4,
        data_share=0.5,
        width_factor=0.5,
        growth=Growth(),
        probe=LearningRateProbe(),
    ).conditions()
    assert set(turned) == plain | {
        "fidelity", "sequence", "batch_size", "data_share", "width_factor", "growth", "probe", "evaluation_tokens"
    }  # fmt: skip
    json.dumps(turned)


def test_the_larger_one_takes_no_shortcut(loss: ValidationLoss) -> None:
    quick = ValidationLoss.quick(tokens=50_000, data=loss.data, width_factor=0.5, seed=3)
    larger = quick.larger(2)
    assert larger == ValidationLoss(tokens=100_000, data=loss.data, seed=4, rungs=())


def test_dials_reach_the_training(loss: ValidationLoss) -> None:
    corpus = loss.corpus()
    short = replace(loss, sequence=32, batch_size=4, fidelity=0.25)(ARCH)
    assert float(short) == train(
        ARCH, corpus, TOKENS, sequence=32, batch_size=4, stop_at=0.25, evaluation_tokens=4096
    ).bits_per_byte  # fmt: skip
    less = replace(loss, data_share=0.3, fidelity=0.25)(ARCH)
    part = corpus.part(0.3)
    assert np.array_equal(part.train, corpus.train[: len(part.train)]) and part.fingerprint != corpus.fingerprint
    assert len(part.train) == round(0.3 * len(corpus.train)) and part.validation is corpus.validation
    assert float(less) == train(ARCH, part, TOKENS, stop_at=0.25, evaluation_tokens=4096).bits_per_byte
    narrow = replace(loss, width_factor=0.5, fidelity=0.25)(ARCH)
    assert narrow.info["parameters"] == sum(p.numel() for p in build(narrower(ARCH, 0.5), 256).parameters())


def test_a_narrower_copy_keeps_heads_and_layers() -> None:
    for seed in range(20):
        arch = TinyGPT.sample(seed)
        for factor in (0.25, 0.5, 0.7):
            narrow = narrower(arch, factor)
            assert narrow.width == round(arch.width * factor) and len(narrow.layers) == arch.depth
            build(narrow, 256, device="meta")
            for one, two in zip(arch.layers, narrow.layers, strict=True):
                assert one.mixer.kind == two.mixer.kind and one.mlp == two.mlp
                if one.mixer.kind == "attention":
                    dim = arch.width / one.mixer.heads * factor
                    assert one.mixer.heads == two.mixer.heads and dim - 0.5 <= two.mixer.head_dim < dim + 2.5
    assert narrower(arch, 1.0) == arch.tree
    explicit = Node({"width": 64, "layers": (Node({"mixer": Node({"kind": "linear_attention", "heads": 2, "head_dim": 8}),
                                                   "mlp": Node({"kind": "skip"})}),)})  # fmt: skip
    assert narrower(explicit, 0.5).layers[0].mixer.head_dim == 4


def test_the_probe_takes_the_best_rate(loss: ValidationLoss) -> None:
    probe = LearningRateProbe(factors=(0.01, 1.0, 1e9), tokens=3000)
    value = replace(loss, probe=probe, fidelity=0.25)(ARCH)
    tried = dict(map(tuple, value.info["probe"]))
    assert value.info["lr"] == 3e-3 == min(tried, key=tried.__getitem__) and 3e-5 in tried
    corpus, how = loss.corpus(), {"evaluation_tokens": 4096}
    assert tried[3e-5] == train(ARCH, corpus, 3000, lr=3e-5, **how).bits_per_byte
    assert float(value) == float(replace(loss, fidelity=0.25)(ARCH))
    with pytest.raises(TrainingDiverged, match="every learning rate"):
        LearningRateProbe(factors=(1e9, 1e10), tokens=8000)(ARCH, corpus, 0, {"clip": 0.0}, **how)


def test_growth_takes_more_off_larger_and_deeper_models(loss: ValidationLoss) -> None:
    early = replace(loss, fidelity=0.25)
    for arch in (ARCH, DEEP):
        corrected = replace(early, growth=Growth())(arch)
        assert corrected.info["measured"] == float(early(arch))
        assert float(corrected) == corrected.info["measured"] - corrected.info["growth"]
    one, two = (Growth()(arch, 0.25, 256) for arch in (ARCH, DEEP))
    expected = math.log(4) * (0.075 * math.log(flops(DEEP, 256, 64) / flops(ARCH, 256, 64)) + 0.065 * math.log(3))
    assert two - one == pytest.approx(expected) and expected > 0
    assert Growth()(DEEP, 1.0, 256) == 0 and Growth(0, 0)(DEEP, 0.1, 256) == 0
    whole = replace(loss, growth=Growth())(ARCH)
    assert float(whole) == float(loss(ARCH)) and "growth" not in whole.info


def test_quick_costs_what_it_says() -> None:
    for tokens in (200_000, 500_000):
        for cost in (0.1, 0.25):
            quick = ValidationLoss.quick(tokens, cost)
            spent = quick.tokens * quick.fidelity + quick.evaluation_tokens / 3
            assert spent == pytest.approx(cost * (tokens + 65_536 / 3))
    assert quick.growth == Growth() and quick.conditions()["growth"] == {"flops": 0.075, "depth": 0.065}


def test_extrapolation_says_what_it_saw(loss: ValidationLoss, tmp_path: Path) -> None:
    value = replace(loss, extrapolate=True, fidelity=0.5)(ARCH)
    assert value.info["low"] < float(value) < value.info["high"] and float(value) < value.info["measured"]
    assert len(value.info["validation"]) >= 4 and value.info["measured"] == value.info["validation"][-1][1]
    kept = replace(loss, checkpoints=str(tmp_path), fidelity=0.5)
    kept(ARCH)  # leaves one held-out point only
    later = replace(kept, extrapolate=True)(ARCH)
    assert later.info["resumed"] and later.info["low"] < float(later) < later.info["measured"]
    assert "low" not in replace(loss, extrapolate=True)(ARCH).info


def test_seed_noise_is_between_seeds_alone(loss: ValidationLoss) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(0, 0.03, (40, 5)) + rng.normal(0, 1, (40, 1)) + rng.normal(0, 1, (1, 5))
    found = noise_of(table.tolist())
    assert found.sd == pytest.approx(0.03, rel=0.15) and found.low < 0.03 < found.high and found.degrees == 39 * 4
    archs = [TinyGPT.sample(seed) for seed in range(2)]
    quick = replace(loss, tokens=2000)
    measured = seed_noise(quick, archs, (0, 1))
    assert measured.degrees == 1 and measured.values[1][1] == float(replace(quick, seed=1)(archs[1]))
    assert replace(quick, noise_sd=measured.sd)(archs[0]).info["noise_sd"] == measured.sd
    for bad in ([archs[:1], (0, 1)], [archs, (0,)], [archs, (1, 1)]):
        with pytest.raises(ObjectiveError, match="at least two"):
            seed_noise(quick, *bad)
    with pytest.raises(ObjectiveError, match="finite"):
        noise_of([[1.0, math.inf], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: ValidationLoss(fidelity=0), ObjectiveError, "above 0 and at most 1"),
        (lambda: ValidationLoss(fidelity=1.5), ObjectiveError, "fidelity=1.5"),
        (lambda: ValidationLoss(tokens=2000, fidelity=0.2), ObjectiveError, "at least 1,000"),
        (lambda: ValidationLoss(rungs=(0.1, 0.5)), ObjectiveError, "below min_rung=0.25"),
        (lambda: ValidationLoss(rungs=(0.5, 0.25)), ObjectiveError, "must rise"),
        (lambda: ValidationLoss(width_factor=2), ObjectiveError, "width_factor=2"),
        (lambda: ValidationLoss(data_share=float("nan")), ObjectiveError, "data_share=nan"),
        (lambda: ValidationLoss(sequence=0), ObjectiveError, "sequence=0"),
        (lambda: ValidationLoss(noise_sd=-1), ObjectiveError, "noise_sd=-1"),
        (lambda: ValidationLoss(fidelity=0.5, extrapolate=True, growth=Growth()), ObjectiveError, "choose one"),
        (lambda: ValidationLoss(fidelity=0.9, extrapolate=True), ObjectiveError, "decays from 0.75"),
        (lambda: ValidationLoss.quick(cost=0), ObjectiveError, "cost=0"),
        (lambda: ValidationLoss.quick(tokens=20_000, cost=0.1), ObjectiveError, "are the least"),
        (lambda: LearningRateProbe(factors=(1.0,)), ObjectiveError, "at least two"),
        (lambda: LearningRateProbe(tokens=0), ObjectiveError, "above 0"),
        (lambda: Growth(flops=math.inf), ObjectiveError, "finite"),
        (lambda: narrower(ARCH, 0.1), ModelError, "at least 0.25"),
        (lambda: narrower(ARCH, 0), ModelError, "above 0"),
    ],
)
def test_refusals(make, error, says) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=says):
        make()


def test_a_rung_below_a_quarter_is_possible_on_purpose() -> None:
    assert ValidationLoss(rungs=(0.1, 0.5), min_rung=0.1).rungs == (0.1, 0.5)


def test_too_small_a_share_of_the_text_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="leaves 5. tokens"):
        load_corpus(text).part(0.001)


def test_a_folder_that_cannot_be_is_refused(loss: ValidationLoss, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ObjectiveError, match="not a folder"):
        replace(loss, checkpoints=str(tmp_path / "file"))(ARCH)
