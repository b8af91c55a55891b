"""A model that starts from another one: the line through its predictions, and a model of what the line misses.

The linear version of multi-fidelity regression (Kennedy and O'Hagan, 2000, Biometrika 87(1), "Predicting the output from a
complex computer code when fast approximations are available", eq. 2), y(x) = rho f(x) + delta(x), with an intercept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_bo.surrogate.regressor import Blocks, Fitted, Regressor


class Mean:
    """The mean of the examples, whatever the inputs: what is left to learn when the line has said all."""

    def fit(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> FittedMean:
        return FittedMean(float(targets.mean()), max(float(targets.std()), 1e-12))


@dataclass(frozen=True)
class FittedMean:
    mean: float
    spread: float

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(inputs), self.mean), np.full(len(inputs), self.spread)


@dataclass(frozen=True)
class OnPrior:
    """`model` on the residuals of a straight line in the first column, which holds the predictions of an earlier model.

    The first column is an input of `model` as well, so that what is not straight can be learned.
    """

    model: Regressor

    def fit(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> FittedOnPrior:
        return FittedOnPrior(self.model, inputs, targets, blocks)


class FittedOnPrior:
    """
    Attributes:
        slope: of the line; rho in the paper.
    """

    def __init__(self, model: Regressor, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> None:
        f = inputs[:, 0]
        spread = float(((f - f.mean()) ** 2).sum())
        self.slope = float((f - f.mean()) @ targets) / spread if spread > 1e-12 else 0.0
        self._at, self._mean = float(f.mean()), float(targets.mean())
        self._rest: Fitted = model.fit(inputs, targets - self._line(inputs), blocks)

    def _line(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self._mean + self.slope * (inputs[:, 0] - self._at))

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, sd = self._rest.predict(inputs)
        return self._line(inputs) + mean, sd
