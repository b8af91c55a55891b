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
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nas_bo.surrogate.bend import UNBENT, Bend

FITTED = 150  # rows that hyperparameters are fitted to
ITERATIONS = 60  # of L-BFGS
# normal priors (mean, standard deviation) of the logarithms: length scales ("Vanilla Bayesian optimization performs
# great in high dimensions", where the location grows with log(d)/2), scales of the two kernels, variance of the noise
LENGTH, OWN, SHARED, NOISE = (2**0.5, 3**0.5), (0.0, 1.0), (0.0, 1.0), (-6.0, 2.0)
TIED = 1.0  # spread of the prior of what tied length scales differ by
OCCAM = 0.7  # of evidence that each further hyperparameter must bring
BOUNDS = {"length": (-3.7, 7.0), "tied": (-5.0, 5.0), "scale": (-9.2, 5.0), "noise": (-9.2, 1.0)}  # of the logarithms
SHORTER = 2.5  # how much shorter length scales are, as logarithms, at the second start of a fit
SLOPE = (-1.0, 1.5)  # prior of the logarithm of the variance of a regressor's slope
MEASURED = 1.0  # spread of the prior of the noise, where its size was measured
JITTER = 1e-6
BLOCK = 16_384  # values of a kernel that are computed at a time
REMEMBERED = 64  # fits that are kept
FIRST = 16  # trials that are hardly variations of one another
ALIKE = 0.1  # of the way from the median of these to the best: half of all trials within it are variations of the best


class _Fit(NamedTuple):
    """The most probable hyperparameters, and the logarithm of their posterior density but for a constant."""

    t: np.ndarray
    evidence: float


_memory: OrderedDict[str, _Fit] = OrderedDict()  # by the data that they were fitted to


def usual(targets: np.ndarray) -> np.ndarray:
    """Those of the targets (n,) in the order of trials, to be minimised, that say what is usual: all, or the first where most of all are
    variations of the best. Then everything else would be an outlier."""
    least, first = targets.min(), targets[:FIRST]
    alike = np.median(targets) - least < ALIKE * (np.median(first) - least)
    return first if alike else targets


def clipped(targets: np.ndarray) -> np.ndarray:
    """Targets (n,) to be minimised, outliers cut: a diverged loss of 1e6 must not flatten all others."""
    middle = np.median(usual(targets))
    span = middle - targets.min()
    return np.minimum(targets, middle + 5 * span) if span > 0 else targets


@dataclass(frozen=True)
class Settings:
    """The shape of the targets and of the kernel of a process.

    Attributes:
        bend: the scale on which the process lives.
        ties: (columns, p), by what the length scales of the second part of the kernel may differ; None for one.
        cut: cut outliers on the bad side, see `clipped`.
        near: the numbers of the rows that predictions are conditioned on; None for all.
        start: hyperparameters from which the fit begins, those of fewer rows; None for two starts from the prior.
        columns: hyperparameters are fitted to so many columns, the first ones, as if there were no others; the others vary in
            later rows alone, and share the common length scale. None for all; not with regressors.
        closer: how much shorter than usual all length scales are expected, as logarithms: what no trials distinguished is then less certain.
    """

    bend: Bend = UNBENT
    ties: np.ndarray | None = None
    cut: bool = True
    near: np.ndarray | None = None
    start: np.ndarray | None = None
    columns: int | None = None
    closer: float = 0.0


@dataclass(frozen=True)
class Given:
    """What is known about a quantity before its process is chosen.

    Attributes:
        noise_sd: see `GaussianProcess`.
        ties, near: see `Settings`.
        more: so many columns after the first `own` may have a length scale each as well.
        columns: see `Settings`.
    """

    noise_sd: float | None = None
    ties: np.ndarray | None = None
    near: np.ndarray | None = None
    more: int = 0
    columns: int | None = None


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
        settings: the shape of the targets and of the kernel, see `Settings`.

    Attributes:
        mean, scale: original = mean + scale * standardised.
        bend: the scale on which the process lives: "the objective's unit" of everything else is that of `bend.to`.
        noise: the standard deviation of the noise, in the objective's unit.
        evidence: how well the data fit, as a logarithm: comparable between processes of the same targets and `fitted`.

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
        settings: Settings = Settings(),
    ) -> None:
        targets = np.asarray(targets, dtype=float)
        first = targets[: len(targets) if fitted is None else fitted]
        first, targets = (clipped(first), clipped(targets)) if settings.cut else (first, targets)
        self.bend = settings.bend
        straight, first, targets = first, self.bend.to(first), self.bend.to(targets)
        self.mean, spread = float(first.mean()), float(first.std())  # of these alone: the fit is then remembered
        self.scale = spread if spread > 1e-12 * max(1.0, abs(self.mean)) else 1.0
        if like is not None:
            self.mean, self.scale = like.mean, like.scale
        self.evidence = 0.0
        self._inputs, self._targets, self._own = inputs, (targets - self.mean) / self.scale, own
        self._kernel: _Kernel
        self._t: np.ndarray
        if like is not None:
            self._kernel, self._t = like._kernel, like._t
        else:
            first = (first - self.mean) / self.scale
            rows = informative(straight, FITTED)
            noise = NOISE if noise_sd is None else (2 * np.log(max(noise_sd / self.scale, 1e-3)), MEASURED)
            self._kernel = _Kernel(own, inputs.shape[1] - regressors, regressors, noise, settings.ties, settings.closer)
            few, d = self._kernel, settings.columns
            if d is not None and d < few.d:
                few = _Kernel(own, d, 0, noise, None if settings.ties is None else settings.ties[:d], settings.closer)
            self._t, fit = _fit(few, inputs[rows, :d], first[rows], settings.start)
            self.evidence = fit - len(rows) * float(np.log(self.scale)) + self.bend.log_slope(straight[rows])
        self.noise = self.scale * float(np.exp(self._t[-1] / 2))
        if settings.near is not None:
            self._inputs, self._targets = self._inputs[settings.near], self._targets[settings.near]
        self._condition()

    @property
    def own(self) -> int:
        """How many columns have a length scale each."""
        return self._own

    @property
    def ties(self) -> np.ndarray | None:
        """See `Settings`."""
        found = self._kernel.parts[-1][1][:, 1:]
        return found if found.shape[1] else None

    @property
    def hyperparameters(self) -> np.ndarray:
        """The most probable ones, from which another fit may begin."""
        return self._t

    def _condition(self) -> None:
        from scipy.linalg import cho_solve

        k = self._kernel(self._t, self._inputs, self._inputs)
        for jitter in (JITTER, 1e-4, 1e-2):
            try:
                self._nugget = float(np.exp(self._t[-1])) + jitter
                self._root = np.linalg.cholesky(k + self._nugget * np.eye(len(k)))
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

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """The errors (n,) of predicting each target from all others (Rasmussen and Williams, eq. 5.12), and the targets; both
        standardised."""
        from scipy.linalg import solve_triangular

        inverse = solve_triangular(self._root, np.eye(len(self._root)), lower=True, check_finite=False)
        return self._weights / (inverse**2).sum(0), self._targets

    def slopes(self) -> np.ndarray:
        """The expected slopes (q,) of the regressors, in the objective's unit."""
        kernel = self._kernel
        if not kernel.regressors:
            return np.zeros(0)
        spread = np.exp(self._t[-1 - kernel.regressors : -1])
        return np.asarray(self.scale * spread * (self._inputs[:, kernel.d :].T @ self._weights))

    def believe(self, inputs: np.ndarray) -> None:
        """Condition on the predicted mean at inputs (n, d): what is pending is no longer uncertain (the "kriging
        believer" of Ginsbourger et al., 2010). Rows are added to the Cholesky factor; expectations stay, so their weights are 0."""
        from scipy.linalg import solve_triangular

        k = self._kernel(self._t, inputs, self._inputs)
        white = solve_triangular(self._root, k.T, lower=True, check_finite=False)
        left = self._kernel(self._t, inputs, inputs) + self._nugget * np.eye(len(inputs)) - white.T @ white
        self._inputs = np.concatenate([self._inputs, inputs])
        self._targets = np.concatenate([self._targets, k @ self._weights])
        try:
            corner = np.linalg.cholesky(left)
        except np.linalg.LinAlgError:
            self._condition()
            return
        self._root = np.block([[self._root, np.zeros(white.shape)], [white.T, corner]])
        self._weights = np.concatenate([self._weights, np.zeros(len(inputs))])


class _Kernel:
    """a1 M(x, x'; l_1, ..., l_own) + a2 M(x, x'; l) + sum_q s_q z_q z'_q, M the Matern-5/2, z the regressors;
    t = log(l_1, ..., l_own, a1, l, a2, s_1, ..., s_q, noise).

    With `ties` (d, p) the logarithms of the length scales of the second part are log(l) + ties (u_1, ..., u_p), and t holds these u
    after log(l): columns that share a u are expected to be alike.
    """

    def __init__(
        self,
        own: int,
        d: int,
        regressors: int = 0,
        noise: tuple[float, float] = NOISE,
        ties: np.ndarray | None = None,
        closer: float = 0.0,
    ) -> None:
        self.own, self.d, self.regressors, self.noise = own, d, regressors, noise
        self.length = LENGTH[0] - closer
        ties = np.zeros((d, 0)) if ties is None else ties
        self.parts = [(slice(0, own), np.eye(own))] if own else []
        self.parts.append((slice(0, d), np.concatenate([np.ones((d, 1)), ties], axis=1)))

    def prior(self) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float]]]:
        """Locations, spreads and bounds of t."""
        location, spread, bounds = [], [], []
        for i, (columns, ties) in enumerate(self.parts):
            last = i == len(self.parts) - 1
            scale, number, tied = SHARED if last else OWN, ties.shape[1], ties.shape[1] - 1 if last else 0
            location += [self.length + 0.5 * np.log(max(1, columns.stop))] * (number - tied) + [0.0] * tied + [scale[0]]
            spread += [LENGTH[1]] * (number - tied) + [TIED] * tied + [scale[1]]
            bounds += [BOUNDS["length"]] * (number - tied) + [BOUNDS["tied"]] * tied + [BOUNDS["scale"]]
        location += [SLOPE[0]] * self.regressors
        spread += [SLOPE[1]] * self.regressors
        bounds += [BOUNDS["scale"]] * self.regressors
        return np.array([*location, self.noise[0]]), np.array([*spread, self.noise[1]]), [*bounds, BOUNDS["noise"]]

    def amplitude(self, t: np.ndarray) -> float:
        """k(x, x) without the regressors, the same everywhere."""
        at, total = 0, 0.0
        for _, ties in self.parts:
            total += float(np.exp(t[at + ties.shape[1]]))
            at += ties.shape[1] + 1
        return total

    def sloped(self, t: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """The part of k(x, x) that the regressors add, (n,)."""
        return np.asarray(inputs[:, self.d :] ** 2 @ np.exp(t[-1 - self.regressors : -1]))

    def __call__(self, t: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(n, k) of inputs (n, d + q) and (k, d + q)."""
        total, at = np.zeros((len(first), len(second))), 0
        for columns, ties in self.parts:
            number = ties.shape[1]
            scale = np.exp(-(ties @ t[at : at + number]))
            a, b = first[:, columns] * scale, second[:, columns] * scale
            _add_matern(total, np.exp(t[at + number]), ((a * a).sum(1), (b * b).sum(1)), 2 * a @ b.T)
            at += number + 1
        if self.regressors:
            total += (first[:, self.d :] * np.exp(t[at:-1])) @ second[:, self.d :].T
        return total


def _add_matern(total: np.ndarray, amplitude: float, norms: tuple[np.ndarray, np.ndarray], twice: np.ndarray) -> None:
    """Add to total (n, k) what `_matern` gives, without its derivative, for points of squared norms (n,) and (k,) and twice their products
    (n, k): so many rows at a time as stay in a cache."""
    step = max(1, BLOCK // max(1, total.shape[1]))
    for at in range(0, len(total), step):
        rows = slice(at, at + step)
        r = norms[0][rows, None] + norms[1]
        r -= twice[rows]
        r *= 5
        np.sqrt(np.maximum(r, 5e-15, out=r), out=r)
        found = r * r
        found /= 3
        decay = np.exp(-r)
        r += 1
        found += r
        found *= decay
        found *= amplitude
        total[rows] += found


def _matern(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matern-5/2 of squared scaled distances, and minus twice its derivative by them."""
    r = np.sqrt(5 * square)
    decay = np.exp(-r)
    return (1 + r + r * r / 3) * decay, (5 / 3) * (1 + r) * decay


def _fit(kernel: _Kernel, x: np.ndarray, y: np.ndarray, start: np.ndarray | None = None) -> _Fit:
    """The most probable t (Rasmussen and Williams, eq. 5.8 and 5.9, and the priors); remembered by the data."""
    from scipy.linalg import cho_solve
    from scipy.optimize import minimize

    location, spread, bounds = kernel.prior()
    if len(y) < 2 or np.ptp(y) == 0:
        return _Fit(location, 0.0)
    key = hashlib.sha1(
        x.tobytes()
        + y.tobytes()
        + bytes(str((kernel.own, kernel.d, kernel.noise, kernel.length)), "ascii")
        + kernel.parts[-1][1].tobytes()
        + (b"" if start is None else start.tobytes())
    ).hexdigest()
    if (kept := _memory.get(key)) is not None:
        return kept
    squares = []
    for columns, ties in kernel.parts:
        z = x[:, columns]
        alike, of = np.unique(ties, axis=0, return_inverse=True)  # columns that always share a length scale
        if len(alike) == len(ties):
            squares.append(((z[:, None] - z[None]) ** 2, ties))
            continue
        parts = [z[:, of.ravel() == k] for k in range(len(alike))]
        squares.append((np.stack([((p[:, None] - p[None]) ** 2).sum(-1) for p in parts], axis=-1), alike))
    outers = [np.outer(z, z) for z in x[:, kernel.d :].T]
    unit = np.eye(len(y))

    def negative(t: np.ndarray) -> tuple[float, np.ndarray]:
        k, at, kept = (np.exp(t[-1]) + JITTER) * unit, 0, []
        for square, ties in squares:
            number = ties.shape[1]
            inverse = np.exp(-2 * (ties @ t[at : at + number]))
            value, slope = _matern(np.maximum(square @ inverse, 1e-15))
            amplitude = np.exp(t[at + number])
            k = k + amplitude * value
            kept.append((amplitude * value, amplitude * slope, inverse, square, ties, at))
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
        for part, slope, inverse, square, ties, start in kept:
            number = ties.shape[1]
            each = np.tensordot(slope_k * slope, square, axes=([0, 1], [0, 1])) * inverse
            gradient[start : start + number] += ties.T @ each
            gradient[start + number] += (slope_k * part).sum()
        for i, outer in enumerate(outers):
            gradient[at + i] += np.exp(t[at + i]) * (slope_k * outer).sum()
        gradient[-1] += np.exp(t[-1]) * np.trace(slope_k)
        return float(value), gradient

    options = {"maxiter": ITERATIONS}
    # two starts: from the middle of the prior alone, what varies fast may end as noise
    short = location - SHORTER * np.array([b == BOUNDS["length"] for b in bounds])
    starts = (location, short) if start is None else (start,)
    ends = [minimize(negative, t, jac=True, method="L-BFGS-B", bounds=bounds, options=options) for t in starts]
    best = min(ends, key=lambda end: float(end.fun))
    found = _Fit(np.asarray(best.x), -float(best.fun))
    _memory[key] = found
    with suppress(KeyError):  # another thread may be as far
        while len(_memory) > REMEMBERED:
            _memory.popitem(last=False)
    return found


def most_likely(
    inputs: np.ndarray, targets: np.ndarray, own: int, fitted: int, given: Given = Given()
) -> GaussianProcess:
    """The process that the targets make the most likely: on the objective's unit or bent (see `nas_bo.surrogate.bend`), with one
    length scale for everything or one that ties vary (see `Settings`), with or without length scales for `more` columns. Decided on the first rows, in steps of a quarter more."""
    tried = steps(fitted)

    def early(bend: Bend, ties: np.ndarray | None, own: int) -> GaussianProcess:
        settings = Settings(bend, ties, near=np.arange(min(2, tried)), columns=given.columns)
        return GaussianProcess(inputs[:tried], targets[:tried], own, noise_sd=given.noise_sd, settings=settings)

    bends = dict.fromkeys((UNBENT, Bend.of(usual(clipped(np.asarray(targets[:tried], dtype=float))))))
    found, ties = max((early(bend, None, own) for bend in bends), key=lambda made: made.evidence), None
    if given.more:
        longer = early(found.bend, None, own + given.more)
        if longer.evidence > found.evidence + OCCAM * given.more:
            found, own = longer, own + given.more
    if given.ties is not None and given.ties.shape[1]:
        tied = early(found.bend, given.ties, own)
        if tied.evidence > found.evidence + OCCAM * given.ties.shape[1]:
            found, ties = tied, given.ties
    settings = Settings(found.bend, ties, near=given.near, start=found._t, columns=given.columns)
    return GaussianProcess(inputs, targets, own, fitted, noise_sd=given.noise_sd, settings=settings)


def steps(number: int) -> int:
    """The largest of 4, 5, 6, 8, 10, 13, ... that is at most `number`."""
    step = min(4, number)
    while (after := step + max(1, step // 4)) <= number:
        step = after
    return step


def informative(targets: np.ndarray, most: int) -> np.ndarray:
    """Row numbers, at most `most`: the better half of them the best, the rest spread evenly over the others."""
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.argsort(targets, kind="stable")
    half = most // 2
    rest = order[half:][np.linspace(0, len(order) - half - 1, most - half).astype(int)]
    return np.sort(np.concatenate([order[:half], rest]))
