"""The module of `nas_bo.model.blocks.conv`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.model.blocks.conv import ConvSpec
from nas_bo.model.layers.common import Context, Linear

CONV_SHIFTS = 8
"""Up to this kernel the depthwise convolution is a sum of shifted products, which is faster than conv1d on a CPU."""


class Conv(nn.Module):
    """Gated causal depthwise convolution: out(conv(u) * silu(g)), (u, g) = in(x)."""

    def __init__(self, spec: ConvSpec, width: int, bias: bool) -> None:
        super().__init__()
        self.kernel = spec.kernel
        self.proj = Linear(width, 2 * width, bias=bias)
        self.taps = nn.Parameter(torch.empty(width, spec.kernel))  # taps[:, -1] is for the present token
        self.out = Linear(width, width, bias=bias)

    def forward(self, x: Tensor, context: Context, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x (B, T, C) -> (B, T, C); `state` is the (B, kernel - 1, C) inputs before this call."""
        u, gate = self.proj(x).chunk(2, -1)
        past = self.kernel - 1
        padded = F.pad(u, (0, 0, past, 0)) if state is None else torch.cat((state, u), 1)
        if state is not None:
            state = padded[:, padded.shape[1] - past :]
            state = state.clone() if x.shape[1] > past else state  # a view would keep the whole prompt alive
        return self.out(self._convolve(padded, x.shape[1]) * F.silu(gate)), state

    def _convolve(self, padded: Tensor, length: int) -> Tensor:
        # On the meta device always conv1d, whose FLOPs FlopCounterMode sees.
        if self.kernel > CONV_SHIFTS or padded.is_meta:
            return F.conv1d(padded.transpose(1, 2), self.taps.unsqueeze(1), groups=padded.shape[2]).transpose(1, 2)
        taps = self.taps.t().to(padded.dtype).unbind(0)
        y = padded[:, :length] * taps[0]
        for i in range(1, self.kernel):
            y = torch.addcmul(y, padded[:, i : i + length], taps[i])
        return y

    def new_state(self, batch: int, length: int, like: Tensor) -> Tensor:
        return like.new_zeros((batch, self.kernel - 1, self.proj.in_features))
