"""What a teacher is worth at equal tokens: students trained on the text alone, and on the text and a teacher.

    python -m benchmarks.compression.distillation [--teacher DIR] [--tokens 1e5] [--seeds 3] [--every-loss]

Two sizes of students on the default corpus: "cross_entropy" is without a teacher, "mixed" is the default of `nas_bo.model.Distillation`; with
`--every-loss` its others run on the smaller size. The teacher is a folder of `nas-bo train`, by default a decoder of 4 layers and width 96 that
is trained here on `--teacher-tokens`. Losses are bits per byte on 65,536 held-out bytes, the same for all; students of one seed see the same
batches. What the teacher says of them is computed once for all students, in a cache folder of this run's own.

Writes benchmarks/results/compression_distillation.json, after every seed.
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
from benchmarks.compression.teacher import trained
from nas_bo.architecture import Node
from nas_bo.export import folder as files
from nas_bo.model import Distillation, TrainingSettings, load_corpus, train
from nas_bo.model.counts import parameters
from nas_bo.model.distillation import fingerprint

SIZES = {"small": (32, 3), "large": (48, 4)}  # width, layers
ARMS: dict[str, dict[str, Any] | None] = {
    "cross_entropy": None,
    "mixed": {},
    "forward_kl": {"loss": "forward_kl"},
    "reverse_kl": {"loss": "reverse_kl"},
    "mixed, top 8": {"top_k": 8},
}
ALWAYS = ("cross_entropy", "mixed")


def student(width: int, depth: int) -> Node:
    layer = Node(
        {
            "mixer": Node({"kind": "attention", "heads": 4, "kv_group": 2}),
            "mlp": Node({"kind": "dense", "ratio": 2.5, "activation": "silu", "gated": True}),
        }
    )
    return Node({"width": width, "layers": (layer,) * depth})


def document(
    given: argparse.Namespace, found: dict[str, dict[str, list[float]]], seconds: dict[str, list[float]]
) -> dict[str, Any]:
    said = files.about(given.teacher)
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
    corpus = load_corpus()
    return envelope(
        "bits per byte on held-out text of students with and without a teacher, at equal tokens",
        "torch",
        teacher={
            **{name: said[name] for name in ("parameters", "tokens", "values")},
            "weights": fingerprint(str(given.teacher)),
        },
        students={size: parameters(student(*shape), corpus.vocab_size) for size, shape in SIZES.items()},
        tokens=given.tokens,
        seeds=len(found["small"]["mixed"]),
        corpus={"name": corpus.name, "sha256": corpus.fingerprint},
        bits_per_byte={
            size: {arm: [round(v, 5) for v in values] for arm, values in arms.items()} for size, arms in found.items()
        },
        gains=gains,
        ranges_apart={size: max(arms["mixed"]) < min(arms["cross_entropy"]) for size, arms in found.items()},
        cpu_seconds=seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher")
    parser.add_argument("--teacher-tokens", type=float, default=3e5)
    parser.add_argument("--tokens", type=float, default=1e5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every-loss", action="store_true")
    parser.add_argument("--to", type=Path, default=Path("compression_distillation.json"))
    given = parser.parse_args()
    corpus, settings = load_corpus(), TrainingSettings(batch_size=8, sequence=128)
    found: dict[str, dict[str, list[float]]] = {size: {} for size in SIZES}
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAS_BO_CACHE"] = folder
        given.teacher = given.teacher or trained(Path(folder), 0, given.teacher_tokens, 96, 4)
        for seed in range(given.seeds):
            for size, (width, depth) in SIZES.items():
                for arm, how in ARMS.items():
                    if arm not in ALWAYS and (size != "small" or not given.every_loss):
                        continue
                    teacher = None if how is None else Distillation(given.teacher, **how)
                    began = time.process_time()
                    made = train(student(width, depth), corpus, given.tokens, seed, settings, teacher=teacher)
                    found[size].setdefault(arm, []).append(made.bits_per_byte)
                    first = ", lessons included" if arm == "mixed" and size == "small" else ""
                    seconds.setdefault(f"{size}, {arm}{first}", []).append(round(time.process_time() - began, 1))
                    print(seed, size, arm, f"{made.bits_per_byte:.4f}", flush=True)
            write(document(given, found, seconds), given.to)


if __name__ == "__main__":
    main()
