"""The weights of a decoder in a larger one that computes the same: what is missing is zero, keys and values that more groups of queries
need are repeated, layers that share weights get a copy each. Shapes: C width, H heads, G key heads, D values of a head, F hidden."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nas_bo.errors import ExportError
from nas_bo.export.stock_parts import in_stock_parts
from nas_bo.model import Decoder, build
from nas_bo.model.blocks.attention import AttentionSpec
from nas_bo.model.blocks.dense import MlpSpec
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import stock_part_of
from nas_bo.model.spec import DecoderSpec


@torch.no_grad()
def filled(model: Decoder, spec: DecoderSpec) -> Decoder:
    """The decoder `spec`, one that `nas_bo.export.fits.uniform` gave for that of `model`, with its weights, in float32 on the CPU.

    Raises:
        ExportError: a block of the user's own is not the part of stock models that it says it is.
    """
    made = build(spec, model.vocab_size, device="cpu", dtype=torch.float32).eval()
    stock = in_stock_parts(model.spec)
    weights = _by_stock_names(model, stock)
    tie = model.spec.details.tie_layers
    for name, place in made.named_parameters():
        if not name.startswith("layers."):
            place.copy_(weights[name])
            continue
        _, at, inside = name.split(".", 2)
        part = inside.split(".")[0].split("_")[0]  # mixer or mlp
        old, new = stock.layers[int(at)].slot(part), spec.layers[int(at)].slot(part)
        was = stock_part_of(old, stock.frame)
        found = weights.get(f"layers.{int(at) // tie}.{inside}")
        if absent(old) or found is None:
            place.fill_(1.0 if inside.endswith("norm.weight") else 0.0)
        elif was.attention is not None:
            place.copy_(_attention(inside, found, was.attention, new))
        elif was.mlp is not None:
            place.copy_(_mlp(inside, found, was.mlp, new))
        elif was.conv is not None and inside == "mixer.taps":
            place.copy_(nn.functional.pad(found, (new.kernel - was.conv.kernel, 0)))
        else:
            place.copy_(found)
    return made


def _by_stock_names(model: Decoder, stock: DecoderSpec) -> dict[str, Tensor]:
    """The weights in float32 on the CPU, by the names that they have in the decoder `stock` (raises ExportError)."""
    weights = {name: weight.detach().float().cpu() for name, weight in model.named_parameters()}
    if stock == model.spec:
        return weights
    theirs: dict[str, str] = {}
    for index, layer in enumerate(model.spec.layers[:: model.spec.details.tie_layers]):
        for part, block in (("mixer", layer.mixer), ("mlp", layer.mlp)):
            names = stock_part_of(block, model.spec.frame).names
            theirs |= {f"layers.{index}.{part}.{own}": f"layers.{index}.{part}.{name}" for name, own in names.items()}
    weights = {theirs.get(name, name): weight for name, weight in weights.items()}
    there = {name: tuple(weight.shape) for name, weight in weights.items()}
    wanted = {
        name: tuple(weight.shape) for name, weight in build(stock, model.vocab_size, device="meta").named_parameters()
    }
    wrong = sorted(name for name in {*there, *wanted} if there.get(name) != wanted.get(name))
    if wrong:
        name = wrong[0]
        _, at, inside = name.split(".", 2)
        block = model.spec.layers[int(at) * model.spec.details.tie_layers].slot(inside.split(".")[0])
        raise ExportError(
            f"the block {block.kind!r} says that it is {stock_part_of(block, model.spec.frame)}, whose parameter {name!r} has the shape "
            f"{wanted.get(name, 'of none')}, and its module has {there.get(name, 'none of that name')}; correct its stock_part, or the "
            "`names` in it"
        )
    return weights


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
