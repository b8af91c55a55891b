"""The module of `nas_bo.model.blocks.attention`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.model.blocks.attention import AttentionSpec
from nas_bo.model.layers.common import Context, Linear


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
