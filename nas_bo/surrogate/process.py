"""A Gaussian process per unknown objective (Rasmussen and Williams, 2006, "Gaussian processes for machine learning",
chapters 2 and 5), with priors after Hvarfner et al., 2024, "Vanilla Bayesian optimization performs great in high
dimensions".

The kernel is a sum: Matern-5/2 with a length scale for every summary of an architecture, plus Matern-5/2 with one
shared length scale on everything, for what the summaries miss. So the number of hyperparameters to fit does not grow
with the number of layers. Regressors may be added (section 2.7): numbers of which the objective is a line with an
unknown slope. numpy and scipy only: no import of seconds, and an ask of milliseconds.

Notation: X (n, d + q) inputs, the last q of them regressors, y (n,) standardised targets, t the logarithms of all hyperparameters.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from contextlib import suppress

import numpy as np

FITTED = 150  # rows that hyperparameters are fitted to
ITERATIONS = 60  # of L-BFGS
# normal priors (mean, standard deviation) of the logarithms: length scales ("Vanilla Bayesian optimization performs
# great in high dimensions", where the location grows with log(d)/2), scales of the two kernels, variance of the noise
LENGTH, OWN, SHARED, NOISE = (2**0.5, 3**0.5), (0.0, 1.0), (0.0, 1.0), (-6.0, 2.0)
BOUNDS = {"length": (-3.7, 7.0), "scale": (-9.2, 5.0), "noise": (-9.2, 1.0)}  # of the logarithms
SHORTER = 2.5  # how much shorter length scales are, as logarithms, at the second start of a fit
SLOPE = (-1.0, 1.5)  # prior of the logarithm of the variance of a regressor's slope
MEASURED = 1.0  # spread of the prior of the noise, where its size was measured
JITTER = 1e-6
REMEMBERED = 64  # fits that are kept
_memory: OrderedDict[str, np.ndarray] = OrderedDict()  # hyperparameters by the data that they were fitted to


def clipped(targets: np.ndarray) -> np.ndarray:
    """Targets (n,) to be minimised, outliers cut: a diverged loss of 1e6 must not flatten all others."""
    middle = np.median(targets)
    span = middle - targets.min()
    return np.minimum(targets, middle + 5 * span) if span > 0 else targets


class GaussianProcess:
    """One objective: hyperparameters fitted once, then conditioned on whatever is added.

    Args:
        inputs: (n, d), every column in about [0, 1].
        targets: (n,), finite, in the objective's unit, minimised.
        own: how many columns, the first ones, have a length scale each.
        fitted: the hyperparameters are fitted to so many rows only, the first ones, so that they need not be fitted
            again for every trial; all rows when None.
        regressors: how many columns, the last ones, are regressors, of about unit size.
        like: takes its hyperparameters, mean and scale from this process instead of fitting any.
        noise_sd: the standard deviation of the noise in the objective's unit, where it was measured.
        cut: cut outliers on the bad side, see `clipped`.

    Attributes:
        mean, scale: original = mean + scale * standardised.
        noise: the standard deviation of the noise, in the objective's unit.

    Raises:
        numpy.linalg.LinAlgError: no fit is possible.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        targets: np.ndarray,
        own: int,
        fitted: int | None = None,
        *,
        regressors: int = 0,
        like: GaussianProcess | None = None,
        noise_sd: float | None = None,
        cut: bool = True,
    ) -> None:
        targets = np.asarray(targets, dtype=float)
        first = targets[: len(targets) if fitted is None else fitted]
        first, targets = (clipped(first), clipped(targets)) if cut else (first, targets)
        self.mean, spread = float(first.mean()), float(first.std())  # of these alone: the fit is then remembered
        self.scale = spread if spread > 1e-12 * max(1.0, abs(self.mean)) else 1.0
        if like is not None:
            self.mean, self.scale = like.mean, like.scale
        self._inputs, self._targets, self._own = inputs, (targets - self.mean) / self.scale, own
        self._kernel: _Kernel
        self._t: np.ndarray
        if like is not None:
            self._kernel, self._t = like._kernel, like._t
        else:
            first = (first - self.mean) / self.scale
            rows = informative(first, FITTED)
            noise = NOISE if noise_sd is None else (2 * np.log(max(noise_sd / self.scale, 1e-3)), MEASURED)
            self._kernel = _Kernel(own, inputs.shape[1] - regressors, regressors, noise)
            self._t = _fit(self._kernel, inputs[rows], first[rows])
        self.noise = self.scale * float(np.exp(self._t[-1] / 2))
        self._condition()

    def _condition(self) -> None:
        from scipy.linalg import cho_solve

        k = self._kernel(self._t, self._inputs, self._inputs)
        for jitter in (JITTER, 1e-4, 1e-2):
            try:
                self._root = np.linalg.cholesky(k + (np.exp(self._t[-1]) + jitter) * np.eye(len(k)))
                break
            except np.linalg.LinAlgError:
                if jitter == 1e-2:
                    raise
        self._weights = cho_solve((self._root, True), self._targets)

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (n,) of the objective itself, without the noise of a measurement."""
        from scipy.linalg import solve_triangular

        k = self._kernel(self._t, inputs, self._inputs)
        white = solve_triangular(self._root, k.T, lower=True, check_finite=False)
        variance = self._kernel.amplitude(self._t) - np.einsum("ij,ij->j", white, white)
        if self._kernel.regressors:
            variance = variance + self._kernel.sloped(self._t, inputs)
        variance = np.maximum(variance, 1e-10)
        return self.mean + self.scale * (k @ self._weights), self.scale * np.sqrt(variance)

    def expect(self, inputs: np.ndarray) -> np.ndarray:
        """The mean of `predict` alone (n,), at a fraction of its cost."""
        return np.asarray(
            self.mean + self.scale * (self._kernel(self._t, inputs, self._inputs) @ self._weights), dtype=float
        )

    def slopes(self) -> np.ndarray:
        """The expected slopes (q,) of the regressors, in the objective's unit."""
        kernel = self._kernel
        if not kernel.regressors:
            return np.zeros(0)
        spread = np.exp(self._t[-1 - kernel.regressors : -1])
        return np.asarray(self.scale * spread * (self._inputs[:, kernel.d :].T @ self._weights))

    def believe(self, inputs: np.ndarray) -> None:
        """Condition on the predicted mean at inputs (n, d): what is pending is no longer uncertain (the "kriging
        believer" of Ginsbourger et al., 2010)."""
        means = (self.predict(inputs)[0] - self.mean) / self.scale
        self._inputs = np.concatenate([self._inputs, inputs])
        self._targets = np.concatenate([self._targets, means])
        self._condition()


class _Kernel:
    """a1 M(x, x'; l_1, ..., l_own) + a2 M(x, x'; l) + sum_q s_q z_q z'_q, M the Matern-5/2, z the regressors;
    t = log(l_1, ..., l_own, a1, l, a2, s_1, ..., s_q, noise)."""

    def __init__(self, own: int, d: int, regressors: int = 0, noise: tuple[float, float] = NOISE) -> None:
        self.own, self.d, self.regressors, self.noise = own, d, regressors, noise
        self.parts = [(slice(0, own), own)] if own else []
        self.parts.append((slice(0, d), 1))

    def prior(self) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float]]]:
        """Locations, spreads and bounds of t."""
        location, spread, bounds = [], [], []
        for i, (columns, number) in enumerate(self.parts):
            scale = SHARED if i == len(self.parts) - 1 else OWN
            location += [LENGTH[0] + 0.5 * np.log(max(1, columns.stop))] * number + [scale[0]]
            spread += [LENGTH[1]] * number + [scale[1]]
            bounds += [BOUNDS["length"]] * number + [BOUNDS["scale"]]
        location += [SLOPE[0]] * self.regressors
        spread += [SLOPE[1]] * self.regressors
        bounds += [BOUNDS["scale"]] * self.regressors
        return np.array([*location, self.noise[0]]), np.array([*spread, self.noise[1]]), [*bounds, BOUNDS["noise"]]

    def amplitude(self, t: np.ndarray) -> float:
        """k(x, x) without the regressors, the same everywhere."""
        at, total = 0, 0.0
        for _, number in self.parts:
            total += float(np.exp(t[at + number]))
            at += number + 1
        return total

    def sloped(self, t: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """The part of k(x, x) that the regressors add, (n,)."""
        return np.asarray(inputs[:, self.d :] ** 2 @ np.exp(t[-1 - self.regressors : -1]))

    def __call__(self, t: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(n, k) of inputs (n, d + q) and (k, d + q)."""
        total, at = np.zeros((len(first), len(second))), 0
        for columns, number in self.parts:
            scale = np.exp(-t[at : at + number])
            a, b = first[:, columns] * scale, second[:, columns] * scale
            square = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
            total += np.exp(t[at + number]) * _matern(np.maximum(square, 1e-15))[0]
            at += number + 1
        if self.regressors:
            total += (first[:, self.d :] * np.exp(t[at:-1])) @ second[:, self.d :].T
        return total


def _matern(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matern-5/2 of squared scaled distances, and minus twice its derivative by them."""
    r = np.sqrt(5 * square)
    decay = np.exp(-r)
    return (1 + r + r * r / 3) * decay, (5 / 3) * (1 + r) * decay


def _fit(kernel: _Kernel, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The most probable t (Rasmussen and Williams, eq. 5.8 and 5.9, and the priors); remembered by the data."""
    from scipy.linalg import cho_solve
    from scipy.optimize import minimize

    location, spread, bounds = kernel.prior()
    if len(y) < 2 or np.ptp(y) == 0:
        return location
    key = hashlib.sha1(
        x.tobytes() + y.tobytes() + bytes(str((kernel.own, kernel.d, kernel.noise)), "ascii")
    ).hexdigest()
    if (kept := _memory.get(key)) is not None:
        return kept
    squares = []
    for columns, number in kernel.parts:
        z = x[:, columns]
        each = (z[:, None] - z[None]) ** 2
        squares.append(each if number > 1 else each.sum(-1, keepdims=True))
    outers = [np.outer(z, z) for z in x[:, kernel.d :].T]
    unit = np.eye(len(y))

    def negative(t: np.ndarray) -> tuple[float, np.ndarray]:
        k, at, kept = (np.exp(t[-1]) + JITTER) * unit, 0, []
        for square in squares:
            number = square.shape[2]
            inverse = np.exp(-2 * t[at : at + number])
            value, slope = _matern(np.maximum(square @ inverse, 1e-15))
            amplitude = np.exp(t[at + number])
            k = k + amplitude * value
            kept.append((amplitude * value, amplitude * slope, inverse, square, at))
            at += number + 1
        for i, outer in enumerate(outers):
            k = k + np.exp(t[at + i]) * outer
        try:
            root = np.linalg.cholesky(k)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(t)
        inverse_k = cho_solve((root, True), unit, check_finite=False)
        weights = inverse_k @ y
        off = (t - location) / spread
        value = 0.5 * y @ weights + np.log(np.diag(root)).sum() + 0.5 * (off**2).sum()
        slope_k = 0.5 * (inverse_k - np.outer(weights, weights))
        gradient = off / spread
        for part, slope, inverse, square, start in kept:
            number = len(inverse)
            gradient[start : start + number] += np.tensordot(slope_k * slope, square, axes=([0, 1], [0, 1])) * inverse
            gradient[start + number] += (slope_k * part).sum()
        for i, outer in enumerate(outers):
            gradient[at + i] += np.exp(t[at + i]) * (slope_k * outer).sum()
        gradient[-1] += np.exp(t[-1]) * np.trace(slope_k)
        return float(value), gradient

    options = {"maxiter": ITERATIONS}
    # two starts: from the middle of the prior alone, what varies fast may end as noise
    short = location - SHORTER * np.array([b == BOUNDS["length"] for b in bounds])
    ends = [
        minimize(negative, t, jac=True, method="L-BFGS-B", bounds=bounds, options=options) for t in (location, short)
    ]
    found = min(ends, key=lambda end: float(end.fun)).x
    _memory[key] = found
    with suppress(KeyError):  # another thread may be as far
        while len(_memory) > REMEMBERED:
            _memory.popitem(last=False)
    return np.asarray(found)


def informative(targets: np.ndarray, most: int) -> np.ndarray:
    """Row numbers, at most `most`: the better half of them the best, the rest spread evenly over the others."""
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.argsort(targets, kind="stable")
    half = most // 2
    rest = order[half:][np.linspace(0, len(order) - half - 1, most - half).astype(int)]
    return np.sort(np.concatenate([order[:half], rest]))
