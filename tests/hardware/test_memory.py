"""Memory in closed form against real runs, followed storage by storage."""

from __future__ import annotations

import random

import pytest
import torch

from nas_bo.errors import ObjectiveError
from nas_bo.hardware import memory
from nas_bo.hardware.measuring.memory_measure import StorageTracker, measured_inference, measured_training
from nas_bo.hardware.workload import Setting
from nas_bo.model import build, dense, linear_attention, parameters
from nas_bo.model.decoder import ROTARY_TABLE
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, choice, repeat
from tests.hardware.spaces import Everything

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SLACK = 5e5 if DEVICE == "cuda" else 0.0  # bytes: CUDA kernels have workspaces, blocks are rounded up


def within(predicted: float, measured: float, low: float, high: float) -> bool:
    return low * measured - SLACK < predicted < high * measured + SLACK


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_inference_is_that_of_a_real_run(phase) -> None:
    for seed in range(24):
        rng = random.Random(seed)
        setting = Setting(phase, rng.choice([1, 4]), rng.choice([24, 100, 200]))
        for arch in (Everything.sample(seed), TinyGPT.sample(seed)):
            found = memory.inference(arch, setting).total, measured_inference(arch, setting, DEVICE)
            assert within(*found, 0.95, 1.06), (found, seed, setting, arch)


def test_decays_are_float32_in_models_of_narrower_types() -> None:
    class Scans(Space):
        width = choice(32, 64)
        layers = repeat(2, mixer=linear_attention(heads=choice(2, 4)), mlp=dense(ratio=choice(1, 2)))

    for seed in range(8):
        setting = Setting("prefill", 1 + seed % 3, (64, 65, 200)[seed % 3], "bfloat16", 64)
        arch = Scans.sample(seed)
        found = memory.inference(arch, setting).total, measured_inference(arch, setting, DEVICE)
        assert within(*found, 0.93, 1.07), (found, seed, setting, arch)


def test_training_is_that_of_a_real_step() -> None:
    ratios = []
    for seed in range(16):
        for space, low, high in ((TinyGPT, 0.95, 1.1), (Everything, 0.9, 1.2)):
            arch = space.sample(seed)
            found = memory.training(arch, 2, 48).total, measured_training(arch, 2, 48, device=DEVICE)
            assert within(*found, low, high), (found, seed, arch)
            ratios.append(found[0] / found[1])
    assert abs(sum(ratios) / len(ratios) - 1) < (0.1 if DEVICE == "cuda" else 0.05)


def test_the_tracker_sees_what_is_alive() -> None:
    with StorageTracker() as tracker:
        first = torch.zeros(1000)
        second = first + 1
        view = second[10:]
        del first, second
        assert tracker.live == 4000 and tracker.peak == 8000
        del view
    assert tracker.live == 0


def test_the_parts_are_what_they_say() -> None:
    arch = TinyGPT.sample(3)
    setting = Setting("decode", 2, 300, "bfloat16")
    found = memory.inference(arch, setting)
    assert found.weights == 2 * parameters(arch, 256)
    cache = build(arch, 256, dtype=torch.bfloat16).new_cache(2, 300)
    held = sum(
        t.nbytes for state in cache.states for t in (state if isinstance(state, tuple) else [state]) if t is not None
    )
    assert found.cache == held and memory.TABLE == ROTARY_TABLE
    assert memory.needed(arch, setting) >= found.total
    train = memory.training(arch, 8, 64)
    assert train.states == 8 * parameters(arch, 256) and train.total > found.total
    with pytest.raises(ObjectiveError, match="at least 1"):
        memory.training(arch, 0, 64)


def test_decoding_forgets_the_prompt() -> None:
    """What a cache keeps of a prompt is its own storage, not a view of something longer."""
    for seed in range(30):
        model = build(Everything.sample(seed), 256).eval()
        with torch.inference_mode():
            cache = model.new_cache(1, 200)
            model(torch.zeros(1, 200, dtype=torch.long), cache=cache)
        for state in cache.states:
            for one in state if isinstance(state, tuple) else [state]:
                assert one is None or one.untyped_storage().nbytes() <= 2 * one.nbytes


def test_a_large_vocabulary_costs_its_logits_once() -> None:
    """Who generates asks for the logits of the last token: those of a whole prompt are more than many a model."""
    arch = TinyGPT.sample(3)
    small, large = (memory.inference(arch, Setting("prefill", 1, 2048, vocab_size=v)) for v in (256, 50_000))
    assert large.activations - small.activations < 2 * 4 * 50_000
    model = build(arch, 256).eval()
    tokens = torch.randint(256, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens, last=True), model(tokens)[:, -1:])
