"""Does `tiny_gpt` lose anything with blocks that stock tools load? The same random architectures with its own blocks and with those of LFM2:
convolutions with two linear gates instead of one of silu, attention with norms of queries and keys, MLPs of silu instead of gelu.

    python -m benchmarks.new_gates.run [--archs 16] [--seeds 3] [--tokens 100000]

Each is trained with each seed in both forms, on the same batches. Convolutions with two gates have a third more weights in the matrix into
them, so the fronts of loss against parameters and of loss against FLOPs are compared, by their hypervolumes with one reference point.

Writes benchmarks/results/new_gates.json.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import argparse
import math
import statistics
from typing import Any

import numpy as np
from scipy.stats import t

from benchmarks.common import envelope, write
from nas_bo.architecture import Node
from nas_bo.export.fits import fits
from nas_bo.export.homes import GGUF, TRANSFORMERS
from nas_bo.model import load_corpus, train
from nas_bo.model.counts import flops, parameters
from nas_bo.pareto import hypervolume
from nas_bo.search_spaces import TinyGPT

CONTEXT = 256
FORMS = ("its own", "two gates, norms of q and k", "the same, MLPs of silu")


def changed(arch: Any, form: str) -> Node:
    """The architecture with the blocks of a form."""
    layers = []
    for layer in arch.layers:
        mixer, mlp = dict(layer.mixer.items()), dict(layer.mlp.items())
        if form != FORMS[0]:
            mixer |= {"gates": "linear2"} if mixer["kind"] == "conv" else {"qk_norm": "head"}
        if form == FORMS[2] and mlp["kind"] == "dense":
            mlp["activation"] = "silu"
        layers.append(Node({"mixer": Node(mixer), "mlp": Node(mlp)}))
    return Node({"width": arch.width, "layers": tuple(layers)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=float, default=100_000)
    given = parser.parse_args()
    corpus = load_corpus()
    rows: list[dict[str, Any]] = []
    for number in range(given.archs):
        arch = TinyGPT.sample(number)
        for form in FORMS:
            made = changed(arch, form)
            losses = [train(made, corpus, given.tokens, seed=seed).bits_per_byte for seed in range(given.seeds)]
            rows.append({
                "sample": number, "form": form, "parameters": parameters(made, corpus.vocab_size),
                "mflops": flops(made, corpus.vocab_size, CONTEXT) / 1e6, "bits_per_byte": [round(x, 4) for x in losses],
                "homes": [fit.home.name for fit in (*fits(made, TRANSFORMERS), *fits(made, GGUF)) if not fit.reasons],
            })  # fmt: skip
            print(rows[-1], flush=True)
    about = {"tokens": given.tokens, "seeds": given.seeds, "archs": given.archs, "context": CONTEXT}
    about["forms"] = [compared(rows, form, given.seeds) for form in FORMS[1:]]
    what = "tiny_gpt with its own blocks and with those of LFM2: bits per byte, the same architectures"
    write(envelope(what, "torch", **about, rows=rows), "new_gates.json")


def compared(rows: list[dict[str, Any]], form: str, seeds: int) -> dict[str, Any]:
    """Against the first form: differences of losses, and hypervolumes of the fronts, seed by seed."""
    mine, base = ([row for row in rows if row["form"] == one] for one in (form, FORMS[0]))
    apart = [
        b - a
        for x, y in zip(base, mine, strict=True)
        for a, b in zip(x["bits_per_byte"], y["bits_per_byte"], strict=True)
    ]
    means = [
        statistics.fmean(y["bits_per_byte"]) - statistics.fmean(x["bits_per_byte"])
        for x, y in zip(base, mine, strict=True)
    ]
    spread = statistics.stdev(means) / math.sqrt(len(means))
    volumes: dict[str, list[list[float]]] = {}
    for cost in ("parameters", "mflops"):
        for seed in range(seeds):
            points = [
                np.array([[row["bits_per_byte"][seed], math.log(row[cost])] for row in one]) for one in (base, mine)
            ]
            worst = np.concatenate(points).max(0) + 0.01
            volumes.setdefault(cost, []).append([round(float(hypervolume(one, worst)), 4) for one in points])
    return {
        "form": form,
        "difference": round(statistics.fmean(apart), 4),
        "interval": [
            round(statistics.fmean(means) + sign * float(t.ppf(0.95, len(means) - 1)) * spread, 4) for sign in (-1, 1)
        ],
        "parameters": round(
            statistics.fmean(math.log(y["parameters"] / x["parameters"]) for x, y in zip(base, mine, strict=True)), 4
        ),
        "hypervolumes, its own and this": volumes,
    }


if __name__ == "__main__":
    main()
