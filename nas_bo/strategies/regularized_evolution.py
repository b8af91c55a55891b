"""Regularized evolution (Real et al., 2019, "Regularized evolution for image classifier architecture search", AAAI)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.evolution import DONORS, Breed, Niche, evolve
from nas_bo.strategies.history import Past
from nas_bo.strategies.number_variation import shift_many
from nas_bo.strategies.strategy import check_settings, generator
from nas_bo.strategies.variation import build, moved_flat
from nas_bo.trial import Trial
from nas_bo.validated import checked, whole_number

STARTUP = 10
TOGETHER = 0.5  # of the children several numbers of many values move, in addition to the one mutation


@dataclass(frozen=True)
class RegularizedEvolution:
    """Tournaments in an ageing population; children by one layer-aware mutation (algorithm 1 of the paper).

    The population is the last trials that were evaluated: the oldest dies, not the worst. The winner of a tournament
    is the one of the best non-dominated rank in the population, then the loneliest; with one objective, the best.
    Infeasible trials lose against feasible ones, the less violated wins; failed ones are not in the population. No
    child is suggested twice.

    Attributes:
        seed: a whole number, or a generator that gives one (see `nas_bo.seeds`).
        population: how many of the last trials are alive (P in the paper).
        sample: how many of them, drawn without replacement, meet in a tournament (S in the paper).
        startup: how many trials come first, corners or a design that fills the space, then random ones; when None,
            `STARTUP` or `population`, whichever is less.
        screen: how many children, each of its own tournament, are bred for each suggestion. A cheap surrogate picks
            the most promising one (see `nas_bo.strategies.screen`); 1 is the method of the paper.

    Raises:
        SearchError: a setting that is not of that kind.
    """

    seed: int = 0
    population: int = checked(50, whole_number(2))
    sample: int = checked(10, whole_number(1))
    startup: int | None = checked(None, whole_number(0).or_none())
    screen: int = checked(16, whole_number(1))

    def __post_init__(self) -> None:
        check_settings(self)

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        rng = generator("regularized evolution", self.seed, len(trials))

        def breeder(past: Past, niche: Niche) -> Breed | None:
            past = past.within(niche) if niche else past
            donors = past.best(DONORS)
            alive = past.last(self.population).best(self.population)
            if not alive:
                return None

            def breed() -> Architecture:
                # ~ uniform without replacement; `alive` is sorted, so the least index wins
                winner = min(rng.sample(range(len(alive)), min(self.sample, len(alive))))
                flat = dict(alive[winner].flat)
                if rng.random() < TOGETHER:
                    shift_many(problem.space, flat, rng)
                return build(problem.space, moved_flat(problem.space, flat, rng, 1, donors), rng)

            return breed

        startup = min(STARTUP, self.population) if self.startup is None else self.startup
        return evolve(problem, trials, n, rng, startup, self.screen, breeder)
