"""Fitting a few coefficients to a few measured models: non-negative least squares on relative errors.

Intervals come from predictions of each measurement without it: the quantile of their errors where there are enough for
one (Lei et al., 2018, arXiv 1604.04173, on residuals left out one by one as in the jackknife+ of Barber et al., 2021,
arXiv 1905.02928), and one of Student's t where there are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.wording import counted

HELD = 0.05  # strength of the belief that all coefficients but the fixed one share a factor, in standard deviations
MOST_LEFT_OUT = 200  # beyond, a sample of them


@dataclass(frozen=True)
class Calibration:
    """``columns @ weights``, in milliseconds.

    Attributes:
        weights: (k,).
        share: half width of the interval as a share of the prediction; inf below three measurements.
        measured: how many there were.
    """

    weights: tuple[float, ...]
    share: float
    measured: int


def calibrate(columns: np.ndarray, believed: np.ndarray, times: Sequence[float], level: float) -> Calibration:
    """Fit to measured models.

    Args:
        columns: (n, k), what is added up, per model; the last column is the fixed part.
        believed: (k,), the weights before anything is measured; one factor on all of them costs nothing.
        times: (n,), measured milliseconds.

    Raises:
        ObjectiveError: none or unequal numbers of measurements, or times that are not finite numbers above 0.
    """
    measured = checked_times(times, len(columns))
    weights = _fit(columns, believed, measured)
    errors = []
    n = len(measured)
    if n >= 3:
        step = max(1, n // MOST_LEFT_OUT)
        for i in range(0, n, step):
            rest = np.arange(n) != i
            alone = float(columns[i] @ _fit(columns[rest], believed, measured[rest]))
            errors.append(abs(measured[i] / alone - 1) if alone > 0 else 1.0)
    return Calibration(tuple(map(float, weights)), reach(np.array(errors), level), n)


def checked_times(times: Sequence[float], architectures: int) -> np.ndarray:
    """(n,) measured milliseconds (raises ObjectiveError, see `calibrate`)."""
    if len(times) != architectures:
        raise ObjectiveError(
            f"{counted(architectures, 'architecture')} but {counted(len(times), 'time was', 'times were')} given; give one time for each"
        )
    measured = np.asarray(times, dtype=float)
    bad = [float(time) for time in measured if not 0 < time < math.inf]
    if bad:
        raise ObjectiveError(f"a measured time is {bad[0]!r}; every one must be a finite number above 0")
    if not len(measured):
        raise ObjectiveError("no measured model was given; measure at least one")
    return measured


def reach(errors: np.ndarray, level: float) -> float:
    """The half width that holds the next error with probability `level`, after these (absolute, left out one by one)."""
    from scipy.stats import t as student

    n = len(errors)
    if n < 3:
        return math.inf
    rank = math.ceil(level * (n + 1) - 1e-9)
    if rank <= n:
        return float(np.sort(errors)[rank - 1])
    wide = float(student.ppf(0.5 + level / 2, n - 1) * np.sqrt((errors**2).mean() * (1 + 1 / n)))
    return max(float(errors.max()), wide)


def _fit(columns: np.ndarray, believed: np.ndarray, times: np.ndarray) -> np.ndarray:
    from scipy.optimize import nnls

    scale = float(np.median(times / np.maximum(columns @ believed, 1e-300)))
    free = believed > 0
    prior = np.diag(np.where(free, HELD / np.where(free, believed * scale, 1.0), 0.0))
    unit = np.maximum(np.abs(columns / times[:, None]).max(0), 1e-300)  # columns of like size: nnls compares them
    left = np.vstack([columns / times[:, None], prior]) / unit
    right = np.concatenate([np.ones(len(times)), HELD * free])
    weights, _ = nnls(left, right)
    found: np.ndarray = weights / unit
    return found
