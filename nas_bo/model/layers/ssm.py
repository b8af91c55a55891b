"""The module of `nas_bo.model.blocks.ssm`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.model.blocks.ssm import SsmSpec
from nas_bo.model.layers.common import Context, Linear, at_least_float32
from nas_bo.model.layers.conv import convolve, remember
from nas_bo.model.layers.linear_attention import in_chunks, scan


class Ssm(nn.Module):
    """S_t = exp(-dt_t A) S_(t-1) + dt_t b_t x_t^T, y_t = c_t S_t + D x_t, one A, dt and D per head, b and c of all heads together
    (arXiv 2405.21060, section 7: the Mamba-2 block). x, b and c pass a short convolution and silu; the output times silu(z) is
    normalised over all channels."""

    def __init__(self, spec: SsmSpec, width: int, bias: bool) -> None:
        super().__init__()
        self.spec = spec
        self.channels = spec.inner + 2 * spec.state
        self.proj = Linear(width, spec.inner + self.channels + spec.heads, bias=bias)
        self.taps = nn.Parameter(torch.empty(self.channels, spec.kernel))
        self.log_decay = nn.Parameter(torch.empty(spec.heads))  # log A
        self.step_bias = nn.Parameter(torch.empty(spec.heads))  # dt = softplus(W x + step_bias)
        self.through = nn.Parameter(torch.empty(spec.heads))  # D
        self.gain = nn.Parameter(torch.empty(spec.inner))
        self.out = Linear(spec.inner, width, bias=bias)

    def forward(
        self, x: Tensor, context: Context, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """x (B, T, C) -> (B, T, C); `state` is the (B, kernel - 1, H P + 2 N) inputs of the convolution before this call, and S
        (B, H, N, P), float32 at least."""
        batch, length, _ = x.shape
        heads, dim, inner, size = self.spec.heads, self.spec.head_dim, self.spec.inner, self.spec.state
        z, mixed, step = self.proj(x).split((inner, self.channels, heads), -1)
        inputs, carried = state if state is not None else (None, None)
        padded, inputs = remember(mixed, self.spec.kernel, inputs)
        mixed, b, c = torch.split(F.silu(convolve(padded, self.taps, length)), [inner, size, size], -1)
        u = mixed.reshape(batch, length, heads, dim).transpose(1, 2)  # (B, H, T, P)
        b, c = b.unsqueeze(1), c.unsqueeze(1)  # (B, 1, T, N)
        step = F.softplus(at_least_float32(step + self.step_bias)).transpose(1, 2)  # (B, H, T)
        decay = -step * at_least_float32(self.log_decay).exp().unsqueeze(-1)
        v = u * step.unsqueeze(-1).to(u.dtype)
        y, carried = in_chunks(scan, (c, b, v, decay), carried)
        y = (y + u * self.through.view(-1, 1, 1).to(u.dtype)).transpose(1, 2).reshape(batch, length, inner)
        y = F.rms_norm(y * F.silu(z), (inner,), self.gain.to(y.dtype), 1e-6)
        return self.out(y), None if inputs is None or carried is None else (inputs, carried)

    def new_state(self, batch: int, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        spec = self.spec
        inputs = like.new_zeros((batch, spec.kernel - 1, self.channels))
        return inputs, like.new_zeros((batch, spec.heads, spec.state, spec.head_dim))
