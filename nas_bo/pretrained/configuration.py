"""Which decoder of nas_bo a configuration of transformers describes: the other way of `nas_bo.export.huggingface.configuration`.

A field of a configuration is read, is known to change no output, or is refused by name: an option that is not understood must
not become other logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from nas_bo.architecture import Node
from nas_bo.errors import ModelError, near
from nas_bo.foreign_document import reading

Config: TypeAlias = Mapping[str, object]
Fields: TypeAlias = dict[str, object]

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"  # of weights in shards, and in one file

ACTIVATIONS: Mapping[str, str] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu2": "relu2",
}
"""The name of transformers -> ours."""

OF_NO_EFFECT = frozenset(
    [
        "architectures",
        "model_type",
        "transformers_version",
        "dtype",
        "torch_dtype",
        "initializer_range",
        "use_cache",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "attention_dropout",
        "hidden_dropout",
        "embd_pdrop",
        "resid_pdrop",
        "attn_pdrop",
        "pretraining_tp",
        "_name_or_path",
        "name_or_path",
        "router_aux_loss_coef",
        "router_jitter_noise",
        "output_router_logits",
        "max_window_layers",
        "id2label",
        "label2id",
        "task_specific_params",
        "summary_type",
        "summary_use_proj",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "is_llama_config",
        "_attn_implementation_autoset",
        "n_ctx",
        "classifier_dropout",
        "rope_theta",
        "rope_scaling",
        "rotary_pct",
        "rotary_emb_base",
        "auto_map",
        "transformers.js_config",
        "chunk_size_feed_forward",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "problem_type",
        "conv_use_xavier_init",
        "theta",
        "block_use_swiglu",
        "block_use_xavier_init",
        "block_norm_eps",
        "block_mlp_init_scale",
        "block_out_init_scale",
        "block_dim",
        "conv_dim",
        "conv_dim_out",
        "full_attn_idxs",
        "num_heads",
        "use_pos_enc",
        "_attn_implementation",
        "unsloth_fixed",
        "unsloth_version",
        "rope_interleaved",
        "default_theta",
        "attn_implementation",
        "vocab_size",
    ]
)
"""Fields that change no logits of a model in evaluation mode, or that transformers has moved to others."""

_FIXED: Mapping[str, tuple[object, ...]] = {
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
    "add_cross_attention": (False,),
    "clip_qkv": (None,),
    "conv_bias": (False,),
    "is_decoder": (True, False),
}
"""Fields of which only these values are what the decoder does."""


@dataclass(frozen=True)
class Described:
    """What a configuration describes.

    Attributes:
        home: the class in transformers, as in `nas_bo.export.homes`: "Llama".
        arch: the decoder.
        vocab_size: of its embedding.
        heads: of attention, which the table of names needs.
        experts: in one mixture; 0 where there is none.
        positions: tokens that it was made for.
    """

    home: str
    arch: Node
    vocab_size: int
    heads: int
    experts: int
    positions: int


@reading("a configuration of a model of transformers", ModelError)
def described(config: Config) -> Described:
    """The decoder that a configuration describes.

    Raises:
        ModelError: a family or an option that is not understood; the message names it.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise ModelError(
            f"a model of the family {kind!r} is not understood{near(kind, list(FAMILIES))}; there are {', '.join(FAMILIES)}"
        )
    home, read = FAMILIES[str(kind)]
    seen = _Seen(config)
    fields = read(seen)
    positions = seen.number("max_position_embeddings", "n_positions")
    _check_rest(seen)
    heads, experts = seen.number("num_attention_heads", "n_head"), 0
    if home in ("Mixtral", "Olmoe", "Qwen3Moe", "Qwen2Moe"):
        experts = seen.number("num_local_experts", "num_experts")
    return Described(home, Node(fields), int(str(config["vocab_size"])), heads, experts, positions)


class _Seen:
    """A configuration that remembers what was read of it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.read: set[str] = set()

    def get(self, name: str, default: object = None) -> object:
        self.read.add(name)
        return self.config.get(name, default)

    def number(self, *names: str) -> int:
        """The first that is there (raises ModelError where none is a whole number)."""
        for name in names:
            value = self.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        raise ModelError(
            f"config.json has no whole number {' or '.join(names)}; the folder is not that of a whole model"
        )

    def activation(self, name: str) -> str:
        value = self.get(name, "silu")
        if value not in ACTIVATIONS:
            raise ModelError(
                f"config.json has {name}={value!r}, which the decoder does not have{near(value, list(ACTIVATIONS))}; it has "
                f"{', '.join(ACTIVATIONS)}"
            )
        return ACTIVATIONS[str(value)]


def _check_rest(seen: _Seen) -> None:
    for name, value in seen.config.items():
        if name in seen.read or name in OF_NO_EFFECT or name.startswith("_"):
            continue
        if name in _FIXED:
            if value not in _FIXED[name]:
                raise ModelError(
                    f"config.json has {name}={value!r:.80}, and the decoder is only {' or '.join(map(repr, _FIXED[name]))} there"
                )
        elif value not in (None, False, [], {}):
            raise ModelError(
                f"config.json has {name}={value!r:.80}, an option of {seen.config.get('model_type')} that is not understood; a model "
                "with it would give other logits here"
            )


# ---- what the families have in common ---------------------------------------------------------------------------------


def _rope(seen: _Seen) -> Fields:
    rope = seen.get("rope_parameters")
    said: Mapping[str, object] = rope if isinstance(rope, Mapping) else {}
    kind = said.get("rope_type", "default")
    fields: Fields = {}
    theta = float(str(said.get("rope_theta", seen.get("rope_theta") or 10000.0)))
    if theta != 10000.0:
        fields["rope_theta"] = theta
    known = {"rope_type", "rope_theta", "type", "partial_rotary_factor"}
    if kind in ("linear", "llama3", "yarn"):
        fields |= {"rope_scaling": kind, "rope_factor": float(str(said["factor"]))}
        known |= {"factor"}
    elif kind != "default":
        raise ModelError(
            f"config.json has rotary positions of the kind {kind!r}, which the decoder does not have; it has default, linear, llama3, yarn"
        )
    if kind in ("llama3", "yarn"):
        low, high = ("low_freq_factor", "high_freq_factor") if kind == "llama3" else ("beta_slow", "beta_fast")
        length = said.get("original_max_position_embeddings") or seen.number("max_position_embeddings")
        fields["rope_length"] = int(str(length))
        for ours, theirs in (("rope_low", low), ("rope_high", high)):
            if said.get(theirs) is not None:
                fields[ours] = float(str(said[theirs]))
        known |= {low, high, "original_max_position_embeddings"}
    strange = [name for name, value in said.items() if name not in known and value is not None]
    if strange and kind != "default":
        raise ModelError(
            f"config.json has {strange[0]}={said[strange[0]]!r} for its rotary positions, which is not understood"
        )
    return fields


def _windows(seen: _Seen, count: int) -> list[int | None]:
    """The window of every layer."""
    window = seen.get("sliding_window")
    kinds = seen.get("layer_types")
    use = seen.get("use_sliding_window", True)
    if window is None or use is False:
        return [None] * count
    size = int(str(window))
    if isinstance(kinds, (list, tuple)):
        return [size if kind == "sliding_attention" else None for kind in kinds]
    return [size] * count


def _head_dim(seen: _Seen, width: int, heads: int) -> Fields:
    said = seen.get("head_dim")
    dim = int(str(said)) if said else width // heads
    return {} if dim * heads == width else {"head_dim": dim}


def _attention(seen: _Seen, width: int, **more: object) -> Fields:
    heads = seen.number("num_attention_heads")
    kv = seen.get("num_key_value_heads") or heads
    group = heads // int(str(kv))
    return {
        "kind": "attention",
        "heads": heads,
        **({"kv_group": group} if group > 1 else {}),
        **_head_dim(seen, width, heads),
        **more,
    }


def _norm_eps(seen: _Seen, name: str = "rms_norm_eps", default: float = 1e-6) -> Fields:
    eps = float(str(seen.get(name, default)))
    return {} if eps == default else {"norm_eps": eps}


def _tied(seen: _Seen) -> Fields:
    return {} if seen.get("tie_word_embeddings", True) else {"tied": False}


def _mlp(hidden: int, width: int, activation: str, gated: bool = True) -> Node:
    return Node({"kind": "dense", "ratio": hidden / width, "activation": activation, "gated": gated})


def _layers(mixers: list[Fields], mlps: list[Node]) -> tuple[Node, ...]:
    return tuple(Node({"mixer": Node(mixer), "mlp": mlp}) for mixer, mlp in zip(mixers, mlps, strict=True))


def _alike(seen: _Seen, qk_norm: str | None = None, biases: str = "attention_bias") -> tuple[int, list[Fields], Fields]:
    """Width, mixers and fields at the top of decoders that are Llama's but for details."""
    width, count = seen.number("hidden_size"), seen.number("num_hidden_layers")
    more: Fields = {"qk_norm": qk_norm} if qk_norm else {}
    if biases == "qkv":
        more["qkv_bias"] = True
    elif seen.get(biases, False):
        more |= {"qkv_bias": True, "out_bias": True}
    mixer = _attention(seen, width, **more)
    windows = _windows(seen, count)
    mixers = [{**mixer, **({"window": window} if window else {})} for window in windows]
    biased: Fields = {"bias": True} if seen.get("mlp_bias", False) else {}
    return width, mixers, {"width": width, **biased, **_norm_eps(seen), **_tied(seen), **_rope(seen)}


def _dense_layers(seen: _Seen, width: int, count: int, gated: bool = True) -> list[Node]:
    if seen.get("mlp_bias", False) and not seen.get("attention_bias", False):
        raise ModelError(
            "config.json has mlp_bias=True and other matrices without biases, which the decoder does not have"
        )
    return [_mlp(seen.number("intermediate_size"), width, seen.activation("hidden_act"), gated)] * count


# ---- the families -----------------------------------------------------------------------------------------------------


def _llama(seen: _Seen) -> Fields:
    width, mixers, top = _alike(seen)
    return {**top, "layers": _layers(mixers, _dense_layers(seen, width, len(mixers)))}


def _qwen2(seen: _Seen) -> Fields:
    width, mixers, top = _alike(seen, biases="qkv")
    return {**top, "layers": _layers(mixers, _dense_layers(seen, width, len(mixers)))}


def _qwen3(seen: _Seen) -> Fields:
    width, mixers, top = _alike(seen, qk_norm="head")
    return {**top, "layers": _layers(mixers, _dense_layers(seen, width, len(mixers)))}


def _olmo2(seen: _Seen) -> Fields:
    width, mixers, top = _alike(seen, qk_norm="whole")
    return {**top, "norm_place": "post", "layers": _layers(mixers, _dense_layers(seen, width, len(mixers)))}


def _smollm3(seen: _Seen) -> Fields:
    turned = seen.get("no_rope_layers")
    if isinstance(turned, (list, tuple)) and not all(turned):
        raise ModelError(
            "config.json has layers without rotary positions (no_rope_layers), where all layers of the decoder have the same ones"
        )
    seen.get("no_rope_layer_interval")
    return _llama(seen)


def _mixture(hidden: str, qk_norm: str | None, divided: bool | None) -> Callable[[_Seen], Fields]:
    def read(seen: _Seen) -> Fields:
        width, mixers, top = _alike(seen, qk_norm=qk_norm)
        renormalise = divided if divided is not None else bool(seen.get("norm_topk_prob", False))
        top_k = seen.number("num_experts_per_tok")
        mixture = Node(
            {
                "kind": "moe",
                "experts": seen.number("num_experts", "num_local_experts"),
                "top_k": top_k,
                "ratio": seen.number(hidden) / width,
                "activation": seen.activation("hidden_act"),
                "gated": True,
                **({} if renormalise == (top_k > 1) else {"renormalise": renormalise}),
            }
        )
        step, only = seen.get("decoder_sparse_step", 1), seen.get("mlp_only_layers") or []
        dense = [
            index in only or (index + 1) % int(str(step)) != 0 if isinstance(only, (list, tuple)) else False
            for index in range(len(mixers))
        ]
        plain = _mlp(seen.number("intermediate_size"), width, seen.activation("hidden_act")) if any(dense) else mixture
        seen.get("intermediate_size")
        return {**top, "layers": _layers(mixers, [plain if one else mixture for one in dense])}

    return read


def _neox(seen: _Seen) -> Fields:
    width, count = seen.number("hidden_size"), seen.number("num_hidden_layers")
    rope = seen.get("rope_parameters")
    share = float(str(rope.get("partial_rotary_factor", 1.0))) if isinstance(rope, Mapping) else 1.0
    if not seen.get("attention_bias", True):
        raise ModelError(
            "config.json has attention_bias=False in a GPT-NeoX, whose other matrices have biases; that is not understood"
        )
    seen.get("num_key_value_heads")  # which its class does not have
    heads = seen.number("num_attention_heads")
    mixer: Fields = {"kind": "attention", "heads": heads, **({"rotary_share": share} if share != 1 else {})}
    parallel = bool(seen.get("use_parallel_residual", True))
    return {
        "width": width,
        "norm": "layer",
        "bias": True,
        **_norm_eps(seen, "layer_norm_eps", 1e-5),
        **_rope(seen),
        **_tied(seen),
        **({"parallel": True, "parallel_norms": 2} if parallel else {}),
        "layers": _layers([mixer] * count, _dense_layers(seen, width, count, gated=False)),
    }


def _gpt2(seen: _Seen) -> Fields:
    width, count = seen.number("n_embd"), seen.number("n_layer")
    hidden = seen.get("n_inner") or 4 * width
    mixer: Fields = {"kind": "attention", "heads": seen.number("n_head")}
    mlp = _mlp(int(str(hidden)), width, seen.activation("activation_function"), gated=False)
    return {
        "width": width,
        "norm": "layer",
        "bias": True,
        "position": "learned",
        "max_length": seen.number("n_positions"),
        **_norm_eps(seen, "layer_norm_epsilon", 1e-5),
        **_tied(seen),
        "layers": _layers([mixer] * count, [mlp] * count),
    }


def _lfm2(seen: _Seen) -> Fields:
    width, count = seen.number("hidden_size"), seen.number("num_hidden_layers")
    kinds = seen.get("layer_types")
    if not isinstance(kinds, (list, tuple)) or len(kinds) != count:
        raise ModelError("config.json of an LFM2 has no layer_types, one for each layer")
    attention = _attention(seen, width, qk_norm="head")
    conv: Fields = {"kind": "conv", "kernel": seen.number("conv_L_cache"), "gates": "linear2"}
    mixers = [attention if kind == "full_attention" else conv for kind in kinds]
    hidden = seen.number("intermediate_size", "block_ff_dim")
    if seen.get("block_auto_adjust_ff_dim", True):  # as Lfm2MLP does it
        hidden = int(2 * hidden / 3)
        factor, multiple = seen.get("block_ffn_dim_multiplier", 1.0), int(str(seen.get("block_multiple_of", 256)))
        hidden = hidden if factor is None else int(float(str(factor)) * hidden)
        hidden = multiple * ((hidden + multiple - 1) // multiple)
    for name in ("block_ff_dim", "block_ffn_dim_multiplier", "block_multiple_of"):
        seen.get(name)
    return {
        "width": width,
        **_norm_eps(seen, "norm_eps"),
        **_tied(seen),
        **_rope(seen),
        "layers": _layers(mixers, [_mlp(hidden, width, "silu")] * count),
    }


FAMILIES: Mapping[str, tuple[str, Callable[[_Seen], Fields]]] = {
    "llama": ("Llama", _llama),
    "mistral": ("Mistral", _llama),
    "smollm3": ("SmolLM3", _smollm3),
    "qwen2": ("Qwen2", _qwen2),
    "qwen3": ("Qwen3", _qwen3),
    "olmo2": ("Olmo2", _olmo2),
    "gpt_neox": ("GPTNeoX", _neox),
    "gpt2": ("GPT2", _gpt2),
    "lfm2": ("Lfm2", _lfm2),
    "mixtral": ("Mixtral", _mixture("intermediate_size", None, True)),
    "olmoe": ("Olmoe", _mixture("intermediate_size", "whole", None)),
    "qwen3_moe": ("Qwen3Moe", _mixture("moe_intermediate_size", "head", None)),
}
"""The `model_type` of a configuration -> the class, and what reads it."""
