"""Where the weights of stock classes of transformers are in our decoder, both ways.

A table says for every parameter of the decoder of which of theirs it is made; names of a layer's are without its prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from nas_bo.model.blocks.skip import absent
from nas_bo.model.spec import DecoderSpec


class Part(Protocol):
    """How one parameter of the decoder and some of the stock model are converted into each other."""

    @property
    def theirs(self) -> tuple[str, ...]: ...
    def ours_of(self, theirs: list[Tensor]) -> Tensor: ...
    def theirs_of(self, ours: Tensor, shapes: list[torch.Size]) -> list[Tensor]: ...


@dataclass(frozen=True)
class Joined:
    """Theirs one after another, along axis 0."""

    theirs: tuple[str, ...]

    def ours_of(self, theirs: list[Tensor]) -> Tensor:
        return torch.cat(theirs)

    def theirs_of(self, ours: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        return list(torch.split(ours, [shape[0] for shape in shapes]))


@dataclass(frozen=True)
class Turned:
    """A matrix that is (in, out) there."""

    theirs: tuple[str]

    def ours_of(self, theirs: list[Tensor]) -> Tensor:
        return theirs[0].t()

    def theirs_of(self, ours: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        return [ours.t()]


@dataclass(frozen=True)
class PerHead:
    """Of GPT-NeoX: rows are (head, one of q, k and v, value), where those of nas_bo are (one of q, k and v, head, value)."""

    theirs: tuple[str]
    heads: int

    def ours_of(self, theirs: list[Tensor]) -> Tensor:
        x = theirs[0]
        return x.view(self.heads, 3, -1, *x.shape[1:]).transpose(0, 1).reshape(x.shape)

    def theirs_of(self, ours: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        return [ours.view(3, self.heads, -1, *ours.shape[1:]).transpose(0, 1).reshape(ours.shape)]


@dataclass(frozen=True)
class Taps:
    """Of a depthwise convolution: (C, 1, K) there."""

    theirs: tuple[str]

    def ours_of(self, theirs: list[Tensor]) -> Tensor:
        return theirs[0].squeeze(1)

    def theirs_of(self, ours: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        return [ours.unsqueeze(1)]


@dataclass(frozen=True)
class Gain:
    """Of Gemma, whose norms multiply by 1 + weight."""

    theirs: tuple[str]

    def ours_of(self, theirs: list[Tensor]) -> Tensor:
        return theirs[0] + 1

    def theirs_of(self, ours: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        return [ours - 1]


Table = Mapping[str, Part]


def _same(**table: str) -> Table:
    """Of modules with weights (and biases) alike: ``mixer_out="self_attn.o_proj"``."""
    return {
        f"{ours.replace('__', '.')}.{form}": Joined((f"{theirs}.{form}",))
        for ours, theirs in table.items()
        for form in ("weight", "bias")
    }


def _joined(ours: str, *theirs: str) -> Table:
    return {f"{ours}.{form}": Joined(tuple(f"{one}.{form}" for one in theirs)) for form in ("weight", "bias")}


@dataclass(frozen=True)
class Names:
    """The table of a class.

    Attributes:
        layers: what the names of its layers begin with.
        top: of what is in no layer.
        norms, mixers, mlps: of one layer; those of blocks by their kinds.
        apart: mixers and MLPs are layers of their own there, absent ones none.
    """

    layers: str
    top: Table
    norms: Table
    mixers: Mapping[str, Table]
    mlps: Mapping[str, Table]
    apart: bool = False
    zeros: tuple[str, ...] = field(default=())  # what is theirs alone and zero, in addition to biases

    def parts(self, spec: DecoderSpec) -> Iterator[tuple[str, Part]]:
        """(name in nas_bo, part with whole names), for every parameter that may be in the decoder."""
        yield from self.top.items()
        place = 0
        for index, layer in enumerate(spec.layers):
            for what, block, tables in (("mixer", layer.mixer, self.mixers), ("mlp", layer.mlp, self.mlps)):
                if absent(block):
                    continue
                at = f"{self.layers}.{place if self.apart else index}."
                place += 1
                own = {name: part for name, part in self.norms.items() if name.startswith(f"{what}_")}
                for name, part in {**own, **tables[block.kind]}.items():
                    whole = replace(part, theirs=tuple(at + one for one in part.theirs))  # type: ignore[type-var]
                    yield f"layers.{index}.{name}", whole


TOP = {**_same(embedding="model.embed_tokens", norm="model.norm", head="lm_head")}
ATTENTION = {
    **_joined("mixer.qkv", *(f"self_attn.{part}_proj" for part in "qkv")),
    **_same(mixer__out="self_attn.o_proj", mixer__q_norm="self_attn.q_norm", mixer__k_norm="self_attn.k_norm"),
}
GATED = {**_joined("mlp.up", "mlp.gate_proj", "mlp.up_proj"), **_same(mlp__out="mlp.down_proj")}
FLAT = _same(mlp__up="mlp.up_proj", mlp__out="mlp.down_proj")
EXPERTS: Table = {
    "mlp.router.weight": Joined(("mlp.gate.weight",)),
    "mlp.up": Joined(("mlp.experts.gate_up_proj",)),
    "mlp.out": Joined(("mlp.experts.down_proj",)),
}
PRE = _same(mixer_norm="input_layernorm", mlp_norm="post_attention_layernorm")
POST = _same(mixer_out_norm="post_attention_layernorm", mlp_out_norm="post_feedforward_layernorm")
LLAMA = Names("model.layers", TOP, PRE, {"attention": ATTENTION}, {"dense": GATED, "moe": EXPERTS})
GEMMA: Table = {
    f"{ours}.weight": Gain((f"{theirs}_layernorm.weight",))
    for ours, theirs in {
        "mixer_norm": "input",
        "mixer_out_norm": "post_attention",
        "mlp_norm": "pre_feedforward",
        "mlp_out_norm": "post_feedforward",
    }.items()
}


def _neox(heads: int) -> Names:
    qkv: Table = {
        f"mixer.qkv.{form}": PerHead((f"attention.query_key_value.{form}",), heads) for form in ("weight", "bias")
    }
    return Names(
        "gpt_neox.layers",
        _same(embedding="gpt_neox.embed_in", norm="gpt_neox.final_layer_norm", head="lm_head"),
        PRE,
        {"attention": {**qkv, **_same(mixer__out="attention.dense")}},
        {"dense": _same(mlp__up="mlp.dense_h_to_4h", mlp__out="mlp.dense_4h_to_h")},
    )


def _gpt2() -> Names:
    turned = {"mixer.qkv": "attn.c_attn", "mixer.out": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.out": "mlp.c_proj"}
    parts: dict[str, Part] = {}
    for ours, theirs in turned.items():
        parts[f"{ours}.weight"] = Turned((f"{theirs}.weight",))
        parts[f"{ours}.bias"] = Joined((f"{theirs}.bias",))
    return Names(
        "transformer.h",
        _same(embedding="transformer.wte", positions="transformer.wpe", norm="transformer.ln_f", head="lm_head"),
        _same(mixer_norm="ln_1", mlp_norm="ln_2"),
        {"attention": {name: part for name, part in parts.items() if name.startswith("mixer")}},
        {"dense": {name: part for name, part in parts.items() if name.startswith("mlp")}},
        zeros=("wpe.weight",),
    )


NEMOTRON = Names(
    "model.layers",
    {**_same(embedding="model.embeddings", norm="model.norm_f", head="lm_head")},
    _same(mixer_norm="norm", mlp_norm="norm"),
    {
        "attention": {
            **_joined("mixer.qkv", *(f"mixer.{part}_proj" for part in "qkv")),
            **_same(mixer__out="mixer.o_proj"),
        }
    },
    {"dense": _same(mlp__up="mixer.up_proj", mlp__out="mixer.down_proj")},
    apart=True,
)
LFM2 = Names(
    "model.layers",
    {**TOP, **_same(norm="model.embedding_norm")},
    _same(mixer_norm="operator_norm", mlp_norm="ffn_norm"),
    {
        "attention": {
            **_joined("mixer.qkv", *(f"self_attn.{part}_proj" for part in "qkv")),
            **_same(mixer__out="self_attn.out_proj", mixer__q_norm="self_attn.q_layernorm", mixer__k_norm="self_attn.k_layernorm"),
        },
        "conv": {**_same(mixer__proj="conv.in_proj", mixer__out="conv.out_proj"), "mixer.taps": Taps(("conv.conv.weight",))},
    },
    {"dense": {**_joined("mlp.up", "feed_forward.w1", "feed_forward.w3"), **_same(mlp__out="feed_forward.w2")}},
)  # fmt: skip


def names(home: str, heads: int = 1) -> Names:
    """The table of a class; `heads` of attention, for GPT-NeoX."""
    if home == "GPTNeoX":
        return _neox(heads)
    tables = {
        "GPT2": _gpt2(),
        "NemotronH": NEMOTRON,
        "Lfm2": LFM2,
        "Arcee": replace(LLAMA, mlps={"dense": FLAT}),
        "Starcoder2": replace(LLAMA, mlps={"dense": _same(mlp__up="mlp.c_fc", mlp__out="mlp.c_proj")}),
        "Olmo2": replace(LLAMA, norms=POST),
        "Gemma2": replace(
            LLAMA, norms=GEMMA, top={**TOP, "norm.weight": Gain(("model.norm.weight",))}
        ),
        "Qwen2Moe": replace(
            LLAMA, zeros=("shared_expert.gate_proj.weight", "shared_expert.up_proj.weight", "shared_expert.down_proj.weight", "shared_expert_gate.weight")
        ),
    }  # fmt: skip
    return tables.get(home, LLAMA)


@torch.no_grad()
def copy_in(ours: torch.nn.Module, spec: DecoderSpec, theirs: Mapping[str, Tensor], table: Names) -> None:
    """The weights of a stock model into our decoder (raises KeyError for one that lacks)."""
    places = dict(ours.named_parameters())
    parts = dict(table.parts(spec))
    for name, place in places.items():
        part = parts[name]
        place.copy_(part.ours_of([theirs[one] for one in part.theirs]))


@torch.no_grad()
def copy_out(ours: torch.nn.Module, spec: DecoderSpec, model: torch.nn.Module, table: Names) -> None:
    """The weights of our decoder into a stock model; biases that it lacks are zero.

    Raises:
        KeyError: a weight of either has no place in the other.
    """
    places, weights = dict(model.named_parameters()), dict(ours.named_parameters())
    left = set(places)
    parts = dict(table.parts(spec))
    if "head.weight" not in weights:
        if "lm_head.weight" in places:  # not tied there
            weights["head.weight"] = weights["embedding.weight"]
        else:
            parts.pop("head.weight", None)
    for name, weight in weights.items():
        part = parts[name]
        for place, made in zip(
            part.theirs, part.theirs_of(weight, [places[one].shape for one in part.theirs]), strict=True
        ):
            if places[place].shape != made.shape:
                raise KeyError(f"{name} {tuple(made.shape)} into {place} {tuple(places[place].shape)}")
            places[place].copy_(made)
            left.discard(place)
    for name in left:
        if not name.endswith((".bias", *table.zeros)):
            raise KeyError(name)
        places[name].zero_()
