"""Is it worth searching bits beside the architecture? The hypervolume of (loss, bytes of the weights) of two searches with as many trainings.

    python -m benchmarks.compression.joint [--trainings 40] [--tokens 100000] [--seeds 0 1 2] [--settings 6]

"joint": `Bayes` on `tiny_gpt_bits` without bits of the cache: 8, 4, 3 or 2 bits for each layer, at most so many settings for each training on the
average. "then": `Bayes` on `tiny_gpt` with the same objectives, and then each member of its front at 8 and at 4 bits in all layers as well.
Both have embeddings of 8 bits where anything is rounded, the same way of rounding, budget, text, batches and seed. The hypervolume is that of the
losses times the logarithms of the bytes, beyond one reference point for both: the worst of all that was seen. `confirmed` is that of the same fronts
with all settings evaluated on the whole held-out text, which is not part of the search and its time. `more` has those of other ends of
"then": its front at 3 and 2 bits as well, and not rounded.

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
from nas_bo.objectives import ValidationLoss, WeightBytes, after_training
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT, with_bits
from nas_bo.strategies import Bayes
from nas_bo.trial import Trial, front

Bits = with_bits(TinyGPT, kv_bits=(), title="Bits")
Plain = with_bits(TinyGPT, (32,), kv_bits=(), around=32, title="Plain")
UNIFORM = {bits: with_bits(TinyGPT, (bits,), kv_bits=(), title=f"Bits{bits}") for bits in (8, 4, 3, 2)}
CANDIDATES = 1000


class Clock:
    """CPU seconds by what they were spent on. What is done after training is counted wherever it happens, the first look of a training
    included; a training as it was recorded when it was made, so a run that found trained models in `--cache` counts them as well."""

    def __init__(self) -> None:
        self.spent = {"proposing": 0.0, "training": 0.0, "settings": 0.0}
        self._trained: set[str] = set()
        self._change, self._kept = after_training.change, after_training.kept

    def change(self, *given: Any) -> tuple[float, dict[str, Any]]:
        began = time.process_time()
        found = self._change(*given)
        self.spent["settings"] += time.process_time() - began
        return found

    def kept(self, key: str, *given: Any) -> tuple[after_training.Kept, bool]:
        one, there = self._kept(key, *given)
        if key not in self._trained:
            self._trained.add(key)
            self.spent["training"] += one.info["cpu_seconds"]
        return one, there

    def __enter__(self) -> Clock:
        after_training.change, after_training.kept = self.change, self.kept
        return self

    def __exit__(self, *_: object) -> None:
        after_training.change, after_training.kept = self._change, self._kept


def run(problem: Problem, strategy: Bayes, trainings: int) -> tuple[list[Trial], dict[str, float]]:
    """Trials until so many architectures were trained and the strategy has no setting left that is worth a look."""
    trials: list[Trial] = []
    with Clock() as clock:
        while True:
            began = time.process_time()
            archs = strategy.suggest(problem, trials, 1)
            clock.spent["proposing"] += time.process_time() - began
            if not archs or (strategy.settings == 1 and len(trials) == trainings):
                break
            trials.append(problem.evaluate(archs[0]))
            if trials[-1].reason:
                raise SystemExit(trials[-1].reason)
    return trials, clock.spent


def points(trials: Sequence[Trial]) -> np.ndarray[Any, Any]:
    return np.array([[t.values["bits_per_byte"], np.log(t.values["weight_bytes"])] for t in trials if t.feasible])


def confirmed(problem: Problem, trials: Sequence[Trial]) -> list[Trial]:
    """The same architectures, where what is done after training is evaluated on all of the held-out text and not on an eighth of it: who
    looks at more settings also has more luck with a part."""
    part = after_training.PART
    after_training.PART = 1
    after_training._here.clear()  # what their memo has is of a part
    try:
        return [problem.evaluate(trial.architecture) for trial in trials]
    finally:
        after_training.PART = part
        after_training._here.clear()


def compared(seed: int, tokens: float, trainings: int, settings: int) -> dict[str, Any]:
    objectives = [ValidationLoss(tokens=tokens, seed=seed), WeightBytes()]
    searched = Bayes(seed, candidates=CANDIDATES, settings=settings, trainings=trainings)
    joint, spent = run(Problem(Bits, objectives), searched, trainings)
    plain = Problem(Plain, objectives)
    then, alone = run(plain, Bayes(seed, candidates=CANDIDATES, settings=1), trainings)
    best = front(then, plain.columns)
    rounded = {
        bits: [Problem(space, objectives).evaluate(space.architecture(t.architecture)) for t in best]
        for bits, space in UNIFORM.items()
    }
    uniform = [*then, *rounded[8], *rounded[4]]
    ends = {
        "joint": joint,
        "then": uniform,
        "then, and 3 and 2 bits": [*uniform, *rounded[3], *rounded[2]],
        "then, not rounded": then,
    }
    every = {name: points(trials) for name, trials in ends.items()}
    reference = np.concatenate(list(every.values())).max(0)
    volumes = {name: round(float(moocore.hypervolume(one, ref=reference)), 4) for name, one in every.items()}
    rounds = {bits: Problem(space, objectives) for bits, space in UNIFORM.items()}
    sure = {
        "joint": points(confirmed(Problem(Bits, objectives), front(joint, plain.columns))),
        "then": np.concatenate([points(then), *(points(confirmed(rounds[bits], rounded[bits])) for bits in (8, 4))]),
    }
    whole = {name: round(float(moocore.hypervolume(one, ref=reference)), 4) for name, one in sure.items()}
    fronts = {
        name: [
            [round(t.values["bits_per_byte"], 4), int(t.values["weight_bytes"])]
            for t in front(ends[name], plain.columns)
        ]
        for name in ("joint", "then")
    }
    return {
        "seed": seed,
        "hypervolume": {name: volumes.pop(name) for name in ("joint", "then")},
        "confirmed": whole,
        "more": volumes,
        "reference": [round(float(one), 4) for one in reference],
        "evaluations": {"joint": len(joint), "then": len(then), "then, rounded": 2 * len(best)},
        "trainings": {
            name: len({t.architecture.training_id for t in ts}) for name, ts in (("joint", joint), ("then", then))
        },
        "cpu_seconds": {
            name: {k: round(v, 1) for k, v in one.items()} for name, one in (("joint", spent), ("then", alone))
        },
        "added_per_training": round(spent["settings"] / spent["training"], 4),
        "front": fronts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=40)
    parser.add_argument("--tokens", type=float, default=100_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", type=int, default=6)
    parser.add_argument("--to", type=Path, default=Path("compression_joint.json"))
    parser.add_argument(
        "--cache", type=Path, default=None, help="a folder for trained models, so that a run that was killed continues"
    )
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["NAS_BO_CACHE"] = str(given.cache or folder)
            rows.append(compared(seed, given.tokens, given.trainings, given.settings))
        print(rows[-1], flush=True)
        document = envelope(
            "hypervolume of (bits per byte, log bytes of the weights): bits searched with the architecture, against rounding afterwards",
            "torch",
            repeats=len(rows),
            spread="each seed by itself",
            space="tiny_gpt",
            trainings=given.trainings,
            tokens=given.tokens,
            settings=given.settings,
            joint_is_better_in=sum(row["hypervolume"]["joint"] > row["hypervolume"]["then"] for row in rows),
            confirmed_better_in=sum(row["confirmed"]["joint"] > row["confirmed"]["then"] for row in rows),
            added_per_training=max(row["added_per_training"] for row in rows),
            seeds=rows,
        )
        write(document, given.to)


if __name__ == "__main__":
    main()
