"""The training loop of the library against a plain loop in the style of nanoGPT: same network shape, same corpus, same
batch size, one thread, CPU.

    python -m benchmarks.training_throughput.run [--quick] [--device cuda]

The plain side is what one would write by hand and write well: RMS norm, rotary positions, one q/k/v product,
`scaled_dot_product_attention`, gated MLP, fused AdamW in two groups, gradient clipping, batches drawn with numpy. The
two take turns; the figure is the median over rounds of (tokens per CPU second of the library) / (that of the plain
loop).
On a GPU both train in bf16 autocast, and seconds are those of the wall.
Writes benchmarks/results/training_throughput.json, of a GPU training_throughput_cuda.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common import envelope, write
from nas_bo.architecture import Node
from nas_bo.model import Corpus, build, load_corpus
from nas_bo.model.run import Run
from nas_bo.model.schedule import DEFAULTS

SHAPES = {
    "cpu": ((64, 4, 2), (64, 1, 2), (128, 4, 4)),
    "cuda": ((64, 4, 2), (128, 4, 4), (512, 8, 8)),
}  # width, layers, heads
BATCH, SEQUENCE = 8, 64


class PlainBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 2 * width, bias=False)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm_1(x)).split(width, 2)
        q, k, v = (one.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for one in (q, k, v))
        q, k = _plain_rotary(q, cos, sin), _plain_rotary(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).contiguous().view(batch, length, width))
        h = self.norm_2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def _plain_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, two = x.chunk(2, -1)
    return torch.cat((one * cos - two * sin, two * cos + one * sin), -1)


class Plain(nn.Module):
    def __init__(self, vocab: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(PlainBlock(width, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.embedding.weight
        half = width // heads // 2
        angle = torch.arange(SEQUENCE).unsqueeze(1) * 10000.0 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def plain_loop(model: Plain, corpus: Corpus, steps: int, seed: int) -> None:
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
    rng = np.random.default_rng(seed)
    device = model.embedding.weight.device
    for step in range(steps):
        starts = rng.integers(0, len(corpus.train) - SEQUENCE, BATCH)
        x = torch.stack([torch.from_numpy(corpus.train[i : i + SEQUENCE].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(corpus.train[i + 1 : i + 1 + SEQUENCE].astype(np.int64)) for i in starts])
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 50)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model(x.to(device), y.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 24:
            loss.item()


def library_loop(model: Any, corpus: Corpus, steps: int, seed: int) -> None:
    Run(model, corpus, dict(DEFAULTS), steps, seed, model.embedding.weight.is_cuda).go()


def arch_of(width: int, layers: int, heads: int) -> Node:
    mixer = Node({"kind": "attention", "heads": heads})
    mlp = Node({"kind": "dense", "ratio": 2, "activation": "silu", "gated": True})
    return Node({"width": width, "depth": layers, "mixer": mixer, "mlp": mlp})


def rate(loop: Any, model: Any, corpus: Corpus, steps: int, seed: int) -> float:
    cuda = next(model.parameters()).is_cuda
    clock = time.perf_counter if cuda else time.process_time
    start = clock()
    loop(model, corpus, steps, seed)
    if cuda:
        torch.cuda.synchronize()
    return steps * BATCH * SEQUENCE / (clock() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds of the smallest shape, and no file is written")
    parser.add_argument("--device", default="cpu", choices=SHAPES)
    options = parser.parse_args()
    quick, device = options.quick, options.device
    torch.set_num_threads(1)
    corpus = load_corpus()
    figures = []
    second = "cpu_second" if device == "cpu" else "second"
    for width, layers, heads in SHAPES[device][1:2] if quick else SHAPES[device]:
        ours = build(arch_of(width, layers, heads), corpus.vocab_size).to(device)
        plain = Plain(corpus.vocab_size, width, layers, heads).to(device)
        sizes = [sum(weight.numel() for weight in model.parameters()) for model in (ours, plain)]
        if sizes[0] != sizes[1]:
            raise SystemExit(f"the two networks differ: {sizes} parameters")
        rounds, steps = (3, 20) if quick else (7, 25 if width > 64 else 40)
        rate(library_loop, ours, corpus, 10, 0), rate(plain_loop, plain, corpus, 10, 0)
        rates: list[tuple[float, float]] = []
        for index in range(rounds):
            pair = [(0, library_loop, ours), (1, plain_loop, plain)]
            taken = [0.0, 0.0]
            for side, loop, model in pair if index % 2 else pair[::-1]:
                taken[side] = rate(loop, model, corpus, steps, index)
            rates.append((taken[0], taken[1]))
        ratios = sorted(one / two for one, two in rates)
        figures.append(
            {
                "width": width,
                "layers": layers,
                "parameters": sizes[0],
                f"library_tokens_per_{second}": round(statistics.median(one for one, _ in rates)),
                f"plain_tokens_per_{second}": round(statistics.median(two for _, two in rates)),
                "ratio_median": round(statistics.median(ratios), 3),
                "ratio_least": round(ratios[0], 3),
                "ratio_greatest": round(ratios[-1], 3),
                "rounds": rounds,
                "steps_per_round": steps,
            }
        )
    precision = "one thread, fp32" if device == "cpu" else "bf16"
    what = f"training throughput, {precision}, steps of 8 x 64 tokens; ratio above 1: the library is faster"
    name = "training_throughput.json" if device == "cpu" else f"training_throughput_{device}.json"
    write(envelope(what, "torch", device=device, figures=figures), name, keep=not quick)


if __name__ == "__main__":
    main()
