"""A new strategy: one method, a pure function of the history. It then works in search(), in Optuna and in Ax."""

import random
from dataclasses import dataclass

import optuna

from nas_bo import search
from nas_bo.objectives import Flops, Parameters
from nas_bo.optuna import Sampler, suggest
from nas_bo.search_spaces import TinyGPT


@dataclass(frozen=True)
class HillClimber:
    """Neighbours of the best trials so far, with random architectures in between."""

    seed: int = 0
    explore: float = 0.2

    def suggest(self, problem, trials, n):
        rng = random.Random(f"{self.seed}/{len(trials)}")  # nothing else may be random, so that a search can be resumed
        seen = {t.architecture.id for t in trials}
        ranked = sorted((g.sum(), t.number, t) for t in trials if (g := problem.guide(t)) is not None)
        found = []
        for _ in range(1000):
            if len(found) == n:
                break
            if not ranked or rng.random() < self.explore:
                arch = problem.space.sample(rng)
            else:
                arch = rng.choice(problem.space.neighbours(rng.choice(ranked[:5])[2].architecture))
            if arch.id not in seen and problem.admissible(arch):
                seen.add(arch.id)
                found.append(arch)
        return found


def closeness(arch) -> float:
    """Stands for quality, so that this example takes a second: how near the model is to 100,000 parameters."""
    return abs(Parameters()(arch) - 100_000) / 1000


if __name__ == "__main__":
    print(search(TinyGPT, [closeness], strategy=HillClimber(), trials=60).table())

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=Sampler(TinyGPT, HillClimber(seed=1)))
    study.optimize(lambda trial: (closeness(arch := suggest(trial, TinyGPT)), Flops()(arch)), n_trials=40)
    print(len(study.best_trials), "points on the front; the nearest:", min(t.values[0] for t in study.best_trials))
