"""Pairwise decision accuracy: of all pairs of architectures, how many are decided as a more expensive measurement decides them (Magnusson et
al. 2025, DataDecide, arXiv 2504.11393, section 2.2), over all pairs and over pairs of about equal size.

A prediction that does not decide counts half; what the truth does not decide is left out. Intervals are percentile bootstraps over architectures
(Efron 1979); of a share of 1 or 0 over k pairs that of Clopper and Pearson (1934), over no more than n - 1 pairs of n architectures, since pairs
of one architecture are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nas_bo.report.digits import bare
from nas_bo.report.ranks import EQUAL, FEWEST, Interval, ends
from nas_bo.wording import counted

DRAWS = 1000
ASKED, ASKED_EQUAL = (
    0.8,
    0.7,
)  # decision accuracy, over all pairs and among equals, from which a small rung decides


@dataclass(frozen=True)
class Accuracy(Interval):
    """A share of pairs, 0 to 1, with its 95 % interval and the number of pairs; nan where it is not defined."""

    pairs: int = 0

    def text(self) -> str:
        """``.83 (.72 to .91; 45 pairs)``."""
        if not self.known:
            return "not known"
        between = f"{ends(self.low, self.high)}; " if self.bounded else ""
        return f"{self.value:.2f} ({between}{counted(self.pairs, 'pair')})"

    def to_dict(self) -> dict[str, object]:
        return {name: bare(value) for name, value in asdict(self).items()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Accuracy:
        value, low, high = (math.nan if data[name] is None else float(data[name]) for name in ("value", "low", "high"))
        return Accuracy(value, low, high, int(data["pairs"]))


def decision_accuracy(
    prediction: Sequence[float] | np.ndarray,
    truth: Sequence[float] | np.ndarray,
    sizes: Sequence[float] | np.ndarray | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Accuracy:
    """How often `prediction` orders two architectures as `truth` does; in both, smaller is better.

    Args:
        prediction, truth: of the same architectures, (n,); one that is not finite leaves its architecture out.
        sizes: parameters; given, only pairs count that differ by no more than 10 %.
        draws, seed: of the bootstrap.
    """
    a, b = np.asarray(prediction, float), np.asarray(truth, float)
    size = None if sizes is None else np.asarray(sizes, float)
    rows = np.isfinite(a) & np.isfinite(b)
    a, b, size = a[rows], b[rows], None if size is None else size[rows]
    n = len(a)
    if n < FEWEST:
        return Accuracy()
    right, there = (one[None] for one in _table(a, b, size))
    count = int(round(float(there.sum())) / 2)
    if not count:
        return Accuracy()
    value = float(_share(right, there, np.arange(n)[None])[0])
    if value in (0.0, 1.0):
        edge = 0.025 ** (1 / max(1, min(count, n - 1)))
        return Accuracy(value, edge, 1.0, count) if value else Accuracy(value, 0.0, 1 - edge, count)
    picked = np.random.default_rng(seed).integers(0, n, (draws, n))
    found = _share(right, there, picked)
    found = found[np.isfinite(found)]
    if len(found) < draws // 2:
        return Accuracy(value, pairs=count)
    low, high = np.percentile(found, [2.5, 97.5])
    return Accuracy(value, float(low), float(high), count)


def _table(a: np.ndarray, b: np.ndarray, size: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(n, n): what a pair counts (1, 0, or a half), and whether it counts at all."""
    ours, theirs = np.sign(a[:, None] - a[None]), np.sign(b[:, None] - b[None])
    there = theirs != 0
    if size is not None:
        there &= np.maximum(size[:, None], size[None]) <= (1 + EQUAL) * np.minimum(size[:, None], size[None])
    return np.where(ours == 0, 0.5, ours == theirs) * there, there


def _share(right: np.ndarray, there: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Of every resample of the architectures, (draws, n), the share of its pairs: (draws,)."""
    one, other = picked[:, :, None], picked[:, None, :]
    total = there[0][one, other].sum((1, 2))
    with np.errstate(invalid="ignore"):
        found: np.ndarray = right[0][one, other].sum((1, 2)) / total
    return found
