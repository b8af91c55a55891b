"""Do searches by gradients find a better front than random search at the same total cost?

    python -m benchmarks.gradient_search.run [--only NAME ...] [--seeds 3] [--trainings 1 2] [--report]

A search is trained, the most probable architecture of each of its lambdas is taken, and these are trained in full (500,000 tokens) with the
seeds 1 and 2 (`--trainings 1`: one of them, for all alike). The figure is the hypervolume of (mean loss, modelled latency) below the reference point (3.2 bits per byte, 3.6 ms). Its cost is
the search plus one full training of each architecture of the front, in units of one average training of random search:

* by processor seconds: those of the search against those of short trainings of eight of the reference architectures, run just before and just
  after it, so that a busy machine slows both;
* by tokens: passes of single networks, where a forward pass without backward counts a third, and a mixed pass as many as it has operations.

Random search has the same cost in full trainings: subsets of the 32 reference architectures of `fidelity.py`, each trained once, the front by
the loss of seed 0, compared by the same seeds as the fronts (mean and standard deviation of 2,000 subsets). Everything finished is one line of
benchmarks/results/gradient_search_raw.jsonl, so it may be stopped and started again. Writes benchmarks/results/gradient_search.json.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: one thread, so that processor time can be compared

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, envelope, write
from benchmarks.fidelity import arms as fidelity_arms
from nas_bo.architecture import Architecture
from nas_bo.hardware.measuring.measure import device_name
from nas_bo.model import label, train
from nas_bo.objectives import Latency
from nas_bo.pareto import hypervolume
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import GDAS, Darts, ProxylessNAS
from nas_bo.strategies.one_shot.gradient import DartsResult, GradientSearch
from nas_bo.trial import non_dominated

RAW = RESULTS / "gradient_search_raw.jsonl"
SHARED = RESULTS / "cheap_search_raw.jsonl"
REFERENCE = (3.2, 3.6)
SHARE = 0.02  # of a full training, for the unit of processor time
UNIT = range(8)  # of the reference architectures
SUBSETS = 2_000
# Of a mixed pass: five layers of nine operations that are none of them skips, against 3 * 1.75 of an average single path;
# without gradients of weights two thirds of that.
PASSES = {"Darts": (8.6, 5.7)}
SEARCHES: dict[str, Callable[[int], GradientSearch]] = {
    "GDAS": lambda seed: GDAS(seed=seed),
    "ProxylessNAS": lambda seed: ProxylessNAS(seed=seed),
    "Darts": lambda seed: Darts(seed=seed),
}


def kept(kind: str) -> list[dict[str, Any]]:
    lines = RAW.read_text().splitlines() if RAW.exists() else []
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def keep(row: dict[str, Any]) -> dict[str, Any]:
    with RAW.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return row


def seconds_of_a_training(archs: list[Architecture]) -> float:
    """Processor seconds of an average full training now, from short ones of some of them."""
    began = time.process_time()
    for index in UNIT:
        train(archs[index], fidelity_arms.corpus(), tokens=SHARE * fidelity_arms.TOKENS, evaluation_tokens=2_048)
    return (time.process_time() - began) / (SHARE * len(UNIT))


def searched(name: str, seed: int, archs: list[Architecture]) -> dict[str, Any]:
    for row in kept("search"):
        if (row["name"], row["seed"]) == (name, seed):
            return row
    before = seconds_of_a_training(archs)
    result: DartsResult = SEARCHES[name](seed).search(TinyGPT, fidelity_arms.corpus(), Latency())
    after = seconds_of_a_training(archs)
    return keep(
        {
            "kind": "search",
            "name": name,
            "seed": seed,
            "machine": device_name("cpu"),
            "cpu_s": round(result.cpu_seconds, 1),
            "wall_s": round(result.seconds, 1),
            "training_cpu_s": [round(before, 2), round(after, 2)],
            "tokens": list(result.tokens),
            "stopped": list(result.stopped_because),
            "front": [dict(arch.flat) for arch in result.front],
            "labels": [label(arch) for arch in result.front],
        }
    )


def losses(archs: list[Architecture], seeds: Sequence[int]) -> list[float]:
    """Mean held-out bits per byte of full trainings; those of `cheap_search.py` are the same."""
    rows = kept("training") + [json.loads(line) for line in SHARED.read_text().splitlines()]
    there = {(row["id"], row["seed"]): row["value"] for row in rows}
    for arch in archs:
        for seed in seeds:
            if (arch.id, seed) not in there:
                value = train(arch, fidelity_arms.corpus(), tokens=fidelity_arms.TOKENS, seed=seed).bits_per_byte
                there[arch.id, seed] = value
                keep({"kind": "training", "id": arch.id, "label": label(arch), "seed": seed, "value": value})
    return [statistics.mean(there[arch.id, seed] for seed in seeds) for arch in archs]


def front_of(archs: list[Architecture], seeds: Sequence[int]) -> float:
    points = np.array([[loss, Latency().predict(a)] for loss, a in zip(losses(archs, seeds), archs, strict=True)])
    return hypervolume(points, REFERENCE)


def random_search(archs: list[Architecture], data: Path, seeds: Sequence[int]) -> dict[int, tuple[float, float]]:
    """{trainings: (mean, standard deviation)} of the hypervolume."""
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    full = {(row["index"], row["seed"]): row["value"] for row in rows if row["arm"] == "reference"}
    milliseconds = np.array([Latency().predict(arch) for arch in archs])
    chosen_by = np.array([full[i, 0] for i in range(len(archs))])
    compared = np.array([statistics.mean(full[i, seed] for seed in seeds) for i in range(len(archs))])
    rng, found = np.random.default_rng(0), {}
    for n in range(4, len(archs) + 1):
        values = []
        for _ in range(SUBSETS if n < len(archs) else 1):
            some = rng.choice(len(archs), n, replace=False)
            front = some[non_dominated(np.stack([chosen_by[some], milliseconds[some]], 1))]
            values.append(hypervolume(np.stack([compared[front], milliseconds[front]], 1), REFERENCE))
        found[n] = float(np.mean(values)), float(np.std(values))
    return found


def at(table: dict[int, tuple[float, float]], cost: float) -> float:
    """The mean hypervolume of random search at a cost between whole numbers of trainings."""
    return float(np.interp(cost, list(table), [mean for mean, _ in table.values()]))


def report(archs: list[Architecture], data: Path, seeds: Sequence[int]) -> dict[str, Any]:
    table = random_search(archs, data, seeds)
    figures: dict[str, Any] = {
        **envelope(
            "hypervolume of re-trained fronts of searches by gradients, beside random search at the same cost", "torch"
        ),
        "reference_point": REFERENCE,
        "seeds_of_trainings": list(seeds),
        "random": {n: [round(mean, 4), round(sd, 4)] for n, (mean, sd) in table.items()},
        "searches": {},
    }
    for row in kept("search"):
        front = {arch.id: arch for arch in map(TinyGPT.architecture, row["front"])}
        found = front_of(list(front.values()), seeds)
        training = statistics.mean(row["training_cpu_s"])
        by_cpu = row["cpu_s"] / training + len(front)
        trained, looked_at = PASSES.get(row["name"], (1.0, 1 / 3))
        by_tokens = (row["tokens"][0] * trained + row["tokens"][1] * looked_at) / fidelity_arms.TOKENS
        figures["searches"].setdefault(row["name"], []).append(
            {
                "seed": row["seed"],
                "machine": row["machine"],
                "search_cpu_s": row["cpu_s"],
                "training_cpu_s": round(training, 2),
                "front": len(front),
                "cost_by_cpu": round(by_cpu, 2),
                "cost_by_tokens": round(by_tokens + len(front), 2),
                "hypervolume": round(found, 4),
                "random_at_cost_by_cpu": round(at(table, by_cpu), 4),
                "random_at_cost_by_tokens": round(at(table, by_tokens + len(front)), 4),
                "stopped": row["stopped"],
            }
        )
    return figures


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(SEARCHES), choices=list(SEARCHES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--trainings", type=int, nargs="*", default=[1, 2], help="seeds of the trainings that are compared"
    )
    parser.add_argument("--data", type=Path, default=RESULTS / "fidelity_raw.jsonl", help="raw file of fidelity.py")
    parser.add_argument("--report", action="store_true", help="search nothing")
    options = parser.parse_args(argv)
    archs = fidelity_arms.architectures(fidelity_arms.FIRST)
    for seed in range(options.seeds):
        for name in options.only if not options.report else ():
            losses([TinyGPT.architecture(flat) for flat in searched(name, seed, archs)["front"]], options.trainings)
    write(report(archs, options.data, options.trainings), "gradient_search.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
