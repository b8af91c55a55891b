"""Decoders of random weights as GGUF files, run by stock llama.cpp: the same logits, the same tokens of a text."""

from __future__ import annotations

import pytest

from nas_bo.errors import ExportError
from nas_bo.export.fits import fits
from nas_bo.export.folder import TrainedModel
from nas_bo.export.homes import GGUF
from nas_bo.search_spaces import NAMED
from tests.export.test_huggingface import (
    CONV,
    FLAT,
    GATED,
    MOE,
    SKIP,
    SMALL,
    A,
    Q,
    attention,
    block,
    decoder,
    randomised,
)

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

from nas_bo.export import gguf

ONE = block("moe", experts=4, top_k=1, ratio=1, activation="silu", gated=True)
CASES = {
    "llama": decoder((A, GATED), (A, GATED)),
    "llama, linear": decoder((A, GATED), (A, GATED), rope_scaling="linear", rope_factor=2.0, tied=False, norm_eps=1e-5),
    "llama, tied layers": decoder((A, GATED), (A, GATED), tie_layers=2, rope_theta=5e5),
    "llama, experts": decoder(
        (A, MOE), (A, block("moe", experts=4, top_k=2, ratio=0.5, activation="silu", gated=True))
    ),
    "bailingmoe, one expert, a dense MLP that is wider": decoder((A, ONE), (attention(2, 1), GATED), (A, SKIP)),
    "bailingmoe, two experts": decoder((A, MOE), (attention(4, 4), SMALL), tied=False),
    "bailingmoe, no dense MLP": decoder((A, ONE), (SKIP, ONE)),
    "deci": decoder((attention(4, 4), GATED), (attention(2, 2), SMALL), (attention(8, 4), GATED)),
    "deci, no attention at first": decoder((SKIP, GATED), (A, SMALL)),
    "deci, no MLP": decoder((A, SKIP), (attention(2, 1), GATED)),
    "deci, nothing": decoder((A, GATED), (SKIP, SKIP), (SKIP, SMALL)),
    "qwen3": decoder((Q, GATED), (Q, GATED)),
    "qwen3, unlike layers": decoder((attention(4, 4, qk_norm="head"), GATED), (attention(2, 2, qk_norm="head"), SKIP)),
    "arcee": decoder((A, FLAT), (A, FLAT)),
    "lfm2": decoder((CONV, GATED), (Q, GATED), (CONV, SMALL)),
    "lfm2, kernels": decoder((Q, GATED), (block("conv", kernel=4, gates="linear2"), GATED), (CONV, SKIP)),
}


class Made(TrainedModel):
    """One that was not read from a folder: bytes are its tokens."""

    tokenizer = None


def made(arch) -> TrainedModel:
    from nas_bo.architecture import Architecture

    return Made(None, Architecture(arch, {}) if not isinstance(arch, Architecture) else arch, {}, randomised(arch, 256))


@pytest.mark.parametrize("name", CASES)
def test_llama_cpp_computes_the_same(name, tmp_path):
    told, check, unchecked = gguf.write(made(CASES[name]), tmp_path, 10.0)
    assert f"{name.split(',')[0]!r}" in told and not unchecked
    assert check.good and check.cached, check


def test_zeros_next_to_mixtures_and_dense_layers_are_counted(tmp_path):
    import gguf as package

    model = made(CASES["bailingmoe, one expert, a dense MLP that is wider"])
    told, _, _ = gguf.write(model, tmp_path, 10.0)
    there = {t.name: int(t.n_elements) for t in package.GGUFReader(str(tmp_path / "model.gguf")).tensors}
    own = sum(weight.numel() for weight in model.model.parameters())
    padding = gguf.fit(model, 10.0).padding
    assert there.pop("output.weight") == there["token_embd.weight"]  # the tied head is written once more
    assert sum(there.values()) == round((1 + padding) * own) and f"{padding:.1%} of zeros" in told
    with pytest.raises(ExportError, match="'bailingmoe' holds this architecture only with"):
        gguf.fit(model, 0.1)


WIDE = decoder(
    (attention(4, 2, head_dim=64), block("dense", ratio=1, activation="silu", gated=True)),
    (attention(4, 2, head_dim=64), GATED),
    width=256,
)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K"])
def test_smaller_types_run_in_llama_cpp_and_say_what_they_cost(kind, tmp_path, held_out):
    model = made(WIDE)
    told, check, _ = gguf.write(model, tmp_path, 0.0, kind, held_out)
    assert kind in told and check.tokens == held_out.windows[:, 1:].size and len(check.continued) == 24
    least = {"F16": 0.97, "BF16": 0.9, "Q8_0": 0.8, "Q6_K": 0.7}.get(kind, 0.1)  # chance gives 1 / 256
    assert check.agreed >= least and abs(check.after - check.before) < (0.02 if least > 0.6 else 0.5), check
    weights = sum(weight.numel() for weight in model.model.parameters())
    bits = 8 * (tmp_path / "model.gguf").stat().st_size / weights
    assert (
        bits
        < {
            "F16": 17,
            "BF16": 17,
            "Q8_0": 9.5,
            "Q6_K": 7.6,
            "Q5_K_M": 6.9,
            "Q4_K_M": 6.1,
            "Q4_0": 5.8,
            "Q3_K_M": 5.3,
            "Q2_K": 4.7,
        }[kind]
    )
    if kind.endswith("_K_M"):
        assert "Q6_K" in told


def test_rows_that_no_block_divides_get_another_type_and_the_export_says_so(tmp_path, held_out):
    told, check, _ = gguf.write(made(CASES["deci"]), tmp_path, 0.0, "Q4_K_M", held_out)
    assert check is not None and "Q5_0" in told and "a multiple of 256" in told


def test_what_llama_cpp_quantises_is_what_the_package_gguf_reads():
    import gguf as package
    import numpy as np

    from nas_bo.export.gguf_types import rounded

    array = np.random.default_rng(0).standard_normal((4, 512)).astype(np.float32)
    for mixture, most in {"Q6_K": 0.02, "Q4_K_S": 0.1, "Q3_K_M": 0.2, "Q8_0": 0.01, "Q4_0": 0.12}.items():
        [(_, found, kind)] = rounded([("blk.5.attn_q.weight", array)], mixture, 6, True)
        again = package.quants.dequantize(found, package.GGMLQuantizationType[kind])
        assert np.linalg.norm(again - array) < most * np.linalg.norm(array), mixture


@pytest.mark.parametrize("space", NAMED)
def test_random_architectures_of_every_space_are_exact_or_say_why_not(space, tmp_path):
    written = 0
    for seed in range(20):
        arch = NAMED[space].sample(seed)
        best = fits(arch, GGUF)[0]
        if best.reasons:
            with pytest.raises(ExportError, match=r"no architecture of llama\.cpp"):
                gguf.fit(Thin(arch), 1e9)
        elif arch.width <= 96 and written < 4:
            written += 1
            (tmp_path / str(seed)).mkdir()
            assert gguf.write(made(arch), tmp_path / str(seed), 1e9)[1].good


class Thin:
    """Without weights."""

    def __init__(self, arch):
        from nas_bo.model import build

        self.model = build(arch, 256, device="meta")
