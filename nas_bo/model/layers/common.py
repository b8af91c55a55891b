"""What the modules of blocks share. They hold weights and nothing else: what changes while decoding is in the `state` that
goes in and out, and what all layers share (rotary tables, masks) is in `Context`.

Shapes, here and in the files next to it: B batch, T tokens of this call, P tokens before it, C width, H heads, G key/value
heads, D head dimension.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    """nn.Linear without its own initialisation: the decoder sets all weights in one place."""

    def reset_parameters(self) -> None:
        pass


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Context(Protocol):
    """What the decoder computes once per call and every attention layer reads."""

    start: int  # P
    lent: tuple[Tensor, Tensor]  # keys and values (B, G, P + T, D) of the nearest earlier layer that has some

    def lend(self, k: Tensor, v: Tensor) -> None: ...

    def rotary(self, head_dim: int) -> tuple[Tensor, Tensor] | None: ...

    def mask(self, keys: int, window: int | None) -> Tensor | None: ...
