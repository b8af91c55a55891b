"""NSGA-II (Deb et al., 2002, "A fast and elitist multiobjective genetic algorithm", IEEE TEC 6(2)), on a history."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.pareto import crowding, ranks
from nas_bo.strategies.strategy import (
    admissible,
    check_count,
    check_seed,
    check_share,
    fresh,
    generator,
    guide,
    seen_ids,
    violation,
)
from nas_bo.strategies.variation import build, crossed_flat, moved_flat
from nas_bo.trial import State, Trial

TRIES = 50  # children that may be seen or forbidden before a random architecture takes their place


@dataclass(frozen=True)
class NSGA2:
    """Crowded tournaments among the best trials so far; children by layer-aware crossover and mutation.

    Steady-state: there are no generations. The parents of a child are chosen from the `population` best of *all*
    trials, so it does not matter how many workers there are or who suggested a trial. Infeasible trials rank below
    feasible ones, the less violated first (section VI of the paper); failed ones are no parents. No child is
    suggested twice.

    Attributes:
        seed: a whole number.
        population: from how many of the best trials parents are drawn.
        startup: how many random trials come first; `population` when None.
        crossover: the probability that a child has two parents.
        mutation: the probability that a child of two parents is mutated as well; after each move, that of another.

    Raises:
        SearchError: a setting that is not of that kind.
    """

    seed: int = 0
    population: int = 20
    startup: int | None = None
    crossover: float = 0.9
    mutation: float = 0.5

    def __post_init__(self) -> None:
        check_seed(self)
        check_count(self, "population", 2)
        if self.startup is not None:
            check_count(self, "startup", 0)
        check_share(self, "crossover")
        check_share(self, "mutation")

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        rng, seen = generator("nsga2", self.seed, len(trials)), seen_ids(trials)
        parents = best_trials(problem, trials, self.population)
        startup = self.population if self.startup is None else self.startup
        batch: list[Architecture] = []
        while len(batch) < n:
            arch = self._child(problem, parents, seen, rng) if parents and len(trials) + len(batch) >= startup else None
            arch = fresh(problem, seen, rng) if arch is None else arch
            if arch is None:
                break
            seen.add(arch.id)
            batch.append(arch)
        return batch

    def _child(
        self, problem: Problem, parents: list[Architecture], seen: set[str], rng: random.Random
    ) -> Architecture | None:
        for _ in range(TRIES):
            first, second = _tournament(parents, rng), _tournament(parents, rng)
            arch = vary(problem, first, second if rng.random() < self.crossover else first, rng, self.mutation)
            if arch.id not in seen and admissible(problem, arch):
                return arch
        return None


def _tournament(parents: Sequence[Architecture], rng: random.Random) -> Architecture:
    """The better of two. ~ uniform pairs; `parents` are sorted, the best first."""
    return parents[min(rng.randrange(len(parents)), rng.randrange(len(parents)))]


def vary(
    problem: Problem, first: Architecture, second: Architecture, rng: random.Random, mutation: float = 0.5
) -> Architecture:
    """A child: crossover where the parents differ, then moves ~ geometric(mutation), at least one on a copy."""
    alone = first.id == second.id
    flat = dict(first.flat) if alone else crossed_flat(problem.space, first, second, rng)
    moves = int(alone or flat in (first.flat, second.flat))
    while moves < 8 and rng.random() < mutation:
        moves += 1
    return build(problem.space, moved_flat(problem.space, flat, rng, moves), rng)


def best_trials(problem: Problem, trials: Sequence[Trial], most: int) -> list[Architecture]:
    """The architectures of the `most` best trials, best first: by rank, then by crowding; infeasible ones last.

    Equal architectures count once; trials without finite values count when they are infeasible.
    """
    feasible, points, infeasible = [], [], []
    for trial in {t.architecture.id: t for t in trials if t.state in (State.COMPLETE, State.INFEASIBLE)}.values():
        values, broken = guide(problem, trial), violation(trial)
        if broken > 0:
            infeasible.append((broken, trial.architecture.id, trial.architecture))
        elif values is not None:
            feasible.append(trial.architecture)
            points.append(values)
    chosen: list[Architecture] = []
    if feasible:
        matrix = np.array(points)
        rank = ranks(matrix, until=most)
        for level in range(int(rank.max()) + 1):
            rows = np.flatnonzero(rank == level)
            lonely = np.argsort(-crowding(matrix[rows]), kind="stable")
            chosen += [feasible[i] for i in rows[lonely]]
            if len(chosen) >= most:
                break
    chosen += [arch for _, _, arch in sorted(infeasible, key=lambda entry: entry[:2])[: max(0, most - len(chosen))]]
    return chosen[:most]
