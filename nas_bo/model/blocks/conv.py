"""Gated causal depthwise convolution over the last `kernel` tokens: the short convolution of Hyena (Poli et al. 2023, arXiv
2302.10866) alone, with one silu gate after it; or, with gates "linear2", that of LFM2 (Liquid AI 2025, arXiv 2511.23404): a
linear gate before and one after it, y = out(C * conv(B * x)).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from nas_bo.errors import ModelError, near
from nas_bo.model.blocks.block import Call, Drawn, Frame, Row, Slot, StockPart, linear, matrix, size_of
from nas_bo.model.blocks.cuts import Cut, out, plain, rows
from nas_bo.model.blocks.details import Default
from nas_bo.wording import counted

if TYPE_CHECKING:
    from torch import nn


class ConvSpec(NamedTuple):
    kind: str
    kernel: int
    gates: str = "silu"

    @property
    def parts(self) -> int:
        """Of the width of the stream, what the matrix into the block makes."""
        return 2 if self.gates == "silu" else 3


GATES = ("silu", "linear2")


class ConvBlock:
    kind = "conv"
    slots: tuple[Slot, ...] = ("mixer",)
    fields: Mapping[str, Default] = {"kernel": ..., "gates": "silu"}
    initial: Mapping[str, str] = {"taps": "taps"}
    Spec = ConvSpec

    def check(self, fields: Mapping[str, object], frame: Frame) -> ConvSpec:
        if fields["gates"] not in GATES:
            meant = near(fields["gates"], GATES)
            raise ModelError(f"conv has gates={fields['gates']!r}{meant}; it is one of {', '.join(GATES)}")
        return ConvSpec(self.kind, size_of(fields, "kernel", self.kind), fields["gates"])

    def parameters(self, spec: ConvSpec, frame: Frame) -> int:
        width = frame.width
        return linear(width, spec.parts * width, frame.bias) + linear(width, width, frame.bias) + spec.kernel * width

    def operations(self, spec: ConvSpec, frame: Frame, call: Call) -> Iterator[Row]:
        new, width, kernel, decode = call.new, frame.width, spec.kernel, call.phase == "decode"
        yield matrix("proj", width, spec.parts * width, frame.bias, new)
        cached = 2 * (kernel - 1) * width if decode else 0
        if spec.gates == "linear2":
            yield Row("input_gate", 0, 0, 3 * new * width, 1)
        yield Row(
            "conv", 2 * new * width * kernel, kernel * width, 2 * new * width + cached, 1 + min(kernel, 9), cached
        )
        yield Row("gate", 0, 0, 3 * new * width, 4 - spec.parts)
        yield matrix("out", width, width, frame.bias, new)

    def state_values(self, spec: ConvSpec, frame: Frame, context: int) -> int:
        return (spec.kernel - 1) * frame.width

    def peak_values(self, spec: ConvSpec, frame: Frame, call: Call) -> int:
        flow = call.batch * call.new * frame.width
        return 6 * flow + call.batch * (spec.kernel - 1) * frame.width

    def saved_values(self, spec: ConvSpec, frame: Frame, batch: int, length: int) -> int:
        return 6 * batch * length * frame.width

    def undone_values(self, spec: ConvSpec, frame: Frame, batch: int, length: int) -> int:
        return 0  # less than the layer around it needs

    def slices(self, spec: ConvSpec, frame: Frame, bank: str, prefix: str) -> Iterator[Cut]:
        width = frame.width
        if spec.gates == "linear2":
            bank = f"{bank}/linear2"
        names = ("u", "gate") if spec.gates == "silu" else ("b", "c", "x")
        yield from rows(f"{prefix}proj", bank, dict.fromkeys(names, (width,)), width, frame.bias)
        yield plain(
            f"{prefix}taps", f"{bank}/taps", (width, spec.kernel), last=1
        )  # the last taps see the nearest tokens
        yield from out(f"{prefix}out", bank, width, (width,), frame.bias)

    def apart(self, spec: ConvSpec, frame: Frame) -> Mapping[str, object]:
        return spec._asdict()

    def label(self, spec: ConvSpec, frame: Frame) -> str:
        return f"C{spec.kernel}" + ("" if spec.gates == "silu" else "l")

    def drawn(self, spec: ConvSpec, frame: Frame) -> Drawn:
        title = "gated convolution" if spec.gates == "silu" else "convolution, two gates"
        return Drawn(title, f"last {counted(spec.kernel, 'token')}, {counted(frame.width, 'channel')}", "#2b8a3e")

    def stock_part(self, spec: ConvSpec, frame: Frame) -> StockPart:
        return StockPart(conv=spec)

    def module(self, spec: ConvSpec, frame: Frame) -> nn.Module:
        from nas_bo.model.layers.conv import Conv

        return Conv(spec, frame.width, frame.bias)


BLOCK = ConvBlock()
