"""The module of `nas_bo.model.blocks.gated_delta`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.model.blocks.gated_delta import GatedDeltaSpec
from nas_bo.model.layers.common import Context, Linear, at_least_float32
from nas_bo.model.layers.conv import convolve, remember
from nas_bo.model.layers.linear_attention import in_chunks


class GatedDelta(nn.Module):
    """S_t = a_t (I - b_t k_t k_t^T) S_(t-1) + b_t k_t v_t^T, y_t = q_t S_t (arXiv 2412.06464, eq. 10, transposed), with
    a_t = exp(-dt_t A), dt_t = softplus(W x + step_bias), b_t = sigmoid(W x). Queries, keys and values pass a short convolution and
    silu; queries and keys are of length 1. The output is normalised per head and gated by silu."""

    def __init__(self, spec: GatedDeltaSpec, width: int, bias: bool) -> None:
        super().__init__()
        self.spec = spec
        self.qkvg = Linear(width, 4 * spec.inner + 2 * spec.heads, bias=bias)
        self.taps = nn.Parameter(torch.empty(3 * spec.inner, spec.kernel))
        self.log_decay = nn.Parameter(torch.empty(spec.heads))  # log A
        self.step_bias = nn.Parameter(torch.empty(spec.heads))
        self.gain = nn.Parameter(torch.empty(spec.head_dim))
        self.out = Linear(spec.inner, width, bias=bias)

    def forward(
        self, x: Tensor, context: Context, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """x (B, T, C) -> (B, T, C); `state` is the (B, kernel - 1, 3 H D) inputs of the convolution before this call, and S
        (B, H, D, D), float32 at least."""
        batch, length, _ = x.shape
        heads, dim, inner = self.spec.heads, self.spec.head_dim, self.spec.inner
        mixed, gate, step, write = self.qkvg(x).split((3 * inner, inner, heads, heads), -1)
        inputs, carried = state if state is not None else (None, None)
        padded, inputs = remember(mixed, self.spec.kernel, inputs)
        mixed = F.silu(convolve(padded, self.taps, length))
        q, k, v = mixed.reshape(batch, length, 3 * heads, dim).transpose(1, 2).chunk(3, 1)  # (B, H, T, D)
        q, k = unit(q) / math.sqrt(dim), unit(k)
        step = F.softplus(at_least_float32(step + self.step_bias)).transpose(1, 2)  # (B, H, T)
        decay = -step * at_least_float32(self.log_decay).exp().unsqueeze(-1)
        write = at_least_float32(write).sigmoid().transpose(1, 2)
        y, carried = in_chunks(delta, (q, k, v, decay, write), carried)
        y = F.rms_norm(y, (dim,), self.gain.to(y.dtype), 1e-6).transpose(1, 2).reshape(batch, length, inner)
        return self.out(y * F.silu(gate)), None if inputs is None or carried is None else (inputs, carried)

    def new_state(self, batch: int, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        spec = self.spec
        inputs = like.new_zeros((batch, spec.kernel - 1, 3 * spec.inner))
        return inputs, like.new_zeros((batch, spec.heads, spec.head_dim, spec.head_dim))


def unit(x: Tensor) -> Tensor:
    """Rows of length 1, nearly 0 staying so."""
    return x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt()


def delta(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, write: Tensor, state: Tensor | None, carry: bool
) -> tuple[Tensor, Tensor | None]:
    """One chunk: q, k, v (B, H, T, D), log decays and writing strengths (B, H, T), S (B, H, D, D) before it -> y (B, H, T, D), S
    after it (None unless `carry`). What the tokens write, u, solves (I + strict lower part) u = b (v - decayed k S): the WY form
    of arXiv 2412.06464, section 3.3. With T = 1 it is the recurrence itself."""
    total = decay.cumsum(-1)
    length = q.shape[2]
    strength = write.unsqueeze(-1).to(k.dtype)
    u = v * strength
    if state is not None:
        before = total.exp().unsqueeze(-1).to(q.dtype)
        u = u - (k * (strength * before)) @ state.to(k.dtype)
    between = total.unsqueeze(-1) - total.unsqueeze(-2)  # (B, H, T, T): log of the decay from token j to token i
    if length > 1:
        future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        between = between.masked_fill(future, -math.inf)
    between = between.exp()
    if length > 1:
        lower = at_least_float32((k * strength) @ k.transpose(2, 3)) * between
        solved = torch.linalg.solve_triangular(lower, at_least_float32(u), upper=False, unitriangular=True)
        u = solved.to(v.dtype)
    y = ((q @ k.transpose(2, 3)) * between.to(q.dtype)) @ u
    if state is not None:
        y = y + (q * before) @ state.to(q.dtype)
    if not carry:
        return y, None
    end = total[..., -1:]
    added = at_least_float32((k * (end - total).exp().unsqueeze(-1).to(k.dtype)).transpose(2, 3) @ u)
    return y, added if state is None else state * end.unsqueeze(-1).exp() + added
