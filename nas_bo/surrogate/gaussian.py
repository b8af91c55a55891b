"""A Gaussian process as a `Regressor`: the first block of columns with a length scale each, all columns with a shared one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_bo.surrogate.features import varying
from nas_bo.surrogate.process import GaussianProcess
from nas_bo.surrogate.regressor import Blocks


@dataclass(frozen=True)
class GP:
    """`nas_bo.surrogate.process.GaussianProcess` on columns scaled to [0, 1]. Extreme targets on the bad side are cut."""

    def fit(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> FittedGP:
        return FittedGP(inputs, targets, blocks[0])


class FittedGP:
    def __init__(self, inputs: np.ndarray, targets: np.ndarray, own: int) -> None:
        keep = np.flatnonzero(varying(inputs)) if len(inputs) > 1 else np.arange(0)
        self._keep, self._low = keep, inputs[:, keep].min(0)
        self._span = np.ptp(inputs[:, keep], axis=0)
        self._process = GaussianProcess(self._scaled(inputs), targets, int((keep < own).sum())) if len(keep) else None
        self._mean, self._spread = float(targets.mean()), float(targets.std())

    def _scaled(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray((inputs[:, self._keep] - self._low) / self._span)

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,) of a new measurement, its noise included."""
        if self._process is None:
            return np.full(len(inputs), self._mean), np.full(len(inputs), self._spread)
        mean, sd = self._process.predict(self._scaled(inputs))
        return mean, np.hypot(sd, self._process.noise)
