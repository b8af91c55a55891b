"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values are made of one latent vector per token,
which is all that the cache holds, with a small key of its own for positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nas_bo.errors import ModelError
from nas_bo.model.blocks.attention import head_dim_of
from nas_bo.model.blocks.block import Call, Drawn, Frame, Row, Shared, Slot, linear, matrix, size_of
from nas_bo.model.blocks.cuts import Cut, out, plain, rows
from nas_bo.model.blocks.details import Default
from nas_bo.model.blocks.heads import OfHeads
from nas_bo.wording import counted

if TYPE_CHECKING:
    from torch import nn


class LatentAttentionSpec(NamedTuple):
    kind: str
    heads: int
    head_dim: int
    latent: int
    turned: int

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    @property
    def kept(self) -> int:
        """Values that the cache holds per token."""
        return self.latent + self.turned


class LatentAttentionBlock(OfHeads):
    """Multi-head latent attention (arXiv 2405.04434) with `heads` heads over `latent` values per token. `turned` is the size of the
    part of queries and keys that rotary positions turn (None: half of head_dim, even); without positions it is 0. `head_dim` None is
    width / heads."""

    kind = "latent_attention"
    slots: tuple[Slot, ...] = ("mixer",)
    fields: Mapping[str, Default] = {"heads": ..., "latent": ..., "head_dim": None, "turned": None}
    caches_tokens = True
    Spec = LatentAttentionSpec

    def check(self, fields: Mapping[str, object], frame: Frame) -> LatentAttentionSpec:
        heads = size_of(fields, "heads", self.kind)
        dim = head_dim_of(fields, heads, frame, self.kind)
        latent = size_of(fields, "latent", self.kind)
        if frame.position != "rotary":
            return LatentAttentionSpec(self.kind, heads, dim, latent, 0)
        turned = max(2, dim // 4 * 2) if fields["turned"] is None else size_of(fields, "turned", self.kind)
        if turned % 2:
            raise ModelError(
                f"latent_attention has turned={turned}, and rotary positions turn pairs of values; choose an even number, or "
                'position="none"'
            )
        return LatentAttentionSpec(self.kind, heads, dim, latent, turned)

    def parameters(self, spec: LatentAttentionSpec, frame: Frame) -> int:
        into = linear(frame.width, spec.inner + spec.heads * spec.turned + spec.kept, frame.bias)
        return into + spec.latent + 2 * spec.latent * spec.inner + linear(spec.inner, frame.width, frame.bias)

    def operations(self, spec: LatentAttentionSpec, frame: Frame, call: Call) -> Iterator[Row]:
        new, context, inner, heads = call.new, call.context, spec.inner, spec.heads
        yield matrix("qc", frame.width, inner + heads * spec.turned + spec.kept, frame.bias, new)
        yield Row("norm", 0, spec.latent, 2 * new * spec.latent, 6)
        if spec.turned:
            yield Row("rotary", 0, 0, 4 * new * (heads + 1) * spec.turned, 6)
        yield matrix("up", spec.latent, 2 * inner, False, new)
        if call.phase == "decode":  # the matrix is applied to the query and to the result, so that keys are the latents
            work = 2 * context * heads * (spec.kept + spec.latent)
            cached = 2 * context * spec.kept
            yield Row("attention", work, 0, 2 * heads * spec.kept + cached, 8, cached, heads * context)
        else:
            key = spec.head_dim + spec.turned
            moved = new * heads * (2 * key + 2 * spec.head_dim)
            yield Row("attention", 2 * new * new * heads * (key + spec.head_dim), 0, moved, 5, 0, heads * new * new)
        yield matrix("out", inner, frame.width, frame.bias, new)

    def state_values(self, spec: LatentAttentionSpec, frame: Frame, context: int) -> int:
        return context * spec.kept

    def peak_values(self, spec: LatentAttentionSpec, frame: Frame, call: Call) -> int:
        tokens, heads = call.batch * call.new, spec.heads
        made = spec.inner + heads * spec.turned + spec.kept
        if call.phase == "decode":
            keys = call.batch * call.context * spec.kept
            return (
                tokens * (made + heads * (2 * spec.kept + spec.latent)) + keys + 2 * call.batch * heads * call.context
            )
        joined = (
            heads * (2 * spec.head_dim + 3 * spec.turned) if spec.turned else 0
        )  # queries and keys with their turned parts
        return tokens * (made + spec.latent + joined + 3 * spec.inner)

    def saved_values(self, spec: LatentAttentionSpec, frame: Frame, batch: int, length: int) -> int:
        key = spec.heads * (spec.head_dim + spec.turned)
        # keys longer than values go the way of plain matrix products, which keep the (T, T) shares for the gradients
        shares = 5 * spec.heads * length // 2 if spec.turned else spec.heads
        return batch * length * (2 * spec.latent + 2 * key + 3 * spec.inner + shares)

    def undone_values(self, spec: LatentAttentionSpec, frame: Frame, batch: int, length: int) -> int:
        return 4 * batch * length * spec.heads * (spec.head_dim + spec.turned)

    def shared(self, spec: LatentAttentionSpec, frame: Frame) -> Shared:
        return Shared(spec.turned or None)

    def narrowed(self, fields: Mapping[str, Any], width: int, narrow: int) -> dict[str, object]:
        latent = max(1, round(fields["latent"] * narrow / width))
        return {**super().narrowed(fields, width, narrow), "latent": latent}

    def widened(self, fields: Mapping[str, Any], width: int, wide: int) -> dict[str, object]:
        return {**super().widened(fields, width, wide), "latent": max(1, round(fields["latent"] * wide / width))}

    def slices(self, spec: LatentAttentionSpec, frame: Frame, bank: str, prefix: str) -> Iterator[Cut]:
        inner, half = (spec.heads, spec.head_dim), spec.turned // 2
        parts: dict[str, tuple[int, ...]] = {"q": inner}
        if spec.turned:
            parts["q_turned"] = (spec.heads, 2, half)
        parts["latent"] = (spec.latent,)
        if spec.turned:
            parts["k_turned"] = (1, 2, half)
        turned = ("q_turned", "k_turned")
        yield from rows(f"{prefix}qc", bank, parts, frame.width, frame.bias, turned)
        yield plain(f"{prefix}gain", f"{bank}/latent{spec.latent}/gain", (spec.latent,))
        yield from rows(f"{prefix}up", bank, {"k_up": inner, "v_up": inner}, spec.latent, False)
        yield from out(f"{prefix}out", bank, frame.width, inner, frame.bias)

    def label(self, spec: LatentAttentionSpec, frame: Frame) -> str:
        return f"M{spec.heads}r{spec.latent}"

    def drawn(self, spec: LatentAttentionSpec, frame: Frame) -> Drawn:
        return Drawn(
            "latent attention",
            f"{counted(spec.heads, 'head')} of {spec.head_dim}, {counted(spec.kept, 'value')} cached",
            "#364fc7",
        )

    def module(self, spec: LatentAttentionSpec, frame: Frame) -> nn.Module:
        from nas_bo.model.layers.latent_attention import LatentAttention

        return LatentAttention(spec, frame.width, frame.bias)


BLOCK = LatentAttentionBlock()
