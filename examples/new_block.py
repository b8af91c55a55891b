"""A new block, a mean of the last tokens and a matrix (after MetaFormer, arXiv 2111.11418): what is known about it, its module,
and a word of it for spaces. `nas_bo.testing.BlockTests` checks it; without `state_values` it says that it cannot decode."""

from collections import namedtuple

import torch

from nas_bo import search
from nas_bo.model import attention, dense, word
from nas_bo.model.blocks import Row, linear, matrix, size_of
from nas_bo.objectives import Parameters, ValidationLoss
from nas_bo.space import Space, choice, repeat

PoolSpec = namedtuple("PoolSpec", "kind window")


class Pool:
    kind, slots, fields, Spec = "pool", ("mixer",), {"window": ...}, PoolSpec

    def check(self, fields, frame):
        return PoolSpec(self.kind, size_of(fields, "window", self.kind))

    def parameters(self, spec, frame):
        return linear(frame.width, frame.width, frame.bias)

    def operations(self, spec, frame, call):
        cached = 2 * self.state_values(spec, frame, call.context) if call.phase == "decode" else 0
        yield Row("pool", 0, 0, 2 * call.new * frame.width + cached, 4, cached)
        yield matrix("out", frame.width, frame.width, frame.bias, call.new)

    def state_values(self, spec, frame, context):
        return (spec.window - 1) * frame.width

    def module(self, spec, frame):
        return PoolModule(spec.window, frame)


class PoolModule(torch.nn.Module):
    def __init__(self, window, frame):
        super().__init__()
        self.past, self.out = window - 1, torch.nn.Linear(frame.width, frame.width, frame.bias)

    def forward(self, x, context, state=None):  # (B, T, C) -> (B, T, C)
        seen = torch.cat((self.new_state(len(x), 0, x) if state is None else state, x), 1)
        return self.out(seen.unfold(1, self.past + 1, 1).mean(-1)), seen[:, seen.shape[1] - self.past :].clone()

    def new_state(self, batch, length, like):
        return like.new_zeros(batch, self.past, self.out.in_features)


pool = word(Pool())


class Pooled(Space):
    layers = repeat(2, mixer=choice(pool(window=choice(2, 4)), attention(heads=2)), mlp=dense(ratio=choice(1, 2)))
    width = choice(16, 32)


if __name__ == "__main__":
    print(search(Pooled, [ValidationLoss(tokens=20_000), Parameters()], trials=6, retrain=0))
