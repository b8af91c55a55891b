"""Decoders that are models of other people: stock classes of transformers with random weights, small, whose weights are copied
into ours by a table of names, give the same logits; and the same ones again from our cache.

A table says for every parameter of ours of which of theirs it is made: one name, or several that are joined along axis 0, where
`{}` is the number of the layer. Weights, gains, biases and sinks are all random, so that no one and no zero hides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from nas_bo.architecture import Node
from nas_bo.model import build, parameters
from nas_bo.model.blocks.details import PLAIN
from nas_bo.model.decoder import Decoder, _Context
from nas_bo.model.layers.rotary import rotary_table

transformers = pytest.importorskip("transformers")

VOCAB, WIDTH, LENGTH = 61, 32, 40
Table = Mapping[str, tuple[str, ...]]
Made = Callable[[dict[str, Tensor], str], Tensor]


class Family(NamedTuple):
    """A stock class, its configuration, our architecture, and where its weights are (`changed`: what is not only joined)."""

    name: str
    config: Mapping[str, Any]
    arch: Mapping[str, Any]
    top: Table
    layer: Table
    changed: Mapping[str, Made] = {}


def block(kind: str, **fields: Any) -> Node:
    return Node({"kind": kind, **fields})


def layers(mixer: Node, mlp: Node, number: int = 2, **fields: Any) -> dict[str, Any]:
    return {"width": WIDTH, "layers": (Node({"mixer": mixer, "mlp": mlp}),) * number, **fields}


# ---- where the weights are ----------------------------------------------------------------------------------------

TOP: Table = {"embedding.weight": ("model.embed_tokens.weight",), "norm.weight": ("model.norm.weight",)}
HEAD: Table = {"head.weight": ("lm_head.weight",)}
ATTENTION: Table = {
    "mixer.qkv.weight": tuple(f"self_attn.{part}_proj.weight" for part in "qkv"),
    "mixer.out.weight": ("self_attn.o_proj.weight",),
}
BIASES: Table = {"mixer.qkv.bias": tuple(f"self_attn.{part}_proj.bias" for part in "qkv")}
QK: Table = {"mixer.q_norm.weight": ("self_attn.q_norm.weight",), "mixer.k_norm.weight": ("self_attn.k_norm.weight",)}
MLP: Table = {
    "mlp.up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "mlp.out.weight": ("mlp.down_proj.weight",),
}
PRE: Table = {"mixer_norm.weight": ("input_layernorm.weight",), "mlp_norm.weight": ("post_attention_layernorm.weight",)}
EXPERTS: Table = {
    "mlp.router.weight": ("mlp.gate.weight",),
    "mlp.up": ("mlp.experts.gate_up_proj",),
    "mlp.out": ("mlp.experts.down_proj",),
}
LLAMA: Table = {**ATTENTION, **MLP, **PRE}
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


def split(form: str) -> Made:
    """Of GPT-NeoX: rows are (head, one of q, k and v, value)."""

    def made(theirs: dict[str, Tensor], at: str) -> Tensor:
        packed = theirs[f"{at}attention.query_key_value.{form}"]
        return packed.view(4, 3, WIDTH // 4, *packed.shape[1:]).transpose(0, 1).reshape(packed.shape)

    return made


def turned(name: str) -> Made:
    """Of GPT-2, whose matrices are (in, out)."""
    return lambda theirs, at: theirs[f"{at}{name}.weight"].t()


def named(table: Table, **renamed: str) -> Table:
    """With other names for parts of theirs."""
    found = dict(table)
    for old, new in renamed.items():
        found = {ours: tuple(one.replace(old, new) for one in theirs) for ours, theirs in found.items()}
    return found


NEOX: Table = {
    **{f"mixer.out.{form}": (f"attention.dense.{form}",) for form in ("weight", "bias")},
    **{f"mlp.up.{form}": (f"mlp.dense_h_to_4h.{form}",) for form in ("weight", "bias")},
    **{f"mlp.out.{form}": (f"mlp.dense_4h_to_h.{form}",) for form in ("weight", "bias")},
    **{f"mixer_norm.{form}": (f"input_layernorm.{form}",) for form in ("weight", "bias")},
    **{f"mlp_norm.{form}": (f"post_attention_layernorm.{form}",) for form in ("weight", "bias")},
}
GPT2: Table = {
    "mixer.qkv.bias": ("attn.c_attn.bias",),
    "mixer.out.bias": ("attn.c_proj.bias",),
    "mlp.up.bias": ("mlp.c_fc.bias",),
    "mlp.out.bias": ("mlp.c_proj.bias",),
    **{f"mixer_norm.{form}": (f"ln_1.{form}",) for form in ("weight", "bias")},
    **{f"mlp_norm.{form}": (f"ln_2.{form}",) for form in ("weight", "bias")},
}
LFM2: Table = {
    **named(ATTENTION, o_proj="out_proj"),
    **named(QK, q_norm="q_layernorm", k_norm="k_layernorm"),
    "mlp.up.weight": ("feed_forward.w1.weight", "feed_forward.w3.weight"),
    "mlp.out.weight": ("feed_forward.w2.weight",),
    "mixer_norm.weight": ("operator_norm.weight",),
    "mlp_norm.weight": ("ffn_norm.weight",),
    "mixer.proj.weight": ("conv.in_proj.weight",),
}
GEMMA: Mapping[str, Made] = {  # whose norms multiply by 1 + weight
    f"{ours}.weight": lambda theirs, at, name=name: theirs[f"{at}{name}_layernorm.weight"] + 1
    for ours, name in {
        "mixer_norm": "input",
        "mixer_out_norm": "post_attention",
        "mlp_norm": "pre_feedforward",
        "mlp_out_norm": "post_feedforward",
    }.items()
}
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
        TOP,
        LLAMA,
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
        {**TOP, **HEAD},
        {**LLAMA, **BIASES, "mixer.out.bias": ("self_attn.o_proj.bias",)},
    ),
    "llama, linear rope": Family(
        "Llama",
        {**SIZES, **rope(rope_type="linear", factor=2.0)},
        layers(block("attention", **HEADS), GATED, rope_scaling="linear", rope_factor=2.0),
        TOP,
        LLAMA,
    ),
    "llama, yarn": Family(
        "Llama",
        {**SIZES, **rope(**YARN)},
        layers(block("attention", **HEADS), GATED, rope_scaling="yarn", rope_factor=4.0, rope_length=16),
        TOP,
        LLAMA,
    ),
    "mistral": Family(
        "Mistral",
        {**SIZES, **rope(), "sliding_window": 7, "head_dim": 8},
        layers(block("attention", **HEADS, window=7), GATED),
        TOP,
        LLAMA,
    ),
    "qwen2": Family(
        "Qwen2",
        {**SIZES, **rope(1000000.0)},
        layers(block("attention", **HEADS, qkv_bias=True), GATED, rope_theta=1e6),
        TOP,
        {**LLAMA, **BIASES},
    ),
    "qwen3": Family(
        "Qwen3",
        {**SIZES, **rope(1000000.0), "head_dim": 16},
        layers(block("attention", **HEADS, head_dim=16, qk_norm="head"), GATED, rope_theta=1e6),
        TOP,
        {**LLAMA, **QK},
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
        {**TOP, **HEAD},
        {
            **ATTENTION,
            **QK,
            **MLP,
            "mixer_out_norm.weight": ("post_attention_layernorm.weight",),
            "mlp_out_norm.weight": ("post_feedforward_layernorm.weight",),
        },
    ),
    "neox": Family(
        "GPTNeoX",
        {**SIZES, **rope(partial_rotary_factor=0.5), **FLAT_NEOX, "use_parallel_residual": True},
        layers(
            block("attention", heads=4, rotary_share=0.5),
            block("dense", ratio=2, activation="gelu"),
            **{**NEOX_ARCH, "parallel": True, "parallel_norms": 2},
        ),
        {
            "embedding.weight": ("gpt_neox.embed_in.weight",),
            "norm.weight": ("gpt_neox.final_layer_norm.weight",),
            "norm.bias": ("gpt_neox.final_layer_norm.bias",),
            "head.weight": ("lm_head.weight",),
        },
        NEOX,
        {"mixer.qkv.weight": split("weight"), "mixer.qkv.bias": split("bias")},
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
        {
            "embedding.weight": ("transformer.wte.weight",),
            "positions.weight": ("transformer.wpe.weight",),
            "norm.weight": ("transformer.ln_f.weight",),
            "norm.bias": ("transformer.ln_f.bias",),
        },
        GPT2,
        {
            "mixer.qkv.weight": turned("attn.c_attn"),
            "mixer.out.weight": turned("attn.c_proj"),
            "mlp.up.weight": turned("mlp.c_fc"),
            "mlp.out.weight": turned("mlp.c_proj"),
        },
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
        {**TOP, "norm.weight": ("model.embedding_norm.weight",)},
        LFM2,
        {
            "mixer.taps": lambda theirs, at: theirs[f"{at}conv.conv.weight"].squeeze(1),
            "mixer.out.weight": lambda theirs, at: theirs[
                f"{at}{'conv' if f'{at}conv.out_proj.weight' in theirs else 'self_attn'}.out_proj.weight"
            ],
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
        TOP,
        {**ATTENTION, **EXPERTS, **PRE},
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
            TOP,
            {**ATTENTION, **QK, **EXPERTS, **PRE},
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
    TOP,
    {**ATTENTION, **MLP},
    {**GEMMA, "norm.weight": lambda theirs, at: theirs["model.norm.weight"] + 1},
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
    theirs = dict(model.state_dict())
    ours = build(Node(dict(family.arch)), VOCAB).eval()
    at = next(f"{name}." for name in ("model.layers", "gpt_neox.layers", "transformer.h") if _begins(theirs, name))
    for name, place in ours.named_parameters():
        if name.startswith("layers."):
            _, index, inside = name.split(".", 2)
            where = f"{at}{index}."
            made = family.changed.get(inside)
            found = made(theirs, where) if made else torch.cat([theirs[where + one] for one in family.layer[inside]])
        else:
            made = family.changed.get(name)
            found = made(theirs, "") if made else torch.cat([theirs[one] for one in family.top[name]])
        assert found.shape == place.shape, (name, found.shape, place.shape)
        place.copy_(found)
    return ours


def _begins(theirs: Mapping[str, Tensor], name: str) -> bool:
    return any(one.startswith(f"{name}.") for one in theirs)


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
    table = {**ATTENTION, **BIASES, "mixer.out.bias": ("self_attn.o_proj.bias",), "mixer.sinks": ("self_attn.sinks",)}
    for name, place in ours.named_parameters():
        found = table[f"mixer.{name}"]
        place.copy_(torch.cat([weights[one.removeprefix("self_attn.")] for one in found]))
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
