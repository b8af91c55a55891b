"""Are several small models trained faster together? Same-shape runs with their weights stacked (`train_many`) against the
same runs one after the other.

    python -m benchmarks.grouped_training.run [--quick] [--device cuda]

Both take turns, and the figure is the median over rounds of (seconds of the runs one by one) / (seconds stacked): processor
seconds of one thread on a CPU, wall seconds on a GPU, of training alone. Above 1 stacking pays.
Writes benchmarks/results/grouped_training.json.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import statistics
import sys
import time
from typing import Any

import torch

from benchmarks.common import envelope, write
from nas_bo.architecture import Architecture
from nas_bo.model import label, load_corpus, parameters, train_many
from nas_bo.search_spaces import TinyGPT

RUNS = {"cpu": (2, 4, 8), "cuda": (4, 16)}
STEPS, ROUNDS = 12, 5


def model_of(depth: int, width: int, mixer: dict[str, Any], mlp: dict[str, Any]) -> Architecture:
    flat = {f"layers.{i}.{name}": value for i in range(depth) for name, value in {**mixer, **mlp}.items()}
    return TinyGPT.architecture({"depth": depth, "width": width, **flat})


def models() -> list[Architecture]:
    attention = {"mixer": "attention", "mixer.attention.heads": 4, "mixer.attention.kv_group": 1}
    conv = {"mixer": "conv", "mixer.conv.kernel": 4}
    two, three = ({"mlp": "dense", "mlp.dense.ratio": ratio} for ratio in (2, 3))
    return [
        model_of(1, 32, conv, {"mlp": "skip"}),
        model_of(2, 32, attention, two),
        model_of(3, 48, conv, two),
        model_of(5, 96, attention, three),
    ]


def seconds(arch: Architecture, runs: int, together: int, device: str) -> float:
    """Of training per run and step."""
    tokens = 8 * 64 * STEPS
    if device != "cpu":
        torch.cuda.synchronize()
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    train_many(
        [arch] * runs, load_corpus(), tokens, range(runs), together=together, device=device, evaluation_tokens=64
    )
    return (clock() - began) / runs / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round, and no file is written")
    parser.add_argument("--device", default="cpu", choices=RUNS)
    options = parser.parse_args()
    figures = []
    for arch in models():
        for runs in RUNS[options.device]:
            seconds(arch, runs, runs, options.device)  # warm
            pairs = [
                (seconds(arch, runs, 1, options.device), seconds(arch, runs, runs, options.device))
                for _ in range(1 if options.quick else ROUNDS)
            ]
            ratios = sorted(alone / stacked for alone, stacked in pairs)
            figures.append(
                {
                    "model": label(arch),
                    "parameters": parameters(arch, 256),
                    "runs": runs,
                    "ms_per_step_alone": round(1e3 * statistics.median(alone for alone, _ in pairs), 3),
                    "ms_per_step_stacked": round(1e3 * statistics.median(stacked for _, stacked in pairs), 3),
                    "ratio": round(statistics.median(ratios), 3),
                    "ratio_least_greatest": [round(ratios[0], 3), round(ratios[-1], 3)],
                }
            )
            sys.stderr.write(json.dumps(figures[-1]) + "\n")
    what = "seconds one by one / seconds stacked, median of rounds that take turns; above 1 stacking pays"
    name = "grouped_training.json" if options.device == "cpu" else f"grouped_training_{options.device}.json"
    document = envelope(what, "torch", device=options.device, repeats=ROUNDS, figures=figures)
    write(document, name, keep=not options.quick)


if __name__ == "__main__":
    main()
