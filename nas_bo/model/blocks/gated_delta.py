"""Gated DeltaNet (Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464): linear attention whose state forgets (a decay per head and
token) and corrects itself (the delta rule), with short convolutions before it and a gate after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from nas_bo.model.blocks.attention import AttentionSpec, head_dim_of
from nas_bo.model.blocks.block import Call, Drawn, Frame, Row, Slot, linear, matrix, size_of
from nas_bo.model.blocks.cuts import Cut, out, plain, rows
from nas_bo.model.blocks.details import Default
from nas_bo.model.blocks.heads import OfHeads
from nas_bo.model.blocks.linear_attention import CHUNK
from nas_bo.wording import counted

if TYPE_CHECKING:
    from torch import nn


class GatedDeltaSpec(NamedTuple):
    kind: str
    heads: int
    head_dim: int
    kernel: int

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim


class GatedDeltaBlock(OfHeads):
    """Gated DeltaNet (arXiv 2412.06464) with `heads` states of head_dim * head_dim values; `kernel` is that of the short
    convolution of queries, keys and values. `head_dim` None is width / heads."""

    kind = "gated_delta"
    slots: tuple[Slot, ...] = ("mixer",)
    fields: Mapping[str, Default] = {"heads": ..., "head_dim": None, "kernel": 4}
    initial: Mapping[str, str] = {"log_decay": "zeros", "step_bias": "steps", "taps": "taps"}
    Spec = GatedDeltaSpec

    def check(self, fields: Mapping[str, object], frame: Frame) -> GatedDeltaSpec:
        heads = size_of(fields, "heads", self.kind)
        dim = head_dim_of(fields, heads, frame, self.kind)
        return GatedDeltaSpec(self.kind, heads, dim, size_of(fields, "kernel", self.kind))

    def parameters(self, spec: GatedDeltaSpec, frame: Frame) -> int:
        inner, width, heads = spec.inner, frame.width, spec.heads
        matrices = linear(width, 4 * inner + 2 * heads, frame.bias) + linear(inner, width, frame.bias)
        return matrices + 3 * inner * spec.kernel + 2 * heads + spec.head_dim

    def operations(self, spec: GatedDeltaSpec, frame: Frame, call: Call) -> Iterator[Row]:
        new, inner, dim, decode = call.new, spec.inner, spec.head_dim, call.phase == "decode"
        yield matrix("qkvg", frame.width, 4 * inner + 2 * spec.heads, frame.bias, new)
        taps, past = 3 * inner * spec.kernel, 6 * inner * (spec.kernel - 1) if decode else 0
        yield Row("conv", 2 * new * taps, taps, 6 * new * inner + past, 2 + min(spec.kernel, 9), past)
        yield Row("normalise", 0, 0, 4 * new * inner, 8)
        chunks = -(-new // CHUNK)
        held = 2 * inner * dim if decode else 0
        moved = 5 * new * inner + held + 2 * inner * dim * (chunks - 1)
        yield Row("scan", scan_flops(inner, dim, new, decode), 2 * spec.heads, moved, 8 + 24 * chunks, held)
        yield Row("gate", 0, dim, 5 * new * inner, 8)
        yield matrix("out", inner, frame.width, frame.bias, new)

    def state_values(self, spec: GatedDeltaSpec, frame: Frame, context: int) -> int:
        return spec.inner * spec.head_dim + 3 * spec.inner * (spec.kernel - 1)

    def peak_values(self, spec: GatedDeltaSpec, frame: Frame, call: Call) -> int:
        tokens, chunk = call.batch * call.new, min(CHUNK, call.new)
        inner, state = tokens * spec.inner, call.batch * spec.inner * spec.head_dim
        square, piece = call.batch * spec.heads * chunk * chunk, call.batch * spec.inner * chunk
        return 14 * inner + 7 * square // 2 + piece + (4 if call.phase == "decode" else 1) * state

    def saved_values(self, spec: GatedDeltaSpec, frame: Frame, batch: int, length: int) -> int:
        square = batch * length * spec.heads * min(CHUNK, length)
        return 26 * batch * length * spec.inner + 5 * square

    def undone_values(self, spec: GatedDeltaSpec, frame: Frame, batch: int, length: int) -> int:
        return 6 * batch * length * spec.inner

    def slices(self, spec: GatedDeltaSpec, frame: Frame, bank: str, prefix: str) -> Iterator[Cut]:
        heads, inner = spec.heads, (spec.heads, spec.head_dim)
        parts: dict[str, tuple[int, ...]] = {"q": inner, "k": inner, "v": inner, "g": inner}
        parts |= {"step": (heads,), "write": (heads,)}
        yield from rows(f"{prefix}qkvg", bank, parts, frame.width, frame.bias)
        taps = (3, heads, spec.head_dim, spec.kernel)  # the last taps see the nearest tokens
        yield plain(f"{prefix}taps", f"{bank}/taps", taps, last=3)._replace(shapes=((3 * spec.inner, spec.kernel),))
        yield plain(f"{prefix}log_decay", f"{bank}/heads{heads}/log_decay", (heads,))
        yield plain(f"{prefix}step_bias", f"{bank}/heads{heads}/step_bias", (heads,))
        yield plain(f"{prefix}gain", f"{bank}/gain", (spec.head_dim,))
        yield from out(f"{prefix}out", bank, frame.width, inner, frame.bias)

    def succeeds(self, spec: GatedDeltaSpec, trained: object) -> GatedDeltaSpec | None:
        return spec if isinstance(trained, AttentionSpec) else None

    def label(self, spec: GatedDeltaSpec, frame: Frame) -> str:
        return f"D{spec.heads}"

    def drawn(self, spec: GatedDeltaSpec, frame: Frame) -> Drawn:
        return Drawn(
            "gated delta rule",
            f"{counted(spec.heads, 'head')}, state {spec.head_dim}², kernel {spec.kernel}",
            "#5f3dc4",
        )

    def module(self, spec: GatedDeltaSpec, frame: Frame) -> nn.Module:
        from nas_bo.model.layers.gated_delta import GatedDelta

        return GatedDelta(spec, frame.width, frame.bias)


def scan_flops(inner: int, dim: int, tokens: int, carried: bool) -> int:
    """Of `nas_bo.model.layers.gated_delta.delta`, chunk by chunk: three squares (one less for a single token), two products with
    the state where there is one, and one that writes it where it is needed. Solving a triangle counts nothing, as in torch."""
    total = 0
    for start in range(0, tokens, CHUNK):
        length = min(CHUNK, tokens - start)
        total += (6 if length > 1 else 4) * length * length * inner
        total += 4 * length * inner * dim * (carried or start > 0)
        total += 2 * length * inner * dim * (carried or start + CHUNK < tokens)
    return total


BLOCK = GatedDeltaBlock()
