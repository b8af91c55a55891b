"""A trained decoder with its weights in the order of their importance, so that every prefix is a candidate: the same function, and
the same logits but for rounding.

Hidden units of an MLP, experts of a mixture, groups of heads that share keys and values, and the channels of the stream are
exchanged with each other; the heads of one group stay together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nas_bo.model.blocks.attention import AttentionSpec
from nas_bo.model.blocks.dense import MlpSpec

if TYPE_CHECKING:
    from nas_bo.model.decoder import Decoder

Order = Sequence[int]


@dataclass(frozen=True)
class Orders:
    """What is exchanged, the most important first; what lacks stays as it is.

    Attributes:
        hidden: layer -> order of the hidden units of its MLP, of a mixture in each expert: (E, F) or (F,).
        groups: layer -> order of the groups of heads of its attention.
        experts: layer -> order of the experts of its mixture.
        width: order of the channels of the stream.
    """

    hidden: Mapping[int, Tensor] = field(default_factory=dict)
    groups: Mapping[int, Tensor] = field(default_factory=dict)
    experts: Mapping[int, Tensor] = field(default_factory=dict)
    width: Tensor | None = None


@torch.no_grad()
def put_in_order(model: Decoder, orders: Orders) -> None:
    """Exchange the weights of `model`, in place."""
    for index, layer in enumerate(model.layers):
        mixer, mlp = model.spec.layers[index * model.spec.details.tie_layers]
        blocks: dict[str, nn.Module] = dict(layer.named_children())
        if index in orders.groups and isinstance(mixer, AttentionSpec):
            _groups(blocks["mixer"], mixer, orders.groups[index])
        if isinstance(mlp, MlpSpec):
            if index in orders.experts and mlp.experts:
                for weight in blocks["mlp"].parameters():
                    weight.copy_(weight[orders.experts[index]])
            if index in orders.hidden:
                _hidden(blocks["mlp"], mlp, orders.hidden[index])
    if orders.width is not None:
        _width(model, orders.width)


def _groups(module: nn.Module, spec: AttentionSpec, order: Tensor) -> None:
    per = spec.heads // spec.kv_heads
    heads = (order.unsqueeze(1) * per + torch.arange(per, device=order.device)).flatten()
    orders = {"q": heads, "k": order, "v": order}
    for name, weight in module.named_parameters():
        if name.startswith("qkv."):
            parts = torch.split(weight, list(spec.sizes))
            dims = (spec.head_dim, spec.head_dim, spec.values)
            moved = [
                part.view(-1, dim, *part.shape[1:])[orders[which]].reshape(part.shape)
                for part, dim, which in zip(parts, dims, "qkv", strict=True)
            ]
            weight.copy_(torch.cat(moved))
        elif name == "out.weight":
            moved_out = weight.view(len(weight), spec.heads, spec.values)[:, heads]
            weight.copy_(moved_out.reshape(weight.shape))
        elif name == "sinks":
            weight.copy_(weight[heads])
        elif name in ("q_norm.weight", "k_norm.weight") and spec.qk_norm == "whole":
            which = orders[name[0]]
            weight.copy_(weight.view(-1, spec.head_dim)[which].flatten())


def _hidden(module: nn.Module, spec: MlpSpec, order: Tensor) -> None:
    parts = 1 + spec.gated
    for name, weight in module.named_parameters():
        inside = name.removesuffix(".weight").replace(".bias", "_bias")
        if not spec.experts:
            if inside in ("up", "up_bias"):
                weight.copy_(torch.cat([part[order] for part in weight.chunk(parts)]))
            elif inside == "out":
                weight.copy_(weight[:, order])
            continue
        each = order if order.dim() == 2 else order.expand(spec.experts, -1)  # (E, F)
        if inside == "up":
            whole = torch.cat([each + part * spec.hidden for part in range(parts)], 1)
            weight.copy_(torch.gather(weight, 1, whole.unsqueeze(2).expand(-1, -1, weight.shape[2])))
        elif inside == "up_bias":
            weight.copy_(torch.gather(weight, 1, torch.cat([each + part * spec.hidden for part in range(parts)], 1)))
        elif inside == "out":
            weight.copy_(torch.gather(weight, 2, each.unsqueeze(1).expand(-1, weight.shape[1], -1)))


_READ_STREAM = ("mixer.qkv.weight", "mixer.q.weight", "mixer.proj.weight", "mlp.up.weight", "mlp.router.weight")
_WRITE_STREAM = ("mixer.out.weight", "mixer.out.bias", "mlp.out.weight", "mlp.out.bias")


def _width(model: Decoder, order: Tensor) -> None:
    for name, weight in model.named_parameters():
        inside = name.split(".", 2)[2] if name.startswith("layers.") else name
        if name in ("embedding.weight", "positions.weight", "head.weight") or inside in _READ_STREAM:
            weight.copy_(weight[..., order])
        elif inside in _WRITE_STREAM or inside.split(".")[0].endswith("norm"):
            weight.copy_(weight[order])
        elif inside == "mlp.up":  # of a mixture: (E, wide, C)
            weight.copy_(weight[..., order])
        elif inside == "mlp.out" or inside == "mlp.out_bias":  # (E, C, F)
            weight.copy_(weight[:, order])
