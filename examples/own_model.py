"""Your own model and your own loop: nas_bo supplies the space, the cost and the strategy, and builds nothing."""

import torch
from torch import nn

from nas_bo import Problem, Space, Value, choice, integer, option, repeat, require, search
from nas_bo.model import load_corpus
from nas_bo.strategies import NSGA2


class Recurrent(Space):
    """Stacks of recurrent layers and plain ones, a vocabulary that nas_bo's own decoder does not know."""

    width = choice(32, 64, 96)
    depth = integer(1, 3)
    layers = repeat(depth, cell=choice(option("gru"), option("lstm"), option("mlp", ratio=choice(1, 2))))

    @require
    def something_recurrent(arch):
        """Without a recurrent layer the model sees one byte only."""
        return any(layer.cell.kind != "mlp" for layer in arch.layers)


class Model(nn.Module):
    def __init__(self, arch) -> None:
        super().__init__()
        width = arch.width
        self.embed, self.head = nn.Embedding(256, width), nn.Linear(width, 256)
        make = {
            "gru": lambda _: nn.GRU(width, width, batch_first=True),
            "lstm": lambda _: nn.LSTM(width, width, batch_first=True),
            "mlp": lambda c: nn.Sequential(
                nn.Linear(width, c.ratio * width), nn.GELU(), nn.Linear(c.ratio * width, width)
            ),
        }
        self.cells = nn.ModuleList(make[layer.cell.kind](layer.cell) for layer in arch.layers)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for cell in self.cells:
            out = cell(x)
            x = x + (out[0] if isinstance(out, tuple) else out)
        return self.head(x)


def parameters(arch) -> float:
    with torch.device("meta"):
        return float(sum(p.numel() for p in Model(arch).parameters()))


parameters.cost = "analytic"  # evaluated first, and free


def loss(arch) -> Value:
    torch.manual_seed(0)
    model, corpus = Model(arch), load_corpus()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(40):
        batch = torch.as_tensor(corpus.batches(step, 1, 8, 64)[0].astype("int64"))
        value = nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return Value(value.item(), how="training loss of the last of 40 steps")


if __name__ == "__main__":
    torch.set_num_threads(1)  # for models this small more threads only wait for each other
    print(Recurrent.describe())
    print(search(Recurrent, [loss, parameters], strategy=NSGA2(population=6), trials=7))
    print(Problem(Recurrent, [loss, parameters]).evaluate(Recurrent.sample(1)))
