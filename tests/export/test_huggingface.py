"""Every home: decoders of random weights in every gain and bias, as a stock model, give the same logits."""

from __future__ import annotations

import pytest
import torch

from nas_bo.architecture import Node
from nas_bo.export.check import Check, compared
from nas_bo.export.fits import fits
from nas_bo.export.homes import TRANSFORMERS
from nas_bo.model import build, check
from nas_bo.model.decoder import Decoder
from nas_bo.search_spaces import NAMED

transformers = pytest.importorskip("transformers")

from nas_bo.export.huggingface import converted, logits, with_cache  # noqa: E402

VOCAB, WIDTH = 61, 32


def block(kind, **fields):
    return Node({"kind": kind, **fields})


def decoder(*layers, **fields):
    return Node({"width": WIDTH, "layers": tuple(Node({"mixer": a, "mlp": b}) for a, b in layers)} | fields)


def randomised(arch, vocab=VOCAB) -> Decoder:
    """Nothing is 0 or 1 that could hide something."""
    torch.manual_seed(0)
    model = build(arch, vocab).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(weight + torch.randn_like(weight) * (0.2 if "norm" in name or weight.dim() == 1 else 0.02))
    return model


GATED = block("dense", ratio=2, activation="silu", gated=True)
SMALL = block("dense", ratio=1, activation="silu", gated=True)
FLAT = block("dense", ratio=2, activation="relu2")
SKIP = block("skip")
MOE = block("moe", experts=4, top_k=2, ratio=1, activation="silu", gated=True)
ONE = block("moe", experts=4, top_k=1, ratio=1, activation="gelu", gated=True)
CONV = block("conv", kernel=3, gates="linear2")


def attention(heads=4, kv_group=2, head_dim=8, **fields):
    return block("attention", heads=heads, kv_group=kv_group, head_dim=head_dim, **fields)


A = attention()
Q = attention(qk_norm="head")
CASES = {
    "Llama": decoder((A, GATED), (A, GATED)),
    "Llama, unlike layers": decoder((attention(4, 4), GATED), (attention(2, 2), SMALL), (SKIP, GATED), (A, SKIP)),
    "Llama, biases": decoder((attention(qkv_bias=True), GATED), (A, GATED), bias=True, tied=False),
    "Llama, tied layers": decoder((A, GATED), (A, GATED), tie_layers=2, rope_theta=5e5, norm_eps=1e-5),
    "Qwen2": decoder((attention(qkv_bias=True, window=7), GATED), (attention(qkv_bias=True), GATED)),
    "Qwen3": decoder((attention(qk_norm="head", window=7), GATED), (Q, GATED)),
    "Mistral": decoder((attention(window=7), GATED), (attention(window=7), GATED)),
    "Mistral, heads that do not divide the width": decoder((attention(3, 1), GATED), (attention(3, 1), GATED)),
    "Qwen3, heads that do not divide the width": decoder((attention(6, 3, qk_norm="head"), GATED)),
    "Arcee, heads that do not divide the width": decoder((attention(6, 3), FLAT), (attention(5, 1), FLAT)),
    "SmolLM3": decoder((attention(window=7), GATED), (A, GATED)),
    "SmolLM3, no positions": decoder((A, GATED), (A, SKIP), position="none"),
    "Arcee": decoder((A, FLAT), (A, SKIP)),
    "NemotronH": decoder((A, FLAT), (SKIP, FLAT), (A, SKIP), position="none"),
    "Lfm2": decoder((CONV, GATED), (Q, GATED), (block("conv", kernel=2, gates="linear2"), SKIP)),
    "Olmo2": decoder((attention(qk_norm="whole"), GATED), (attention(qk_norm="whole"), SKIP), norm_place="post", tied=False),
    "Mixtral": decoder((attention(window=7), MOE), (attention(window=7), MOE)),
    "Qwen2Moe": decoder((A, MOE), (A, GATED), (A, SKIP)),
    "Qwen2Moe, one expert": decoder((A, ONE), (attention(2, 1), ONE)),
    "Qwen3Moe": decoder((Q, MOE), (Q, SMALL)),
    "Olmoe": decoder((attention(qk_norm="whole"), ONE), (attention(qk_norm="whole"), ONE)),
    "Gemma2": decoder(
        *((attention(window=w), block("dense", ratio=2, activation="gelu_tanh", gated=True)) for w in (7, None)),
        norm_place="sandwich", embedding_scale="sqrt_width", logit_cap=4.0,
    ),
    "Starcoder2": decoder((attention(4, 1), block("dense", ratio=2)), (attention(2, 1), block("dense", ratio=1)), norm="layer"),
    "GPTNeoX": decoder(
        *((attention(4, 1, rotary_share=0.5), block("dense", ratio=2)),) * 2,
        norm="layer", bias=True, tied=False, parallel=True, parallel_norms=2,
    ),
    "GPT2": decoder(
        (attention(4, 1), block("dense", ratio=2, activation="gelu_tanh")), (SKIP, block("dense", ratio=1, activation="gelu_tanh")),
        norm="layer", position="learned", max_length=128,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_stock_class_computes_the_same(name):
    """The class that the case is named after, and every other that says it holds it."""
    model = randomised(CASES[name])
    holding = [fit for fit in fits(CASES[name], TRANSFORMERS) if not fit.reasons]
    assert name.split(",")[0] in {fit.home.name for fit in holding}
    for fit in holding:
        same(model, fit)
    fit = next(one for one in holding if one.home.name == name.split(",")[0])
    check = with_cache(model, converted(model, fit.home.name, fit.spec), Check("transformers", 0.0, 1.0, True))
    assert check.cached and check.good, check


def same(model, best):
    check = compared(model, "transformers", lambda ids: logits(converted(model, best.home.name, best.spec), ids))
    assert check.good, check


REFUSED = {
    "share_kv": decoder((A, GATED), (attention(share_kv=True), GATED)),
    "mixer is conv|mixer.gates": decoder((block("conv", kernel=3), GATED)),
    "long_skips": decoder(*((A, GATED),) * 3, long_skips=True),
    "head_dim": decoder((attention(head_dim=8), GATED), (attention(head_dim=16), GATED)),
    "top_k": decoder((A, MOE), (A, block("moe", experts=4, top_k=1, ratio=1, activation="silu", gated=True))),
    "sinks": decoder((attention(sinks=True), GATED)),
    "mlp.activation": decoder((A, GATED), (A, block("dense", ratio=2, activation="gelu", gated=True))),
    "mixer.window differs": decoder((attention(window=7), GATED), (attention(window=5), GATED)),
    "embedding_scale": decoder((A, GATED), embedding_scale=3.0),
    "attention in no layer|mixer is conv": decoder((CONV, GATED), (CONV, GATED)),
    "linear_attention": decoder((block("linear_attention", heads=4), GATED)),
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_does_not_fit_names_the_field(field):
    found = fits(REFUSED[field], TRANSFORMERS)
    assert found[0].reasons
    assert any(word in " ".join(found[0].reasons) for word in field.split("|")), found[0]


@pytest.mark.parametrize("space", NAMED)
def test_random_architectures_of_every_space_are_exact_or_say_why_not(space):
    looked_at = 0
    for seed in range(20):
        arch = NAMED[space].sample(seed)
        found = fits(arch, TRANSFORMERS)
        assert found[0].reasons or found[0].spec is not None
        if not found[0].reasons and check(arch).width <= 96 and looked_at < 4:
            same(randomised(arch), found[0])
            looked_at += 1
