"""Local search (White et al., 2021, "Exploring the loss landscape in neural architecture search", UAI), with several
objectives Pareto local search (Paquete et al., 2004, in "Metaheuristics for multiobjective optimisation")."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
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
KEPT_IDS = 5_000  # and those whose neighbours' ids are


@dataclass(frozen=True)
class LocalSearch:
    """Unvisited neighbours (`Space.neighbours`) of a point of the front, then of other starting points; a random restart
    when all are visited.

    An improvement is used at once: the front is that of all trials so far (with one objective, the best of them). Once all
    neighbours of the front are visited, the best trial that no neighbour of it beats is climbed from, such as the last
    restart; there is a new one when every climb has ended. A climb ends where no neighbour is better: one that is equal
    and older ends it, too, so a plateau is left by a restart. While nothing is feasible, less violated is better. When all objectives are known
    before evaluation, neighbours that the front dominates are skipped; with an unknown one none can be.

    Attributes:
        seed: a whole number, or a generator that gives one (see `nas_bo.seeds`).
        startup: how many trials come first, corners or a design that fills the space, then random ones.
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
            visited, passed, front = Visited(problem.space, past), set(past.seen), past.points[past.front]

            def breed() -> Architecture | None:
                for centre in visited.centres(rng):
                    near = [arch for arch in neighbours(problem.space, centre) if arch.id not in passed]
                    for arch in rng.sample(near, len(near)):  # ~ uniform over its neighbours
                        passed.add(arch.id)
                        if not _surely_dominated(problem, arch, front):
                            return arch
                return None

            return breed

        return evolve(problem, trials, n, rng, self.startup, self.screen, breeder)


class Visited:
    """The trials of a past as places to climb from."""

    def __init__(self, space: type[Space], past: Past) -> None:
        self._space, self._past = space, past
        self._front = [past.archs[i] for i in np.flatnonzero(past.front)]
        self._rest: list[Architecture] | None = None
        self._order = {arch.id: i for i, arch in enumerate(past.archs)}
        self._violated = {arch.id: i for i, arch in enumerate(past.infeasible)}

    def centres(self, rng: random.Random) -> Iterator[Architecture]:
        """The front ~ in any order, then the tops of other climbs, the best first."""
        for arch in rng.sample(self._front, len(self._front)):
            if not self._ends(arch):
                yield arch
        if self._rest is None:
            known = {arch.id for arch in self._front}
            every = self._past.best(len(self._past.archs) + len(self._past.infeasible))
            self._rest = [arch for arch in every if arch.id not in known]
        for arch in self._rest:
            if not self._ends(arch):
                yield arch

    def _ends(self, arch: Architecture) -> bool:
        """Whether a visited neighbour is where a climb that came by continues, or has ended."""
        return any(self._beats(key, arch.id) for key in near_ids(self._space, arch))

    def _beats(self, other: str, arch: str) -> bool:
        """Whether the visited architecture `other` is better than `arch`, or equal and older."""
        if arch in self._violated:  # by violation, those of the same by id: these are in one order
            return other in self._order or self._violated.get(other, len(self._violated)) < self._violated[arch]
        if other not in self._order:
            return False
        here, there = self._order[arch], self._order[other]
        one, two = self._past.points[here], self._past.points[there]
        return bool((two <= one).all() and ((two < one).any() or there < here))


_lock = threading.Lock()
_near: WeakKeyDictionary[type[Space], dict[str, list[Architecture]]] = WeakKeyDictionary()


_ids: WeakKeyDictionary[type[Space], dict[str, frozenset[str]]] = WeakKeyDictionary()


def near_ids(space: type[Space], arch: Architecture) -> frozenset[str]:
    """The ids of `neighbours`, of many more architectures."""
    memory = _ids.setdefault(space, {})
    if arch.id not in memory:
        with _lock:
            while len(memory) >= KEPT_IDS:
                del memory[next(iter(memory))]
        memory[arch.id] = frozenset(near.id for near in neighbours(space, arch))
    return memory[arch.id]


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
