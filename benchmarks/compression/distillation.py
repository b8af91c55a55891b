"""What a teacher is worth at equal tokens: students trained on the text alone, and on the text and a teacher.

    python -m benchmarks.compression.distillation [--teacher DIR] [--tokens 3e5] [--seeds 3]

Two sizes of students on the default corpus, with the losses of `nas_bo.model.Distillation`: "cross_entropy" is without a teacher, "mixed" the
default. The other losses run on the smaller size. Losses are bits per byte on 65,536 held-out bytes, the same for all; students of one seed
see the same batches. What the teacher says of them is computed once for all students, in a cache folder of this run's own.

Writes benchmarks/results/compression_distillation.json.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import envelope, write
from nas_bo.architecture import Node
from nas_bo.export import folder as files
from nas_bo.model import Distillation, TrainingSettings, load_corpus, train
from nas_bo.model.counts import parameters
from nas_bo.model.distillation import fingerprint

SIZES = {"small": (64, 4), "large": (128, 4)}  # width, layers
ARMS: dict[str, dict[str, Any] | None] = {
    "cross_entropy": None,
    "mixed": {},
    "forward_kl": {"loss": "forward_kl"},
    "reverse_kl": {"loss": "reverse_kl"},
    "mixed, top 8": {"top_k": 8},
}
ON_BOTH = ("cross_entropy", "mixed")


def student(width: int, depth: int) -> Node:
    layer = Node(
        {
            "mixer": Node({"kind": "attention", "heads": 4, "kv_group": 2}),
            "mlp": Node({"kind": "dense", "ratio": 2.5, "activation": "silu", "gated": True}),
        }
    )
    return Node({"width": width, "layers": (layer,) * depth})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="/tmp/teacher/seed0")
    parser.add_argument("--tokens", type=float, default=3e5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--to", type=Path, default=Path("compression_distillation.json"))
    given = parser.parse_args()
    corpus, said = load_corpus(), files.about(given.teacher)
    settings = TrainingSettings(batch_size=8, sequence=128)
    found: dict[str, dict[str, list[float]]] = {size: {} for size in SIZES}
    seconds: dict[str, list[float]] = {"of the lessons": []}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAS_BO_CACHE"] = folder
        for seed in range(given.seeds):
            for size, (width, depth) in SIZES.items():
                arch = student(width, depth)
                for arm, how in ARMS.items():
                    if size != "small" and arm not in ON_BOTH:
                        continue
                    teacher = None if how is None else Distillation(given.teacher, **how)
                    began = time.process_time()
                    made = train(arch, corpus, given.tokens, seed, settings, teacher=teacher)
                    found[size].setdefault(arm, []).append(made.bits_per_byte)
                    first = arm == "mixed" and size == "small"
                    seconds.setdefault(f"{size}, {arm}" + (", lessons included" if first else ""), []).append(
                        round(time.process_time() - began, 1)
                    )
                    print(seed, size, arm, f"{made.bits_per_byte:.4f}", flush=True)
    del seconds["of the lessons"]
    gains = {
        size: {
            arm: {
                "gain": [round(ce - bits, 5) for ce, bits in zip(arms["cross_entropy"], values, strict=True)],
                "mean": round(statistics.mean(arms["cross_entropy"]) - statistics.mean(values), 5),
            }
            for arm, values in arms.items()
            if arm != "cross_entropy"
        }
        for size, arms in found.items()
    }
    apart = {size: max(arms["mixed"]) < min(arms["cross_entropy"]) for size, arms in found.items()}
    document = envelope(
        "bits per byte on held-out text of students with and without a teacher, at equal tokens",
        "torch",
        teacher={
            "parameters": said["parameters"],
            "tokens": said["tokens"],
            "values": said["values"],
            "weights": fingerprint(str(given.teacher)),
        },
        students={size: parameters(student(*shape), corpus.vocab_size) for size, shape in SIZES.items()},
        tokens=given.tokens,
        seeds=given.seeds,
        corpus={"name": corpus.name, "sha256": corpus.fingerprint},
        bits_per_byte={
            size: {arm: [round(v, 5) for v in values] for arm, values in arms.items()} for size, arms in found.items()
        },
        gains=gains,
        every_taught_one_better_than_every_other=apart,
        cpu_seconds=seconds,
    )
    write(document, given.to)


if __name__ == "__main__":
    main()
