"""Gated linear attention with one data-dependent decay per head and token: Mamba-2 / SSD (Dao and Gu 2024, arXiv
2405.21060), without its short convolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from nas_bo.model.blocks.attention import AttentionSpec, head_dim_of
from nas_bo.model.blocks.block import Call, Drawn, Frame, Row, Slot, linear, matrix, size_of
from nas_bo.model.blocks.cuts import Cut, out, plain, rows
from nas_bo.model.blocks.details import Default
from nas_bo.model.blocks.heads import OfHeads
from nas_bo.wording import counted

if TYPE_CHECKING:
    from torch import nn

CHUNK = 64
"""Tokens that are handled in parallel; from chunk to chunk the state is carried."""


class LinearAttentionSpec(NamedTuple):
    kind: str
    heads: int
    head_dim: int


class LinearAttentionBlock(OfHeads):
    kind = "linear_attention"
    slots: tuple[Slot, ...] = ("mixer",)
    fields: Mapping[str, Default] = {"heads": ..., "head_dim": None}
    initial: Mapping[str, str] = {"log_decay": "zeros", "step_bias": "steps"}
    Spec = LinearAttentionSpec

    def check(self, fields: Mapping[str, object], frame: Frame) -> LinearAttentionSpec:
        heads = size_of(fields, "heads", self.kind)
        return LinearAttentionSpec(self.kind, heads, head_dim_of(fields, heads, frame, self.kind))

    def parameters(self, spec: LinearAttentionSpec, frame: Frame) -> int:
        inner, width = spec.heads * spec.head_dim, frame.width
        into = linear(width, 4 * inner + spec.heads, frame.bias)
        return into + linear(inner, width, frame.bias) + 2 * spec.heads

    def operations(self, spec: LinearAttentionSpec, frame: Frame, call: Call) -> Iterator[Row]:
        new, inner, dim = call.new, spec.heads * spec.head_dim, spec.head_dim
        yield matrix("qkvg", frame.width, 4 * inner + spec.heads, frame.bias, new)
        chunks, decode = -(-new // CHUNK), call.phase == "decode"
        work = scan_flops(inner, dim, 2 * inner, new, decode)
        moved = 4 * new * inner + 2 * inner * dim * (chunks if decode else chunks - 1)
        cached = 2 * inner * dim if decode else 0
        yield Row("scan", work, 2 * spec.heads, moved, 6 + 14 * chunks, cached)
        yield Row("gate", 0, 0, 5 * new * inner, 8)
        yield matrix("out", inner, frame.width, frame.bias, new)

    def state_values(self, spec: LinearAttentionSpec, frame: Frame, context: int) -> int:
        return spec.heads * spec.head_dim * spec.head_dim

    def peak_values(self, spec: LinearAttentionSpec, frame: Frame, call: Call) -> int:
        tokens, new = call.batch * call.new, call.new
        inner, chunk = tokens * spec.heads * spec.head_dim, min(CHUNK, new)
        square = call.batch * spec.heads * chunk * chunk
        wide = max(1, 4 // call.size)  # decays and the state are float32 at least
        before = 4 * inner + wide * tokens * spec.heads + inner
        done = inner * max(0, -(-new // CHUNK) - 1) * chunk // new
        state = call.batch * spec.heads * spec.head_dim**2 * wide
        return max(
            before + done + 2 * (1 + wide) * square + state, before + 2 * inner + 3 * state, before + 4 * inner + state
        )

    def saved_values(self, spec: LinearAttentionSpec, frame: Frame, batch: int, length: int) -> int:
        tokens = batch * length
        inner, square = tokens * spec.heads * spec.head_dim, tokens * spec.heads * min(CHUNK, length)
        return 4 * inner + tokens * spec.heads * 8 + 3 * square + 8 * inner

    def undone_values(self, spec: LinearAttentionSpec, frame: Frame, batch: int, length: int) -> int:
        return 0  # less than the layer around it needs

    def slices(self, spec: LinearAttentionSpec, frame: Frame, bank: str, prefix: str) -> Iterator[Cut]:
        heads, inner = spec.heads, (spec.heads, spec.head_dim)
        parts: dict[str, tuple[int, ...]] = {"q": inner, "k": inner, "v": inner, "g": inner, "step": (heads,)}
        yield from rows(f"{prefix}qkvg", bank, parts, frame.width, frame.bias)
        yield plain(f"{prefix}log_decay", f"{bank}/heads{heads}/log_decay", (heads,))
        yield plain(f"{prefix}step_bias", f"{bank}/heads{heads}/step_bias", (heads,))
        yield from out(f"{prefix}out", bank, frame.width, inner, frame.bias)

    def succeeds(self, spec: LinearAttentionSpec, trained: object) -> LinearAttentionSpec | None:
        return spec if isinstance(trained, AttentionSpec) else None

    def label(self, spec: LinearAttentionSpec, frame: Frame) -> str:
        return f"L{spec.heads}"

    def drawn(self, spec: LinearAttentionSpec, frame: Frame) -> Drawn:
        return Drawn(
            "linear attention", f"{counted(spec.heads, 'head')} of {spec.head_dim}, state {spec.head_dim}²", "#0b7285"
        )

    def module(self, spec: LinearAttentionSpec, frame: Frame) -> nn.Module:
        from nas_bo.model.layers.linear_attention import LinearAttention

        return LinearAttention(spec, frame.width, frame.bias)


def scan_flops(inner: int, state: int, square: int, tokens: int, carried: bool) -> int:
    """Of `nas_bo.model.layers.linear_attention.scan`, chunk by chunk: the square within each, reading the state where there is one, and
    writing it where it is needed.

    Args:
        state: values of the state per channel.
        square: sizes of what is multiplied within a chunk, input and output vectors of all heads.
        carried: there is a state before, and one is kept.
    """
    total = 0
    for start in range(0, tokens, CHUNK):
        length = min(CHUNK, tokens - start)
        total += 2 * length * length * square
        total += 2 * length * inner * state * ((carried or start > 0) + (carried or start + CHUNK < tokens))
    return total


BLOCK = LinearAttentionBlock()
