"""Who is trained next: how a supernet draws the architectures of one step. Each class is one published rule."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any, Protocol

from nas_bo.architecture import Architecture
from nas_bo.errors import ModelError
from nas_bo.space.domain import Choice, Domain
from nas_bo.supernet.coverage import Extent
from nas_bo.validated import check_fields, checked, whole_number

COUNT = whole_number(1).advise("it is a whole number of draws in every step")


class Sampling(Protocol):
    """Draws the architectures whose gradients make up one step; all of them see the same batch.

    Attributes:
        leads: whether the first one drawn is a large one that the others may learn from (distillation).
    """

    @property
    def leads(self) -> bool: ...

    def draw(self, extent: Extent, rng: random.Random) -> list[Architecture]:
        """The architectures of one step. All randomness comes from `rng`."""


@dataclass(frozen=True)
class Uniform:
    """Every choice uniform among its values, one path at a time (Guo et al. 2020, SPOS, arXiv 1904.00420, section 3.2).

    Args:
        passes: architectures per step.
    """

    passes: int = checked(1, COUNT)
    leads: bool = False

    def __post_init__(self) -> None:
        check_fields(self, ModelError)

    def draw(self, extent: Extent, rng: random.Random) -> list[Architecture]:
        return [extent.space.sample(rng) for _ in range(self.passes)]


@dataclass(frozen=True)
class Balanced:
    """Uniform over the size: a target is drawn uniformly in the logarithm of the parameters, and the nearest of some
    uniform draws is taken, so that small and large networks, rare among uniform draws, are trained as often as those of
    middle size (after the FLOPs-uniform draws of Guo et al. 2020, arXiv 1904.00420, section 3.2, and Wang et al. 2021,
    AttentiveNAS, arXiv 2011.09011, section 3.3).

    Args:
        passes: architectures per step.
        among: draws from which the nearest is taken; 1 is uniform sampling.
    """

    passes: int = checked(1, COUNT)
    among: int = checked(32, COUNT)
    leads: bool = False

    def __post_init__(self) -> None:
        check_fields(self, ModelError)

    def draw(self, extent: Extent, rng: random.Random) -> list[Architecture]:
        low, high = (math.log(extent.size(one())[0]) for one in (extent.smallest, extent.largest))
        found = []
        for _ in range(self.passes):
            target = low + rng.random() * (high - low)
            drawn = [extent.space.sample(rng) for _ in range(self.among)]
            found.append(min(drawn, key=lambda arch: abs(math.log(extent.size(arch)[0]) - target)))
        return found


@dataclass(frozen=True)
class Fair:
    """Strict fairness (Chu et al. 2021, FairNAS, arXiv 1907.01845, algorithm 1): within one step every operation of
    every layer is trained equally often, since a random permutation of the operations is dealt out over the passes.
    All other choices are uniform; where the operations of two decisions differ in number, the shorter permutation begins
    again, so they are equal only where one number divides the other.

    Args:
        rounds: permutations per step.
        same_depth: whether all passes of a step have the same number of layers: else an operation of a deep layer is
            dealt to a pass that has no such layer.
    """

    rounds: int = checked(1, COUNT)
    same_depth: bool = True
    leads: bool = False

    def __post_init__(self) -> None:
        check_fields(self, ModelError)

    def draw(self, extent: Extent, rng: random.Random) -> list[Architecture]:
        operations = {p: d for p, d in extent.domains.items() if isinstance(d, Choice) and d.options}
        passes = max((d.size for d in operations.values()), default=1)
        found: list[Architecture] = []
        for _ in range(self.rounds):
            dealt = {path: _dealt(domain.values, passes, rng) for path, domain in operations.items()}
            held = {path: extent.domains[path].sample(rng) for path in sorted(extent.counts)} if self.same_depth else {}
            for turn in range(passes):

                def pick(path: str, domain: Domain, turn: int = turn, dealt: Any = dealt, held: Any = held) -> Any:
                    if path in dealt:
                        return dealt[path][turn]
                    return held[path] if path in held else domain.sample(rng)

                arch = extent.space.decide(pick)
                found.append(arch if not extent.space.violations(arch) else extent.space.sample(rng))
        return found


def _dealt(values: tuple[object, ...], passes: int, rng: random.Random) -> list[object]:
    order: list[object] = []
    while len(order) < passes:
        order += rng.sample(values, len(values))
    return order[:passes]


@dataclass(frozen=True)
class Sandwich:
    """The sandwich rule (Yu and Huang 2019, arXiv 1903.05134, section 3.2): the largest, the smallest, and some between
    them in every step; the largest teaches the others. Where layers choose among operations there is no one largest
    network: a random choice of operations is drawn, and the largest and the smallest with it are taken.

    Args:
        between: how those between are drawn.
        largest, smallest: whether they are in.
    """

    between: Sampling = field(default_factory=lambda: Uniform(2))
    largest: bool = True
    smallest: bool = True

    @property
    def leads(self) -> bool:
        return self.largest

    def draw(self, extent: Extent, rng: random.Random) -> list[Architecture]:
        like = extent.space.sample(rng)
        found = [extent.largest(like)] if self.largest else []
        if self.smallest:
            found.append(extent.smallest(like))
        return found + self.between.draw(extent, rng)
