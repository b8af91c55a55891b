"""Optuna studies with constraints: how many trials meet them, and how good is the best that does?

    python -m benchmarks.limits.run [--seeds 3] [--minutes 60]

Problems: `area`, minimise x + y where x y is at least 0.1 (the best is 0.632); `scales`, six parameters, two of them
categorical, under two limits of which one is seven orders of magnitude larger and heavy-tailed. Amounts are told by
`Trial.set_constraint`. Arms: `Sampler` with `Bayes` and `Random`, Optuna's GPSampler and TPESampler.

Writes benchmarks/results/limits.json after every run; what is there already is not run again.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import optuna

from benchmarks.common import RESULTS, envelope
from nas_bo.optuna import Sampler
from nas_bo.strategies import Bayes, Random

OUT = RESULTS / "limits.json"
LAST = 20  # trials whose share of feasible ones is told


def area(trial: optuna.Trial) -> float:
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    trial.set_constraint("area", 0.1 - x * y)
    return x + y


def scales(trial: optuna.Trial) -> float:
    a, b, c = (trial.suggest_float(name, 0, 1) for name in "abc")
    depth, width = trial.suggest_int("depth", 1, 12), trial.suggest_categorical("width", [16, 32, 64, 128])
    kind = trial.suggest_categorical("kind", ["p", "q", "r"])
    delay = 3.0 * depth * (width / 16) ** 0.8 * (1.5 if kind == "q" else 1.0)
    trial.set_constraint("delay", delay - 40.0)
    trial.set_constraint("memory", math.exp(3 * a + 2 * b) * 1e6 * width / 16 - 1e8)
    worse = (a - 0.3) ** 2 + (b - 0.7) ** 2 + 0.3 * abs(c - 0.5) + {"p": 0.3, "q": 0.0, "r": 0.1}[kind]
    return worse - 0.05 * depth - 0.1 * math.log2(width / 16)


PROBLEMS: dict[str, tuple[Callable[[optuna.Trial], float], int]] = {"area": (area, 30), "scales": (scales, 40)}
ARMS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "Bayes": lambda seed: Sampler(strategy=Bayes(seed=seed), seed=seed),
    "Random": lambda seed: Sampler(strategy=Random(seed=seed), seed=seed),
    "TPESampler": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "GPSampler": lambda seed: optuna.samplers.GPSampler(seed=seed),
}


def run(problem: str, arm: str, seed: int) -> dict[str, Any]:
    objective, trials = PROBLEMS[problem]
    study, began = optuna.create_study(sampler=ARMS[arm](seed)), time.process_time()
    study.optimize(objective, n_trials=trials)
    met = [all(amount <= 0 for amount in trial.constraints.values()) for trial in study.trials]
    values = [trial.value for trial, ok in zip(study.trials, met, strict=True) if ok and trial.value is not None]
    return {
        "problem": problem, "arm": arm, "seed": seed, "trials": trials,
        "feasible_of_last_20": sum(met[-LAST:]), "best": round(min(values), 4) if values else None,
        "cpu_s": round(time.process_time() - began, 1),
    }  # fmt: skip


def document(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return envelope(
        "Optuna studies with constraints: trials that meet them, and the best of these", "optuna", runs=runs
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start nothing new after that")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    found = json.loads(OUT.read_text())["runs"] if OUT.exists() else []
    done = {(r["problem"], r["arm"], r["seed"]) for r in found}
    start = time.monotonic()
    for arm in ARMS:
        for problem in PROBLEMS:
            for seed in range(given.seeds):
                if (problem, arm, seed) in done or time.monotonic() - start > 60 * given.minutes:
                    continue
                found.append(run(problem, arm, seed))
                print(found[-1], flush=True)
                OUT.write_text(json.dumps(document(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
