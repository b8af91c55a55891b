"""Ridge regression (Hoerl and Kennard, 1970, Technometrics 12(1), "Ridge regression: biased estimation for nonorthogonal
problems"), the penalty chosen by leave-one-out error in closed form (Allen, 1974, Technometrics 16(1), "The relationship
between variable selection and data augmentation and a method for prediction", the PRESS statistic).

Notation: X = U diag(s) V' centred inputs (n, d), y centred targets (n,), l the penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.surrogate.regressor import Blocks, Standard
from nas_bo.validated import check_fields, checked, each, number


@dataclass(frozen=True)
class Ridge:
    """Linear in the standardised columns, of as many blocks as have the least leave-one-out error.

    Args:
        penalties: those tried, as a share of the number of examples.

    Raises:
        ObjectiveError: a penalty that is not above 0, or none.
    """

    penalties: tuple[float, ...] = checked(
        (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
        each(number(above=0), 1, "at least one number, all above 0"),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "penalties", tuple(self.penalties))
        check_fields(self, ObjectiveError)

    def fit(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> FittedRidge:
        ends = sorted({min(end, inputs.shape[1]) for end in blocks if end > 0})
        fits = [FittedRidge(inputs[:, :end], targets, self.penalties) for end in ends]
        return min(fits, key=lambda fit: float((fit.errors**2).mean()))


class FittedRidge:
    """
    Attributes:
        columns: how many of them, the first ones, are used.
        penalty: the chosen one, as a share of the number of examples.
        errors: the leave-one-out errors (n,) with it.
    """

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, penalties: tuple[float, ...]) -> None:
        self.columns = inputs.shape[1]
        self._standard = Standard(inputs)
        x, n = self._standard(inputs), len(inputs)
        self._mean = float(targets.mean())
        self._centre = x.mean(0)  # not 0 where values were pulled in
        u, s, vt = np.linalg.svd(x - self._centre, full_matrices=False)
        along = u.T @ (targets - self._mean)
        best = np.inf
        for penalty in penalties:
            shrink = s**2 / (s**2 + n * penalty)
            left = targets - self._mean - u @ (shrink * along)
            leverage = 1 / n + (u**2 @ shrink)  # the diagonal of the hat matrix; 1/n is the intercept's
            errors = left / np.maximum(1 - leverage, 1e-9)
            score = float((errors**2).mean())
            if score < best:
                best, self.penalty, self.errors = score, penalty, errors
        self._turn, self._inverse = vt.T, 1 / (s**2 + n * self.penalty)
        self._weights = self._turn @ (s * self._inverse * along)
        self._spread = max(best**0.5, 1e-12)

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,): that of the leave-one-out errors, larger away from the examples."""
        x = self._standard(inputs[:, : self.columns]) - self._centre
        away = ((x @ self._turn) ** 2) @ self._inverse
        return self._mean + x @ self._weights, self._spread * np.sqrt(1 + away)
