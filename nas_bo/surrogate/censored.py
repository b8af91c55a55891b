"""The chance that a number stays at or below 0, from amounts, and from signs where nothing else was given.

A Gaussian process stands for the amount, as for an objective (Gardner et al., 2014, "Bayesian optimization with inequality
constraints", ICML). Amounts are bent to asinh(amount / scale) first, which keeps their signs and is about linear near 0
and logarithmic far from it (after the bilog transform of Eriksson and Poloczek, 2021, "Scalable constrained Bayesian
optimization", AISTATS), so that one absurd amount flattens nothing. Where only the sign is known, the expected
amount given that sign stands for it, which is computed a few times in turn (Chib, 1992, "Bayes inference in the tobit censored
regression model", J. Econometrics 51; Albert and Chib, 1993, "Bayesian analysis of binary and polychotomous response
data", JASA 88, with expectations instead of draws).

Notation: n rows, d inputs; an amount above 0 is a violation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_bo.surrogate.process import GaussianProcess, Settings
from nas_bo.surrogate.sources import settled

TYPICAL = float(np.arcsinh(1.0))  # the size of a bent amount of which only the sign is known, at first
ROUNDS = 5  # in which the expected amounts are computed
LEAST_NOISE = 0.05  # of bent amounts, in their expectations
FARTHEST = 10.0  # amounts of more scales than this are cut
UNCUT = Settings(cut=False)


@dataclass(frozen=True)
class Amounts:
    """What is known about one limit at the rows of a history.

    Attributes:
        values: (n,) amounts, NaN where the amount is not known.
        signs: (n,) where it is not: +1 violated, -1 satisfied, 0 not known either.
    """

    values: np.ndarray
    signs: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """The rows of which anything is known."""
        return np.flatnonzero(np.isfinite(self.values) | (self.signs != 0))

    @property
    def violated(self) -> np.ndarray:
        """(n,) bool."""
        known = np.isfinite(self.values)
        return np.where(known, np.where(known, self.values, 0.0) > 0, self.signs > 0)

    def scale(self, first: int) -> float:
        """The typical size of an amount in the first rows; 1 where all are 0 or none is known."""
        sizes = np.abs(self.values[:first])
        sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
        return float(np.median(sizes)) if len(sizes) else 1.0

    def bent(self, scale: float) -> np.ndarray:
        """(n,) amounts on the scale of the model; where only the sign is known, one of typical size; NaN elsewhere."""
        with np.errstate(over="ignore"):
            sized = np.clip(self.values / scale, -FARTHEST, FARTHEST)
        known = np.isfinite(self.values)
        signs = np.where(self.signs == 0, np.nan, self.signs * TYPICAL)
        return np.where(known, np.arcsinh(np.where(known, sized, 0.0)), signs)


class Censored:
    """One limit: the chance that it is satisfied.

    Args:
        inputs: (n, d), the history.
        amounts: what is known about the limit there; of one row at least.
        own: see `GaussianProcess`.
        noise_sd: the standard deviation of the noise in the unit of the amounts, where it was measured.

    Raises:
        numpy.linalg.LinAlgError: no fit is possible.
    """

    def __init__(self, inputs: np.ndarray, amounts: Amounts, own: int, noise_sd: float | None = None) -> None:
        rows = amounts.rows
        fitted = settled(len(rows))
        scale = amounts.scale(int(rows[fitted - 1]) + 1)  # of the rows that are fitted to: the fit is then remembered
        targets, inputs = amounts.bent(scale)[rows], inputs[rows]
        noise_sd = None if noise_sd is None else noise_sd / scale
        process = GaussianProcess(inputs, targets, own, fitted, noise_sd=noise_sd, settings=UNCUT)
        open_ = np.flatnonzero(~np.isfinite(amounts.values[rows]))
        signs = amounts.signs[rows][open_]
        for _ in range(ROUNDS if len(open_) else 0):
            mean = process.predict(inputs[open_])[0]
            targets[open_] = signs * _beyond(signs * mean, max(process.noise, LEAST_NOISE))
            process = GaussianProcess(inputs, targets, own, like=process, settings=UNCUT)
        self._process = process

    def log_chance(self, inputs: np.ndarray) -> np.ndarray:
        """The logarithm of the probability that a measurement at inputs (n, d) is at most 0, (n,)."""
        from scipy.special import log_ndtr

        mean, sd = self._process.predict(inputs)
        return np.asarray(log_ndtr(-mean / np.maximum(np.hypot(sd, self._process.noise), 1e-12)))

    def believe(self, inputs: np.ndarray) -> None:
        """Take the expectations at inputs (n, d) for observed, as in `GaussianProcess.believe`."""
        self._process.believe(inputs)


def _beyond(mean: np.ndarray, sd: float) -> np.ndarray:
    """E[x | x > 0] of x ~ Normal(mean, sd^2), (n,)."""
    from scipy.special import log_ndtr

    z = np.maximum(mean / sd, -30.0)
    return np.asarray(sd * (z + np.exp(-0.5 * z * z - 0.5 * np.log(2 * np.pi) - log_ndtr(z))))
