"""The module of `nas_bo.model.blocks.attention`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.model.blocks.attention import AttentionSpec
from nas_bo.model.blocks.block import Frame
from nas_bo.model.layers.common import Context, Linear, at_least_float32, rounded

Pair = tuple[Tensor, Tensor]  # keys and values


class Attention(nn.Module):
    """Softmax attention with shared key/value heads, rotary positions and an optional sliding window; E values per head."""

    qkv: Linear
    q: Linear  # of a layer that reads keys and values of an earlier one
    kv_bits = 32  # of cached values

    def __init__(self, spec: AttentionSpec, frame: Frame) -> None:
        super().__init__()
        self.spec = spec
        into, out = spec.biases(frame)
        setattr(self, "q" if spec.share_kv else "qkv", Linear(frame.width, sum(spec.made), bias=into))
        self.out = Linear(spec.heads * spec.values, frame.width, bias=out)
        norms = [nn.RMSNorm(size, eps=frame.details.norm_eps or 1e-6) if size else None for size in spec.gains()]
        self.q_norm, self.k_norm = norms
        self.sinks = nn.Parameter(torch.empty(spec.heads)) if spec.sinks else None

    def forward(self, x: Tensor, context: Context, state: Pair | None = None) -> tuple[Tensor, Pair | None]:
        """x (B, T, C) -> (B, T, C). `state` is (keys, values): (B, G, length, D) filled up to P, or, with a window,
        the (B, G, <= window, D) last ones; values have E in place of D."""
        batch, length, _ = x.shape
        heads, kv_heads, dim = self.spec.heads, self.spec.kv_heads, self.spec.head_dim
        if self.spec.share_kv:
            k, v = context.lent
            return self._attend(self._queries(x, context).transpose(1, 2), k, v, context), state
        if self.spec.plain:
            qkv = self.qkv(x).view(batch, length, heads + 2 * kv_heads, dim)
            table = context.rotary(dim)
            if table is None:
                q, k, v = torch.split(qkv, [heads, kv_heads, kv_heads], 2)
            else:
                qk, v = torch.split(qkv, [heads + kv_heads, kv_heads], 2)
                q, k = torch.split(rotate(qk, *table), [heads, kv_heads], 2)
        else:
            q, k, v = self._finer(self.qkv(x), context)
        if self.kv_bits < 32:
            k, v = (rounded(one.flatten(2), self.kv_bits).view_as(one) for one in (k, v))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if state is not None:
            k, v, state = self._remember(k, v, state, context.start)
        context.lend(k, v)
        return self._attend(q, k, v, context), state

    def _queries(self, x: Tensor, context: Context) -> Tensor:
        """x (B, T, C) -> queries (B, T, H, D)."""
        spec = self.spec
        q: Tensor = self.q(x)
        if self.q_norm is not None and spec.qk_norm == "whole":
            q = self.q_norm(q)
        q = q.view(*x.shape[:2], spec.heads, spec.head_dim)
        if self.q_norm is not None and spec.qk_norm == "head":
            q = self.q_norm(q)
        table = context.rotary(spec.turned) if spec.turned else None
        return q if table is None else _turn(q, table, spec.turned)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        """q (B, H, T, D), k (B, G, S, D), v (B, G, S, E) -> (B, T, C)."""
        heads, kv_heads, (batch, _, length, _) = self.spec.heads, self.spec.kv_heads, q.shape
        mask = context.mask(k.shape[2], self.spec.window)
        if self.sinks is not None:
            found: Tensor = self.out(self._with_sinks(q, k, v, mask).transpose(1, 2).reshape(batch, length, -1))
            return found
        causal = mask is None and bool(length > 1)  # a bool where a compiler leaves the length open
        grouped = kv_heads != heads
        if grouped and q.is_cuda and q.dtype.itemsize > 2:  # there only kernels of half precision know groups
            k, v = (one.repeat_interleave(heads // kv_heads, 1) for one in (k, v))
            grouped = False
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)
        found = self.out(y.transpose(1, 2).reshape(batch, length, heads * self.spec.values))
        return found

    def _finer(self, qkv: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """qkv (B, T, H D + G D + G E) -> queries (B, T, H, D), keys (B, T, G, D), values (B, T, G, E), normed and turned."""
        spec = self.spec
        batch, length, _ = qkv.shape
        q, k, v = torch.split(qkv, list(spec.sizes), -1)
        if self.q_norm is not None and self.k_norm is not None and spec.qk_norm == "whole":
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.view(batch, length, spec.heads, spec.head_dim)
        k = k.view(batch, length, spec.kv_heads, spec.head_dim)
        if self.q_norm is not None and self.k_norm is not None and spec.qk_norm == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        table = context.rotary(spec.turned) if spec.turned else None
        if table is not None:
            q, k = (_turn(one, table, spec.turned) for one in (q, k))
        return q, k, v.view(batch, length, spec.kv_heads, spec.values)

    def _with_sinks(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q (B, H, T, D), k (B, G, S, D), v (B, G, S, E) -> (B, H, T, E): the softmax has one more term, the sink of the head, which
        adds no value."""
        assert self.sinks is not None
        heads, kv_heads = self.spec.heads, self.spec.kv_heads
        batch, _, length, dim = q.shape
        grouped = (q * dim**-0.5).reshape(batch, kv_heads, heads // kv_heads, length, dim)
        scores = grouped @ k.unsqueeze(2).transpose(-1, -2)  # (B, G, H / G, T, S)
        if mask is None and length > 1:
            mask = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        sinks = self.sinks.to(scores.dtype).view(1, kv_heads, -1, 1, 1).expand(*scores.shape[:-1], 1)
        weights = at_least_float32(torch.cat((scores, sinks), -1)).softmax(-1)[..., :-1].to(v.dtype)
        return (weights @ v.unsqueeze(2)).flatten(1, 2)

    def _remember(self, k: Tensor, v: Tensor, state: Pair, start: int) -> tuple[Tensor, Tensor, Pair]:
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

    def new_state(self, batch: int, length: int, like: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.spec.share_kv:
            return None
        shape = (batch, self.spec.kv_heads, length if self.spec.window is None else 0)
        return like.new_zeros((*shape, self.spec.head_dim)), like.new_zeros((*shape, self.spec.values))


def _turn(x: Tensor, table: tuple[Tensor, Tensor], turned: int) -> Tensor:
    """x (B, T, H, D), of which rotary positions turn the first values."""
    if turned == x.shape[-1]:
        return rotate(x, *table)
    return torch.cat((rotate(x[..., :turned], *table), x[..., turned:]), -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864) on x (B, T, H, D), halves paired as in Llama.
    cos, sin (T, 1, D); the first half of sin is negated."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
