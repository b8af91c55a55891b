"""Blocks of one's own, as a user's module has them: one that can all, one that can little, and a space of both."""

from __future__ import annotations

from typing import NamedTuple

from nas_bo.architecture import Architecture
from nas_bo.model import attention, dense, skip, word
from nas_bo.model.blocks import Drawn, Row, matrix
from nas_bo.model.blocks.cuts import out, plain, rows
from nas_bo.space import Space, choice, integer, repeat


class ShiftSpec(NamedTuple):
    kind: str
    rank: int


class Shift:
    """The token before, through a bottleneck, in shares of one's own (after RWKV, arXiv 2305.13048): all capabilities."""

    kind = "shift"
    slots = ("mixer",)
    fields = {"rank": 4}  # noqa: RUF012
    initial = {"share": "zeros"}  # noqa: RUF012
    Spec = ShiftSpec

    def check(self, fields, frame):
        return ShiftSpec(self.kind, fields["rank"])

    def parameters(self, spec, frame):
        return 2 * frame.width * spec.rank + (spec.rank + frame.width) * frame.bias + frame.width

    def operations(self, spec, frame, call):
        cached = 2 * frame.width if call.phase == "decode" else 0
        yield Row("mix", 0, frame.width, 2 * call.new * frame.width + cached, 4, cached)
        yield matrix("down", frame.width, spec.rank, frame.bias, call.new)
        yield matrix("out", spec.rank, frame.width, frame.bias, call.new)

    def state_values(self, spec, frame, context):
        return frame.width

    def peak_values(self, spec, frame, call):
        return call.batch * call.new * 3 * frame.width

    def slices(self, spec, frame, bank, prefix):
        yield plain(f"{prefix}share", f"{bank}/share", (frame.width,))
        yield from rows(f"{prefix}down", bank, {"down": (spec.rank,)}, frame.width, frame.bias)
        yield from out(f"{prefix}out", bank, frame.width, (spec.rank,), frame.bias)

    def apart(self, spec, frame):
        return spec._asdict()

    def label(self, spec, frame):
        return f"S{spec.rank}"

    def drawn(self, spec, frame):
        return Drawn("token shift", f"rank {spec.rank}", "#123456")

    def module(self, spec, frame):
        from tests.conformance.own_layers import ShiftModule

        return ShiftModule(spec, frame)


class ThinSpec(NamedTuple):
    kind: str


class Thin:
    """An MLP of one matrix: the least that the contract asks for."""

    kind = "thin"
    slots = ("mlp",)
    fields = {}  # noqa: RUF012
    Spec = ThinSpec

    def check(self, fields, frame):
        return ThinSpec(self.kind)

    def parameters(self, spec, frame):
        return frame.width**2

    def operations(self, spec, frame, call):
        return [matrix("up", frame.width, frame.width, False, call.new)]

    def module(self, spec, frame):
        from tests.conformance.own_layers import ThinModule

        return ThinModule(frame.width)


class MeanSpec(NamedTuple):
    kind: str


class Mean:
    """The mean of all tokens so far: a mixer that does not decode."""

    kind = "mean"
    slots = ("mixer",)
    fields = {}  # noqa: RUF012
    Spec = MeanSpec

    def check(self, fields, frame):
        return MeanSpec(self.kind)

    def parameters(self, spec, frame):
        return frame.width

    def operations(self, spec, frame, call):
        yield Row("mean", 0, frame.width, 4 * call.new * frame.width, 3)

    def module(self, spec, frame):
        from tests.conformance.own_layers import MeanModule

        return MeanModule(frame.width)


shift, thin, mean = word(Shift()), word(Thin()), word(Mean())


class Own(Space):
    depth = integer(1, 2)
    width = choice(8, 16)
    layers = repeat(
        depth,
        mixer=choice(shift(rank=choice(2, 4)), attention(heads=2)),
        mlp=choice(thin(), dense(ratio=1), skip()),
    )


class Shared(Space):
    width = choice(8, 16)
    layers = repeat(2, mixer=choice(shift(rank=choice(2, 4)), attention(heads=2)), mlp=choice(dense(ratio=1), skip()))


class Undecodable(Space):
    width = choice(8, 16)
    layers = repeat(1, mixer=mean(), mlp=dense(ratio=choice(1, 2)))


def loss(arch: Architecture) -> float:
    """What a trained network would lose, roughly."""
    return 3 / arch.width + sum(layer.mixer.kind != "shift" for layer in arch.layers)


loss.cost = "trained"
