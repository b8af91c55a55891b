"""Choosing among given architectures: those of a published table, of a model zoo, or the finalists of another search.

Notation: n candidates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.strategies.auto import Auto
from nas_bo.strategies.bayes import Bayes
from nas_bo.strategies.strategy import Choosing, Seeded, Strategy, admissible, seen_ids
from nas_bo.surrogate.features import features_of, varying
from nas_bo.surrogate.profile import profile_of
from nas_bo.trial import State, Trial
from nas_bo.wording import counted


@dataclass(frozen=True)
class Among:
    """A strategy that suggests nothing but these architectures.

    `Bayes` and `Random` choose among them directly. Of another strategy each suggestion becomes the nearest architecture that is left,
    by its summaries and its profile over depth, each scaled to its range: the history then holds what was evaluated, so the
    strategy continues from there. A study notes how many architectures there are and a digest of them, not the architectures: a search
    that continues it is given them again.

    Attributes:
        architectures: of the problem's space; equal ones count once.
        strategy: which chooses.

    Raises:
        SearchError: no architectures.
    """

    architectures: Sequence[Architecture] = field(repr=False)
    strategy: Strategy = field(default_factory=Bayes)

    def __post_init__(self) -> None:
        once = tuple({arch.id: arch for arch in self.architectures}.values())
        if not once:
            raise SearchError(
                "Among has no architectures to choose from; give it at least one of the space that is searched"
            )
        object.__setattr__(self, "architectures", once)

    def __repr__(self) -> str:
        digest = hashlib.sha256("".join(arch.id for arch in self.architectures).encode()).hexdigest()[:12]
        return f"Among(<{counted(len(self.architectures), 'architecture')}, {digest}>, strategy={self.strategy!r})"

    @property
    def seed(self) -> int:
        """That of the strategy, 0 where it has none."""
        return self.strategy.seed if isinstance(self.strategy, Seeded) else 0

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        seen = seen_ids(trials)
        left = [arch for arch in self.architectures if arch.id not in seen and admissible(problem, arch)]
        if not left:
            return []
        strategy = self.strategy.choice(len(trials))[0] if isinstance(self.strategy, Auto) else self.strategy
        if isinstance(strategy, Choosing):
            return strategy.choose(problem, trials, left, n)
        chosen: list[Architecture] = []
        while len(chosen) < min(n, len(left)):
            asked = [*trials, *(Trial(arch, state=State.RUNNING) for arch in chosen)]
            wanted = strategy.suggest(problem, asked, 1)
            rest = [arch for arch in left if arch not in chosen]
            chosen.append(rest[nearest(problem.space, rest, wanted[0])] if wanted else rest[0])
        return chosen


def nearest(space: type[Space], candidates: Sequence[Architecture], wanted: Architecture) -> int:
    """The number of the candidate that is most like `wanted`."""
    features, profile = features_of(space), profile_of(space)
    genomes = features.genomes.encode([*candidates, wanted])
    columns = np.concatenate([features.of(genomes)[:, : features.width], profile.of(genomes)], axis=1)
    keep = varying(columns)
    scaled = columns[:, keep] / np.ptp(columns[:, keep], axis=0)
    return int(((scaled[:-1] - scaled[-1]) ** 2).sum(1).argmin())


__all__ = ["Among", "nearest"]
