"""Learning curves beyond where they stop, with an interval.

One curve: loss = a + b t^-c (the form of Domhan et al. 2015 and of Hestness et al. 2017, arXiv 1712.00409), averaged
over all (a, c) by how well they explain the points and how plausible they are beforehand, instead of the one best fit,
which from a short curve is far off as often as not. Curves of finished runs, where there are some, say how much such
runs still gained from there.

Notation: a point is (tokens, bits per byte); n points, m finished curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.wording import counted

Points = Sequence[tuple[float, float]]

LEVEL = 0.9  # of the intervals
FLOORS = np.linspace(0.0, 0.98, 50)  # a, as a share of the least loss seen
POWERS = np.exp(np.linspace(math.log(0.05), math.log(2.0), 40))  # c
POWER = (math.log(0.35), 0.7)  # prior of log c: mean, sd
NOISE = 0.006  # sd of a point about its curve, in log loss
DECAY_GAIN = (0.065, 0.015)
"""log(loss without the learning rate's decay / with it) at the end of a run of the default schedule: mean, sd.
Set by hand from runs of 500,000 tokens on the default space; elsewhere a guess."""

LEAST = 3
LEAST_FINISHED = 5


@dataclass(frozen=True)
class Extrapolation:
    """What is expected at the end of a run.

    Attributes:
        mean: the expected loss.
        low, high: bounds of the central 90 % interval.
        sd: standard deviation.
    """

    mean: float
    low: float
    high: float
    sd: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} (90 % interval {self.low:.4g} to {self.high:.4g})"


def extrapolate(
    points: Points,
    tokens: float,
    *,
    gain: tuple[float, float] = DECAY_GAIN,
    finished: Sequence[Points] = (),
) -> Extrapolation:
    """The loss at the end of a run of `tokens` tokens, from its first points.

    Args:
        points: at least three of different tokens, before the decay of the learning rate; those of the first tenth of
            the span should be left out (warm-up is not a power law).
        tokens: where the run ends.
        gain: what the decay brings: mean and standard deviation of log(loss without it / with it). (0, 0) for a curve
            that has none.
        finished: curves of other architectures on the same corpus and schedule that reached `tokens`. From five on,
            what these gained from the last of `points` to the end is weighed against the power law by how well each
            of the two predicts (for the finished ones: of each other).

    Raises:
        ObjectiveError: too few points, or a value that is not a finite positive number.
    """
    t, y = _checked(points, tokens)
    mean, sd = _alone(t, y, tokens, gain)
    low, high = mean - _Z * sd, mean + _Z * sd
    ends = [curve for curve in finished if len(curve) and max(at for at, _ in curve) >= tokens * (1 - 1e-6)]
    if len(ends) >= LEAST_FINISHED:
        across = _across(t, y, tokens, ends)
        if across is not None:
            mean, sd, low, high = across
    return Extrapolation(mean, low, high, sd)


_Z = 1.6448536269514722  # half of LEVEL on either side


def _checked(points: Points, tokens: float) -> tuple[np.ndarray, np.ndarray]:
    pairs = sorted((float(at), float(value)) for at, value in points)
    t, y = np.array([at for at, _ in pairs]), np.array([value for _, value in pairs])
    if len(set(t.tolist())) < LEAST:
        raise ObjectiveError(
            f"a curve of {counted(len(set(t.tolist())), 'point')} cannot be extrapolated; it needs {LEAST}"
        )
    if not (np.isfinite(t).all() and np.isfinite(y).all() and (t > 0).all() and (y > 0).all()):
        raise ObjectiveError("a curve to extrapolate needs finite tokens and losses above 0")
    if not math.isfinite(tokens) or tokens < t[-1]:
        raise ObjectiveError(f"the curve ends at {t[-1]:g} tokens, beyond the {tokens:g} to extrapolate to")
    return t, y


def _alone(t: np.ndarray, y: np.ndarray, tokens: float, gain: tuple[float, float]) -> tuple[float, float]:
    """Mean and standard deviation at `tokens`: power laws through the last point's neighbourhood, by their weight."""
    least = y.min()
    floor = FLOORS[:, None, None] * least  # (a, 1, 1)
    power = POWERS[None, :, None]  # (1, c, 1)
    shape = (t / t[-1]) ** -power  # (1, c, n)
    above = np.log(y - floor * (1 - 1e-9))  # of what is above the floor
    relative = y / (y - floor)  # d log(y - a) / d log y, so that noise is that of log y
    weight = 1 / relative**2
    level = ((above - np.log(shape)) * weight).sum(-1) / weight.sum(-1)  # log b
    off = (above - np.log(shape) - level[..., None]) / relative / NOISE
    misfit = 4 * np.log1p(off**2 / 4)  # a t distribution with three degrees: one bad point moves little
    log_weight = -0.5 * misfit.sum(-1) - 0.5 * ((np.log(POWERS) - POWER[0]) / POWER[1])[None, :] ** 2
    chance = np.exp(log_weight - log_weight.max())
    chance /= chance.sum()
    ends = FLOORS[:, None] * least + np.exp(level) * (tokens / t[-1]) ** -POWERS[None, :]
    ends = np.log(ends)
    mean = float((chance * ends).sum())
    variance = float((chance * (ends - mean) ** 2).sum()) + NOISE**2 * (1 + 1 / len(t)) + gain[1] ** 2
    value = math.exp(mean - gain[0])
    return value, value * math.sqrt(variance)


def _across(
    t: np.ndarray, y: np.ndarray, tokens: float, finished: Sequence[Points]
) -> tuple[float, float, float, float] | None:
    """Ridge from a curve's level and slope at its end to what is gained until `tokens`, learned from finished runs:
    mean, sd and the interval."""
    from scipy.stats import t as student

    shapes, gains = [], []
    for curve in finished:
        at = np.array([point[0] for point in curve], float)
        value = np.array([point[1] for point in curve], float)
        order = np.argsort(at)
        at, value = at[order], value[order]
        if at[0] > t[0] * 1.001:
            continue
        seen = np.exp(np.interp(np.log(t), np.log(at), np.log(value)))
        shapes.append(_shape(t, seen))
        gains.append(math.log(seen[-1] / value[-1]))
    if len(gains) < LEAST_FINISHED:
        return None
    x, g = np.array(shapes), np.array(gains)
    middle, scale = x.mean(0), x.std(0) + 1e-9
    z = np.c_[np.ones(len(g)), (x - middle) / scale]
    ridge = np.diag([0.0, 1.0, 3.0])
    inverse = np.linalg.inv(z.T @ z + ridge)
    weights = inverse @ z.T @ g
    hat = z @ inverse @ z.T
    residual = (g - z @ weights) / (1 - np.diag(hat))  # leave one out
    free = len(g) - float(np.trace(hat))
    here = np.r_[1.0, (_shape(t, y) - middle) / scale]
    spread = math.sqrt(float((residual**2).mean()) * (1 + float(here @ inverse @ here) / 2))
    mean = float(y[-1]) * math.exp(-float(here @ weights))
    reach = float(student.ppf(0.5 + LEVEL / 2, max(1.0, free))) * spread
    return mean, mean * spread, mean * math.exp(-reach), mean * math.exp(reach)


def _shape(t: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Level and slope of a curve at its end: (log loss, fall of log loss per e-fold over the last half)."""
    late = np.log(t) >= (np.log(t[0]) + np.log(t[-1])) / 2 - 1e-9
    if late.sum() < 2:
        late[-2:] = True
    slope = np.polyfit(np.log(t[late]), np.log(y[late]), 1)[0]
    return np.array([math.log(y[-1]), slope])
