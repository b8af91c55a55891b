"""Decoders of random weights as ONNX files of open length, run by ONNX Runtime."""

from __future__ import annotations

import pytest

from tests.export.test_gguf import made
from tests.export.test_huggingface import SKIP, attention, block, decoder

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

from nas_bo.export import onnx  # noqa: E402

GATED = block("dense", ratio=1, gated=True)
MOE = block("moe", experts=3, top_k=2, ratio=1, gated=True)
ONE = block("moe", experts=2, top_k=1, ratio=1, activation="gelu", gated=True)
CONV = block("conv", kernel=4)


EVERY = decoder(
    (CONV, ONE),
    (block("latent_attention", heads=2, latent=8), SKIP),
    (attention(window=7), SKIP),
    (attention(share_kv=True, window=7), GATED),
)
STATE = decoder((block("ssm", heads=2, state=8), MOE))
PLACED = decoder(
    (attention(4, 1), block("dense", ratio=1)), (CONV, MOE), norm="layer", position="learned", max_length=128
)


@pytest.mark.parametrize("arch", [EVERY, pytest.param(STATE, marks=pytest.mark.slow)], ids=["blocks", "a state"])
def test_onnx_runtime_computes_the_same_at_every_length_with_a_cache_and_without(arch, tmp_path):
    told, check = onnx.write(made(arch), tmp_path)
    assert check.good and check.cached and check.difference < 1e-4, check
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model_with_cache.onnx", "tokenizer.json"}
    assert "without and with a cache" in told


def test_blocks_that_count_in_python_take_one_token_a_call(tmp_path):
    told, check = onnx.write(made(decoder((block("gated_delta", heads=2), SKIP))), tmp_path)
    assert check.good and check.cached and check.difference < 1e-4, check
    assert {path.name for path in tmp_path.iterdir()} == {"model_with_cache.onnx", "tokenizer.json"}
    assert "one token a call" in told


def test_positions_that_are_learned_are_computed_the_same(tmp_path):
    told, check = onnx.write(made(PLACED), tmp_path)
    assert check.good and check.cached and check.difference < 1e-4, check
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model_with_cache.onnx", "tokenizer.json"}
    assert "without and with a cache" in told


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_fewer_bits_are_smaller_and_cost_what_is_said(bits, tmp_path, held_out):
    model = made(PLACED)
    told, check = onnx.write(model, tmp_path, bits, held_out)
    assert (
        f"matrices in {bits} bits" in told
        and check.tokens == held_out.windows[:, 1:].size
        and len(check.continued) == 24
    )
    if bits == 8:
        assert abs(check.after - check.before) < 0.01 and check.agreed > 0.9
    assert all((tmp_path / name).stat().st_size < len(data) for name, data in onnx.translated(model).items())
