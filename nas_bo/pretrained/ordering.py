"""A trained decoder with its units in the order of their importance, so that every prefix is a candidate: the same function, and the same
logits but for rounding.

Which entries of which weights belong to a unit is what its block says (`nas_bo.model.blocks.block.Prunable`): channels of an MLP, heads with
the keys that they share, experts. The channels of the stream go through all weights of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nas_bo.model.blocks.block import Frame, Prunable
from nas_bo.model.blocks.cuts import Cut
from nas_bo.model.blocks.table import block_of
from nas_bo.supernet.slicing import sliceable

if TYPE_CHECKING:
    from nas_bo.model.decoder import Decoder

Orders = Mapping[tuple[str, str], Tensor]
"""(where, unit), as in `nas_bo.compress.importances` -> the indices of its units, the most important first."""


@torch.no_grad()
def put_in_order(model: Decoder, orders: Orders) -> None:
    """Exchange the weights of `model`, in place; what is not in `orders` stays as it is, and layers do in any case."""
    weights: dict[str, Tensor] = dict(model.named_parameters())
    tie = model.spec.details.tie_layers
    for (where, unit), order in orders.items():
        if unit == "width":
            _width(model, order.to(model.embedding.weight.device))
        elif unit != "layers":
            _, index, part = where.split(".")
            spec = model.spec.layers[int(index) * tie].slot(part)
            _units(weights, spec, unit, model.spec.frame, f"{where}.", order.to(model.embedding.weight.device))


def _units(weights: Mapping[str, Tensor], spec: object, unit: str, frame: Frame, prefix: str, order: Tensor) -> None:
    block = sliceable(spec)
    if not isinstance(block, Prunable) or len(order) < 2:
        return
    fewer = block_of(spec).check({**block_of(spec).fields, **block.with_units(spec, frame, unit, 1)}, frame)
    for whole, small in zip(block.slices(spec, frame, "", prefix), block.slices(fewer, frame, "", prefix), strict=True):
        weights[whole.name].copy_(_moved(weights[whole.name], whole, small, order))


def _moved(weight: Tensor, whole: Cut, small: Cut, order: Tensor) -> Tensor:
    """A parameter with its units in another order; `small` is the same one of a block with a single unit, which shows where they are."""
    parts = []
    pieces = torch.split(weight, [shape[whole.axis] for shape in whole.shapes], whole.axis)
    for part, there, one, shape in zip(pieces, whole.pieces, small.pieces, whole.shapes, strict=True):
        part = part.reshape(there.sizes)
        for axis, (many, few) in enumerate(zip(there.sizes, one.sizes, strict=True)):
            if many != few:
                each = many // len(order)
                entries = (order.unsqueeze(1) * each + torch.arange(each, device=order.device)).flatten()
                part = part.index_select(axis, entries)
        parts.append(part.reshape(shape))
    return parts[0] if len(parts) == 1 else torch.cat(parts, whole.axis)


_READ = ("mixer.qkv.weight", "mixer.q.weight", "mixer.proj.weight", "mlp.up.weight", "mlp.router.weight", "mlp.up")
_WRITTEN = ("mixer.out.weight", "mixer.out.bias", "mlp.out.weight", "mlp.out.bias")


def _width(model: Decoder, order: Tensor) -> None:
    """Of blocks of transformers; those of your own say nothing about the stream."""
    for name, weight in model.named_parameters():
        inside = name.split(".", 2)[2] if name.startswith("layers.") else name
        if name in ("embedding.weight", "positions.weight", "head.weight") or inside in _READ:
            weight.copy_(weight[..., order])
        elif inside in _WRITTEN or inside.split(".")[0].endswith("norm"):
            weight.copy_(weight[order])
        elif inside in ("mlp.out", "mlp.out_bias"):  # of a mixture: (E, C, F), (E, C)
            weight.copy_(weight[:, order])
