"""NSGA-II (Deb et al., 2002, "A fast and elitist multiobjective genetic algorithm", IEEE TEC 6(2)), on a history."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.evolution import DONORS, Breed, Niche, evolve
from nas_bo.strategies.history import Past
from nas_bo.strategies.number_variation import blend, shift_many
from nas_bo.strategies.strategy import check_settings, generator
from nas_bo.strategies.variation import Donors, build, crossed_flat, moved_flat
from nas_bo.trial import Trial
from nas_bo.validated import checked, number, whole_number

STARTUP = 10
PARENTS = 8  # parents at most, unless the front is larger: with twenty of fifty trials hardly anything is selected


@dataclass(frozen=True)
class NSGA2:
    """Crowded tournaments among the best trials so far; children by layer-aware crossover and mutation.

    Steady-state: there are no generations. The parents of a child are chosen from the `population` best of *all*
    trials, so it does not matter how many workers there are or who suggested a trial. Infeasible trials rank below
    feasible ones, the less violated first (section VI of the paper); failed ones are not parents. No child is
    suggested twice.

    Attributes:
        seed: a whole number, or a generator that gives one (see `nas_bo.seeds`).
        population: from how many of the best trials parents are drawn at most: from `PARENTS`, or the front where it is
            larger.
        startup: how many trials come first, corners or a design that fills the space, then random ones; when None,
            `STARTUP` or `population`, whichever is less.
        crossover: the probability that a child has two parents.
        mutation: the probability that a child of two parents is mutated as well; after each move, that of another.
        screen: how many children are bred for each suggestion. A cheap surrogate picks the most promising one (see
            `nas_bo.strategies.screen`); 1 is the method of the paper, without a surrogate.

    Raises:
        SearchError: a setting that is not of that kind.
    """

    seed: int = 0
    population: int = checked(20, whole_number(2))
    startup: int | None = checked(None, whole_number(0).or_none())
    crossover: float = checked(0.9, number(at_least=0, at_most=1))
    mutation: float = checked(0.5, number(at_least=0, at_most=1))
    screen: int = checked(16, whole_number(1))

    def __post_init__(self) -> None:
        check_settings(self)

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        rng = generator("nsga2", self.seed, len(trials))

        def breeder(past: Past, niche: Niche) -> Breed | None:
            past = past.within(niche) if niche else past
            donors = past.best(max(self.population, DONORS))
            parents = donors[: min(self.population, max(PARENTS, int(past.front.sum())))]
            if not parents:
                return None

            def breed() -> Architecture:
                first, second = _tournament(parents, rng), _tournament(parents, rng)
                return vary(
                    problem, first, second if rng.random() < self.crossover else first, rng, self.mutation, donors
                )

            return breed

        startup = min(STARTUP, self.population) if self.startup is None else self.startup
        return evolve(problem, trials, n, rng, startup, self.screen, breeder)


def _tournament(parents: Sequence[Architecture], rng: random.Random) -> Architecture:
    """The better of two. ~ uniform pairs; `parents` are sorted, the best first."""
    return parents[min(rng.randrange(len(parents)), rng.randrange(len(parents)))]


def vary(
    problem: Problem,
    first: Architecture,
    second: Architecture,
    rng: random.Random,
    mutation: float = 0.5,
    donors: Donors = (),
) -> Architecture:
    """A child: crossover where the parents differ, then moves ~ geometric(mutation), at least one on a copy; numbers of many
    values are blended in crossover, and move together as often as not where there is a mutation at all."""
    space = problem.space
    alone = first.id == second.id
    flat = dict(first.flat) if alone else crossed_flat(space, first, second, rng)
    if not alone:
        blend(space, flat, first.flat, second.flat, rng)
    moves = int(alone or flat in (first.flat, second.flat))
    while moves < 8 and rng.random() < mutation:
        moves += 1
    if rng.random() < mutation:
        shift_many(space, flat, rng)
    return build(space, moved_flat(space, flat, rng, moves, donors), rng)


def best_trials(problem: Problem, trials: Sequence[Trial], most: int) -> list[Architecture]:
    """The architectures of the `most` best trials, best first: by rank, then by crowding; infeasible ones last.

    Equal architectures count once; trials without finite values count when they are infeasible.
    """
    return Past.of(problem, trials).best(most)
