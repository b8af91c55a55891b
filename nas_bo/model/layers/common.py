"""What the modules of blocks share. They hold weights and nothing else: what changes while decoding is in the `state` that
goes in and out, and what all layers share (rotary tables, masks) is in `Context`.

Shapes, here and in the files next to it: B batch, T tokens of this call, P tokens before it, C width, H heads, G key/value
heads, D head dimension.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP = 32  # values with one scale; a test keeps it equal to that of nas_bo.model.after_training


class Linear(nn.Linear):
    """nn.Linear without its own initialisation: the decoder sets all weights in one place."""

    def reset_parameters(self) -> None:
        pass


def rounded(x: Tensor, bits: int) -> Tensor:
    """Values (..., D) as they are when each group of 32 along the last axis is kept as integers of `bits` bits, a scale of 16 bits and
    a zero point of `bits`; 16 bits are bfloat16, 32 change nothing."""
    if bits >= 32:
        return x
    if bits == 16:
        return x.to(torch.bfloat16).to(x.dtype)
    size = x.shape[-1]
    groups = F.pad(x, (0, -size % GROUP)).reshape(*x.shape[:-1], -1, GROUP)
    most = (1 << bits) - 1
    low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / most).to(torch.bfloat16).to(x.dtype)
    scale = torch.where(scale > 0, scale, 1.0)
    zero = (-low / scale).round().clamp(0, most)
    near: Tensor = ((groups / scale + zero).round().clamp(0, most) - zero) * scale
    return near.flatten(-2)[..., :size]


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


@runtime_checkable
class RoundsCache(Protocol):
    """The module of a mixer that caches keys and values (`nas_bo.model.blocks.block.Caching`)."""

    kv_bits: int


class Context(Protocol):
    """What the decoder computes once per call and every attention layer reads."""

    start: int  # P
    lent: tuple[Tensor, Tensor]  # keys and values (B, G, P + T, D) of the nearest earlier layer that has some

    def lend(self, k: Tensor, v: Tensor) -> None: ...

    def rotary(self, head_dim: int) -> tuple[Tensor, Tensor] | None: ...

    def mask(self, keys: int, window: int | None) -> Tensor | None: ...
