"""Are our strategies better than drawing at random, for the same number of trained architectures?

    python -m benchmarks.against_random.run [--seeds 3] [--tokens 100000] [--strategy bayes]

The default space and objectives at a smaller training budget, 30 trials, paired seeds. Figures: hypervolume of (bits per byte,
modelled latency in ms) below the reference point (3.2, 3.6), after 20 and 30 trials; the latency is the modelled one that
strategies steer by, so that the noise of measuring does not decide. Beside them the front of an order by parameter
count alone: the 30 architectures of the random search sorted by size, every one kept that is larger than all faster ones.
Writes benchmarks/results/against_random.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.common import envelope, write
from nas_bo import search
from nas_bo.objectives import Latency, ValidationLoss
from nas_bo.pareto import hypervolume
from nas_bo.problem import Function
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import NSGA2, Bayes, Random
from nas_bo.trial import Trial

REFERENCE = (3.2, 3.6)
ARMS: dict[str, Callable[[int], Any]] = {
    "random": lambda seed: Random(seed=seed),
    "bayes": lambda seed: Bayes(seed=seed),
    "nsga2": lambda seed: NSGA2(seed=seed),
}


def modelled_ms(arch: Any) -> float:
    return Latency().predict(arch)


def volume(trials: Sequence[Trial]) -> float:
    points = np.array([[t.values["bits_per_byte"], t.values["modelled_ms"]] for t in trials])
    return hypervolume(points, REFERENCE)


def by_size(trials: Sequence[Trial]) -> list[Trial]:
    """What someone keeps who believes that larger is better: from fast to slow, each that is larger than all before."""
    kept: list[Trial] = []
    for t in sorted(trials, key=lambda t: t.values["modelled_ms"]):
        if not kept or t.info["bits_per_byte"]["parameters"] > kept[-1].info["bits_per_byte"]["parameters"]:
            kept.append(t)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=float, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--strategy", action="append", choices=[n for n in ARMS if n != "random"])
    given = parser.parse_args()
    arms = ["random", *(given.strategy or ["bayes", "nsga2"])]
    latency = Function(modelled_ms, "modelled_ms", "ms", cost="analytic")
    rows: dict[str, dict[str, list[float]]] = {arm: {"20": [], "30": [], "by_size": []} for arm in arms}
    start = time.perf_counter()
    for seed in range(given.seeds):
        for arm in arms:
            result = search(
                TinyGPT,
                [ValidationLoss(tokens=given.tokens), latency],
                strategy=ARMS[arm](seed),
                trials=30,
                workers=given.workers,
                retrain=0,
                study_name=f"{arm}{seed}",
            )
            for n in (20, 30):
                rows[arm][str(n)].append(round(volume(result.trials[:n]), 4))
            rows[arm]["by_size"].append(round(volume(by_size(result.trials)), 4))
            print(
                seed, arm, {k: v[-1] for k, v in rows[arm].items()}, f"{time.perf_counter() - start:.0f} s", flush=True
            )
    figures = {
        arm: {k: {"mean": round(statistics.mean(v), 4), "seeds": v} for k, v in row.items()}
        for arm, row in rows.items()
    }
    what = "hypervolume of (bits_per_byte, modelled latency) below the reference point, larger is better"
    more = {"reference": REFERENCE, "tokens": given.tokens, "repeats": given.seeds, "figures": figures}
    machine = {"cores_used": given.workers}
    write(envelope(what, "torch", "optuna", machine=machine, **more), "against_random.json")


if __name__ == "__main__":
    main()
