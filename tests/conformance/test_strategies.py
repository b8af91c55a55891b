"""The shipped suite on every strategy of ours that needs no training, and on one by somebody who read only the contract."""

from __future__ import annotations

from dataclasses import dataclass

from nas_bo.strategies.strategy import fresh, generator
from nas_bo.testing import StrategyTests
from tests.strategies.cases import STRATEGIES


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


for one in (Minimal(), *STRATEGIES):
    name = f"Test{type(one).__name__}"
    globals()[name] = type(name, (StrategyTests,), {"strategy": one, "__module__": __name__})
