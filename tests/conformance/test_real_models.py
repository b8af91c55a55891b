"""Decoders that are models of other people: stock classes of transformers with random weights, small, whose weights are copied
into ours by a table of names, give the same logits; and the same ones again from our cache.

The tables are those of exports (`nas_bo.export.names`), which copy the other way. Weights, gains, biases and sinks are all random, so that no one and no zero hides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from nas_bo.architecture import Node
from nas_bo.export.names import Joined, copy_in, names
from nas_bo.model import build, parameters
from nas_bo.model.blocks.details import PLAIN
from nas_bo.model.decoder import Decoder, _Context
from nas_bo.model.layers.rotary import rotary_table

transformers = pytest.importorskip("transformers")

VOCAB, WIDTH, LENGTH = 61, 32, 40


class Family(NamedTuple):
    """A stock class, its configuration, and our architecture."""

    name: str
    config: Mapping[str, Any]
    arch: Mapping[str, Any]


def block(kind: str, **fields: Any) -> Node:
    return Node({"kind": kind, **fields})


def layers(mixer: Node, mlp: Node, number: int = 2, **fields: Any) -> dict[str, Any]:
    return {"width": WIDTH, "layers": (Node({"mixer": mixer, "mlp": mlp}),) * number, **fields}


# ---- the families ------------------------------------------------------------------------------------------------------

GATED = block("dense", ratio=1.5, activation="silu", gated=True)
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def rope(theta: float = 10000.0, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **more}}


FLAT_NEOX = {
    "attention_bias": True,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "intermediate_size": 64,
    "tie_word_embeddings": False,
}
NEOX_ARCH = {"norm": "layer", "bias": True, "tied": False}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
HEADS = {"heads": 4, "kv_group": 2}

FAMILIES = {
    "llama": Family(
        "Llama",
        {**SIZES, **rope(500000.0), "rms_norm_eps": 1e-5},
        layers(block("attention", **HEADS), GATED, norm_eps=1e-5, rope_theta=500000.0),
    ),
    "llama, llama3 rope, untied, biases of attention": Family(
        "Llama",
        {**SIZES, **rope(**LLAMA3), "attention_bias": True, "tie_word_embeddings": False, "head_dim": 12},
        layers(
            block("attention", **HEADS, head_dim=12, qkv_bias=True, out_bias=True),
            GATED,
            tied=False,
            **{"rope_scaling": "llama3", "rope_factor": 8.0, "rope_length": 16},
        ),
    ),
    "llama, linear rope": Family(
        "Llama",
        {**SIZES, **rope(rope_type="linear", factor=2.0)},
        layers(block("attention", **HEADS), GATED, rope_scaling="linear", rope_factor=2.0),
    ),
    "llama, yarn": Family(
        "Llama",
        {**SIZES, **rope(**YARN)},
        layers(block("attention", **HEADS), GATED, rope_scaling="yarn", rope_factor=4.0, rope_length=16),
    ),
    "mistral": Family(
        "Mistral",
        {**SIZES, **rope(), "sliding_window": 7, "head_dim": 8},
        layers(block("attention", **HEADS, window=7), GATED),
    ),
    "qwen2": Family(
        "Qwen2",
        {**SIZES, **rope(1000000.0)},
        layers(block("attention", **HEADS, qkv_bias=True), GATED, rope_theta=1e6),
    ),
    "qwen3": Family(
        "Qwen3",
        {**SIZES, **rope(1000000.0), "head_dim": 16},
        layers(block("attention", **HEADS, head_dim=16, qk_norm="head"), GATED, rope_theta=1e6),
    ),
    "olmo2": Family(
        "Olmo2",
        {**SIZES, **rope(500000.0), "tie_word_embeddings": False},
        layers(
            block("attention", **HEADS, qk_norm="whole"),
            GATED,
            norm_place="post",
            rope_theta=500000.0,
            norm_eps=1e-5,
            tied=False,
        ),
    ),
    "neox": Family(
        "GPTNeoX",
        {**SIZES, **rope(partial_rotary_factor=0.5), **FLAT_NEOX, "use_parallel_residual": True},
        layers(
            block("attention", heads=4, rotary_share=0.5),
            block("dense", ratio=2, activation="gelu"),
            **{**NEOX_ARCH, "parallel": True, "parallel_norms": 2},
        ),
    ),
    "gpt2": Family(
        "GPT2",
        {"vocab_size": VOCAB, "n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 48, "n_inner": 64},
        layers(
            block("attention", heads=4),
            block("dense", ratio=2, activation="gelu_tanh"),
            norm="layer",
            bias=True,
            position="learned",
            max_length=48,
        ),
    ),
    "lfm2": Family(
        "Lfm2",
        {
            **SIZES,
            **rope(1000000.0),
            "num_hidden_layers": 3,
            "block_auto_adjust_ff_dim": False,
            "layer_types": ["conv", "full_attention", "conv"],
            "norm_eps": 1e-5,
        },
        {
            "width": WIDTH,
            "layers": tuple(
                Node({"mixer": mixer, "mlp": GATED})
                for mixer in (
                    block("conv", kernel=3, gates="linear2"),
                    block("attention", **HEADS, qk_norm="head"),
                    block("conv", kernel=3, gates="linear2"),
                )
            ),
            "norm_eps": 1e-5,
            "rope_theta": 1e6,
        },
    ),
    "mixtral": Family(
        "Mixtral",
        {**SIZES, **rope(), "num_local_experts": 4, "num_experts_per_tok": 2, "rms_norm_eps": 1e-5},
        layers(
            block("attention", **HEADS),
            block("moe", experts=4, top_k=2, ratio=1.5, activation="silu", gated=True),
            norm_eps=1e-5,
        ),
    ),
    **{
        f"olmoe, {'divided' if divided else 'as they are'}": Family(
            "Olmoe",
            {**SIZES, **rope(), "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": divided},
            layers(
                block("attention", **HEADS, qk_norm="whole"),
                block("moe", experts=4, top_k=2, ratio=1.5, activation="silu", gated=True, renormalise=divided),
                norm_eps=1e-5,
            ),
        )
        for divided in (False, True)
    },
}
FAMILIES["gemma2, without the cap inside attention"] = Family(
    "Gemma2",
    {
        **SIZES,
        **rope(),
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": 4.0,
        "sliding_window": 7,
    },
    {
        "width": WIDTH,
        "layers": tuple(
            Node(
                {
                    "mixer": block("attention", **HEADS, window=window),
                    "mlp": block("dense", ratio=1.5, activation="gelu_tanh", gated=True),
                }
            )
            for window in (7, None)
        ),
        "norm_place": "sandwich",
        "embedding_scale": "sqrt_width",
        "logit_cap": 4.0,
    },
)
NEOX_IN_TURN = FAMILIES["neox"]._replace(
    config={**FAMILIES["neox"].config, "use_parallel_residual": False},
    arch={**FAMILIES["neox"].arch, "parallel": False, "parallel_norms": 1},
)
FAMILIES["neox, in turn"] = NEOX_IN_TURN
FAMILIES["neox, a quarter turned"] = FAMILIES["neox"]._replace(
    config={**FAMILIES["neox"].config, **rope(partial_rotary_factor=0.25)},
    arch=layers(
        block("attention", heads=4, rotary_share=0.25),
        block("dense", ratio=2, activation="gelu"),
        **{**NEOX_ARCH, "parallel": True, "parallel_norms": 2},
    ),
)


# ---- the copy -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def stock(family: Family) -> Any:
    """A model of theirs in which everything is random."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family.name}Config")(**family.config, attn_implementation="eager")
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, weight in model.named_parameters():
        weight.normal_(1.0 if "norm" in name or ".ln_" in name else 0.0, 0.3)
    return model


@torch.no_grad()
def copied(family: Family, model: Any) -> Decoder:
    """Our decoder with their weights."""
    ours = build(Node(dict(family.arch)), VOCAB).eval()
    copy_in(ours, ours.spec, dict(model.state_dict()), names(family.name, heads=4))
    return ours


def agree(ours: Decoder, model: Any, tokens: Tensor) -> None:
    with torch.no_grad():
        expected = model(tokens).logits
        within = 1e-5 * float(expected.std())
        assert float((ours(tokens) - expected).abs().max()) <= within
        cache = ours.new_cache(*tokens.shape)
        pieces = [ours(piece, cache=cache) for piece in torch.split(tokens, [25, *[1] * (tokens.shape[1] - 25)], 1)]
        assert float((torch.cat(pieces, 1) - expected).abs().max()) <= within


@torch.no_grad()
@pytest.mark.parametrize("window", [None, 7])
def test_sinks_are_those_of_gpt_oss(window: int | None) -> None:
    """Its attention alone: experts of gpt-oss have biases and a clamp that ours have not."""
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssAttention

    torch.manual_seed(0)
    config = transformers.GptOssConfig(
        **SIZES, head_dim=8, attention_bias=True, sliding_window=window, attn_implementation="eager"
    )
    theirs = GptOssAttention(config, 0).eval()
    for weight in theirs.parameters():
        weight.normal_(0.0, 0.3)
    mixer = block("attention", **HEADS, window=window, sinks=True, qkv_bias=True, out_bias=True)
    model = build(Node(layers(mixer, block("skip"), 1)), VOCAB)
    ours, weights = model.layers[0].mixer, dict(theirs.state_dict())
    assert isinstance(ours, torch.nn.Module)
    table = {**names("Llama").mixers["attention"], "mixer.sinks": Joined(("self_attn.sinks",))}
    for name, place in ours.named_parameters():
        part = table[f"mixer.{name}"]
        place.copy_(part.ours_of([weights[one.removeprefix("self_attn.")] for one in part.theirs]))
    x = torch.randn(2, LENGTH, WIDTH)
    age = torch.arange(LENGTH).unsqueeze(1) - torch.arange(LENGTH)
    seen = (age >= 0) & (age < (window or LENGTH))
    cos, sin = rotary_table(PLAIN, 0, LENGTH, 8, x)
    table_of_theirs = cos.squeeze(1)[None, :, :4], -sin.squeeze(1)[None, :, :4]
    expected = theirs(x, table_of_theirs, torch.zeros(LENGTH, LENGTH).masked_fill(~seen, -torch.inf))[0]
    y, _ = ours(x, _Context(model, 0, LENGTH, x.device))
    assert float((y - expected).abs().max()) <= 1e-5 * float(expected.std())


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_the_stock_model(name: str) -> None:
    family = FAMILIES[name]
    model = stock(family)
    ours = copied(family, model)
    assert parameters(Node(dict(family.arch)), VOCAB) == sum(weight.numel() for weight in model.parameters())
    agree(ours, model, torch.randint(VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(1)))
