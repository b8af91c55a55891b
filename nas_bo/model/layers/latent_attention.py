"""The module of `nas_bo.model.blocks.latent_attention`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.model.blocks.latent_attention import LatentAttentionSpec
from nas_bo.model.layers.attention import rotate
from nas_bo.model.layers.common import Context, Linear, at_least_float32, rounded


class LatentAttention(nn.Module):
    """Multi-head latent attention (arXiv 2405.04434, eq. 9 to 19), queries without a latent of their own. Many tokens: keys and values
    are made from the latents. One token with a cache: the matrix that would make the keys is applied to the query instead, and the one
    for the values to the result, so that the latents are keys and values of one head (section 2.1.2)."""

    kv_bits = 32  # of cached values

    def __init__(self, spec: LatentAttentionSpec, width: int, bias: bool) -> None:
        super().__init__()
        self.spec = spec
        self.sizes = (spec.inner, spec.heads * spec.turned, spec.latent, spec.turned)
        self.qc = Linear(width, sum(self.sizes), bias=bias)
        self.gain = nn.Parameter(torch.empty(spec.latent))
        self.up = Linear(spec.latent, 2 * spec.inner, bias=False)
        self.out = Linear(spec.inner, width, bias=bias)

    def forward(self, x: Tensor, context: Context, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x (B, T, C) -> (B, T, C); `state` is the (B, P, latent + turned) latents and turned keys before this call."""
        batch, length, _ = x.shape
        heads, dim, turned = self.spec.heads, self.spec.head_dim, self.spec.turned
        q, q_turned, latent, k_turned = self.qc(x).split(self.sizes, -1)
        q = q.view(batch, length, heads, dim)
        kept = F.rms_norm(latent, (self.spec.latent,), self.gain.to(latent.dtype), 1e-6)
        if turned:
            table = context.rotary(turned)
            assert table is not None  # the block asks for one
            q_turned = rotate(q_turned.reshape(batch, length, heads, turned), *table)
            k_turned = rotate(k_turned.unsqueeze(2), *table).squeeze(2)
            kept = torch.cat((kept, k_turned), -1)
            q = torch.cat((q, q_turned), -1)
        if self.kv_bits < 32:
            kept = rounded(kept, self.kv_bits)
        if state is not None:
            kept = state = torch.cat((state, kept), 1)
        y = self._absorbed(q, kept) if state is not None and length == 1 else self._expanded(q, kept, context)
        return self.out(y.reshape(batch, length, heads * dim)), state

    def _expanded(self, q: Tensor, kept: Tensor, context: Context) -> Tensor:
        """q (B, T, H, D + R), kept (B, S, latent + R) -> (B, T, H, D)."""
        heads, dim, turned = self.spec.heads, self.spec.head_dim, self.spec.turned
        batch, seen, _ = kept.shape
        k, v = self.up(kept[..., : self.spec.latent]).view(batch, seen, 2, heads, dim).unbind(2)
        if turned:
            k = torch.cat((k, kept[..., None, self.spec.latent :].expand(batch, seen, heads, turned)), -1)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        mask = context.mask(seen, None)
        causal = mask is None and bool(q.shape[2] > 1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal).transpose(1, 2)

    def _absorbed(self, q: Tensor, kept: Tensor) -> Tensor:
        """q (B, 1, H, D + R), kept (B, S, latent + R) -> (B, 1, H, D)."""
        heads, dim, latent = self.spec.heads, self.spec.head_dim, self.spec.latent
        k_up, v_up = self.up.weight.view(2, heads, dim, latent).unbind(0)  # (H, D, latent)
        q = q.squeeze(1) / math.sqrt(q.shape[-1])  # (B, H, D + R)
        asked = torch.bmm(q[..., :dim].transpose(0, 1), k_up.to(q.dtype)).transpose(0, 1)  # (B, H, latent)
        scores = torch.cat((asked, q[..., dim:]), -1) @ kept.transpose(1, 2)  # (B, H, S)
        share = at_least_float32(scores).softmax(-1).to(kept.dtype)
        found = share @ kept[..., :latent]  # (B, H, latent)
        return torch.bmm(found.transpose(0, 1), v_up.to(q.dtype).transpose(1, 2)).transpose(0, 1).unsqueeze(1)

    def new_state(self, batch: int, length: int, like: Tensor) -> Tensor:
        return like.new_zeros((batch, 0, self.spec.kept))
