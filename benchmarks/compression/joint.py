"""Is it worth searching bits beside the architecture? The hypervolume of (loss, bytes of the weights) of two searches with as many trainings.

    python -m benchmarks.compression.joint [--trainings 12] [--tokens 100000] [--seeds 3]

"joint": `Bayes` on `tiny_gpt_bits` without bits of the cache: 8, 4, 3 or 2 bits for each layer, some settings looked at after each training.
"then": `Bayes` on `tiny_gpt` with the same objectives, and then each member of its front at 8 and at 4 bits in all layers as well.
Both have embeddings of 8 bits where anything is rounded, the same budget, text, batches and seed. The hypervolume is that of the losses times the
logarithms of the bytes, beyond one reference point for both: the worst of all that was seen.

Writes benchmarks/results/compression_joint.json, after every seed.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import moocore
import numpy as np

from benchmarks.common import envelope, write
from nas_bo.objectives import ValidationLoss, WeightBytes
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT, with_bits
from nas_bo.strategies import Bayes, bayes
from nas_bo.strategies.shared_training import PRICE
from nas_bo.trial import Trial, front

Bits = with_bits(TinyGPT, kv_bits=(), title="Bits")
Plain = with_bits(TinyGPT, (32,), kv_bits=(), around=32, title="Plain")
ROUNDED = [with_bits(TinyGPT, (bits,), kv_bits=(), title=f"Bits{bits}") for bits in (8, 4)]
SETTINGS = 6


def run(problem: Problem, strategy: Bayes, trainings: int) -> tuple[list[Trial], dict[str, float]]:
    """Trials until so many architectures were trained, and CPU seconds by what they were spent on."""
    trials: list[Trial] = []
    bayes.PRICE = PRICE
    spent = {"proposing": 0.0, "training": 0.0, "settings": 0.0}
    seen: set[str] = set()
    while True:
        began = time.process_time()
        (arch,) = strategy.suggest(problem, trials, 1)
        spent["proposing"] += time.process_time() - began
        new = arch.training_id not in seen
        if new and len(seen) == trainings:
            if len(trials) >= SETTINGS * trainings or strategy.settings == 1:
                return trials, spent
            bayes.PRICE = 1e-9  # trainings are spent: only settings of those that are there
            (arch,) = strategy.suggest(problem, trials, 1)
            if arch.training_id not in seen:
                return trials, spent
            new = False
        seen.add(arch.training_id)
        began = time.process_time()
        trials.append(problem.evaluate(arch))
        if trials[-1].reason:
            raise SystemExit(trials[-1].reason)
        spent["training" if new else "settings"] += time.process_time() - began


def points(trials: Sequence[Trial]) -> np.ndarray[Any, Any]:
    return np.array([[t.values["bits_per_byte"], np.log(t.values["weight_bytes"])] for t in trials if t.feasible])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=12)
    parser.add_argument("--tokens", type=float, default=100_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--to", type=Path, default=Path("compression_joint.json"))
    given = parser.parse_args()
    rows = []
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["NAS_BO_CACHE"] = folder
            loss = ValidationLoss(tokens=given.tokens, seed=seed)
            objectives = [loss, WeightBytes()]
            joint, spent = run(
                Problem(Bits, objectives), Bayes(seed, candidates=1000, settings=SETTINGS), given.trainings
            )
            plain = Problem(Plain, objectives)
            then, alone = run(plain, Bayes(seed, candidates=1000, settings=1), given.trainings)
            best = front(then, plain.columns)
            rounded = [
                Problem(space, objectives).evaluate(space.architecture(t.architecture))
                for t in best
                for space in ROUNDED
            ]
        both = [points(joint), np.concatenate([points(then), points(rounded)])]
        reference = np.concatenate(both).max(0)
        volumes = [float(moocore.hypervolume(one, ref=reference)) for one in both]
        rows.append(
            {
                "seed": seed,
                "hypervolume": {"joint": round(volumes[0], 4), "then": round(volumes[1], 4)},
                "evaluations": {"joint": len(joint), "then": len(then), "then, rounded": len(rounded)},
                "trainings": {
                    "joint": len({t.architecture.training_id for t in joint}),
                    "then": len({t.architecture.training_id for t in then}),
                },
                "cpu_seconds": {
                    "joint": {k: round(v, 1) for k, v in spent.items()},
                    "then": {k: round(v, 1) for k, v in alone.items()},
                },
                "added_per_training": round(spent["settings"] / spent["training"], 4),
                "front": {
                    "joint": [
                        [round(t.values["bits_per_byte"], 4), int(t.values["weight_bytes"])]
                        for t in front(joint, plain.columns)
                    ],
                    "then": [
                        [round(t.values["bits_per_byte"], 4), int(t.values["weight_bytes"])]
                        for t in front([*then, *rounded], plain.columns)
                    ],
                },
            }
        )
        print(rows[-1], flush=True)
        document = envelope(
            "hypervolume of (bits per byte, log bytes of the weights): bits searched with the architecture, against rounding afterwards",
            "torch",
            space="tiny_gpt",
            trainings=given.trainings,
            tokens=given.tokens,
            settings=SETTINGS,
            joint_is_better_in=sum(row["hypervolume"]["joint"] > row["hypervolume"]["then"] for row in rows),
            seeds=rows,
        )
        write(document, given.to)


if __name__ == "__main__":
    main()
