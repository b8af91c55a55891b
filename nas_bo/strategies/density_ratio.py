"""How much more a candidate looks like the good trials than like the others (Bergstra et al., 2011, "Algorithms for
hyper-parameter optimization", NeurIPS 24: the ratio of densities of tree-structured Parzen estimators), one decision at a time.

Notation: genomes (n, genes), see `nas_bo.surrogate.genomes`; k good trials.
"""

from __future__ import annotations

import math

import numpy as np

from nas_bo.surrogate.genomes import Genomes

GOOD, MOST_GOOD = 0.15, 25  # share of the trials that are good, and how many are at most
NARROWEST = 0.04  # bandwidth, of the range


def log_ratio(space: Genomes, good: np.ndarray, rest: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """log of the density among the genomes `good` over that among `rest`, of candidates, (n,): the sum over decisions that
    a candidate has."""
    found = np.zeros(len(candidates))
    for i, domain in enumerate(space.domains):
        there = candidates[:, i] >= 0
        if not there.any() or space.size[i] == 1:
            continue
        alike = domain.ordered and space.size[i] != 2  # neighbours are
        now, high, low = (_places(space, i, g, alike) for g in (candidates[there], good, rest))
        density = _parzen if alike else _counts
        size = int(space.size[i])
        found[there] += np.log(density(now, high, size)) - np.log(density(now, low, size))
    return found


def split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row numbers of good trials and of the others, from values to be minimised (n,)."""
    number = max(1, min(MOST_GOOD, math.ceil(GOOD * len(values))))
    order = np.argsort(values, kind="stable")
    return order[:number], order[number:]


def _places(space: Genomes, gene: int, genomes: np.ndarray, alike: bool) -> np.ndarray:
    here = genomes[:, gene]
    return (space.positions(genomes)[:, gene] if alike else here)[here >= 0]


def _parzen(now: np.ndarray, seen: np.ndarray, size: int) -> np.ndarray:
    """A uniform density and a normal one around every trial, at least as wide as a step."""
    step = 1 / (size - 1) if size else 0.0
    width = max(NARROWEST, step, 0.5 * (len(seen) + 1) ** -0.5)
    away = (now[:, None] - seen) / width
    return np.asarray((1.0 + (np.exp(-0.5 * away**2) / (width * math.sqrt(2 * math.pi))).sum(1)) / (1 + len(seen)))


def _counts(now: np.ndarray, seen: np.ndarray, size: int) -> np.ndarray:
    """Frequencies of values, after one trial for all of them together."""
    number = np.bincount(seen.astype(int), minlength=size)
    return np.asarray((1.0 / size + number[now.astype(int)]) / (1.0 + len(seen)))


__all__ = ["log_ratio", "split"]
