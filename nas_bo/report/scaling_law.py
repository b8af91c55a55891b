"""A power law of size for every architecture, and whether it orders them better than the largest rung does.

log loss = a + b log size, one line for each architecture; slopes are drawn towards their mean by how noisy they are (empirical Bayes, as in
Efron and Morris 1975), since two or three rungs say little about one slope. A law earns its place on a rung that it has not seen: it is shown only
where it decides more pairs there than the last rung before it does (as the compute-matched baselines of arXiv 2504.11393, section 4, do not
always let it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.report.decisions import Accuracy, decision_accuracy

FEWEST_RUNGS = 2  # from which a line can be drawn


@dataclass(frozen=True)
class Law:
    """What came of fitting it.

    Attributes:
        held_out: the decision accuracy on the last rung of a law fitted to the ones before it.
        ranking: that of the order of the rung before it, which the law has to beat.
        forecast: the losses at `sizes` of a law fitted to all rungs, in the order of the architectures; empty where it is not shown.
        sizes: parameters of each architecture at the size that is forecast.
    """

    held_out: Accuracy
    ranking: Accuracy
    forecast: tuple[float, ...] = ()
    sizes: tuple[float, ...] = ()

    @property
    def shown(self) -> bool:
        return self.held_out.known and self.held_out.value > self.ranking.value

    def text(self) -> str:
        told = f"{self.held_out.value:.2f} of the pairs of the last rung, the order of the rung before it {self.ranking.value:.2f}"
        if not self.held_out.known:
            return "A power law was not fitted: it needs two rungs before the last."
        if not self.shown:
            return f"A power law decides {told}: it does no better, so no forecast is shown."
        return f"A power law decides {told}: it does better, so its forecast is shown."


def law(sizes: Sequence[Sequence[float]], losses: Sequence[Sequence[float]], factor: float) -> Law:
    """Fit, judge on the last rung, and forecast.

    Args:
        sizes, losses: (rungs, n) parameters and mean losses; an architecture with a loss that is not finite is left out.
        factor: how much larger than the last rung the forecast is for.
    """
    x, y = np.log(np.asarray(sizes, float)), np.asarray(losses, float)
    known = np.isfinite(y).all(0) & (y > 0).all(0)
    ranking = decision_accuracy(np.where(known, y[-2], np.nan), y[-1]) if len(y) > 1 else Accuracy()
    if len(y) < FEWEST_RUNGS + 1 or known.sum() < 3:
        return Law(Accuracy(), ranking)
    guess = np.full(y.shape[1], np.nan)
    guess[known] = _fitted(x[:-1, known], np.log(y[:-1, known]), x[-1, known])
    found = Law(decision_accuracy(guess, y[-1]), ranking)
    if not found.shown:
        return found
    ahead = np.full(y.shape[1], math.nan)
    beyond = x[-1] + math.log(factor)
    ahead[known] = np.exp(_fitted(x[:, known], np.log(y[:, known]), beyond[known]))
    return Law(found.held_out, ranking, tuple(ahead.tolist()), tuple(np.exp(beyond).tolist()))


def _fitted(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Lines through (rungs, n) points, with slopes drawn towards their mean, read at (n,)."""
    middle, height = x.mean(0), y.mean(0)
    spread = ((x - middle) ** 2).sum(0)
    slopes = ((x - middle) * (y - height)).sum(0) / spread
    left = y - height - slopes * (x - middle)
    free = max(1, x.shape[0] - 2) * x.shape[1]
    noise = float((left**2).sum() / free) if x.shape[0] > 2 else float(np.var(slopes)) * float(spread.mean()) / 2
    among, own = float(np.var(slopes)), noise / spread
    kept = np.clip(1 - own / among, 0, 1) if among > 0 else np.zeros_like(own)
    slopes = slopes.mean() + kept * (slopes - slopes.mean())
    found: np.ndarray = y[-1] + slopes * (at - x[-1])  # through the last point: what is nearest says most
    return found
