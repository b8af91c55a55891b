"""The module of `nas_bo.model.blocks.linear_attention`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.model.blocks.linear_attention import CHUNK, LinearAttentionSpec
from nas_bo.model.layers.common import Context, Linear, at_least_float32


class LinearAttention(nn.Module):
    """Gated linear attention: S_t = exp(-dt_t A) S_(t-1) + dt_t k_t v_t^T, y_t = q_t S_t, a scalar decay per head and
    token (Mamba-2 / SSD, Dao and Gu 2024, arXiv 2405.21060, eq. 16 and listing 1), without its short convolution.
    The output is normalised per head and gated by silu, as in Sun et al. 2023, arXiv 2307.08621, eq. 8."""

    def __init__(self, spec: LinearAttentionSpec, width: int, bias: bool) -> None:
        super().__init__()
        self.spec = spec
        self.inner = spec.heads * spec.head_dim
        self.qkvg = Linear(width, 4 * self.inner + spec.heads, bias=bias)
        self.log_decay = nn.Parameter(torch.empty(spec.heads))  # log A
        self.step_bias = nn.Parameter(torch.empty(spec.heads))  # dt = softplus(W x + step_bias)
        self.out = Linear(self.inner, width, bias=bias)

    def forward(self, x: Tensor, context: Context, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x (B, T, C) -> (B, T, C); `state` S is (B, H, D, D), float32 at least."""
        batch, length, _ = x.shape
        heads, dim = self.spec.heads, self.spec.head_dim
        inner, gate, step = self.qkvg(x).split((3 * self.inner, self.inner, heads), -1)
        q, k, v = inner.view(batch, length, 3 * heads, dim).transpose(1, 2).chunk(3, 1)
        step = F.softplus(at_least_float32(step + self.step_bias)).transpose(1, 2)  # (B, H, T)
        v = v * step.unsqueeze(-1).to(v.dtype)
        decay = -step * at_least_float32(self.log_decay).exp().unsqueeze(-1)
        y, state = in_chunks(scan, (q, k, v, decay), state)
        y = F.rms_norm(y, (dim,), eps=1e-6).transpose(1, 2).reshape(batch, length, self.inner)
        return self.out(y * F.silu(gate)), state

    def new_state(self, batch: int, length: int, like: Tensor) -> Tensor:
        return like.new_zeros((batch, self.spec.heads, self.spec.head_dim, self.spec.head_dim))


def in_chunks(
    one: Callable[..., tuple[Tensor, Tensor | None]], given: tuple[Tensor, ...], state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """`one`, such as `scan`, on each `CHUNK` tokens of what is `given`, (B, H, T, ...) each, with the state before the first chunk -> y
    (B, H, T, D), and the state after the last chunk where there was one before the first."""
    length, keep, parts = given[0].shape[2], state is not None, []
    for begin in range(0, length, CHUNK):
        piece, last = slice(begin, begin + CHUNK), begin + CHUNK >= length
        y, state = one(*(part[:, :, piece] for part in given), state, keep or not last)
        parts.append(y)
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2), state


def scan(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, state: Tensor | None, carry: bool
) -> tuple[Tensor, Tensor | None]:
    """One chunk: q, k, v (B, H, T, D), log decays (B, H, T) <= 0, S (B, H, D, D) before it -> y (B, H, T, D), S after
    it (None unless `carry`). The quadratic form within the chunk; with T = 1 it is the recurrence itself."""
    total = decay.cumsum(-1)
    length = q.shape[2]
    between = total.unsqueeze(-1) - total.unsqueeze(-2)  # (B, H, T, T): log of the decay from key j to query i
    if length > 1:
        future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        between = between.masked_fill(future, -math.inf)
    y = ((q @ k.transpose(2, 3)) * between.exp().to(q.dtype)) @ v
    if state is not None:
        y = y + (q @ state.to(q.dtype)) * total.exp().unsqueeze(-1).to(q.dtype)
    if not carry:
        return y, None
    end = total[..., -1:]
    added = (k * (end - total).exp().unsqueeze(-1).to(k.dtype)).transpose(2, 3) @ v
    return y, added if state is None else state * end.unsqueeze(-1).exp() + added
