"""The relaxation of a space: a distribution over its architectures with one vector of logits per decision (numpy only).

The probability of an architecture is the product of the softmax probabilities of its active decisions (Xie et al. 2018,
"SNAS", arXiv 1812.09926, over a tree of decisions instead of the edges of a cell). Gradients of expectations
are covariances with the score, the gradient of log p (Williams, 1992, Machine Learning 8).

Notation: P logits in all, n architectures, softmax probabilities p (P,), scores s = gradient of log p (n, P).
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from weakref import WeakKeyDictionary

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.space import Space
from nas_bo.space.domain import Domain
from nas_bo.strategies.policy import Cells

TRIES = 200  # draws that rules may forbid before one of them is taken as it is


@dataclass(frozen=True)
class Draw:
    """An architecture, and the cell of every decision that made it, by path."""

    arch: Architecture
    cells: Mapping[str, int]


class Relaxation:
    """The decisions of a space as one flat vector of logits.

    Args:
        space: any space; real decisions and long ranges of integers are parted into cells.
        fixed: top-level names whose decisions stay uniform.

    Attributes:
        cells: the domain of every decision as cells, by path.
        slices: where its logits are, by path.
        size: how many logits there are, P.
    """

    def __init__(self, space: type[Space], fixed: Collection[str] = ()) -> None:
        self.space = space
        self.cells = {path: Cells(domain) for path, domain in space.domains().items()}
        self.slices: dict[str, slice] = {}
        self.size = 0
        for path, here in self.cells.items():
            self.slices[path] = slice(self.size, self.size + here.count)
            self.size += here.count
        self.fixed = frozenset(path for path in self.cells if path.partition(".")[0] in fixed)

    def uniform(self) -> np.ndarray:
        """The logits (P,) of the distribution that is uniform in every decision."""
        return np.zeros(self.size)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(P,) logits -> (P,) softmax within every decision."""
        found = np.empty(self.size)
        for at in self.slices.values():
            part = np.exp(logits[at] - logits[at].max())
            found[at] = part / part.sum()
        return found

    # ---- architectures --------------------------------------------------------------------------------------------

    def draw(self, probabilities: np.ndarray, rng: random.Random) -> Draw:
        """An architecture that breaks no rule. ~ the product of the softmaxes, given that it breaks none"""
        for _ in range(TRIES):
            found = self.decide(probabilities, rng, {})
            if not self.space.violations(found.arch):
                break
        return found

    def decide(self, probabilities: np.ndarray, rng: random.Random, forced: Mapping[str, int]) -> Draw:
        """As `draw`, without looking at rules, and with the cells in `forced` (by path) taken as given."""
        chosen: dict[str, int] = {}

        def pick(path: str, _domain: Domain) -> object:
            cell = forced.get(path)
            if cell is None:
                sums = list(accumulate(probabilities[self.slices[path]].tolist()))
                cell = min(bisect(sums, rng.random() * sums[-1]), len(sums) - 1)
            chosen[path] = cell
            return self.cells[path].value(cell, rng)

        return Draw(self.space.decide(pick), chosen)

    def most_probable(self, probabilities: np.ndarray) -> Architecture:
        """The architecture of the most probable cell of every decision that is then active: the discretisation of
        DARTS (arXiv 1806.09055, section 2.4). Rules are not looked at."""
        rng = random.Random(0)  # for places within the cells of real decisions
        cells = {path: int(probabilities[at].argmax()) for path, at in self.slices.items()}
        return self.decide(probabilities, rng, cells).arch

    # ---- gradients of expectations --------------------------------------------------------------------------------

    def indicators(self, draws: Sequence[Draw]) -> tuple[np.ndarray, np.ndarray]:
        """Which cells were chosen, and which belong to active decisions: (n, P) zeros and ones each."""
        chosen, active = np.zeros((len(draws), self.size)), np.zeros((len(draws), self.size))
        for one, around, draw in zip(chosen, active, draws, strict=True):
            for path, cell in draw.cells.items():
                at = self.slices[path]
                one[at.start + cell] = 1.0
                around[at] = 1.0
        return chosen, active

    def learned(self, without: Collection[str] = ()) -> np.ndarray:
        """(P,) zeros and ones: the logits of all decisions but the fixed ones and those in `without`."""
        found = np.ones(self.size)
        for path in {*self.fixed, *without}:
            found[self.slices[path]] = 0.0
        return found

    def entropy(self, probabilities: np.ndarray) -> float:
        """The mean entropy of a decision, as a share of the largest possible: 1 when uniform, 0 when decided."""
        found = []
        for path, at in self.slices.items():
            p = probabilities[at]
            if len(p) > 1 and path not in self.fixed:
                found.append(float(-(p * np.log(np.maximum(p, 1e-300))).sum()) / float(np.log(len(p))))
        return float(np.mean(found)) if found else 0.0


def expectation_gradient(values: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The gradient of an expectation E[value] from samples: (n,), (n, P) -> (P,), n at least 2.

    The covariance of values and scores, that is, the score function with a leave-one-out baseline (Kool et al., 2019,
    "Buy 4 REINFORCE samples, get a baseline for free!"), without bias. It is not moved by what rules forbid: the
    normaliser of a truncated distribution adds the same to every score. With `weights` (n,), proportional to p / q for
    samples from q, it is self-normalised, with a bias of order 1 / n.
    """
    if weights is None:
        weights = np.ones(len(values))
    shares = weights / weights.sum()
    left = 1.0 - float((shares**2).sum())
    if not left > 1e-9:  # one sample has all the weight
        return np.zeros(scores.shape[1])
    centred = values - float(shares @ values)
    return np.asarray((shares * centred) @ (scores - shares @ scores) / left)


_relaxations: WeakKeyDictionary[type[Space], dict[frozenset[str], Relaxation]] = WeakKeyDictionary()


def relaxation_of(space: type[Space], fixed: Collection[str] = ()) -> Relaxation:
    """The relaxation of a space, remembered."""
    known = _relaxations.setdefault(space, {})
    key = frozenset(fixed)
    if key not in known:
        known[key] = Relaxation(space, key)
    return known[key]
