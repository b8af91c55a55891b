"""Every mixer at equal size: the loss of small decoders on the default corpus, and what they cost here.

    python -m benchmarks.new_blocks.run [--seeds 3] [--tokens 400000]

Decoders of 4 layers and width 64, a gated MLP behind each mixer, whose ratio is chosen so that all have the parameters of the one
with attention to 1 %. Latencies are those of `Latency` (prefill of 256 bytes; one decoded byte after as many), measured in turn.

Writes benchmarks/results/new_blocks.json.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import argparse
import statistics
from typing import Any

from benchmarks.common import envelope, write
from nas_bo.architecture import Node
from nas_bo.model import build, load_corpus, train
from nas_bo.model.counts import parameters
from nas_bo.objectives import Latency

WIDTH, DEPTH = 64, 4
MIXERS: dict[str, dict[str, Any]] = {
    "attention": {"kind": "attention", "heads": 4},
    "latent_attention": {"kind": "latent_attention", "heads": 4, "latent": 16},
    "linear_attention": {"kind": "linear_attention", "heads": 4},
    "gated_delta": {"kind": "gated_delta", "heads": 4},
    "ssm": {"kind": "ssm", "heads": 4, "state": 16},
    "conv": {"kind": "conv", "kernel": 4},
    "conv, two linear gates": {"kind": "conv", "kernel": 4, "gates": "linear2"},
}


def decoder(mixer: dict[str, Any], hidden: int) -> Node:
    mlp = {"kind": "dense", "ratio": hidden / WIDTH, "gated": True}
    layers = [Node({"mixer": Node(mixer), "mlp": Node(mlp)}) for _ in range(DEPTH)]
    return Node({"width": WIDTH, "layers": tuple(layers)})


def of_size(mixer: dict[str, Any], wanted: int, vocab_size: int) -> Node:
    made = (decoder(mixer, hidden) for hidden in range(8, 8 * WIDTH))
    return min(made, key=lambda arch: abs(parameters(arch, vocab_size) - wanted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=float, default=400_000)
    given = parser.parse_args()
    corpus = load_corpus()
    wanted = parameters(decoder(MIXERS["attention"], 2 * WIDTH), corpus.vocab_size)
    archs = {name: of_size(mixer, wanted, corpus.vocab_size) for name, mixer in MIXERS.items()}
    times = {
        phase: Latency(phase=phase, precision=0.01, max_seconds=3.0).remeasure(list(archs.values()))
        for phase in ("prefill", "decode")
    }
    rows = []
    for index, (name, arch) in enumerate(archs.items()):
        losses = [train(arch, corpus, given.tokens, seed=seed).bits_per_byte for seed in range(given.seeds)]
        row: dict[str, Any] = {
            "mixer": name, "parameters": parameters(arch, corpus.vocab_size),
            "built": sum(w.numel() for w in build(arch, corpus.vocab_size, device="meta").parameters()),
            "bits_per_byte": [round(x, 4) for x in losses], "mean": round(statistics.fmean(losses), 4),
        }  # fmt: skip
        for phase, found in times.items():
            value: Any = found[index]
            row[f"{phase}_ms"] = {"value": float(f"{value:.4g}"), "low": value.info["low"], "high": value.info["high"]}
        rows.append(row)
        print(row, flush=True)
    about = {
        "tokens": given.tokens, "seeds": given.seeds, "width": WIDTH, "depth": DEPTH,
        "intervals": "90 %, of the next measurement",
    }  # fmt: skip
    write(envelope("mixers at equal size on the default corpus", "torch", **about, rows=rows), "new_blocks.json")


if __name__ == "__main__":
    main()
