"""The contract of models that learn a number from few examples: `Regressor`, a setting, and `Fitted`, what it learned.

Notation: n examples, d columns. `blocks` are the ends of groups of columns, the group that matters most first, so the last is
d: a model with few examples may stop at an earlier one. Targets are minimised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

Blocks = Sequence[int]


class Fitted(Protocol):
    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,) each at inputs (m, d). Only where the standard deviation is larger and where
        smaller has to be right: `nas_bo.surrogate.conformal` finds the scale."""
        ...


class Regressor(Protocol):
    """Settings of a model; frozen, comparable and repeatable. No base class is needed."""

    def fit(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> Fitted:
        """Learn from inputs (n, d), on any scales, and targets (n,), both finite; the same data give the same model.

        Raises:
            MissingExtra: the model needs a package that is not installed.
        """
        ...


class Standard:
    """Columns that vary (their numbers are `kept`), shifted and scaled to mean 0 and standard deviation 1 of the examples (n, d).

    What lies far beyond the examples is pulled to `FAR` standard deviations: few examples say nothing about there.
    """

    FAR = 4.0

    def __init__(self, inputs: np.ndarray) -> None:
        spread = inputs.std(0)
        self.kept = np.flatnonzero(spread > 1e-9 * np.maximum(1.0, np.abs(inputs.mean(0))))
        self._mean, self._spread = inputs[:, self.kept].mean(0), spread[self.kept]

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """(m, d) -> (m, columns kept)."""
        return np.asarray(np.clip((inputs[:, self.kept] - self._mean) / self._spread, -self.FAR, self.FAR))
