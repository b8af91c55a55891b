"""The weights of a decoder in a larger one that computes the same: what lacks is zero, keys and values that more groups of queries
need are repeated, layers that share weights get a copy each. Shapes: C width, H heads, G key heads, D values of a head, F hidden."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nas_bo.model import Decoder, build
from nas_bo.model.blocks.attention import AttentionSpec, attention_of
from nas_bo.model.blocks.conv import conv_of
from nas_bo.model.blocks.dense import MlpSpec, mlp_of
from nas_bo.model.blocks.skip import absent
from nas_bo.model.spec import DecoderSpec


@torch.no_grad()
def filled(model: Decoder, spec: DecoderSpec) -> Decoder:
    """The decoder `spec`, one that `nas_bo.export.fits.uniform` gave for that of `model`, with its weights, in float32 on the CPU."""
    made = build(spec, model.vocab_size, device="cpu", dtype=torch.float32).eval()
    weights = {name: weight.detach().float().cpu() for name, weight in model.named_parameters()}
    tie = model.spec.details.tie_layers
    for name, place in made.named_parameters():
        if not name.startswith("layers."):
            place.copy_(weights[name])
            continue
        _, at, inside = name.split(".", 2)
        part = inside.split(".")[0].split("_")[0]  # mixer or mlp
        old, new = getattr(model.spec.layers[int(at)], part), getattr(spec.layers[int(at)], part)
        found = weights.get(f"layers.{int(at) // tie}.{inside}")
        if absent(old) or found is None:
            place.fill_(1.0 if inside.endswith("norm.weight") else 0.0)
        elif (attention := attention_of(old)) is not None:
            place.copy_(_attention(inside, found, attention, new))
        elif (mlp := mlp_of(old)) is not None:
            place.copy_(_mlp(inside, found, mlp, new))
        elif (conv := conv_of(old)) is not None and inside == "mixer.taps":
            place.copy_(nn.functional.pad(found, (new.kernel - conv.kernel, 0)))
        else:
            place.copy_(found)
    return made


def _attention(inside: str, found: Tensor, old: AttentionSpec, new: AttentionSpec) -> Tensor:
    if inside.startswith("mixer.qkv"):
        q, k, v = (one.view(-1, old.head_dim, *one.shape[1:]) for one in torch.split(found, list(old.sizes)))
        repeats = (old.heads // old.kv_heads) // (new.heads // new.kv_heads)
        k, v = (one.repeat_interleave(repeats, 0) for one in (k, v))
        sizes = (new.heads, new.kv_heads, new.kv_heads)
        return torch.cat([_longer(one, size).flatten(0, 1) for one, size in zip((q, k, v), sizes, strict=True)])
    if inside == "mixer.out.weight":
        return nn.functional.pad(found, (0, (new.heads - old.heads) * old.head_dim))
    return found


def _mlp(inside: str, found: Tensor, old: MlpSpec, new: MlpSpec) -> Tensor:
    more = new.hidden - old.hidden
    axis = 1 if old.experts else 0
    if inside.startswith("mlp.up"):  # (wide, C), (E, wide, C), (wide,) or (E, wide)
        parts = found.chunk(2 if old.gated else 1, axis)
        return torch.cat([_longer(one, new.hidden, axis) for one in parts], axis)
    if inside in ("mlp.out.weight", "mlp.out"):
        return nn.functional.pad(found, (0, more))
    return found


def _longer(x: Tensor, size: int, axis: int = 0) -> Tensor:
    shape: list[Any] = list(x.shape)
    shape[axis] = size - shape[axis]
    return torch.cat((x, x.new_zeros(shape)), axis)
