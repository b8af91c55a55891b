"""Blocks of one's own, as a user's module has them: one that can all, one that can little, and a space of both."""

from __future__ import annotations

from typing import NamedTuple

import torch

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
        return ShiftModule(spec, frame)


class ShiftModule(torch.nn.Module):
    def __init__(self, spec, frame):
        super().__init__()
        self.share = torch.nn.Parameter(torch.empty(frame.width))
        self.down = torch.nn.Linear(frame.width, spec.rank, bias=frame.bias)
        self.out = torch.nn.Linear(spec.rank, frame.width, bias=frame.bias)

    def forward(self, x, context, state=None):
        seen = torch.cat((self.new_state(len(x), 0, x) if state is None else state, x), 1)
        share = self.share.sigmoid()
        y = self.out(self.down(share * seen[:, 1:] + (1 - share) * seen[:, :-1]))
        return y, None if state is None else seen[:, -1:].clone()

    def new_state(self, batch, length, like):
        return like.new_zeros(batch, 1, len(self.share))


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
        return ThinModule(frame.width)


class ThinModule(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = torch.nn.Linear(width, width, bias=False)

    def forward(self, x):
        return torch.relu(self.up(x)), None


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
        return MeanModule(frame.width)


class MeanModule(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.empty(width))

    def forward(self, x, context, state=None):
        count = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)
        return self.gain * x.cumsum(1) / count.unsqueeze(1), None


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
