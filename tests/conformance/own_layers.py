"""The modules of `own_blocks`, apart: what asks a block for its counts loads no torch."""

from __future__ import annotations

import torch


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


class ThinModule(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = torch.nn.Linear(width, width, bias=False)

    def forward(self, x):
        return torch.relu(self.up(x)), None


class MeanModule(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.empty(width))

    def forward(self, x, context, state=None):
        count = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)
        return self.gain * x.cumsum(1) / count.unsqueeze(1), None
