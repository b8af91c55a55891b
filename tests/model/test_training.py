"""Training: it learns, it repeats to the bit, it touches nothing global, it stops when it diverges."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_bo.architecture import Node
from nas_bo.errors import DataError, ModelError, TrainingDiverged
from nas_bo.model import Corpus, build, evaluate, generate, load_corpus, train
from nas_bo.model.run import Run
from nas_bo.model.schedule import DEFAULTS
from tests.model.architectures import ATTENTION, CONV, DENSE, GATED, LINEAR, MOE, SKIP, block, decoder, layer
from tests.processes import python

ARCH = decoder(layer(CONV, GATED), layer(ATTENTION, MOE), layer(LINEAR, DENSE), width=16)
SMALL = decoder(layer(CONV, DENSE), width=16)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("".join(f"the square of {i} is {i * i}; " for i in range(4000)))
    return load_corpus(path)


def test_it_learns_and_reports(corpus: Corpus) -> None:
    calls: list[tuple[int, int, float]] = []
    result = train(
        ARCH, corpus, 60_000, device="cpu", progress=lambda *call: calls.append(call), validate_at=(0.25, 0.5)
    )
    untrained = evaluate(build(ARCH, 256, generator=torch.Generator().manual_seed(0)), corpus)
    assert result.bits_per_byte < 3.0 < 6.5 < untrained
    assert result.steps == 117 and result.tokens == 117 * 512
    assert result.parameters == sum(weight.numel() for weight in result.model.parameters())
    assert 2 < len(result.curve) <= 40 and result.curve[-1][0] == result.tokens
    assert result.curve[0][1] > result.curve[-1][1]
    assert [tokens for tokens, _ in result.validation] == [29 * 512, 58 * 512, 117 * 512]
    assert result.validation[-1][1] == result.bits_per_byte == evaluate(result.model, corpus)
    assert result.cpu_seconds > 0 and result.seconds > 0
    assert calls[-1][:2] == (117, 117) and math.isfinite(calls[-1][2])
    assert not result.model.training


def test_the_same_seed_gives_the_same_bits(corpus: Corpus) -> None:
    one, two, other = (train(ARCH, corpus, 6000, seed=seed) for seed in (1, 1, 2))
    assert one.bits_per_byte == two.bits_per_byte and one.curve == two.curve
    assert other.bits_per_byte != one.bits_per_byte
    model = build(ARCH, 256, generator=torch.Generator().manual_seed(1)).to(next(one.model.parameters()).device)
    again = train(model, corpus, 6000, seed=1)
    assert again.bits_per_byte == one.bits_per_byte


def test_another_process_gives_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("all work and no play makes a dull day; " * 900)
    code = (
        "import sys; from nas_bo.model import train, load_corpus; from tests.model.test_training import ARCH\n"
        f"sys.stdout.write(train(ARCH, load_corpus({str(path)!r}), 4000, seed=7).bits_per_byte.hex())"
    )
    root = Path(__file__).parents[2]
    out = python("-c", code, check=True, cwd=root)
    assert out.stdout == train(ARCH, load_corpus(path), 4000, seed=7).bits_per_byte.hex()


def test_a_prefix_before_the_decay_is_the_same_for_every_budget(corpus: Corpus) -> None:
    # Only the length of the warm-up depends on the budget; without one the runs agree step by step.
    short = train(SMALL, corpus, 40 * 512, warmup=0.0, decay=0.5)
    long = train(SMALL, corpus, 80 * 512, warmup=0.0, decay=0.5, validate_at=(0.25,))
    assert short.curve[15] == pytest.approx((16 * 512, short.curve[15][1]))
    assert (long.curve[7][0], long.curve[7][1]) == pytest.approx(
        (16 * 512, (short.curve[14][1] + short.curve[15][1]) / 2), rel=1e-6
    )


def test_nothing_global_changes(corpus: Corpus) -> None:
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy(), random.getstate(), torch.get_num_threads()
    result = train(ARCH, corpus, 3000)
    evaluate(result.model, corpus)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert torch.get_num_threads() == before[3]
    assert torch.is_grad_enabled()


def test_threads_are_set_and_put_back(corpus: Corpus) -> None:
    seen: list[int] = []
    torch.set_num_threads(2)
    try:
        train(SMALL, corpus, 512, progress=lambda *_: seen.append(torch.get_num_threads()))
        assert seen == [1]
        assert torch.get_num_threads() == 2
        with pytest.raises(TrainingDiverged):
            train(SMALL, corpus, 30_000, lr=1e9, clip=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_divergence_is_an_error(corpus: Corpus) -> None:
    with pytest.raises(TrainingDiverged, match=r"step \d+ of 58.*lower lr"):
        train(ARCH, corpus, 30_000, lr=1e6, clip=0)
    model = build(ARCH, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.norm.weight[0] = float("nan")
    with pytest.raises(TrainingDiverged, match="step 1 of 5: the loss is nan"):
        train(model, corpus, 5 * 512)


def test_hyperparameters_come_from_the_architecture(corpus: Corpus) -> None:
    searched = Node({**SMALL, "lr": 1e-2, "batch_size": 4, "sequence": 32})
    result = train(searched, corpus, 6400)
    assert result.steps == 50
    assert result.settings["lr"] == 1e-2
    assert result.bits_per_byte == train(SMALL, corpus, 6400, lr=1e-2, batch_size=4, sequence=32).bits_per_byte
    assert train(searched, corpus, 6400, lr=1e-3, batch_size=8).settings["lr"] == 1e-3


def test_the_rate_of_the_embedding_is_a_setting_that_is_named_only_where_it_is_used(corpus: Corpus) -> None:
    plain, zero = train(SMALL, corpus, 2_560), train(SMALL, corpus, 2_560, embedding_power=0.0)
    scaled = train(SMALL, corpus, 2_560, embedding_power=1.0)
    assert plain.settings == zero.settings and "embedding_power" not in plain.settings
    assert plain.bits_per_byte == zero.bits_per_byte != scaled.bits_per_byte
    assert scaled.settings["embedding_power"] == 1.0
    assert train(Node({**SMALL, "embedding_power": 1.0}), corpus, 2_560).bits_per_byte == scaled.bits_per_byte


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "lr=-1.0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"warmup": 2.0}, "warmup=2.0"),
        ({"embedding_power": 1.5}, "embedding_power=1.5"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"tokens": 0}, "tokens=0"),
        ({"tokens": math.inf}, "tokens=inf"),
    ],
)
def test_settings_are_checked(corpus: Corpus, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        train(SMALL, corpus, **settings)  # type: ignore[arg-type]


def test_the_schedule_warms_up_stays_and_decays(corpus: Corpus) -> None:
    model = build(SMALL, 256)
    run = Run(model, corpus, dict(DEFAULTS), 100, 0)
    rates = [run.schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 6) and rates[4] < 1 and set(rates[5:75]) == {1.0}
    assert rates[75] < 1 and rates[-1] == pytest.approx(1 / 26)
    assert rates[75:] == sorted(rates[75:], reverse=True)


def test_evaluation_is_the_mean_over_fixed_windows(corpus: Corpus) -> None:
    model = build(SMALL, 256, generator=torch.Generator().manual_seed(0))
    windows = torch.from_numpy(corpus.held_out(2000, 64)).long()
    with torch.no_grad():
        logits = model(windows[:, :-1])
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    assert evaluate(model, corpus, tokens=2000) == pytest.approx(float(nats) / math.log(2), rel=1e-6)
    halved = Corpus("x", corpus.train, corpus.validation, 256, corpus.train_bytes, 2 * len(corpus.validation))
    assert evaluate(model, halved, tokens=2000) == pytest.approx(float(nats) / math.log(2) / 2, rel=1e-6)


def test_a_model_with_too_few_tokens_is_refused(corpus: Corpus) -> None:
    with pytest.raises(DataError, match="256 token ids and the model only 100"):
        train(build(SMALL, 100), corpus, 1000)
    with pytest.raises(DataError, match="only 100"):
        evaluate(build(SMALL, 100), corpus)


def test_bf16_trains_too(corpus: Corpus) -> None:
    result = train(ARCH, corpus, 10_000, bf16=True)
    assert {weight.dtype for weight in result.model.parameters()} == {torch.float32}
    assert result.bits_per_byte == pytest.approx(train(ARCH, corpus, 10_000, bf16=False).bits_per_byte, abs=0.3)


def test_generation(corpus: Corpus) -> None:
    model = train(decoder(layer(CONV, GATED), layer(ATTENTION, SKIP), width=32), corpus, 80_000, device="cpu").model
    prompt = torch.tensor([list(b"the square of 12 "), list(b"the square of 34 ")])
    greedy = generate(model, prompt, 12, temperature=0)
    assert greedy.shape == (2, 29) and torch.equal(greedy[:, :17], prompt)
    assert bytes(greedy[0, 17:20].tolist()) == b"is "
    with torch.no_grad():
        assert torch.equal(model(greedy[:, :-1])[:, 16:].argmax(-1), greedy[:, 17:])
    drawn = [generate(model, prompt, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(generate(model, prompt, 0), prompt)
    with pytest.raises(ModelError, match="at least 1"):
        generate(model, prompt[:, :0], 3)


def test_every_mixer_learns_more_than_single_letters(corpus: Corpus) -> None:
    letters = np.bincount(corpus.validation, minlength=256) / len(corpus.validation)
    entropy = -sum(p * math.log2(p) for p in letters if p)
    for mixer in (ATTENTION, LINEAR, CONV, block("attention", heads=2, window=8)):
        result = train(decoder(layer(mixer, DENSE)), corpus, 60_000)
        assert result.bits_per_byte < entropy - 0.8, mixer
