"""Extremely randomised trees (Geurts, Ernst and Wehenkel, 2006, "Extremely randomized trees", Machine Learning 63(1)), each grown on
a random part of the examples, so that the others say what it is worth (Breiman, 1996, "Out-of-bag estimation").

All trees grow at once, one level at a time, in numpy alone: a hundred trees on 400 examples take some tenths of a second.

Notation: n examples, d columns, T trees, S examples in nodes that may still split, N such nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.surrogate.regressor import Blocks
from nas_bo.validated import check_fields, checked, number, whole_number


@dataclass(frozen=True)
class RandomTrees:
    """Trees that split at random places of the best of some random columns. They cannot continue a trend, but find which few of many
    columns matter, and what they do together.

    Args:
        trees: how many.
        leaf: examples in a leaf at least.
        columns: the share of the columns that are tried at a split, at most `MOST_TRIED`.
        share: of the examples that a tree sees.

    Raises:
        ObjectiveError: fewer than two trees, a leaf below 1, or a share outside (0, 1].
    """

    trees: int = checked(100, whole_number(2))
    leaf: int = checked(2, whole_number(1))
    columns: float = checked(0.4, number(above=0, at_most=1))
    share: float = checked(0.8, number(above=0, at_most=1))
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)

    def fit(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> FittedForest:
        return FittedForest(self, inputs, targets)


MOST_TRIED = 40  # columns at a split


class FittedForest:
    """
    Attributes:
        left_out: what the trees that did not see an example predict of it, (n,); the mean of the targets where all have seen it.
    """

    def __init__(self, settings: RandomTrees, inputs: np.ndarray, targets: np.ndarray) -> None:
        rng = np.random.default_rng(settings.seed)
        n, trees = len(targets), settings.trees
        self._centre, self._scale = float(targets.mean()), float(targets.std()) or 1.0
        y = (targets - self._centre) / self._scale
        self._keep = np.flatnonzero(np.ptp(inputs, axis=0) > 0)
        x = inputs[:, self._keep]
        inside = max(min(2, n), math.ceil(settings.share * n))
        seen = np.argsort(rng.random((trees, n)), axis=1)[:, :inside]  # ~ uniform without repetition
        self._grow(x, y, seen, settings, rng)
        found = self._each(x)  # (T, n)
        out = np.ones((trees, n), dtype=bool)
        np.put_along_axis(out, seen, False, axis=1)
        number = out.sum(0)
        mean = (found * out).sum(0) / np.maximum(number, 1)
        self.left_out = self._centre + self._scale * np.where(number > 0, mean, 0.0)
        self._error = float(np.sqrt(((self.left_out - targets) ** 2).mean())) or 1e-12

    def _grow(
        self, x: np.ndarray, y: np.ndarray, seen: np.ndarray, settings: RandomTrees, rng: np.random.Generator
    ) -> None:
        trees, inside = seen.shape
        d = x.shape[1]
        tried = min(MOST_TRIED, max(1, math.ceil(settings.columns * d))) if d else 0
        row, node = seen.ravel(), np.repeat(np.arange(trees), inside)  # sorted by node
        column, cut, child = [np.zeros(trees, dtype=int)], [np.zeros(trees)], [np.full(trees, -1)]
        means = y[seen].mean(1)
        value = [means]
        first, total = 0, trees  # of the nodes of this level; of all nodes
        while len(row):
            names, starts, number = np.unique(node, return_index=True, return_counts=True)
            here = np.repeat(np.arange(len(names)), number)
            target = y[row]
            sums = np.add.reduceat(target, starts)
            best, at = np.full(len(names), -np.inf), np.zeros(len(names), dtype=int)
            places, lefts = np.zeros(len(names)), np.zeros(len(row), dtype=bool)
            for _ in range(tried):
                column_of = rng.integers(0, d, len(names))  # ~ uniform
                values = x[row, column_of[here]]
                low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
                place = low + (high - low) * rng.random(len(names))  # ~ uniform
                left = values <= place[here]
                many = np.add.reduceat(left, starts, dtype=float)
                part = np.add.reduceat(np.where(left, target, 0.0), starts)
                rest = number - many
                usable = (many >= settings.leaf) & (rest >= settings.leaf)
                gain = part**2 / np.maximum(many, 1) + (sums - part) ** 2 / np.maximum(rest, 1)
                better = usable & (gain > best)
                best, at = np.where(better, gain, best), np.where(better, column_of, at)
                places = np.where(better, place, places)
                lefts = np.where(better[here], left, lefts)
            split = np.isfinite(best) & (best > sums**2 / number + 1e-12)
            order = np.cumsum(split) - 1
            child_of = np.where(split, total + 2 * order, -1)
            column[-1][names - first], cut[-1][names - first] = at, places
            child[-1][names - first] = child_of
            keep = split[here]
            row, here, lefts = row[keep], here[keep], lefts[keep]
            node = child_of[here] + ~lefts
            stay = np.argsort(node, kind="stable")
            row, node = row[stay], node[stay]
            made = 2 * int(split.sum())
            if made:
                size = np.bincount(node - total, minlength=made)
                value.append(np.bincount(node - total, weights=y[row], minlength=made) / np.maximum(size, 1))
                column.append(np.zeros(made, dtype=int))
                cut.append(np.zeros(made))
                child.append(np.full(made, -1))
                large = size[node - total] >= 2 * settings.leaf
                row, node = row[large], node[large]
            first, total = total, total + made
        self._trees = trees
        self._column, self._cut, self._child, self._value = map(np.concatenate, (column, cut, child, value))

    def _each(self, x: np.ndarray) -> np.ndarray:
        """(T, m), standardised, of the columns that vary."""
        node = np.repeat(np.arange(self._trees)[:, None], len(x), axis=1)
        rows = np.arange(len(x))[None]
        while ((below := self._child[node]) >= 0).any():
            right = x[rows, self._column[node]] > self._cut[node] if x.shape[1] else np.zeros(node.shape, dtype=bool)
            node = np.where(below >= 0, below + right, node)
        return np.asarray(self._value[node])

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,): that of left-out examples, larger where the trees disagree."""
        found = self._each(inputs[:, self._keep])
        mean = self._centre + self._scale * found.mean(0)
        return mean, np.hypot(self._error, self._scale * found.std(0))

    def disagree(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,) over the trees."""
        found = self._each(inputs[:, self._keep])
        return self._centre + self._scale * found.mean(0), self._scale * found.std(0)
