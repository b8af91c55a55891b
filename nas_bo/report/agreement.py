"""Rank agreement: does the order that the search saw survive a higher budget, and did counting parameters do as well?

Kendall, "A new measure of rank correlation", Biometrika 1938 (tau-b, for ties); interval by the percentile bootstrap,
of a perfect order as in `nas_bo.report.ranks`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.errors import SearchError
from nas_bo.report.ranks import ends, perfect

ENOUGH = 10  # architectures below which the paragraph says that there are too few to conclude


@dataclass(frozen=True)
class Agreement:
    """How well a ranking by searched loss predicts the ranking by re-trained loss.

    Attributes:
        n: architectures with both losses.
        tau: Kendall's tau-b between searched and re-trained losses; nan when it is not defined (n < 2, or all equal).
        low, high: its 95 % bootstrap interval; nan when it is not defined.
        size_tau, size_low, size_high: the same for the parameter count (more parameters predict a lower loss);
            nan without counts.
        k, recall: share of the k best by re-trained loss that are among the k best by searched loss.
        size_recall: the same share for the k largest; nan without counts.
    """

    n: int
    tau: float
    low: float
    high: float
    size_tau: float
    size_low: float
    size_high: float
    k: int
    recall: float
    size_recall: float

    def text(self) -> str:
        """One paragraph that claims no more than the numbers bear."""
        if self.n < 2:
            return (
                f"Rank agreement is unknown: {_count(self.n)} re-trained, and a ranking needs two or more. "
                "The order of the front rests on the search budget alone."
            )
        said = []
        if math.isnan(self.tau):
            said.append(f"The {self.n} re-trained architectures have equal losses, so there is no order to agree with.")
        else:
            words = (
                "agrees well"
                if self.tau >= 0.7
                else "agrees roughly"
                if self.tau >= 0.4
                else "hardly agrees"
                if self.tau > 0
                else "disagrees"
            )
            said.append(
                f"The order by searched loss {words} with the order after re-training: Kendall's tau {self.tau:.2f}"
                f"{_interval(self.low, self.high)} over {self.n} architectures; {_share(self.recall, self.k)}."
            )
        if self.n < ENOUGH:
            said.append(f"With fewer than {ENOUGH} architectures such a figure says little; read it as an anecdote.")
        elif not math.isnan(self.low) and self.low <= 0:
            said.append("The interval includes zero, so chance explains it as well.")
        if math.isnan(self.size_tau):
            said.append(
                "No parameter counts were given, so it is not known whether counting parameters would do as well."
            )
        elif not math.isnan(self.tau):
            interval = _interval(self.size_low, self.size_high)
            size = f"Ranking by parameter count alone reaches tau {self.size_tau:.2f}{interval}"
            if self.size_tau > self.tau:
                said.append(f"{size}: that is better, so the searched losses added nothing to the ranking.")
            elif self.size_tau >= self.tau - 0.05 or self.n < ENOUGH or self.size_high >= self.tau:
                said.append(f"{size}: not clearly worse, so it is not shown that the searched losses were needed.")
            else:
                said.append(f"{size}: worse, so the searched losses told more than size does.")
        return " ".join(said)


def agreement(
    search_losses: Sequence[float],
    retrained_losses: Sequence[float],
    parameter_counts: Sequence[float] | None = None,
    *,
    k: int | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Agreement:
    """The agreement of two rankings of the same architectures, in the same order; smaller losses are better.

    Pairs in which a loss is not finite are left out.

    Args:
        k: how many count as "the best"; default a third, at least one.
        draws, seed: of the bootstrap.

    Raises:
        SearchError: the sequences differ in length.
    """
    lengths = {
        len(search_losses),
        len(retrained_losses),
        len(retrained_losses if parameter_counts is None else parameter_counts),
    }
    if len(lengths) > 1:
        raise SearchError(
            f"agreement() compares the same architectures, but got {len(search_losses)} searched losses, "
            f"{len(retrained_losses)} re-trained ones and "
            f"{'no' if parameter_counts is None else len(parameter_counts)} parameter counts: give one of each per "
            "architecture"
        )
    sizes = [math.nan] * len(search_losses) if parameter_counts is None else [-float(p) for p in parameter_counts]
    rows = [(float(a), float(b), c) for a, b, c in zip(search_losses, retrained_losses, sizes, strict=True)]
    rows = [row for row in rows if math.isfinite(row[0]) and math.isfinite(row[1])]
    n = len(rows)
    counted = n > 0 and all(math.isfinite(row[2]) for row in rows)
    k = max(1, min(n, k or round(n / 3))) if n else 0
    searched, retrained, smaller = ([row[i] for row in rows] for i in range(3))
    low, high = _bootstrap(searched, retrained, draws, seed)
    size_low, size_high = _bootstrap(smaller, retrained, draws, seed) if counted else (math.nan, math.nan)
    return Agreement(
        n,
        _tau(searched, retrained),
        low,
        high,
        _tau(smaller, retrained) if counted else math.nan,
        size_low,
        size_high,
        k,
        _recall(searched, retrained, k),
        _recall(smaller, retrained, k) if counted else math.nan,
    )


def _tau(a: Sequence[float], b: Sequence[float]) -> float:
    if len(a) < 2 or len(set(a)) < 2 or len(set(b)) < 2:
        return math.nan
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic)


def _bootstrap(a: Sequence[float], b: Sequence[float], draws: int, seed: int) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of tau over resamples of the pairs; nan below four pairs."""
    n, found_tau = len(a), _tau(a, b)
    if n < 4 or math.isnan(found_tau):
        return math.nan, math.nan
    if abs(found_tau) > 1 - 1e-9:
        return perfect(found_tau, n)
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    sign_x, sign_y = np.sign(x[:, None] - x), np.sign(y[:, None] - y)  # (n, n); a pair drawn twice is a tie
    times = np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=draws)  # (draws, n): how often each is drawn

    def pairs(matrix: np.ndarray) -> np.ndarray:
        sums: np.ndarray = ((times @ matrix) * times).sum(1)
        return sums

    untied = np.sqrt(pairs(sign_x**2) * pairs(sign_y**2))
    found = pairs(sign_x * sign_y)[untied > 0] / untied[untied > 0]  # tau-b of every resample
    if not len(found):
        return math.nan, math.nan
    low, high = np.percentile(found, [2.5, 97.5])
    return (float(low), float(high)) if high - low > 1e-9 else (math.nan, math.nan)


def _recall(predicted: Sequence[float], true: Sequence[float], k: int) -> float:
    if not true:
        return math.nan
    order = range(len(true))
    best = set(sorted(order, key=lambda i: true[i])[:k])
    chosen = sorted(order, key=lambda i: predicted[i])[:k]
    return sum(i in best for i in chosen) / k


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" (95 % interval {ends(low, high)})"


def _count(n: int) -> str:
    return "no architecture was" if n == 0 else "one architecture was"


def _share(recall: float, k: int) -> str:
    if k == 1:
        return "the search put " + ("the same one" if recall == 1 else "another one") + " first"
    return f"{round(recall * k)} of the {k} best after re-training were among the {k} best of the search"
