"""A Gaussian process on operations that is fitted to the times of whole models (additive processes: Duvenaud, Nickisch
and Rasmussen, 2011, arXiv 1112.4394; conditioning: Rasmussen and Williams, 2006, equations 2.23 to 2.26 and 5.8 to 5.12).

A base says how long each operation takes, b_i. The time of a model is taken to be

    scale * sum_i b_i (1 + g(x_i) + h(z)) + price * sum_i s_i

where x_i are the logarithms of an operation's sizes, z is that of all the bytes that the model moves, s_i are the terms of
softmaxes (no base knows what they cost where attention is not a fused kernel), and g, h and price begin at zero. So nothing
measured gives the base, ten models correct what the base gets wrong most, and what is learned of an operation holds in every
model. What operations do to each other is in h alone: the weights of a small model stay in a cache between two tokens.

Notation: n models, U distinct operations, W (n, U) the base's share of each operation in the measured time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.hardware.latency.calibration import checked_times, reach
from nas_bo.hardware.workload import Work
from nas_bo.wording import counted

# logarithms: sd of a common factor, of one per kind, of one that varies with size, length in decades, sd of the noise,
# sd of one that varies with size within a kind, sd of h, sd of the price in ns; normal priors (mean, standard deviation)
PRIOR = np.array([0.0, -1.0, -1.0, 0.0, -6.0, -1.5, -4.0, 0.0])
WIDTH = np.array([0.5, 1.0, 1.0, 1.0, 1.5, 1.0, 1.5, 2.5])
LENGTH = 0.4  # of h, in decades
ITERATIONS = 40
AGAIN = 12  # iterations of a fit that begins at another one's end
REFITTED = 20  # measurements up to which each is predicted by a fit of its own
SHORTEST = -0.7  # logarithm of the length, in decades, beyond which intervals trust no similarity
FARTHEST = 4.0  # standard deviations of the priors that a fit may go
LEAST = 3  # models


def sizes(found: list[Work]) -> np.ndarray:
    """(U, 4) decades of FLOPs, weights, other bytes and terms of softmaxes."""
    raw = [
        (work.flops + 1e3, work.weight_bytes + 2e2, work.activation_bytes + work.cache_bytes + 2e2, work.scores + 1e2)
        for work in found
    ]
    decades: np.ndarray = np.log10(np.array(raw, dtype=float).reshape(-1, 4))
    return decades


@dataclass(frozen=True)
class Models:
    """What models have in common with the operations and among each other, for the covariance of their relative times.

    Attributes:
        shares: (n, U), W.
        same, squared: (U, U), whether two operations are of one kind, and their squared distance in decades.
        near: (n, n), how alike the models' sizes are, 1 for the same.
        scores: (n,), ms of all softmax terms at a price of 1 ns, relative to the model's time.
    """

    shares: np.ndarray
    same: np.ndarray
    squared: np.ndarray
    near: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, known: list[Work], often: np.ndarray, base: np.ndarray, times: np.ndarray) -> Models:
        """
        Args:
            often: (n, U), how many times each model has each operation.
            base: (U,), the time of each operation.
            times: (n,), of the models.
        """
        decades = model_sizes(known, often)
        scores = often @ np.array([work.scores for work in known], dtype=float) * 1e-6 / times
        return cls(often * base / times[:, None], *_compared(known, known), alike(decades, decades), scores)

    def but(self, i: int) -> Models:
        """Those but number i."""
        rest = np.arange(len(self.scores)) != i
        return Models(self.shares[rest], self.same, self.squared, self.near[np.ix_(rest, rest)], self.scores[rest])


def model_sizes(known: list[Work], often: np.ndarray) -> np.ndarray:
    """(n,) decades of bytes that each model moves."""
    moved = often @ np.array([work.moved_bytes for work in known], dtype=float)
    decades: np.ndarray = np.log10(np.maximum(moved, 1.0))
    return decades


def alike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) similarity of sizes of models, in decades."""
    found: np.ndarray = np.exp(-((first[:, None] - second[None, :]) ** 2) / (2 * LENGTH**2))
    return found


@dataclass(frozen=True)
class Kernel:
    """Covariance of g between operations, and variances of all else."""

    logs: tuple[float, ...]

    def between(self, first: list[Work], second: list[Work]) -> np.ndarray:
        return self._of(*_compared(first, second))

    def of_models(self, models: Models) -> np.ndarray:
        """(n, n) covariance of times relative to the models' own, without noise."""
        often = models.shares.sum(1)
        found: np.ndarray = models.shares @ self._of(models.same, models.squared) @ models.shares.T
        found += self.whole * models.near * np.outer(often, often) + self.price * np.outer(models.scores, models.scores)
        return found

    def _of(self, same: np.ndarray, squared: np.ndarray) -> np.ndarray:
        common, kind, size, length, _, within = np.exp(2 * np.asarray(self.logs[:6]))
        near = np.exp(-squared / (2 * length))
        covariance: np.ndarray = common + kind * same + size * near + within * same * near
        return covariance

    @property
    def noise(self) -> float:
        """Variance of a measurement, relative to it."""
        return math.exp(2 * self.logs[4])

    @property
    def whole(self) -> float:
        """Variance of h."""
        return math.exp(2 * self.logs[6])

    @property
    def price(self) -> float:
        """Variance of the price, in ns^2."""
        return math.exp(2 * self.logs[7])


@dataclass(frozen=True)
class Posterior:
    """g, h and the price after the measurements. `known` are the operations that were measured, as parts of models.

    Attributes:
        kernel: of the mean.
        doubt: of the variance: the same, but no less varied and no smoother than is believed beforehand. A fit to few
            models takes the little that it has seen for all there is, and is then sure of widths that it never saw.
        pull: (U,), so that the mean of g at new operations is ``between(new, known) @ pull``.
        sizes: (n,), of the measured models in decades.
        whole_pull: (n,), so that the mean of h is ``kernel.whole * alike(new, sizes) @ whole_pull``.
        price_ns: mean of the price.
        root, whole_root, price_root: (n, U), (n, n), (n,), so that the variance falls by the squares of ``root @
            doubt.between(known, new) + doubt.whole * whole_root @ alike(sizes, new) + doubt.price * price_root * scores``.
        reach: half width of the interval in standard deviations: at least that of a normal distribution, and as much as the
            errors at models that were left out ask for (Lei et al., 2018, arXiv 1604.04173, section 5.2).
    """

    known: list[Work]
    kernel: Kernel
    doubt: Kernel
    scale: float
    pull: np.ndarray
    sizes: np.ndarray
    whole_pull: np.ndarray
    price_ns: float
    root: np.ndarray
    whole_root: np.ndarray
    price_root: np.ndarray
    reach: float


def fit(known: list[Work], often: np.ndarray, base: np.ndarray, times: np.ndarray, level: float = 0.9) -> Posterior:
    """Condition on measured models.

    Args:
        often: (n, U), how many times each model has each operation.
        base: (U,), the base's milliseconds of each operation.
        times: (n,), measured milliseconds.
        level: of the intervals.

    Raises:
        ObjectiveError: too few models, or times that are not finite numbers above 0.
    """
    from scipy.stats import norm

    n = len(times)
    if n < LEAST:
        raise ObjectiveError(
            f"{counted(n, 'measured model is', 'measured models are')} too few to learn from; measure at least {LEAST}"
        )
    checked_times(list(times), n)
    whole = often @ base
    scale = float(np.median(times / whole))
    models = Models.of(known, often, scale * base, times)  # relative to the measurement, as the noise is
    rest = 1 - models.shares.sum(1)
    logs = _logs(models, rest, PRIOR, ITERATIONS)
    kernel, doubt = Kernel(tuple(map(float, logs))), Kernel(_doubted(logs))
    inverse = np.linalg.inv(_covariance(models, kernel))
    lower = np.linalg.inv(np.linalg.cholesky(_covariance(models, doubt)))
    spread = 1 / np.sqrt((lower**2).sum(0))  # of each model without its own measurement
    if n > REFITTED:
        left_out = (inverse @ rest) / np.diag(inverse)  # equation 5.12
    else:
        left_out = np.array([_left_out(i, models, times / whole, logs) for i in range(n)])
    solved = inverse @ rest
    return Posterior(
        known,
        kernel,
        doubt,
        scale,
        models.shares.T @ solved,
        model_sizes(known, often),
        models.shares.sum(1) * solved,
        float(kernel.price * models.scores @ solved),
        lower @ models.shares,
        lower * models.shares.sum(1),
        lower @ models.scores,
        max(float(norm.ppf(0.5 + level / 2)), reach(np.abs(left_out) / spread, level)),
    )


def _covariance(models: Models, kernel: Kernel) -> np.ndarray:
    found: np.ndarray = kernel.of_models(models) + (kernel.noise + 1e-10) * np.eye(len(models.scores))
    return found


def _logs(models: Models, rest: np.ndarray, start: np.ndarray, iterations: int) -> np.ndarray:
    """The most probable logarithms of the kernel's numbers (equation 5.8, and the priors)."""
    from scipy.optimize import minimize

    shares, same, squared = models.shares, models.same, models.squared
    eye, often = np.eye(len(rest)), shares.sum(1)
    kinds, common, priced = shares @ same @ shares.T, np.outer(often, often), np.outer(models.scores, models.scores)
    sized = models.near * common

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        belief, pull = float(0.5 * (((logs - PRIOR) / WIDTH) ** 2).sum()), (logs - PRIOR) / WIDTH**2
        amount = np.exp(2 * logs)
        near = np.exp(-squared / (2 * amount[3]))
        steep = near * squared / amount[3]
        parts = [common, kinds, shares @ near @ shares.T, eye, shares @ (same * near) @ shares.T, sized, priced]
        weights = amount[[0, 1, 2, 4, 5, 6, 7]]
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
    common, kind, size, length, noise, within, *others = logs
    most = np.maximum([common, kind, size, within], PRIOR[[0, 1, 2, 5]])
    return (*map(float, most[:3]), min(float(length), SHORTEST), float(noise), float(most[3]), *map(float, others))


def _left_out(i: int, models: Models, scales: np.ndarray, start: np.ndarray) -> float:
    """The error at model i, relative to its time, of a process that was fitted to the others.

    Args:
        scales: (n,), of which the median was taken for all.
    """
    others = np.arange(len(scales)) != i
    models = replace(models, shares=models.shares * float(np.median(scales[others])) / float(np.median(scales)))
    rest = 1 - models.shares.sum(1)
    kernel = Kernel(tuple(_logs(models.but(i), rest[others], start, AGAIN)))
    whole = _covariance(models, kernel)
    expected = whole[i, others] @ np.linalg.solve(whole[np.ix_(others, others)], rest[others])
    return float(rest[i] - expected)


def _compared(first: list[Work], second: list[Work]) -> tuple[np.ndarray, np.ndarray]:
    """(same kind or not, squared distance in decades), each (len(first), len(second))."""
    kinds = np.array([work.kind for work in first]), np.array([work.kind for work in second])
    same = (kinds[0][:, None] == kinds[1][None, :]).astype(float)
    gaps = sizes(first)[:, None, :] - sizes(second)[None, :, :]
    return same, (gaps**2).sum(-1)
