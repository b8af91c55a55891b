"""Softmax attention (Vaswani et al. 2017, arXiv 1706.03762) with shared key/value heads (Ainslie et al. 2023, arXiv
2305.13245), rotary positions (Su et al. 2021, arXiv 2104.09864) and sliding windows (Beltagy et al. 2020, arXiv 2004.05150)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import Call, Drawn, Frame, Row, Shared, Slot, linear, matrix, size_of
from nas_bo.model.blocks.cuts import Cut, out, rows

if TYPE_CHECKING:
    from torch import nn


class AttentionSpec(NamedTuple):
    kind: str
    heads: int
    kv_heads: int
    head_dim: int
    window: int | None


class AttentionBlock:
    kind = "attention"
    slots: tuple[Slot, ...] = ("mixer",)
    fields: Mapping[str, Any] = {"heads": ..., "kv_group": 1, "head_dim": None, "window": None}
    Spec = AttentionSpec

    def check(self, fields: Mapping[str, Any], frame: Frame) -> AttentionSpec:
        heads = size_of(fields, "heads", self.kind)
        head_dim = head_dim_of(fields, heads, frame, self.kind)
        if frame.position == "rotary" and head_dim % 2:
            raise ModelError(
                f"attention has head_dim={head_dim} at width={frame.width}, and rotary positions turn pairs of values; "
                'choose heads or head_dim so that it is even, or position="none"'
            )
        group = size_of(fields, "kv_group", self.kind)
        if heads % group:
            raise ModelError(
                f"attention with kv_group={group} does not divide heads={heads}; choose a divisor of heads"
            )
        window = None if fields["window"] is None else size_of(fields, "window", self.kind)
        return AttentionSpec(self.kind, heads, heads // group, head_dim, window)

    def parameters(self, spec: AttentionSpec, frame: Frame) -> int:
        into, inner = (spec.heads + 2 * spec.kv_heads) * spec.head_dim, spec.heads * spec.head_dim
        return linear(frame.width, into, frame.bias) + linear(inner, frame.width, frame.bias)

    def operations(self, spec: AttentionSpec, frame: Frame, call: Call) -> Iterator[Row]:
        new, context, window = call.new, call.context, spec.window
        inner, shared = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        seen = context if window is None or call.phase == "prefill" else min(context, window)
        cached = self.state_values(spec, frame, context) if call.phase == "decode" else 0
        terms = spec.heads * new * (context if new > 1 or window is None else min(context, window))
        yield matrix("qkv", frame.width, inner + 2 * shared, frame.bias, new)
        if frame.position == "rotary":
            yield Row("rotary", 0, 0, 4 * new * (inner + shared), 3)
        moved = 2 * (new * inner + seen * shared)
        yield Row("attention", 4 * new * seen * inner, 0, moved, 2, cached, terms)  # scores, and their sum of values
        yield matrix("out", inner, frame.width, frame.bias, new)

    def state_values(self, spec: AttentionSpec, frame: Frame, context: int) -> int:
        kept = context if spec.window is None else min(context, spec.window)
        return 2 * spec.kv_heads * spec.head_dim * kept

    def peak_values(self, spec: AttentionSpec, frame: Frame, call: Call) -> int:
        tokens = call.batch * call.new
        a, k = tokens * spec.heads * spec.head_dim, tokens * spec.kv_heads * spec.head_dim
        packed, turned = a + 2 * k, (a + k) if frame.position == "rotary" else 0
        joined = 0
        if spec.window is not None:
            past = min(spec.window, call.context - 1) if call.new == 1 else 0
            joined = 2 * call.batch * (past + call.new) * spec.kv_heads * spec.head_dim
        return max(packed + 3 * turned, packed + turned + joined + a + tokens * frame.width)

    def saved_values(self, spec: AttentionSpec, frame: Frame, batch: int, length: int) -> int:
        tokens = batch * length
        a, k = tokens * spec.heads * spec.head_dim, tokens * spec.kv_heads * spec.head_dim
        return a + 2 * k + (a + k if frame.position == "rotary" else 0) + a + tokens * spec.heads

    def undone_values(self, spec: AttentionSpec, frame: Frame, batch: int, length: int) -> int:
        return 2 * batch * length * (spec.heads + 2 * spec.kv_heads) * spec.head_dim

    def shared(self, spec: AttentionSpec, frame: Frame) -> Shared:
        rotary = frame.position == "rotary"
        a, k = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        return Shared(spec.head_dim if rotary else None, spec.window, a + 4 * k + (a + k if rotary else 0))

    def joined(self, spec: AttentionSpec, length: int) -> AttentionSpec:
        return spec if spec.window is not None else spec._replace(window=length)  # nothing falls out of it

    def narrowed(self, fields: Mapping[str, Any], width: int, narrow: int) -> dict[str, Any]:
        return {**fields, "head_dim": narrow_head(fields, width, narrow)}

    def slices(self, spec: AttentionSpec, frame: Frame, bank: str, prefix: str) -> Iterator[Cut]:
        rotary = frame.position == "rotary"
        dims = (2, spec.head_dim // 2) if rotary else (spec.head_dim,)
        bank = bank if rotary else f"{bank}/unturned"
        parts = {"q": (spec.heads, *dims), "k": (spec.kv_heads, *dims), "v": (spec.kv_heads, *dims)}
        group = spec.heads // spec.kv_heads  # a shared key is that of the first query head of its group
        turned = ("q", "k") if rotary else ()
        yield from rows(f"{prefix}qkv", bank, parts, frame.width, frame.bias, turned, {"k": group, "v": group})
        yield from out(f"{prefix}out", bank, frame.width, (spec.heads, *dims), frame.bias)

    def apart(self, spec: AttentionSpec, frame: Frame) -> Mapping[str, Any]:
        return {**spec._asdict(), "kv_group": spec.heads // spec.kv_heads}

    def label(self, spec: AttentionSpec, frame: Frame) -> str:
        group = f"/{spec.heads // spec.kv_heads}" if spec.kv_heads != spec.heads else ""
        return f"A{spec.heads}{group}" + (f"w{spec.window}" if spec.window else "")

    def drawn(self, spec: AttentionSpec, frame: Frame) -> Drawn:
        shared = "" if spec.kv_heads == spec.heads else f", {spec.kv_heads} KV head{'s' * (spec.kv_heads > 1)}"
        window = f", last {spec.window} tokens" if spec.window else ""
        return Drawn("attention", f"{spec.heads} heads of {spec.head_dim}{shared}{window}", "#1f5fbf")

    def module(self, spec: AttentionSpec, frame: Frame) -> nn.Module:
        from nas_bo.model.layers.attention import Attention

        return Attention(spec, frame.width, frame.bias)


def head_dim_of(fields: Mapping[str, Any], heads: int, frame: Frame, kind: str) -> int:
    """The field `head_dim`, or width / heads (raises ModelError where that is no integer)."""
    if fields["head_dim"] is not None:
        return size_of(fields, "head_dim", kind)
    if frame.width % heads:
        raise ModelError(
            f"{kind} with heads={heads} does not divide width={frame.width}; choose heads that divide it or give head_dim"
        )
    return frame.width // heads


def narrow_head(fields: Mapping[str, Any], width: int, narrow: int) -> int:
    """The head dimension at another width, rounded up to an even number."""
    wide: float = fields.get("head_dim") or width / fields["heads"]
    return max(2, 2 * math.ceil(wide * narrow / width / 2))


BLOCK = AttentionBlock()
