"""Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): a state space with one decay per head and token, input and output vectors that all
heads share, a short convolution before it and a gated norm after it. `linear_attention` is the same without these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import Call, Drawn, Frame, Row, Slot, linear, matrix, size_of
from nas_bo.model.blocks.cuts import Cut, out, plain, rows
from nas_bo.model.blocks.details import Default
from nas_bo.model.blocks.heads import OfHeads
from nas_bo.model.blocks.linear_attention import CHUNK, scan_flops
from nas_bo.wording import counted

if TYPE_CHECKING:
    from torch import nn


class SsmSpec(NamedTuple):
    kind: str
    heads: int
    head_dim: int
    state: int
    kernel: int

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim


class SsmBlock(OfHeads):
    """Mamba-2 (arXiv 2405.21060) with `heads` heads of `head_dim` channels (None: 2 * width / heads), each with `state` values per
    channel; `kernel` is that of the short convolution."""

    kind = "ssm"
    slots: tuple[Slot, ...] = ("mixer",)
    fields: Mapping[str, Default] = {"heads": ..., "head_dim": None, "state": 16, "kernel": 4}
    initial: Mapping[str, str] = {"log_decay": "zeros", "step_bias": "steps", "taps": "taps"}
    Spec = SsmSpec

    def check(self, fields: Mapping[str, object], frame: Frame) -> SsmSpec:
        heads = size_of(fields, "heads", self.kind)
        if fields["head_dim"] is None and 2 * frame.width % heads:
            raise ModelError(
                f"ssm with heads={heads} does not divide 2 * width={2 * frame.width}; choose heads that divide it or give head_dim"
            )
        dim = 2 * frame.width // heads if fields["head_dim"] is None else size_of(fields, "head_dim", self.kind)
        return SsmSpec(self.kind, heads, dim, size_of(fields, "state", self.kind), size_of(fields, "kernel", self.kind))

    def parameters(self, spec: SsmSpec, frame: Frame) -> int:
        into = linear(frame.width, 2 * spec.inner + 2 * spec.state + spec.heads, frame.bias)
        taps = (spec.inner + 2 * spec.state) * spec.kernel
        return into + linear(spec.inner, frame.width, frame.bias) + taps + 3 * spec.heads + spec.inner

    def operations(self, spec: SsmSpec, frame: Frame, call: Call) -> Iterator[Row]:
        new, inner, state, decode = call.new, spec.inner, spec.state, call.phase == "decode"
        channels = inner + 2 * state
        yield matrix("proj", frame.width, 2 * inner + 2 * state + spec.heads, frame.bias, new)
        taps, past = channels * spec.kernel, 2 * channels * (spec.kernel - 1) if decode else 0
        yield Row("conv", 2 * new * taps, taps, 2 * new * channels + past, 2 + min(spec.kernel, 9), past)
        chunks, held = -(-new // CHUNK), 2 * inner * state if decode else 0
        moved = 4 * new * inner + 2 * new * state + held + 2 * inner * state * (chunks - 1)
        yield Row(
            "scan", scan_flops(inner, state, state + inner, new, decode), 3 * spec.heads, moved, 8 + 14 * chunks, held
        )
        yield Row("gate", 0, inner, 6 * new * inner, 8)
        yield matrix("out", inner, frame.width, frame.bias, new)

    def state_values(self, spec: SsmSpec, frame: Frame, context: int) -> int:
        return spec.inner * spec.state + (spec.inner + 2 * spec.state) * (spec.kernel - 1)

    def peak_values(self, spec: SsmSpec, frame: Frame, call: Call) -> int:
        tokens, chunk = call.batch * call.new, min(CHUNK, call.new)
        inner, channels = tokens * spec.inner, tokens * (spec.inner + 2 * spec.state)
        square, held = call.batch * spec.heads * chunk * chunk, call.batch * spec.inner * spec.state
        spread = call.batch * spec.heads * chunk * spec.state
        kept = (4 if call.phase == "decode" else 2) * held
        squares = (9 * square + 7 * square // spec.heads) // 4  # one of them is of all heads together
        return 5 * inner + 3 * channels + squares + kept + 2 * spread

    def saved_values(self, spec: SsmSpec, frame: Frame, batch: int, length: int) -> int:
        tokens = batch * length
        square = tokens * spec.heads * min(CHUNK, length)
        return tokens * (9 * spec.inner + 8 * spec.state) + 3 * square

    def undone_values(self, spec: SsmSpec, frame: Frame, batch: int, length: int) -> int:
        return 4 * batch * length * spec.inner

    def narrowed(self, fields: Mapping[str, Any], width: int, narrow: int) -> dict[str, object]:
        wide = fields.get("head_dim") or 2 * width / fields["heads"]
        return super().narrowed({**fields, "head_dim": wide}, width, narrow)

    def widened(self, fields: Mapping[str, Any], width: int, wide: int) -> dict[str, object]:
        dim = fields.get("head_dim") or 2 * width // fields["heads"]
        return super().widened({**fields, "head_dim": dim}, width, wide)

    def slices(self, spec: SsmSpec, frame: Frame, bank: str, prefix: str) -> Iterator[Cut]:
        heads, inner, state = spec.heads, (spec.heads, spec.head_dim), spec.state
        parts: dict[str, tuple[int, ...]] = {"z": inner, "x": inner, "b": (state,), "c": (state,), "step": (heads,)}
        yield from rows(f"{prefix}proj", bank, parts, frame.width, frame.bias)
        taps = [
            plain("", f"{bank}/taps_{name}", (*parts[name], spec.kernel), last=len(parts[name])).pieces[0]
            for name in "xbc"
        ]
        shapes = tuple((count, spec.kernel) for count in (spec.inner, state, state))
        yield Cut(f"{prefix}taps", tuple(taps), shapes)  # the last taps see the nearest tokens
        for name in ("log_decay", "step_bias"):
            yield plain(f"{prefix}{name}", f"{bank}/heads{heads}/{name}", (heads,))
        yield plain(f"{prefix}through", f"{bank}/through", (heads,))
        yield plain(f"{prefix}gain", f"{bank}/gain", inner)._replace(shapes=((spec.inner,),))
        yield from out(f"{prefix}out", bank, frame.width, inner, frame.bias)

    def label(self, spec: SsmSpec, frame: Frame) -> str:
        return f"S{spec.heads}n{spec.state}"

    def drawn(self, spec: SsmSpec, frame: Frame) -> Drawn:
        detail = f"{counted(spec.heads, 'head')} of {spec.head_dim}, state {spec.state}, kernel {spec.kernel}"
        return Drawn("state space (Mamba-2)", detail, "#087f5b")

    def module(self, spec: SsmSpec, frame: Frame) -> nn.Module:
        from nas_bo.model.layers.ssm import Ssm

        return Ssm(spec, frame.width, frame.bias)


BLOCK = SsmBlock()
