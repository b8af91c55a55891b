"""Fronts of loss and measured decode latency inside a trained model: the search against what the field does by rule, by hypervolume.

    python -m benchmarks.pretrained.run --latency --teacher DIR [--quick] [--seeds 3] [--evaluations 60] [--resume]

Arms, with the calibration text, the importance and the repair of `benchmarks.pretrained.run`:

* width: MLPs alike in all layers, at eight sizes, with each number of groups of heads
* depth: whole layers left out, those first that turn the stream least
* block scores: the integer program at eight levels of predicted latency; no put-together model is looked at
* search: `nas_bo.search` with `Knapsack` for what is left of the looks, its latencies measured

What of each arm is on its own front, by its own losses and latencies, is looked at again: losses on twice the text, latencies of all arms
in turn with each other (`Latency.remeasure`). The hypervolume is a share of the rectangle between nothing and the trained model's latency, and
between the trained model's loss and `RANGE` bits more. Each arm knows the whole model too. Losses are of repaired parts, without recovery. Rows
are written as they come, to benchmarks/results/pretrained_latency.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nas_bo import search
from nas_bo.architecture import Architecture
from nas_bo.model.inference import evaluate
from nas_bo.objectives import Latency, Parameters
from nas_bo.pareto import hypervolume, non_dominated
from nas_bo.pretrained import CalibrationText, Pretrained, SubModelLoss
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.space import whole
from nas_bo.problem import Problem
from nas_bo.strategies import Knapsack

RESULT = "pretrained_latency.json"
ARMS = ("width", "depth", "block_scores", "search")
LEVELS = 8
RANGE = 1.0  # bits per byte above the trained model, which count
Point = tuple[Architecture, float, float]


class Fronts:
    """One teacher; every arm returns the architectures that it looked at with loss and latency, and its looks."""

    def __init__(self, loss: SubModelLoss, looks: int, seed: int, alike: Any) -> None:
        self.loss, self.looks, self.seed, self.alike = loss, looks, seed, alike
        self.space = loss.teacher.space()
        self.latency = Latency(phase="decode", context=128, vocab_size=loss.teacher.vocab_size)
        self.scores = loss.teacher.block_scores(loss)
        self.most = whole(self.space)

    def looked(self, archs: Sequence[Architecture]) -> list[Point]:
        return [(arch, float(self.loss(arch)), float(self.latency(arch))) for arch in archs]

    def width(self) -> tuple[list[Point], int]:
        spec = self.loss.teacher.spec
        mixer, mlp = spec.layers[0]
        archs = []
        for groups in range(1, mixer.kv_heads + 1):
            for level in range(LEVELS, 0, -1):
                hidden = max(8, round(mlp.hidden * level / LEVELS / 8) * 8)
                archs.append(self.alike(groups * mixer.heads // mixer.kv_heads, hidden / spec.width))
        return self.looked(archs), len(archs)

    def depth(self) -> tuple[list[Point], int]:
        scores = self.loss.ordered().importance["layers", "layers"].scores.tolist()
        order = sorted(range(len(scores)), key=lambda layer: scores[layer])
        archs = []
        for count in range(1, len(order)):
            gone = {f"layers.{index}.{part}": "skip" for index in order[:count] for part in ("mixer", "mlp")}
            archs.append(changed(self.space, self.most, gone))
        return self.looked(archs), len(archs)

    def block_scores(self) -> tuple[list[Point], int]:
        problem = Problem(self.space, [self.loss, self.latency], [], [self.scores])
        archs = Knapsack(seed=self.seed, doubt=0.0).suggest(problem, [], LEVELS)
        return [(arch, float(self.scores(arch)), float(self.latency(arch))) for arch in archs], self.measured()

    def search(self) -> tuple[list[Point], int]:
        result = search(
            self.space,
            [self.loss, self.latency],
            proxies=[self.scores],
            strategy=Knapsack(seed=self.seed),
            trials=self.looks - self.measured(),
            retrain=0,
        )
        names = self.loss.name, self.latency.name
        return [(t.architecture, t.values[names[0]], t.values[names[1]]) for t in result.front], self.looks

    def measured(self) -> int:
        return self.scores.looks(self.space)


def rows(given: argparse.Namespace, settings: Mapping[str, Any], alike: Any) -> Iterator[dict[str, Any]]:
    for seed in given.left:
        teacher = Pretrained(given.teacher.format(seed=seed))
        batches = 1 if given.quick else 4
        calibration = CalibrationText(batches=batches, sequences=8, sequence=settings["sequence"], seed=seed)
        how = {
            "sequence": settings["sequence"],
            "held_out_tokens": settings["looked_at"],
            "device": "cpu",
            "seed": seed,
        }
        loss = teacher.loss(data=given.data, calibration=calibration, **how)
        fronts = Fronts(loss, given.evaluations, seed, lambda heads, ratio, of=loss: alike(of, heads, ratio))
        found: dict[str, tuple[list[Architecture], int, float]] = {}
        for arm in ARMS:
            clock = time.process_time()
            points, looks = getattr(fronts, arm)()
            kept = non_dominated(np.array([point[1:] for point in points]))
            archs = [point[0] for point, on in zip(points, kept, strict=True) if on]
            found[arm] = archs, looks, time.process_time() - clock
        yield from _judged(fronts, found, seed, settings)


def _judged(
    fronts: Fronts, found: Mapping[str, tuple[list[Architecture], int, float]], seed: int, settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    loss, corpus = fronts.loss, fronts.loss.corpus()
    every = {arch.id: arch for archs, _, _ in found.values() for arch in archs} | {fronts.most.id: fronts.most}
    values = [float(value) for value in fronts.latency.remeasure([*every.values()])]
    times = dict(zip(every, values, strict=True))
    losses = {}
    for key, arch in every.items():
        losses[key] = evaluate(
            loss.sub_model(arch, copy=False, longer=False), corpus, settings["held_out"], settings["sequence"]
        )
    base, most = losses[fronts.most.id], times[fronts.most.id]
    size = Parameters(vocab_size=loss.teacher.vocab_size)
    yield {"seed": seed, "arm": "teacher", "loss": round(base, 4), "decode_ms": round(most, 4)}
    for arm, (archs, looks, spent) in found.items():
        points = np.array([[losses[a.id], times[a.id]] for a in (*archs, fronts.most)])
        volume = hypervolume(points, np.array([base + RANGE, most * 1.0001])) if len(points) else 0.0
        above = base - min(base, float(points[:, 0].min()))  # a repaired part may be better than the trained model
        yield {
            "seed": seed, "arm": arm, "looks": looks, "cpu_s": round(spent, 1), "on_front": len(archs),
            "hypervolume": round(volume / (RANGE * most), 4), "better_than_teacher": round(above, 4),
            "points": [[int(size(a)), round(losses[a.id], 4), round(times[a.id], 4)] for a in archs],
        }  # fmt: skip


def summary(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds, and in how many of them the search has more."""
    ours = {row["seed"]: row["hypervolume"] for row in found if row["arm"] == "search"}
    said = []
    for arm in ARMS:
        mine = [row for row in found if row["arm"] == arm]
        if not mine:
            continue
        volumes = [row["hypervolume"] for row in mine]
        said.append(
            {
                "arm": arm,
                "looks": round(statistics.fmean(row["looks"] for row in mine)),
                "hypervolume": round(statistics.fmean(volumes), 4),
                "sd": round(statistics.stdev(volumes), 4) if len(volumes) > 1 else None,
                "search_better_in": sum(ours.get(row["seed"], 0.0) > row["hypervolume"] for row in mine),
                "seeds": len(mine),
            }
        )
    return said
