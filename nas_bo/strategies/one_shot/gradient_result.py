"""What a search by gradients found, as plain data and its shared weights."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.space import Space
from nas_bo.strategies.one_shot.relaxation import relaxation_of

if TYPE_CHECKING:
    from nas_bo.supernet.weights import Supernet


@dataclass(frozen=True)
class Look:
    """One distribution at one moment.

    Attributes:
        update: architecture updates done.
        weight: its lambda.
        loss: expected held-out nats per token, the mean since the last look; NaN where none was estimated.
        cost: expected cost in the unit of the objective.
        entropy: mean entropy of a decision, 1 when uniform, 0 when decided.
        skips: the share of blocks that are skips, of those that can be one; NaN where none can.
        eigenvalue: the largest one of the Hessian of the held-out loss, for strategies that have it.
    """

    update: int
    weight: float
    loss: float
    cost: float
    entropy: float
    skips: float
    eigenvalue: float | None = None


@dataclass(frozen=True)
class DartsResult:
    """What a gradient-based search found.

    Attributes:
        lambdas: the weights of the cost, one per distribution.
        logits: the distributions, (P,) each, of `nas_bo.strategies.one_shot.relaxation.Relaxation`.
        front: the most probable architecture of every distribution, in the order of the lambdas.
        history: what was seen on the way.
        stopped_because: one sentence per lambda.
        tokens: of all training passes, and of all passes for architecture updates.
        seconds, cpu_seconds: of the search.
        net: the shared weights; None when the result was read from a file.
    """

    lambdas: tuple[float, ...]
    logits: tuple[tuple[float, ...], ...] = field(repr=False)
    front: tuple[Architecture, ...]
    history: tuple[Look, ...] = field(repr=False)
    stopped_because: tuple[str, ...]
    tokens: tuple[int, int]
    seconds: float
    cpu_seconds: float
    net: Supernet | None = field(default=None, repr=False, compare=False)

    @property
    def eigenvalues(self) -> tuple[tuple[float, ...], ...]:
        """Per lambda, the eigenvalues of the looks at it; empty for strategies that have none."""
        return tuple(
            tuple(look.eigenvalue for look in self.history if look.weight == weight and look.eigenvalue is not None)
            for weight in self.lambdas
        )

    def distribution(self, space: type[Space], index: int) -> dict[str, dict[object, float]]:
        """The probabilities of lambda number `index`: {path: {value or cell: probability}}."""
        relaxation = relaxation_of(space)
        p = relaxation.probabilities(np.array(self.logits[index]))
        rng = random.Random(0)
        return {
            path: {
                cells.value(i, rng) if cells.exact else f"part {i + 1} of {cells.count}": round(float(v), 6)
                for i, v in enumerate(p[relaxation.slices[path]])
            }
            for path, cells in relaxation.cells.items()
        }


def agreement(space: type[Space], results: Sequence[DartsResult]) -> tuple[float, ...]:
    """How far searches with different seeds agree, per lambda: 1 when all distributions are the same, 0 when any two are
    disjoint. It is 1 - the total variation between the distributions of a decision, averaged over decisions and pairs.

    Raises:
        SearchError: fewer than two results, or results of different lambdas.
    """
    if len(results) < 2 or len({result.lambdas for result in results}) > 1:
        raise SearchError(
            f"agreement needs at least two results of the same lambdas, there are {len(results)} of "
            f"{len({result.lambdas for result in results})}; search with two seeds or more"
        )
    relaxation = relaxation_of(space)
    found = []
    for index in range(len(results[0].lambdas)):
        p = [relaxation.probabilities(np.array(result.logits[index])) for result in results]
        pairs = [np.abs(a - b).sum() / 2 for i, a in enumerate(p) for b in p[:i]]
        found.append(1.0 - float(np.mean(pairs)) / len(relaxation.slices))
    return tuple(found)
