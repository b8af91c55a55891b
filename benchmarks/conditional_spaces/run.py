"""Do strategies find good architectures in spaces with conditions and numbers of many values?

    python -m benchmarks.conditional_spaces.run [--instances 8] [--seeds 3] [--trials 100] [--arms NSGA2 optuna-tpe]

The problems are those of `boosters.py`, one for each instance. Figure: the least loss so far above the least possible one, relative
to that of the median random architecture; mean and standard error over instances and seeds, after 25, 50 and 100 evaluations. A run of an
arm of ours takes about a second of a processor, one of Optuna's TPE as long. Writes benchmarks/results/conditional_spaces.json.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.common import envelope, write
from benchmarks.conditional_spaces.boosters import LEAST, Boosters, law
from nas_bo import strategies
from nas_bo.architecture import Architecture
from nas_bo.problem import Function, Problem
from nas_bo.trial import Trial

CHECKPOINTS = (25, 50, 100)
OURS = ("Random", "NSGA2", "RegularizedEvolution", "LocalSearch", "Reinforce", "Bayes")
TPE = "optuna-tpe"


def ours(name: str, problem: Problem, seed: int) -> Iterator[float]:
    strategy, trials = getattr(strategies, name)(seed=seed), list[Trial]()
    while found := strategy.suggest(problem, trials, 1):
        trials.append(problem.evaluate(found[0]))
        yield trials[-1].values["loss"]


def optuna_tpe(problem: Problem, seed: int) -> Iterator[float]:
    import optuna

    from nas_bo.optuna import suggest

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    while True:
        trial = study.ask()
        value = problem.evaluate(suggest(trial, problem.space)).values["loss"]
        study.tell(trial, value)
        yield value


def regrets(arm: str, instance: int, seed: int, trials: int) -> dict[int, float]:
    """Evaluations -> regret."""

    def loss(arch: Architecture) -> float:
        return law(instance)(arch)

    problem, rng = Problem(Boosters, [Function(loss, "loss", cost="trained")]), random.Random(instance)
    usual = statistics.median(loss(Boosters.sample(rng)) for _ in range(300)) - LEAST
    best, found = float("inf"), {}
    for number, value in enumerate(optuna_tpe(problem, seed) if arm == TPE else ours(arm, problem, seed), 1):
        best = min(best, value)
        if number in CHECKPOINTS:
            found[number] = (best - LEAST) / usual
        if number == trials:
            break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--arms", nargs="+", choices=[*OURS, TPE], default=[*OURS[:4], TPE])
    parser.add_argument("--quick", action="store_true", help="write nothing")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    for arm in given.arms:
        runs = [regrets(arm, i, s, given.trials) for i in range(given.instances) for s in range(given.seeds)]
        for number in runs[0]:
            values = [run[number] for run in runs]
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
            figures.setdefault(arm, {})[str(number)] = {
                "mean": round(statistics.mean(values), 4),
                "se": round(error, 4),
            }
        print(arm, figures.get(arm), flush=True)
    document = envelope(
        "regret relative to the median random architecture, by evaluations", "optuna", instances=given.instances,
        seeds=given.seeds, figures=figures,
    )  # fmt: skip
    write(document, "conditional_spaces.json", keep=not given.quick)


if __name__ == "__main__":
    main()
