"""How many architectures per second the closed forms count, and what the same figures cost through torch.

    python -m benchmarks.counts.run [--quick]

Every architecture is a fresh object (rebuilt for each repeat), drawn at random from four to six layers of the whole
vocabulary. Writes benchmarks/results/counts.json.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import Any

from benchmarks.common import envelope, write
from nas_bo.architecture import Node
from nas_bo.model import flops, operations, parameters

VOCAB, TOKENS = 256, 128


def draw(rng: random.Random) -> Node:
    width = rng.choice((64, 96, 128, 192))

    def mixer() -> Node:
        kind = rng.choice(("attention", "linear_attention", "conv", "skip"))
        if kind == "attention":
            fields = {"heads": rng.choice((2, 4, 8)), "kv_group": rng.choice((1, 2)), "head_dim": None, "window": None}
        elif kind == "linear_attention":
            fields = {"heads": rng.choice((2, 4)), "head_dim": None}
        else:
            fields = {"kernel": rng.choice((3, 4, 7))} if kind == "conv" else {}
        return Node({"kind": kind, **fields})

    def mlp() -> Node:
        kind = rng.choice(("dense", "dense", "moe"))
        fields: dict[str, Any] = {"ratio": rng.choice((1, 2, 3, 4)), "activation": "gelu", "gated": rng.random() < 0.5}
        if kind == "moe":
            fields = {"experts": rng.choice((4, 8)), "top_k": rng.choice((1, 2)), **fields}
        return Node({"kind": kind, **fields})

    layers = tuple(Node({"mixer": mixer(), "mlp": mlp()}) for _ in range(rng.randint(4, 6)))
    return Node({"depth": len(layers), "width": width, "layers": layers, "lr": rng.uniform(1e-4, 1e-2)})


def per_second(function: Any, count: int, seed: int) -> float:
    rng = random.Random(seed)
    fresh = [draw(rng) for _ in range(count)]
    start = time.process_time()
    for arch in fresh:
        function(arch)
    return count / (time.process_time() - start)


def torch_seconds(count: int) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from nas_bo.model import build

    rng = random.Random(0)
    start = time.process_time()
    for _ in range(count):
        arch = draw(rng)
        model = build(arch, VOCAB, device="meta")
        total = sum(weight.numel() for weight in model.parameters())
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, TOKENS, dtype=torch.long, device="meta"))
        if (parameters(arch, VOCAB), flops(arch, VOCAB, TOKENS)) != (total, counter.get_total_flops()):
            raise SystemExit(f"the closed form is wrong for {arch}")
    return (time.process_time() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats, and no file is written")
    quick = parser.parse_args().quick
    repeats, count = (3, 2000) if quick else (7, 5000)
    tasks = {
        "parameters_and_flops": lambda arch: (parameters(arch, VOCAB), flops(arch, VOCAB, TOKENS)),
        "parameters": lambda arch: parameters(arch, VOCAB),
        "operations_decode": lambda arch: operations(arch, VOCAB, "decode", TOKENS),
    }
    figures: dict[str, Any] = {}
    for name, task in tasks.items():
        size = count if name != "operations_decode" else count // 5
        rates = [per_second(task, size, seed) for seed in range(repeats)]
        figures[name] = {
            "per_second": round(statistics.median(rates)),
            "slowest": round(min(rates)),
            "fastest": round(max(rates)),
            "repeats": repeats,
            "architectures": size,
        }
    one = torch_seconds(5 if quick else 40)
    figures["torch_meta_device"] = {"per_second": round(1 / one, 1), "architectures": 5 if quick else 40}
    what = "architectures counted per second of CPU time, fresh objects of 4 to 6 layers"
    write(envelope(what, "torch", figures=figures), "counts.json", keep=not quick)


if __name__ == "__main__":
    main()
