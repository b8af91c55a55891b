"""Local search (White et al., 2021, "Exploring the loss landscape in neural architecture search", UAI), with several
objectives Pareto local search (Paquete et al., 2004, in "Metaheuristics for multiobjective optimisation")."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.objective import Predicting
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.strategies.evolution import Breed, Niche, evolve
from nas_bo.strategies.history import Past, known_values
from nas_bo.strategies.strategy import check_settings, generator
from nas_bo.trial import Trial
from nas_bo.validated import checked, whole_number

STARTUP = 10
KEPT = 64  # architectures whose neighbours are remembered


@dataclass(frozen=True)
class LocalSearch:
    """Unvisited neighbours (`Space.neighbours`) of a point of the front; a random restart when all are visited.

    An improvement is used at once: the front is that of all trials so far (with one objective, the best of them). While
    nothing is feasible, the neighbours of the least violated architecture are visited. When all objectives are known
    before evaluation, neighbours that the front dominates are skipped; with an unknown one none can be.

    Attributes:
        seed: a whole number, or a generator that gives one (see `nas_bo.seeds`).
        startup: how many trials come first, half of them a design that spans the space, half random.
        screen: of how many neighbours, each of a random point of the front, a cheap surrogate picks the most promising
            (see `nas_bo.strategies.screen`); 1 is the method of the papers.

    Raises:
        SearchError: a setting that is not of that kind.
    """

    seed: int = 0
    startup: int = checked(STARTUP, whole_number(0))
    screen: int = checked(4, whole_number(1))

    def __post_init__(self) -> None:
        check_settings(self)

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        rng = generator("local search", self.seed, len(trials))

        def breeder(past: Past, niche: Niche) -> Breed:
            centres = [past.archs[i] for i in np.flatnonzero(past.front)] or past.infeasible[:1]
            front, passed = past.points[past.front], set(past.seen)

            def breed() -> Architecture | None:
                for centre in rng.sample(centres, len(centres)):  # ~ uniform over the front
                    near = [arch for arch in neighbours(problem.space, centre) if arch.id not in passed]
                    for arch in rng.sample(near, len(near)):  # ~ uniform over its neighbours
                        passed.add(arch.id)
                        if not _surely_dominated(problem, arch, front):
                            return arch
                return None

            return breed

        return evolve(problem, trials, n, rng, self.startup, self.screen, breeder)


_lock = threading.Lock()
_near: WeakKeyDictionary[type[Space], dict[str, list[Architecture]]] = WeakKeyDictionary()


def neighbours(space: type[Space], arch: Architecture) -> list[Architecture]:
    """`Space.neighbours`, remembered; none where a rule raises."""
    memory = _near.setdefault(space, {})
    found = memory.get(arch.id)
    if found is None:
        try:
            found = space.neighbours(arch)
        except Exception:
            found = []
        with _lock:
            while len(memory) >= KEPT:
                del memory[next(iter(memory))]  # the oldest
            memory[arch.id] = found
    return found


def _surely_dominated(problem: Problem, arch: Architecture, front: np.ndarray) -> bool:
    """Whether a point of the front (k, m) is as good in every objective, all of them known."""
    if any(
        not (c.cost == "analytic" or isinstance(o, Predicting))
        for c, o in zip(problem.columns, problem.objectives, strict=True)
    ):
        return False
    return bool((front <= known_values(problem, arch)).all(1).any())
