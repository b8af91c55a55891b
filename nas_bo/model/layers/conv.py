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
    """Gated causal depthwise convolution: out(conv(u) * silu(g)), (u, g) = in(x); or, with linear gates,
    out(c * conv(b * u)), (b, c, u) = in(x)."""

    def __init__(self, spec: ConvSpec, width: int, bias: bool) -> None:
        super().__init__()
        self.kernel, self.linear = spec.kernel, spec.gates == "linear2"
        self.proj = Linear(width, spec.parts * width, bias=bias)
        self.taps = nn.Parameter(torch.empty(width, spec.kernel))  # taps[:, -1] is for the present token
        self.out = Linear(width, width, bias=bias)

    def forward(self, x: Tensor, context: Context, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x (B, T, C) -> (B, T, C); `state` is the (B, kernel - 1, C) inputs of the convolution before this call."""
        if self.linear:
            before, gate, u = self.proj(x).chunk(3, -1)
            padded, state = remember(before * u, self.kernel, state)
            return self.out(convolve(padded, self.taps, x.shape[1]) * gate), state
        u, gate = self.proj(x).chunk(2, -1)
        padded, state = remember(u, self.kernel, state)
        return self.out(convolve(padded, self.taps, x.shape[1]) * F.silu(gate)), state

    def new_state(self, batch: int, length: int, like: Tensor) -> Tensor:
        return like.new_zeros((batch, self.kernel - 1, self.proj.in_features))


def remember(u: Tensor, kernel: int, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """u (B, T, C) with the kernel - 1 inputs before it, zeros without a state; and the last ones as the new state."""
    past = kernel - 1
    padded = F.pad(u, (0, 0, past, 0)) if state is None else torch.cat((state, u), 1)
    if state is not None:
        state = padded[:, padded.shape[1] - past :]
        state = state.clone() if u.shape[1] > past else state  # a view would keep the whole prompt alive
    return padded, state


def convolve(padded: Tensor, taps: Tensor, length: int) -> Tensor:
    """padded (B, T + kernel - 1, C), taps (C, kernel) -> (B, T, C), each channel for itself."""
    kernel = taps.shape[1]
    # On the meta device always conv1d, whose FLOPs FlopCounterMode sees.
    if kernel > CONV_SHIFTS or padded.is_meta:
        return F.conv1d(padded.transpose(1, 2), taps.unsqueeze(1), groups=padded.shape[2]).transpose(1, 2)
    each = taps.t().to(padded.dtype).unbind(0)
    y = padded[:, :length] * each[0]
    for i in range(1, kernel):
        y = torch.addcmul(y, padded[:, i : i + length], each[i])
    return y
