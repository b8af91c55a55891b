"""The blocks of the decoder, one class each. They hold weights and nothing else: what changes while decoding is in the
`state` that goes in and out, and what all layers share (rotary tables, masks) is in `Context`.

Shapes: B batch, T tokens of this call, P tokens before it, C width, H heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.model.spec import AttentionSpec, ConvSpec, LinearAttentionSpec, MlpSpec

CHUNK = 64
"""Tokens that linear attention handles in parallel; from chunk to chunk it carries its state."""

CONV_SHIFTS = 8
"""Up to this kernel the depthwise convolution is a sum of shifted products, which is faster than conv1d on a CPU."""


class Linear(nn.Linear):
    """nn.Linear without its own initialisation: the decoder sets all weights in one place."""

    def reset_parameters(self) -> None:
        pass


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Context(Protocol):
    """What the decoder computes once per call and every attention layer reads."""

    start: int  # P

    def rotary(self, head_dim: int) -> tuple[Tensor, Tensor] | None: ...

    def mask(self, keys: int, window: int | None) -> Tensor | None: ...


class Attention(nn.Module):
    """Softmax attention with shared key/value heads, rotary positions and an optional sliding window."""

    def __init__(self, spec: AttentionSpec, width: int, bias: bool) -> None:
        super().__init__()
        self.spec = spec
        self.qkv = Linear(width, (spec.heads + 2 * spec.kv_heads) * spec.head_dim, bias=bias)
        self.out = Linear(spec.heads * spec.head_dim, width, bias=bias)

    def forward(self, x: Tensor, context: Context, state: Any = None) -> tuple[Tensor, Any]:
        """x (B, T, C) -> (B, T, C). `state` is (keys, values): (B, G, length, D) filled up to P, or, with a window,
        the (B, G, <= window, D) last ones."""
        batch, length, _ = x.shape
        heads, kv_heads, dim, window = self.spec.heads, self.spec.kv_heads, self.spec.head_dim, self.spec.window
        qkv = self.qkv(x).view(batch, length, heads + 2 * kv_heads, dim)
        table = context.rotary(dim)
        if table is None:
            q, k, v = torch.split(qkv, [heads, kv_heads, kv_heads], 2)
        else:
            qk, v = torch.split(qkv, [heads + kv_heads, kv_heads], 2)
            q, k = torch.split(rotate(qk, *table), [heads, kv_heads], 2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if state is not None:
            k, v, state = self._remember(k, v, state, context.start)
        mask = context.mask(k.shape[2], window)
        causal = mask is None and length > 1
        grouped = kv_heads != heads
        if grouped and q.is_cuda and q.dtype.itemsize > 2:  # there only kernels of half precision know groups
            k, v = (one.repeat_interleave(heads // kv_heads, 1) for one in (k, v))
            grouped = False
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)
        return self.out(y.transpose(1, 2).reshape(batch, length, heads * dim)), state

    def _remember(self, k: Tensor, v: Tensor, state: Any, start: int) -> tuple[Tensor, Tensor, Any]:
        window, length = self.spec.window, k.shape[2]
        if window is None:
            keys, values = state
            keys[:, :, start : start + length] = k
            values[:, :, start : start + length] = v
            return keys[:, :, : start + length], values[:, :, : start + length], state
        k, v = torch.cat((state[0], k), 2), torch.cat((state[1], v), 2)
        state = (k[:, :, -window:], v[:, :, -window:])
        if k.shape[2] > 2 * window:  # a view would keep the whole prompt alive
            state = (state[0].clone(), state[1].clone())
        return (*state, state) if length == 1 else (k, v, state)

    def new_state(self, batch: int, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (batch, self.spec.kv_heads, length if self.spec.window is None else 0, self.spec.head_dim)
        return like.new_zeros(shape), like.new_zeros(shape)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864) on x (B, T, H, D), halves paired as in Llama.
    cos, sin (T, 1, D); the first half of sin is negated."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


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
        step = F.softplus(_at_least_float32(step + self.step_bias)).transpose(1, 2)  # (B, H, T)
        v = v * step.unsqueeze(-1).to(v.dtype)
        decay = -step * _at_least_float32(self.log_decay).exp().unsqueeze(-1)
        keep, parts = state is not None, []
        for begin in range(0, length, CHUNK):
            last = begin + CHUNK >= length
            piece = slice(begin, begin + CHUNK)
            y, state = scan(q[:, :, piece], k[:, :, piece], v[:, :, piece], decay[:, :, piece], state, keep or not last)
            parts.append(y)
        y = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
        y = F.rms_norm(y, (dim,), eps=1e-6).transpose(1, 2).reshape(batch, length, self.inner)
        return self.out(y * F.silu(gate)), state

    def new_state(self, batch: int, length: int, like: Tensor) -> Tensor:
        return like.new_zeros((batch, self.spec.heads, self.spec.head_dim, self.spec.head_dim))


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


def activate(x: Tensor, name: str) -> Tensor:
    if name == "gelu":
        return F.gelu(x)
    return F.silu(x) if name == "silu" else F.relu(x).square()


class Dense(nn.Module):
    """MLP, gated (act(g) * u, one product for g and u) or not."""

    def __init__(self, spec: MlpSpec, width: int, bias: bool) -> None:
        super().__init__()
        self.spec = spec
        self.up = Linear(width, spec.hidden * (2 if spec.gated else 1), bias=bias)
        self.out = Linear(spec.hidden, width, bias=bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.out(_hidden(self.up(x), self.spec)), None


def _hidden(x: Tensor, spec: MlpSpec) -> Tensor:
    if not spec.gated:
        return activate(x, spec.activation)
    gate, up = x.chunk(2, -1)
    return activate(gate, spec.activation) * up


class Mixture(nn.Module):
    """Mixture of experts: each token goes to its `top_k` experts, none is dropped. With one active expert its weight
    is the router's probability (Fedus et al. 2021, arXiv 2101.03961, eq. 2); with more, the probabilities are divided
    by their sum (Jiang et al. 2024, arXiv 2401.04088).

    Rows are sorted by expert, so that every expert is one matrix product. On CUDA the split sizes come to the host:
    the one synchronisation in a forward pass. On the meta device rows are split evenly; the FLOPs do not depend on it.
    """

    def __init__(self, spec: MlpSpec, width: int, bias: bool) -> None:
        super().__init__()
        self.spec = spec
        wide = spec.hidden * (2 if spec.gated else 1)
        self.router = Linear(width, spec.experts, bias=False)
        self.up = nn.Parameter(torch.empty(spec.experts, wide, width))
        self.out = nn.Parameter(torch.empty(spec.experts, width, spec.hidden))
        self.up_bias = nn.Parameter(torch.empty(spec.experts, wide)) if bias else None
        self.out_bias = nn.Parameter(torch.empty(spec.experts, width)) if bias else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x (B, T, C) -> (B, T, C) and the balance loss, E * sum_e (share of rows of e) * (mean probability of e),
        which is 1 when the load is even (Fedus et al. 2021, eq. 4)."""
        experts, top_k = self.spec.experts, self.spec.top_k
        rows = x.reshape(-1, x.shape[-1])  # (N, C)
        probabilities = _at_least_float32(self.router(rows)).softmax(-1)
        weights, chosen = probabilities.topk(top_k, -1)  # (N, k)
        if top_k > 1:
            weights = weights / weights.sum(-1, keepdim=True)
        order = chosen.flatten().argsort(stable=True)  # (N * k,)
        count = (chosen.flatten().unsqueeze(1) == torch.arange(experts, device=x.device)).sum(0)  # (E,)
        sizes = _even(len(order), experts) if x.is_meta else count.tolist()
        nothing = [None] * experts
        parts = []
        for part, up, out, up_bias, out_bias in zip(
            torch.split(rows[order // top_k], sizes),
            self.up.unbind(0),
            self.out.unbind(0),
            nothing if self.up_bias is None else self.up_bias.unbind(0),
            nothing if self.out_bias is None else self.out_bias.unbind(0),
            strict=True,
        ):
            parts.append(F.linear(_hidden(F.linear(part, up, up_bias), self.spec), out, out_bias))
        mixed = torch.cat(parts)[order.argsort()].view(-1, top_k, x.shape[-1])
        y = (mixed * weights.unsqueeze(-1).to(mixed.dtype)).sum(1)
        balance = experts * (count.to(probabilities.dtype) / len(order) * probabilities.mean(0)).sum()
        return y.view(x.shape), balance


def _even(rows: int, experts: int) -> list[int]:
    return [rows // experts + (index < rows % experts) for index in range(experts)]
