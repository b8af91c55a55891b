"""A torch module of your own, searched whole: quality, latency and size, with nothing of nas_bo's own decoder in it."""

import torch
from torch import nn

from nas_bo import Space, choice, integer, option, repeat, search
from nas_bo.objectives import Latency, Parameters, ValidationLoss
from nas_bo.strategies import NSGA2


class Mixed(Space):
    """Recurrent layers, attention and plain ones in any order."""

    width = choice(32, 64, 96)
    depth = integer(1, 3)
    layers = repeat(
        depth, cell=choice(option("gru"), option("attention", heads=choice(2, 4)), option("mlp", ratio=choice(1, 2)))
    )

    def label(arch):
        return f"w{arch.width} " + "-".join(layer.cell.kind for layer in arch.layers)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Model(nn.Module):
    """Tokens (batch, length) to logits (batch, length, vocabulary), which is all that nas_bo asks for."""

    def __init__(self, arch) -> None:
        super().__init__()
        width = arch.width
        self.embed, self.head = nn.Embedding(256, width), nn.Linear(width, 256)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in arch.layers)
        self.cells = nn.ModuleList(self.cell(layer.cell, width) for layer in arch.layers)

    @staticmethod
    def cell(cell, width: int) -> nn.Module:
        if cell.kind == "gru":
            return nn.GRU(width, width, batch_first=True)
        if cell.kind == "attention":
            return Attention(width, cell.heads)
        return nn.Sequential(nn.Linear(width, cell.ratio * width), nn.GELU(), nn.Linear(cell.ratio * width, width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for norm, cell in zip(self.norms, self.cells, strict=True):
            out = cell(norm(x))
            x = x + (out[0] if isinstance(out, tuple) else out)
        return self.head(x)


if __name__ == "__main__":
    objectives = [
        ValidationLoss(build=Model, tokens=8_000, evaluation_tokens=4_096),
        Latency(build=Model, context=32, max_seconds=0.2),
        Parameters(build=Model, at_most=100_000),
    ]
    print(search(Mixed, objectives, strategy=NSGA2(population=6), trials=7, retrain=0))
