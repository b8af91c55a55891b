"""Intervals that hold whatever the model: CV+ (Barber, Candes, Ramdas and Tibshirani, 2021, Annals of Statistics 49(1),
arXiv 1905.02928, "Predictive inference with the jackknife+", section 3), on residuals that are divided by the model's own
standard deviation (Lei et al., 2018, JASA 113(523), arXiv 1604.04173, "Distribution-free predictive inference for
regression", section 5.2), so that intervals are wider where the model knows less.

CV+ promises a coverage of 1 - 2 alpha for exchangeable examples, and has about 1 - alpha in practice.

Notation: n examples, K folds, k(i) the fold of example i, mu_-k the model without fold k, s_-k its standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nas_bo.surrogate.regressor import Blocks, Fitted, Regressor

WORK = (
    900  # folds times examples by default: all left out in turn up to 30 examples (the jackknife+), 10 folds from 90 on
)


def folds(n: int, number: int, seed: int = 0) -> np.ndarray:
    """The fold of every example, (n,) int: at most `number` of them, of equal size as nearly as possible."""
    places = np.arange(n) % min(n, number)
    return np.asarray(np.random.default_rng(seed).permutation(places))  # ~ uniform over the ways to divide them


class CrossConformal:
    """A model of all examples, for the value, and one without each fold, for the interval.

    Args:
        inputs, targets: (n, d) and (n,).
        blocks: see `Regressor`.
        number: of folds; None is many for few examples, since a model that lacks a tenth of them is worse, and its
            intervals too wide.

    Attributes:
        model: of all examples.
        held_out: what was predicted for every example without its fold, (n,).
    """

    def __init__(
        self,
        regressor: Regressor,
        inputs: np.ndarray,
        targets: np.ndarray,
        blocks: Blocks,
        number: int | None = None,
        seed: int = 0,
    ) -> None:
        n = len(targets)
        self._fold = folds(n, max(10, WORK // n) if number is None else number, seed)
        self.model = regressor.fit(inputs, targets, blocks)
        self._without: list[Fitted] = []
        self.held_out, spread = np.zeros(n), np.ones(n)
        for k in range(int(self._fold.max()) + 1):
            out = self._fold == k
            fitted = regressor.fit(inputs[~out], targets[~out], blocks)
            self.held_out[out], spread[out] = fitted.predict(inputs[out])
            self._without.append(fitted)
        self._scores = np.abs(targets - self.held_out) / np.maximum(spread, 1e-12)

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """(m,) at inputs (m, d)."""
        return self.model.predict(inputs)[0]

    def interval(self, inputs: np.ndarray, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends (m,) at inputs (m, d), widened to hold the value itself.

        With fewer than level / (1 - level) examples no finite interval has that level: the widest there is comes instead,
        whose level is n / (n + 1).
        """
        means, spreads = _each(self._without, inputs)  # (K, m)
        reach = spreads[self._fold] * self._scores[:, None]
        low, high = means[self._fold] - reach, means[self._fold] + reach  # (n, m), eq. 11 of the paper
        n = len(self._scores)
        rank = min(n, math.ceil(level * (n + 1) - 1e-9))
        value = self.predict(inputs)
        return (
            np.minimum(np.sort(low, axis=0)[n - rank], value),
            np.maximum(np.sort(high, axis=0)[rank - 1], value),
        )


def _each(models: Sequence[Fitted], inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = [model.predict(inputs) for model in models]
    return np.array([mean for mean, _ in found]), np.array([spread for _, spread in found])
