"""The rank agreement of version 0.1, which `nas_bo.report.trust` has replaced: nothing of nas_bo asks for it. It ends with
version 0.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas_bo import moved
from nas_bo.errors import SearchError
from nas_bo.report.ranks import FEWEST, Interval, ends, recall
from nas_bo.report.trust import kendall
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.report.trust import TrustReport

ENOUGH = 10  # architectures below which the paragraph says that there are too few to conclude


@dataclass(frozen=True)
class Agreement:
    """How well a ranking by searched loss predicts the ranking by re-trained loss.

    Attributes:
        n: architectures with both losses.
        tau: Kendall's tau-b between searched and re-trained losses; nan when it is not defined (n < 3, or all equal).
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
        """One paragraph that claims no more than the numbers support."""
        if self.n < FEWEST:
            return (
                f"Rank agreement is unknown: {_count(self.n)} re-trained, and a ranking needs {FEWEST} or more. "
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
                f"{_interval(self.low, self.high)} over {counted(self.n, 'architecture')}; {_share(self.recall, self.k)}."
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
                said.append(f"{size}: worse, so the searched losses said more than size does.")
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
    moved.warn("nas_bo.report.agreement", "nas_bo.report.trust")
    counts = [math.nan] * len(search_losses) if parameter_counts is None else parameter_counts
    if not len(search_losses) == len(retrained_losses) == len(counts):
        raise SearchError(
            f"agreement() compares the same architectures, but got {len(search_losses)} searched losses, "
            f"{len(retrained_losses)} re-trained ones and "
            f"{'no' if parameter_counts is None else len(parameter_counts)} parameter counts: give one of each per "
            "architecture"
        )
    searched, true, size = (np.asarray(v, dtype=float) for v in (search_losses, retrained_losses, counts))
    rows = np.isfinite(searched) & np.isfinite(true)
    searched, true, smaller = searched[rows], true[rows], -size[rows]
    n = len(true)
    counted = n > 0 and bool(np.isfinite(smaller).all())
    k = max(1, min(n, k or round(n / 3))) if n else 0
    by_loss = kendall(searched, true, draws=draws, seed=seed)
    by_size = kendall(smaller, true, draws=draws, seed=seed) if counted else Interval()
    return Agreement(
        n,
        *(by_loss.value, by_loss.low, by_loss.high),
        *(by_size.value, by_size.low, by_size.high),
        k,
        recall([(searched, true)], k),
        recall([(smaller, true)], k) if counted else math.nan,
    )


def of_trust(report: TrustReport | None) -> Agreement | None:
    """What version 0.1 had of a search next to its trust report."""
    if report is None:
        return None
    sign = 1 if report.direction == "minimize" else -1
    first, rows = report.proxies[0], report.rows
    sizes = [r.parameters for r in rows]
    return agreement(
        [sign * r.values.get(first.name, math.nan) for r in rows],
        [sign * r.reference for r in rows],
        sizes if all(math.isfinite(s) for s in sizes) else None,
    )


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" (95 % interval {ends(low, high)})"


def _count(n: int) -> str:
    return ("no architecture was", "one architecture was", "two architectures were")[n]


def _share(recall: float, k: int) -> str:
    if k == 1:
        return "the search put " + ("the same one" if recall == 1 else "another one") + " first"
    return f"{round(recall * k)} of the {k} best after re-training were among the {k} best of the search"
