"""What does a search find in a fifth of the price of a random search with full training?

    python -m benchmarks.cheap_search.run [--seeds 1] [--data RAW]

Random search: the 32 reference architectures of `fidelity.py` (500,000 tokens each: the price T), its front by the loss of seed 0. Ours:
`Bayes` with `ValidationLoss.quick(cost=0.1)`, as many evaluations as cost T / 5. Size: of 2,000 random architectures the largest one under each
latency of our front. The chosen architectures are trained in full with the seeds 1 and 2, which is not counted for any of the three, and compared by
the hypervolume of (mean loss, modelled latency) below the reference point (3.2 bits per byte, 3.6 ms). Every training is kept in
benchmarks/results/cheap_search_raw.jsonl, and every finished seed in benchmarks/results/cheap_search.json, so it may be stopped and started again
(delete both to begin anew). About ten minutes of one core for a seed.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, envelope, write
from benchmarks.fidelity import arms as fidelity_arms
from nas_bo import search
from nas_bo.architecture import Architecture
from nas_bo.hardware.measuring.measure import device_name
from nas_bo.model import parameters, train
from nas_bo.objectives import Latency, ValidationLoss
from nas_bo.pareto import hypervolume
from nas_bo.problem import Function
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Bayes
from nas_bo.trial import non_dominated

OUT = RESULTS / "cheap_search.json"
REFERENCE = (3.2, 3.6)
SHARE = 0.1  # of a full training that a quick one costs
SEEDS = (1, 2)  # of the trainings that are compared


def modelled_ms(arch: Architecture) -> float:
    return Latency().predict(arch)


def trained(archs: Sequence[Architecture], raw: Path) -> np.ndarray:
    """(n, 2): mean loss of full trainings, modelled latency."""
    kept = {}
    if raw.exists():
        for line in raw.read_text().splitlines():
            row = json.loads(line)
            kept[row["id"], row["seed"]] = row["value"]
    for arch in archs:
        for seed in SEEDS:
            if (arch.id, seed) not in kept:
                value = train(arch, fidelity_arms.corpus(), tokens=fidelity_arms.TOKENS, seed=seed).bits_per_byte
                kept[arch.id, seed] = value
                with raw.open("a") as file:
                    file.write(
                        json.dumps({"id": arch.id, "seed": seed, "value": value, "flat": dict(arch.flat)}) + "\n"
                    )
    return np.array([[np.mean([kept[a.id, s] for s in SEEDS]), modelled_ms(a)] for a in archs])


def front(archs: Sequence[Architecture], losses: Sequence[float]) -> list[Architecture]:
    points = np.array([[loss, modelled_ms(a)] for a, loss in zip(archs, losses, strict=True)])
    return [archs[i] for i in np.flatnonzero(non_dominated(points))]


def largest(latencies: Sequence[float]) -> list[Architecture]:
    """Who believes that larger is better takes the largest one that is fast enough."""
    pool = {a.id: a for a in (TinyGPT.sample(10_000 + i) for i in range(2000))}.values()
    sized = [(modelled_ms(a), parameters(a, 256), a) for a in pool]
    chosen = {}
    for bound in latencies:
        below = [one for one in sized if one[0] <= bound]
        if below:
            best = max(below, key=lambda one: one[1])[2]
            chosen[best.id] = best
    return list(chosen.values())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="of our search")
    parser.add_argument("--data", type=Path, default=RESULTS / "fidelity_raw.jsonl", help="raw file of fidelity.py")
    options = parser.parse_args(argv)
    raw = RESULTS / "cheap_search_raw.jsonl"
    archs = fidelity_arms.architectures(fidelity_arms.FIRST)
    lines = [json.loads(line) for line in options.data.read_text().splitlines()]
    full = {(r["index"], r["seed"]): r["value"] for r in lines if r["arm"] == "reference"}
    chosen = front(archs, [full[i, 0] for i in range(len(archs))])
    at = {a.id: i for i, a in enumerate(archs)}
    points = np.array([[np.mean([full[at[a.id], s] for s in SEEDS]), modelled_ms(a)] for a in chosen])
    figures: dict[str, Any] = {
        **envelope(
            "hypervolume of re-trained fronts; a random search, `quick` losses, the largest under each latency", "torch"
        ),
        "reference_point": REFERENCE,
        "random": {
            "trainings": len(archs),
            "front": len(chosen),
            "hypervolume": round(hypervolume(points, REFERENCE), 4),
        },
        "bayes_quick": [],
        "largest_under_each_latency": [],
    }
    evaluations = int(len(archs) / 5 / SHARE)
    known = json.loads(OUT.read_text()) if OUT.exists() else {"bayes_quick": [], "largest_under_each_latency": []}
    figures |= {name: known[name] for name in ("bayes_quick", "largest_under_each_latency")}
    for seed in range(len(figures["bayes_quick"]), options.seeds):
        began = time.process_time()
        result = search(
            TinyGPT,
            [
                ValidationLoss.quick(fidelity_arms.TOKENS, SHARE, seed=7),
                Function(modelled_ms, "modelled_ms", "ms", cost="analytic"),
            ],
            strategy=Bayes(seed=seed),
            trials=evaluations,
            retrain=0,
        )
        spent = time.process_time() - began
        ours = [t.architecture for t in result.front]
        found = trained(ours, raw)
        figures["bayes_quick"].append(
            {
                "seed": seed,
                "machine": device_name("cpu"),
                "evaluations": evaluations,
                "search_cpu_s": round(spent, 1),
                "front": len(ours),
                "hypervolume": round(hypervolume(found, REFERENCE), 4),
            }
        )
        sized = largest([modelled_ms(a) for a in ours])
        figures["largest_under_each_latency"].append(
            {"seed": seed, "front": len(sized), "hypervolume": round(hypervolume(trained(sized, raw), REFERENCE), 4)}
        )
        write(figures | summary(figures), OUT)
    return 0


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    """Mean and standard deviation of the hypervolumes over seeds."""
    found = {}
    for name in ("bayes_quick", "largest_under_each_latency"):
        values = [one["hypervolume"] for one in figures[name]]
        sd = round(statistics.stdev(values), 4) if len(values) > 1 else None
        found[name] = {"seeds": len(values), "mean": round(statistics.mean(values), 4), "sd": sd}
    return {"summary": found}


if __name__ == "__main__":
    sys.exit(main())
