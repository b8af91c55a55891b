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
from nas_bo.hardware.calibration import checked_times, reach
from nas_bo.hardware.workload import Work

# logarithms: sd of a common factor, of one per kind, of one that varies with size, length in decades, sd of the noise,
# sd of one that varies with size within a kind; normal priors (mean, standard deviation)
PRIOR = np.array([0.0, -1.0, -1.0, 0.0, -6.0, -1.5])
WIDTH = np.array([0.5, 1.0, 1.0, 1.0, 1.5, 1.0])
ITERATIONS = 40
AGAIN = 12  # iterations of a fit that begins at another one's end
REFITTED = 20  # measurements up to which each is predicted by a fit of its own
SHORTEST = -0.7  # logarithm of the length, in decades, beyond which intervals trust no similarity
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
        kernel: of the mean.
        doubt: of the variance: the same, but no less varied and no smoother than is believed beforehand. A fit to few
            models takes the little that it has seen for all there is, and is then sure of widths that it never saw.
        pull: (U,), so that the mean of g at new operations is ``between(new, known) @ pull``.
        root: (n, U), so that the variance falls by the squares of ``root @ doubt.between(known, new)``.
        reach: half width of the interval in standard deviations: at least that of a normal distribution, and as much as the
            errors at models that were left out ask for (Lei et al., 2018, arXiv 1604.04173, section 5.2).
    """

    known: list[Work]
    kernel: Kernel
    doubt: Kernel
    scale: float
    pull: np.ndarray
    root: np.ndarray
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
    from scipy.stats import norm

    n = len(times)
    if n < LEAST:
        raise ObjectiveError(f"{n} measured models are too few to learn from; measure at least {LEAST}")
    checked_times(list(times), n)
    scale = float(np.median(times / base.sum(1)))
    shares = base * scale / times[:, None]  # relative to the measurement, so that the noise is relative as well
    rest = 1 - shares.sum(1)
    compared = _compared(known, known)
    logs = _logs(shares, rest, compared, PRIOR, ITERATIONS)
    kernel, doubt = Kernel(tuple(map(float, logs))), Kernel(_doubted(logs))
    inverse = np.linalg.inv(_covariance(shares, kernel, compared))
    doubted = _covariance(shares, doubt, compared)
    spread = 1 / np.sqrt(np.diag(np.linalg.inv(doubted)))  # of each model without its own measurement
    if n > REFITTED:
        left_out = (inverse @ rest) / np.diag(inverse)  # equation 5.12
    else:
        left_out = np.array([_left_out(i, base, times, compared, logs) for i in range(n)])
    return Posterior(
        known,
        kernel,
        doubt,
        scale,
        shares.T @ (inverse @ rest),
        np.linalg.solve(np.linalg.cholesky(doubted), shares),
        max(float(norm.ppf(0.5 + level / 2)), reach(np.abs(left_out) / spread, level)),
    )


def _covariance(shares: np.ndarray, kernel: Kernel, compared: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    found: np.ndarray = shares @ kernel._of(*compared) @ shares.T + (kernel.noise + 1e-10) * np.eye(len(shares))
    return found


def _logs(
    shares: np.ndarray, rest: np.ndarray, compared: tuple[np.ndarray, np.ndarray], start: np.ndarray, iterations: int
) -> np.ndarray:
    """The most probable logarithms of the kernel's numbers (equation 5.8, and the priors)."""
    from scipy.optimize import minimize

    same, squared = compared
    eye, often = np.eye(len(rest)), shares.sum(1)
    alike, common = shares @ same @ shares.T, np.outer(often, often)

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        belief, pull = float(0.5 * (((logs - PRIOR) / WIDTH) ** 2).sum()), (logs - PRIOR) / WIDTH**2
        amount = np.exp(2 * logs)
        near = np.exp(-squared / (2 * amount[3]))
        steep = near * squared / amount[3]
        parts = [common, alike, shares @ near @ shares.T, eye, shares @ (same * near) @ shares.T]
        weights = amount[[0, 1, 2, 4, 5]]
        bent = amount[2] * (shares @ steep @ shares.T) + amount[5] * (shares @ (same * steep) @ shares.T)
        full = sum(w * part for w, part in zip(weights, parts, strict=True)) + 1e-10 * eye
        try:
            lower = np.linalg.cholesky(full)
        except np.linalg.LinAlgError:
            return 1e6 + belief, pull
        inverse = np.linalg.inv(full)
        solved = inverse @ rest
        slope = 0.5 * (inverse - np.outer(solved, solved))  # equation 5.9
        flat = [2 * w * float((slope * part).sum()) for w, part in zip(weights, parts, strict=True)]
        gradient = np.array([*flat[:3], float((slope * bent).sum()), *flat[3:]]) + pull
        return float(0.5 * rest @ solved + np.log(np.diag(lower)).sum()) + belief, gradient

    bounds = list(zip(PRIOR - FARTHEST * WIDTH, PRIOR + FARTHEST * WIDTH, strict=True))
    found: np.ndarray = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations}
    ).x
    return found


def _doubted(logs: np.ndarray) -> tuple[float, ...]:
    common, kind, size, length, noise, within = logs
    most = np.maximum([common, kind, size, within], PRIOR[[0, 1, 2, 5]])
    return (*map(float, most[:3]), min(float(length), SHORTEST), float(noise), float(most[3]))


def _left_out(
    i: int, base: np.ndarray, times: np.ndarray, compared: tuple[np.ndarray, np.ndarray], start: np.ndarray
) -> float:
    """The error at model i, relative to its time, of a process that was fitted to the others."""
    others = np.arange(len(times)) != i
    scale = float(np.median(times[others] / base[others].sum(1)))
    shares = base * scale / times[:, None]
    rest = 1 - shares.sum(1)
    kernel = Kernel(tuple(_logs(shares[others], rest[others], compared, start, AGAIN)))
    cross = shares[i] @ kernel._of(*compared) @ shares[others].T
    expected = cross @ np.linalg.solve(_covariance(shares[others], kernel, compared), rest[others])
    return float(rest[i] - expected)


def _compared(first: list[Work], second: list[Work]) -> tuple[np.ndarray, np.ndarray]:
    """(same kind or not, squared distance in decades), each (len(first), len(second))."""
    kinds = np.array([work.kind for work in first]), np.array([work.kind for work in second])
    same = (kinds[0][:, None] == kinds[1][None, :]).astype(float)
    gaps = sizes(first)[:, None, :] - sizes(second)[None, :, :]
    return same, (gaps**2).sum(-1)
