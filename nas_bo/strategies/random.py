"""Random search (Bergstra and Bengio, 2012, "Random search for hyper-parameter optimization", JMLR 13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.strategy import check_settings, fresh, generator, seen_ids
from nas_bo.trial import Trial


@dataclass(frozen=True)
class Random:
    """Independent draws without repeats: every choice uniform among its values, layer counts included.

    The baseline that every other strategy has to beat.

    Raises:
        SearchError: a seed that is none.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self)

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        rng, seen = generator("random", self.seed, len(trials)), seen_ids(trials)
        batch: list[Architecture] = []
        while len(batch) < n and (arch := fresh(problem, seen, rng)) is not None:
            seen.add(arch.id)
            batch.append(arch)
        return batch

    def choose(
        self, problem: Problem, trials: Sequence[Trial], candidates: Sequence[Architecture], n: int
    ) -> list[Architecture]:
        """See `nas_bo.strategies.strategy.Choosing`: ~ uniform without repetition."""
        rng = generator("random", self.seed, len(trials))
        return rng.sample(list(candidates), min(n, len(candidates)))
