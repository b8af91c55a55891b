"""A start-up design of maximin distance (Johnson, Moore and Ylvisaker, 1990, "Minimax and maximin distance designs", J. Statistical Planning
and Inference 26), with numbers on a circle, which has no ends (as in the wrap-around discrepancy of Hickernell, 1998, "Lattice
rules: how well do they measure up?"): the first trials fill the space and its known objectives, and do not lie in its corners."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.cheap_objectives import Known, known_of
from nas_bo.strategies.initial_design import POOL, farthest, filled_up
from nas_bo.strategies.strategy import fresh, seen_ids
from nas_bo.surrogate.features import features_of
from nas_bo.trial import Trial


def fill(problem: Problem, trials: Sequence[Trial], n: int, rng: random.Random) -> list[Architecture]:
    """Up to `n` unseen admissible architectures, each as far as possible from all before it and from the history, the first of all ~ at
    random (see `_Places`).

    They come from `POOL` architectures, half of them tilted towards low or high values as a whole, since independent draws of many
    layers all have average layers. Fewer than `n` are returned when there are no more.
    """
    if not problem.space.decisions():
        arch = fresh(problem, seen_ids(trials), rng)
        return [arch] if arch is not None and n else []
    known = known_of(problem)
    draws, seen = np.random.default_rng(rng.getrandbits(63)), seen_ids(trials)
    genomes = features_of(problem.space).genomes
    pool = np.concatenate([genomes.tilted(POOL // 2, draws), genomes.random(POOL // 2, draws)])
    pool = draws.permutation(np.unique(pool, axis=0))
    history = genomes.encode([t.architecture for t in trials])
    places = _Places(np.concatenate([pool, history]), problem, known)
    chosen = farthest(problem, known, pool, len(history), lambda i: places.distances(i)[: len(pool)], n, seen)
    return filled_up(problem, chosen, n, seen, rng)


class _Places:
    """Where genomes (n, genes) lie: for every kind of decision one column, the mean over its layers, on a circle of length 1, or where values
    have no order the share of each; and the known objectives, scaled to their range.

    Args:
        genomes: those that are compared.
    """

    def __init__(self, genomes: np.ndarray, problem: Problem, known: Known) -> None:
        features = features_of(problem.space)
        space, active, self._number = features.genomes, genomes >= 0, len(genomes)
        circle = space.positions(genomes) * np.where(space.real, 1.0, (space.size - 1) / np.maximum(space.size, 1))
        self._columns: list[
            tuple[np.ndarray, np.ndarray, bool]
        ] = []  # (n, options or 1), where it is active (n,), a circle
        for kind in range(int(space.kind.max(initial=-1)) + 1):
            genes = np.flatnonzero(space.kind == kind)
            number, size = np.maximum(active[:, genes].sum(1), 1)[:, None], int(space.size[genes[0]])
            if size == 1:
                continue
            there = np.asarray(active[:, genes].any(1))
            if space.ordered[genes[0]]:
                mean = np.where(active[:, genes], circle[:, genes], 0.0).sum(1, keepdims=True) / number
                self._columns.append((mean, there, True))
            else:
                share = (genomes[:, genes, None] == np.arange(size)).sum(1) / number
                self._columns.append((share, there, False))
        costs = known.approximate(features.of(genomes))
        span = np.ptp(costs, axis=0)
        for j in np.flatnonzero(span > 0):
            scaled = (costs[:, [j]] - costs[:, j].min()) / span[j]
            self._columns.append((scaled, np.ones(len(genomes), dtype=bool), False))

    def distances(self, i: int) -> np.ndarray:
        """The squared distances (n,) from genome i: the mean over the columns that both have (Gower, 1971, "A general coefficient of
        similarity and some of its properties", Biometrics 27), at most 1 each. So a branch of many decisions counts no more than one of few."""
        total, number = np.zeros(self._number), np.zeros(self._number)
        for values, active, circle in self._columns:
            both = active & active[i]
            off = np.abs(values - values[i])
            off = 2 * np.minimum(off, 1 - off) if circle else off
            total += np.where(both, (off**2).sum(1) / (2 if off.shape[1] > 1 else 1), 0.0)
            number += both
        return np.asarray(total / np.maximum(number, 1))
