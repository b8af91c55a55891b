"""The shipped suite on every strategy of ours that needs no training, and on one by somebody who read only the contract."""

from __future__ import annotations

from dataclasses import dataclass

from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution, Reinforce, Successive
from nas_bo.strategies.strategy import fresh, generator
from nas_bo.testing import StrategyTests


@dataclass(frozen=True)
class Minimal:
    seed: int = 0

    def suggest(self, problem, trials, n):
        rng, seen = generator("minimal", self.seed, len(trials)), {t.architecture.id for t in trials}
        found = []
        while len(found) < n and (arch := fresh(problem, seen, rng)) is not None:
            seen.add(arch.id)
            found.append(arch)
        return found


STRATEGIES = (
    Minimal(),
    Random(),
    NSGA2(population=4),
    RegularizedEvolution(population=6, sample=2, startup=4),
    LocalSearch(startup=4),
    Successive((Random(), 3), NSGA2(startup=0, screen=1)),
    Reinforce(startup=4),
    Bayes(startup=4, candidates=20),
)
for one in STRATEGIES:
    name = f"Test{type(one).__name__}"
    globals()[name] = type(name, (StrategyTests,), {"strategy": one, "__module__": __name__})
