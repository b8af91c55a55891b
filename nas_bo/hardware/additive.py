"""A Gaussian process on operations that is fitted to the times of whole models (additive processes: Duvenaud, Nickisch
and Rasmussen, 2011, arXiv 1112.4394; conditioning: Rasmussen and Williams, 2006, equations 2.23 to 2.26 and 5.8 to 5.12).

A base says how long each operation takes, b_i. The time of a model is taken to be ``scale * sum_i b_i (1 + g(x_i))``,
where x_i are the logarithms of an operation's sizes and g is a process that begins at zero. So nothing measured gives
the base, ten models correct what the base gets wrong most, and what is learned of an operation holds in every model.

Notation: n models, U distinct operations, W (n, U) the base's share of each operation in the measured time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.hardware.workload import Work

# logarithms: sd of a common factor, of one per kind, of one that varies with size, length in decades, sd of the noise,
# sd of one that varies with size within a kind; normal priors (mean, standard deviation)
PRIOR = np.array([0.0, -1.0, -1.0, 0.0, -6.0, -1.5])
WIDTH = np.array([0.5, 1.0, 1.0, 1.0, 1.5, 1.0])
ITERATIONS = 40
FARTHEST = 4.0  # standard deviations of the priors that a fit may go
LEAST = 3  # models


def sizes(found: list[Work]) -> np.ndarray:
    """(U, 3) decades of FLOPs, weights and other bytes."""
    raw = [
        (work.flops + 1e3, work.weight_bytes + 2e2, work.activation_bytes + work.cache_bytes + 2e2) for work in found
    ]
    decades: np.ndarray = np.log10(np.array(raw, dtype=float).reshape(-1, 3))
    return decades


@dataclass(frozen=True)
class Kernel:
    """Covariance of g between operations."""

    logs: tuple[float, ...]

    def between(self, first: list[Work], second: list[Work]) -> np.ndarray:
        return self._of(*_compared(first, second))

    def _of(self, same: np.ndarray, squared: np.ndarray) -> np.ndarray:
        common, kind, size, length, _, within = np.exp(2 * np.asarray(self.logs))
        near = np.exp(-squared / (2 * length))
        covariance: np.ndarray = common + kind * same + size * near + within * same * near
        return covariance

    @property
    def noise(self) -> float:
        """Variance of a measurement, relative to it."""
        return math.exp(2 * self.logs[4])


@dataclass(frozen=True)
class Posterior:
    """g after the measurements. `known` are the operations that were measured, as parts of models.

    Attributes:
        pull: (U,), so that the mean of g at new operations is ``between(new, known) @ pull``.
        root: (n, U), so that the variance falls by the squares of ``root @ between(known, new)``.
        widen: by how much larger the errors were, each model left out in turn, than the process believed; at least 1.
        reach: half width of the interval in standard deviations.
    """

    known: list[Work]
    kernel: Kernel
    scale: float
    pull: np.ndarray
    root: np.ndarray
    widen: float
    reach: float


def fit(known: list[Work], base: np.ndarray, times: np.ndarray, level: float = 0.9) -> Posterior:
    """Condition on measured models.

    Args:
        base: (n, U), the base's time of each operation in each model, 0 where there is none.
        times: (n,), measured, same unit.
        level: of the intervals.

    Raises:
        ObjectiveError: too few models, or times that are not finite numbers above 0.
    """
    from scipy.optimize import minimize
    from scipy.stats import t as student

    n = len(times)
    if n < LEAST:
        raise ObjectiveError(f"{n} measured models are too few to learn from; measure at least {LEAST}")
    bad = [float(time) for time in times if not 0 < time < math.inf]
    if bad:
        raise ObjectiveError(f"a measured time is {bad[0]!r}; every one must be a finite number above 0")
    scale = float(np.median(times / base.sum(1)))
    shares = base * scale / times[:, None]  # relative to the measurement, so that the noise is relative as well
    rest = 1 - shares.sum(1)
    compared = _compared(known, known)

    def covariance(logs: np.ndarray) -> np.ndarray:
        kernel = Kernel(tuple(logs))
        found: np.ndarray = shares @ kernel._of(*compared) @ shares.T + (kernel.noise + 1e-10) * np.eye(n)
        return found

    def loss(logs: np.ndarray) -> float:
        belief = float(0.5 * (((logs - PRIOR) / WIDTH) ** 2).sum())
        try:
            lower = np.linalg.cholesky(covariance(logs))
        except np.linalg.LinAlgError:
            return 1e6 + belief
        half = np.linalg.solve(lower, rest)
        return float(0.5 * half @ half + np.log(np.diag(lower)).sum()) + belief

    bounds = list(zip(PRIOR - FARTHEST * WIDTH, PRIOR + FARTHEST * WIDTH, strict=True))
    logs = minimize(loss, PRIOR, method="L-BFGS-B", bounds=bounds, options={"maxiter": ITERATIONS}).x
    kernel = Kernel(tuple(float(one) for one in logs))
    full = covariance(logs)
    inverse = np.linalg.inv(full)
    left_out = (inverse @ rest) / np.sqrt(np.diag(inverse))  # equation 5.12, standardised
    return Posterior(
        known,
        kernel,
        scale,
        shares.T @ (inverse @ rest),
        np.linalg.solve(np.linalg.cholesky(full), shares),
        max(1.0, float(np.sqrt((left_out**2).mean()))),
        float(student.ppf(0.5 + level / 2, n - 1)),
    )


def _compared(first: list[Work], second: list[Work]) -> tuple[np.ndarray, np.ndarray]:
    """(same kind or not, squared distance in decades), each (len(first), len(second))."""
    kinds = np.array([work.kind for work in first]), np.array([work.kind for work in second])
    same = (kinds[0][:, None] == kinds[1][None, :]).astype(float)
    gaps = sizes(first)[:, None, :] - sizes(second)[None, :, :]
    return same, (gaps**2).sum(-1)
