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

CASES = {
    "llama": decoder((A, GATED), (A, GATED)),
    "llama, linear": decoder((A, GATED), (A, GATED), rope_scaling="linear", rope_factor=2.0, tied=False, norm_eps=1e-5),
    "llama, tied layers": decoder((A, GATED), (A, GATED), tie_layers=2, rope_theta=5e5),
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
    assert check.good, check


@pytest.mark.parametrize("space", NAMED)
def test_random_architectures_of_every_space_are_exact_or_say_why_not(space, tmp_path):
    for seed in range(20):
        arch = NAMED[space].sample(seed)
        best = fits(arch, GGUF)[0]
        if best.reasons:
            with pytest.raises(ExportError, match=r"no architecture of llama\.cpp"):
                gguf.fit(made(arch) if arch.width <= 96 else Thin(arch), 1e9)
        elif arch.width <= 96:
            (tmp_path / str(seed)).mkdir()
            assert gguf.write(made(arch), tmp_path / str(seed), 1e9)[1].good


class Thin:
    """Without weights."""

    def __init__(self, arch):
        from nas_bo.model import build

        self.model = build(arch, 256, device="meta")
