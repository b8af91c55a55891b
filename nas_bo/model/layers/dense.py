"""The module of `nas_bo.model.blocks.dense`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.model.blocks.dense import MlpSpec
from nas_bo.model.layers.common import Linear


def activate(x: Tensor, name: str) -> Tensor:
    if name == "gelu":
        return F.gelu(x)
    if name == "gelu_tanh":
        return F.gelu(x, approximate="tanh")
    return F.silu(x) if name == "silu" else F.relu(x).square()


class Dense(nn.Module):
    """MLP, gated (act(g) * u, one product for g and u) or not."""

    def __init__(self, spec: MlpSpec, width: int, bias: bool) -> None:
        super().__init__()
        self.spec = spec
        self.up = Linear(width, spec.hidden * (2 if spec.gated else 1), bias=bias)
        self.out = Linear(spec.hidden, width, bias=bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.out(hidden(self.up(x), self.spec)), None


def hidden(x: Tensor, spec: MlpSpec) -> Tensor:
    if not spec.gated:
        return activate(x, spec.activation)
    gate, up = x.chunk(2, -1)
    return activate(gate, spec.activation) * up
