"""What an ask of `Bayes` costs as the history grows, and one for 64 proposals at once.

    python -m benchmarks.search_efficiency.asks --data FOLDER [--problems hwgpt-h100 deep] [--quick]

Processor seconds of one thread, after a history of random architectures: GPT-S of HW-GPT-Bench on an H100, perplexity and latency, of which the
latency is known (FOLDER as for `benchmarks.search_efficiency.run`), and `deep`, where both are unknown. An ask for one proposal is followed by
its evaluation and the next ask; `first` fits hyperparameters and fills caches, as happens once for every twentieth part of the history,
the others are `asks`. A batch is asked for after 500 trials, each time by another seed.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before numpy

import argparse
import random
import time
from pathlib import Path
from typing import Any

from benchmarks.common import envelope, spread, write
from benchmarks.search_efficiency import problems
from benchmarks.search_efficiency.problems import Case
from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies import Bayes
from nas_bo.trial import Trial

HISTORIES, ASKS = (100, 500, 1000, 2000, 5000), 5
BATCH, AFTER, BATCHES = 64, 500, 2
KNOWN = {"hwgpt-h100": True, "deep": False}  # problem -> whether its latency is known


def history(case: Case, problem: Problem, n: int) -> list[Trial]:
    rng, drawn = random.Random("asks"), dict[str, Architecture]()
    while len(drawn) < n:
        arch = case.space.sample(rng)
        drawn[arch.id] = arch
    return [problem.evaluate(arch) for arch in drawn.values()]


def timed(problem: Problem, trials: list[Trial], n: int, seed: int = 0) -> tuple[float, list[Architecture]]:
    began = time.process_time()
    found = Bayes(seed=seed).suggest(problem, trials, n)
    return time.process_time() - began, found


def single(case: Case, known: bool, n: int, asks: int) -> dict[str, Any]:
    problem = case.problem(0, known)
    trials, seconds = history(case, problem, n), []
    for _ in range(1 + asks):
        cpu, found = timed(problem, trials, 1)
        seconds.append(cpu)
        trials.append(problem.evaluate(found[0]))
    print(case.name, n, [round(cpu, 3) for cpu in seconds], flush=True)
    return {"first": round(seconds[0], 3), "asks": spread(seconds[1:]), "repeats": asks}


def batch(case: Case, known: bool, repeats: int, n: int = BATCH) -> dict[str, Any]:
    problem = case.problem(0, known)
    trials = history(case, problem, AFTER)
    seconds = [timed(problem, trials, n, seed)[0] for seed in range(repeats)]
    print(case.name, n, "at once", [round(cpu, 3) for cpu in seconds], flush=True)
    return {"batch": spread(seconds), "repeats": repeats}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of HW-GPT-Bench; without it `deep` alone")
    parser.add_argument("--problems", nargs="+", choices=KNOWN, default=list(KNOWN))
    parser.add_argument("--quick", action="store_true", help="a short history, once; nothing is kept")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    figures: dict[str, Any] = {}
    for name in ["deep"] if given.data is None else given.problems:
        case, known = problems.load([name], given.data)[0], KNOWN[name]
        sizes = HISTORIES[:1] if given.quick else HISTORIES
        single(case, known, 20, 1)  # imports
        figures[name] = {f"1 after {n}": single(case, known, n, 2 if given.quick else ASKS) for n in sizes}
        if not given.quick:
            figures[name][f"{BATCH} after {AFTER}"] = batch(case, known, BATCHES)
    what = "processor seconds of an ask of Bayes, one thread"
    machine = {"load_before": load}
    write(
        envelope(what, "nas-bo", "numpy", "scipy", machine=machine, cpu_s=figures), "search_asks.json", not given.quick
    )


if __name__ == "__main__":
    main()
