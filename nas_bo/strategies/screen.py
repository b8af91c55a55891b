"""Screening of children (after Emmerich et al., 2006, "Single- and multiobjective evolutionary optimization assisted by
Gaussian random field metamodels", IEEE TEC 10(4)): of several, the one that is expected to improve the front the most.

The surrogate is a Bayesian ridge regression (MacKay, 1992, "Bayesian interpolation", Neural Computation 4) on the
summaries of architectures, a millisecond's work; the criterion is the expected maximin improvement (Svenson and Santner,
2016, "Multiobjective optimization of expensive-to-evaluate deterministic computer simulator models", CSDA 94), which
takes any number of objectives. Known objectives are exact. With one objective, the order by this criterion and that by the
ratio of densities (see `nas_bo.strategies.density_ratio`) count equally.

Notation: n architectures, d inputs, m objectives, k points of the front, s draws.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.density_ratio import log_ratio, split
from nas_bo.strategies.history import Past, known_values
from nas_bo.strategies.strategy import REMEMBERED
from nas_bo.surrogate.features import features_of
from nas_bo.surrogate.genomes import genomes_of

FITTED = 200  # trials that the surrogate is fitted to, the last ones: they lie where children lie
DRAWS = 16  # of the unknown objectives
NOISES = 10.0 ** np.arange(-3, 3)  # ratios of noise to prior variance that are tried
FEWEST = 8  # trials from which it is known how much the surrogate can tell apart
WILD = 5.0  # values so many times farther from the best than the median is are cut off

_rows: WeakKeyDictionary[Problem, dict[str, np.ndarray]] = WeakKeyDictionary()


class Screen:
    """The belief about the objectives of architectures, from the past."""

    def __init__(self, problem: Problem, past: Past) -> None:
        self._problem = problem
        self._scale = past.scale
        self._front = self._scale(past.points[past.front])
        self._values = self._scale(past.points[-FITTED:])
        self._archs = past.archs[-FITTED:]
        self._inputs = _inputs(problem, self._archs)

    def best(
        self, children: Sequence[Architecture], pending: Sequence[Architecture], rng: random.Random
    ) -> Architecture:
        """The child of the most promise, when `pending` turns out as expected."""
        mean, sd = self.predict([*children, *pending])
        front = np.vstack([self._front, mean[len(children) :]])
        mean, sd = mean[: len(children)], sd[: len(children)]
        # ~ Normal(mean, sd^2), the same draws for all children
        draws = np.random.default_rng(rng.getrandbits(63)).standard_normal((DRAWS, 1, mean.shape[1]))
        gain = np.maximum(maximin(mean + sd * draws, front), 0.0).mean(0)
        if not gain.max() > 0:
            gain = maximin(mean, front)
        return children[int(np.argmin(1.001 * _places(gain) + self._places_by_density(children)))]

    def pressure(self, most: int) -> int:
        """How many children are worth a look, 2 to `most`: with several objectives as many as the surrogate can tell apart. Measured by the
        correlation of what it predicts for each of the better half of the trials, when that one is left out, with what came of it; the least
        of all objectives. With one objective the densities have a say, too, and `most` are."""
        m = self._values.shape[1]
        unknown = np.flatnonzero(~np.isfinite(self._inputs[:, :m]).all(0) & (np.ptp(self._values, axis=0) > 0))
        if m == 1 or not len(unknown) or len(self._values) < FEWEST:
            return most
        past = _design(self._inputs, self._inputs, np.isfinite(self._inputs[:, :m]).all(0))[0]
        share = min(_told_apart(past, self._values[:, j]) for j in unknown)
        return min(most, 2 + round((most - 2) * share))

    def _places_by_density(self, children: Sequence[Architecture]) -> np.ndarray:
        """The places of children, the best 0, by the ratio of densities (n,); with several objectives all are 0. A regression
        and densities err in different places, so what is high in both is better than the highest of either."""
        if self._values.shape[1] != 1:
            return np.zeros(len(children))
        genomes = genomes_of(self._problem.space)
        good, rest = split(self._values[:, 0])
        past = genomes.encode(self._archs)
        return _places(log_ratio(genomes, past[good], past[rest], genomes.encode(children)))

    def predict(self, archs: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations (n, m), scaled; of known objectives the values and 0."""
        m = self._values.shape[1]
        inputs = _inputs(self._problem, archs)
        known = np.isfinite(inputs[:, :m]).all(0) & np.isfinite(self._inputs[:, :m]).all(0)
        mean = self._scale(np.where(known, inputs[:, :m], 1.0))
        sd = np.zeros_like(mean)
        if not known.all():
            past, now = _design(self._inputs, inputs, known)
            for j in np.flatnonzero(~known):
                mean[:, j], sd[:, j] = ridge(past, self._values[:, j], now)
        return mean, sd


def _places(values: np.ndarray) -> np.ndarray:
    """The place of each in descending order, (n,): 0 for the largest."""
    found = np.empty(len(values))
    found[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return found


def maximin(points: np.ndarray, front: np.ndarray) -> np.ndarray:
    """How far points (..., m) are from being dominated by the front (k, m): below 0 where they are, (...)."""
    return np.asarray((front - points[..., None, :]).max(-1).min(-1))


def ridge(past: np.ndarray, values: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations (n,) at `now` (n, d) from values at `past`; the noise is that of largest evidence."""
    fitted = _Fitted(past, _cut(values))
    moved = now @ fitted.turned
    variance = fitted.noise * (1.0 + (moved**2 / fitted.spread).sum(1))
    return np.asarray(fitted.centre + fitted.size * (moved @ fitted.weights)), np.asarray(
        fitted.size * np.sqrt(variance)
    )


def left_out(past: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `ridge` predicts for each row of `past` (n, d) without it, and the values (n,) that it is fitted to."""
    values = _cut(values)
    fitted = _Fitted(past, values)
    moved = past @ fitted.turned
    guessed = fitted.centre + fitted.size * (moved @ fitted.weights)
    leverage = np.minimum((moved**2 / fitted.spread).sum(1), 0.999)
    return np.asarray(values - (values - guessed) / (1.0 - leverage)), values


def _cut(values: np.ndarray) -> np.ndarray:
    middle, least = np.median(values), values.min()
    return np.minimum(values, least + WILD * (middle - least)) if middle > least else values


class _Fitted:
    """Weights in the basis `turned` of the inputs, with the noise of largest evidence."""

    def __init__(self, past: np.ndarray, values: np.ndarray) -> None:
        self.centre, self.size = float(values.mean()), float(values.std()) or 1.0
        target = (values - self.centre) / self.size
        number = len(target)
        eigen, self.turned = np.linalg.eigh(past.T @ past)
        eigen = np.maximum(eigen, 0.0)
        along = self.turned.T @ (past.T @ target)
        weights = along / (eigen + NOISES[:, None])  # (noises, d)
        left = target @ target - weights @ along  # residual plus penalty, eq. 2.6 at its minimum
        noise = np.maximum(left, 1e-6 * number) / number
        evidence = -0.5 * number * np.log(noise) - 0.5 * np.log1p(eigen / NOISES[:, None]).sum(1)
        at = int(np.argmax(evidence))
        self.weights, self.noise, self.spread = weights[at], float(noise[at]), eigen + NOISES[at]


def _told_apart(inputs: np.ndarray, values: np.ndarray) -> float:
    """The squared correlation of left-out predictions with values (n,) to be minimised, among the better half; 0 to 1."""
    guessed, values = left_out(inputs, values)
    good = values <= np.median(values)
    if good.sum() < 3 or np.ptp(values[good]) == 0 or np.ptp(guessed[good]) == 0:
        return 0.0
    return float(max(np.corrcoef(guessed[good], values[good])[0, 1], 0.0) ** 2)


def _design(past: np.ndarray, now: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns for the regression: 1, standardised inputs (known objectives as logarithms), and their squares."""
    m = len(known)
    keep = np.concatenate([known, np.ones(past.shape[1] - m, dtype=bool)])
    raw = np.vstack([past, now])[:, keep]
    costs = raw[:, : known.sum()]
    raw[:, : known.sum()] = np.sign(costs) * np.log(np.maximum(np.abs(costs), 1e-12))
    seen = raw[: len(past)]
    varies = np.ptp(seen, axis=0) > 1e-9
    raw, seen = raw[:, varies], seen[:, varies]
    scaled = np.clip((raw - seen.mean(0)) / seen.std(0), -4.0, 4.0)
    columns = np.concatenate([np.ones((len(scaled), 1)), scaled, 0.5 * scaled**2], axis=1)
    return columns[: len(past)], columns[len(past) :]


def _inputs(problem: Problem, archs: Sequence[Architecture]) -> np.ndarray:
    """(n, m + summaries): known objectives, minimised, NaN where unknown; then the summaries. Remembered."""
    memory, features = _rows.setdefault(problem, {}), features_of(problem.space)
    new = [arch for arch in archs if arch.id not in memory]
    if new:
        if len(memory) + len(new) > REMEMBERED:
            memory.clear()
            new = list(archs)
        known = np.array([known_values(problem, arch) for arch in new])
        memory.update(zip((a.id for a in new), np.hstack([known, features(new)[:, : features.width]]), strict=True))
    return np.array([memory[arch.id] for arch in archs])
