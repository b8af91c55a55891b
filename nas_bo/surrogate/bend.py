"""A scale on which a heavy tail of bad values is short: linear up to a knee, logarithmic beyond it.

What is good keeps its unit, so that an improvement is one on either scale; what is bad no longer decides where the process
looks for structure (a monotone warping of the outputs as in Snelson, Rasmussen and Ghahramani, 2004, "Warped Gaussian
processes", NeurIPS, with one fixed shape; whether it fits is decided by the evidence, their eq. 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GOOD = 0.05  # the quantile that stands for a good value
FARTHEST = 50.0  # of the reach: beyond it `back` is a line, so that it stays finite


@dataclass(frozen=True)
class Bend:
    """Values y, minimised: y up to `knee`, knee + reach * log(1 + (y - knee) / reach) beyond.

    Attributes:
        knee: where it begins; infinite for a scale that is the unit itself.
        reach: above 0; over how much it bends.
    """

    knee: float = np.inf
    reach: float = 1.0

    @classmethod
    def of(cls, values: np.ndarray) -> Bend:
        """The knee at the median of the values (n,), the reach as far as good values lie from it."""
        middle = float(np.median(values))
        reach = middle - float(np.quantile(values, GOOD))
        return cls(middle, reach) if reach > 0 and np.isfinite(reach) else cls()

    def to(self, values: np.ndarray) -> np.ndarray:
        """Values in the objective's unit (n,) on this scale."""
        beyond = np.where(values > self.knee, values, self.knee) - self.knee if np.isfinite(self.knee) else 0.0
        return np.asarray(np.minimum(values, self.knee) + self.reach * np.log1p(beyond / self.reach))

    def back(self, bent: np.ndarray) -> np.ndarray:
        """The inverse of `to`, (n,)."""
        beyond = (
            (np.where(bent > self.knee, bent, self.knee) - self.knee) / self.reach if np.isfinite(self.knee) else 0.0
        )
        near = np.minimum(beyond, FARTHEST)
        tail = np.expm1(near) + np.exp(near) * (beyond - near)
        return np.asarray(np.minimum(bent, self.knee) + self.reach * tail)

    def log_slope(self, values: np.ndarray) -> float:
        """The sum of the logarithms of the derivatives of `to` at values (n,): what the evidence of bent values owes."""
        if not np.isfinite(self.knee):
            return 0.0
        return -float(np.log1p(np.maximum(values - self.knee, 0.0) / self.reach).sum())


UNBENT = Bend()
