"""How well one order predicts another: Kendall, Spearman, the same with size removed, and bootstrap intervals.

Kendall, "A new measure of rank correlation", Biometrika 1938 (tau-b, for ties); Spearman, American Journal of Psychology
1904; intervals by the percentile bootstrap (Efron 1979) over architectures. Resamples of a perfect order are all perfect; see
`perfect` for its interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 3  # points below which there is no tau
FEWEST_FOR_INTERVAL = 5  # points below which resampling them says nothing
FEWEST_FOR_FIT = 6  # points below which two slopes cannot be fitted and checked
EQUAL = 0.1  # sizes that differ by no more than this share of the smaller one are about equal
FEWEST_PAIRS = 2  # pairs of about equal size below which their order is not judged
CHUNK = 4_000_000  # numbers that the bootstrap holds at once

Pair = tuple[np.ndarray, np.ndarray]  # (prediction, truth) of the same architectures, smaller is better: each (n,)
Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]  # (draws, n) three times -> (draws,)


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval; nan where it is not defined or the points are too few."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        return not math.isnan(self.value)

    @property
    def bounded(self) -> bool:
        return not math.isnan(self.low)

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """``0.62 (0.31 to 0.84)``; what is missing is written in words."""
        if not self.known:
            return "not defined"
        return f"{self.value:.2f} ({ends(self.low, self.high)})" if self.bounded else f"{self.value:.2f} (no interval)"


def ends(low: float, high: float) -> str:
    """``0.31 to 0.84``; with more digits where two do not tell them apart."""
    digits = next((d for d in (2, 3, 4) if f"{low:.{d}f}" != f"{high:.{d}f}"), 5)
    return f"{low:.{digits}f} to {high:.{digits}f}"


def tau(a: np.ndarray, b: np.ndarray, size: np.ndarray | None = None) -> np.ndarray:
    """Kendall's tau-b of every row: (draws, n) twice -> (draws,); nan where one side is constant. `size` is not used."""
    return _cosine(_signs(a), _signs(b))


def rho(a: np.ndarray, b: np.ndarray, size: np.ndarray | None = None) -> np.ndarray:
    """Spearman's rho of every row, ties at their mean rank: (draws, n) twice -> (draws,)."""
    from scipy.stats import rankdata

    return _cosine(*(rankdata(v, axis=1) - (v.shape[1] + 1) / 2 for v in (a, b)))


def tau_size_removed(a: np.ndarray, b: np.ndarray, size: np.ndarray | None = None) -> np.ndarray:
    """`tau` of what is left of both after regressing the logarithm of `size` out of them, within every row.

    Without sizes, or where a side is a function of size alone, it is nan.
    """
    if size is None:
        return np.full(len(a), np.nan)
    return tau(residual(a, size), residual(b, size))


def about_equal(a: float, b: float) -> bool:
    """Whether two sizes differ by no more than `EQUAL`."""
    return max(a, b) <= (1 + EQUAL) * min(a, b)


def pairs_within(size: np.ndarray) -> int:
    """How many pairs of architectures are of about equal size: of (n,)."""
    return int(_alike(size[None, :]).sum())


def tau_within(a: np.ndarray, b: np.ndarray, size: np.ndarray | None = None) -> np.ndarray:
    """`tau` over the pairs of about equal `size` alone: the share of them that are in the same order minus that of those that are not, with the
    same correction for ties; nan where there are none, or all are ties."""
    if size is None:
        return np.full(len(a), np.nan)
    alike = _alike(size)
    return _cosine(_signs(a) * alike, _signs(b) * alike)


def _alike(size: np.ndarray) -> np.ndarray:
    """For every pair of a row whether its sizes are about equal: (draws, n) -> (draws, n * (n - 1) / 2)."""
    first, second = np.triu_indices(size.shape[1], 1)
    one, other = size[:, first], size[:, second]
    same: np.ndarray = np.maximum(one, other) <= (1 + EQUAL) * np.minimum(one, other)
    return same


def residual(values: np.ndarray, size: np.ndarray) -> np.ndarray:
    """What a straight line in log(size) leaves of `values`, row by row: (draws, n) twice -> (draws, n).

    What is zero but for rounding is zero, so that a mere function of size has no order left.
    """
    x = np.log(size)
    x = x - x.mean(1, keepdims=True)
    y = values - values.mean(1, keepdims=True)
    spread = (x * x).sum(1, keepdims=True)
    slope = np.divide((x * y).sum(1, keepdims=True), spread, out=np.zeros_like(spread), where=spread > 1e-12)
    left = y - slope * x
    scale = np.abs(y).max(1, keepdims=True)
    cleaned: np.ndarray = np.where(np.abs(left) <= 1e-9 * scale, 0.0, left)
    return cleaned


def together(pair: Pair, size: np.ndarray) -> Pair | None:
    """The truth next to what a straight line in log(size) and the prediction says about it, each left out of its own fit.

    None where there are too few for such a fit.
    """
    prediction, truth = pair
    if len(truth) < FEWEST_FOR_FIT:
        return None
    x = np.stack([np.ones(len(truth)), _scaled(np.log(size)), _scaled(prediction)], 1)
    hat = x @ np.linalg.pinv(x)
    lever = np.minimum(np.diag(hat), 1 - 1e-9)
    return truth - (truth - hat @ truth) / (1 - lever), truth


def _scaled(values: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = (values - values.mean()) / (values.std() or 1.0)
    return scaled


def point(statistic: Statistic, pairs: Sequence[Pair], size: np.ndarray | None = None) -> float:
    """The mean of `statistic` over `pairs`, which are views of the same n architectures; nan below three of them."""
    if not pairs or len(pairs[0][0]) < FEWEST:
        return math.nan
    rows = None if size is None else size[None, :]
    found = [float(statistic(a[None, :], b[None, :], rows)[0]) for a, b in pairs]
    return math.nan if any(math.isnan(v) for v in found) else sum(found) / len(found)


def interval(statistic: Statistic, pairs: Sequence[Pair], size: np.ndarray | None, draws: int, seed: int) -> Interval:
    """`point` with its interval over resamples of the architectures."""
    value = point(statistic, pairs, size)
    if math.isnan(value) or len(pairs[0][0]) < FEWEST_FOR_INTERVAL:
        return Interval(value)
    if abs(value) > 1 - 1e-9:
        if statistic is tau_within:  # k pairs in order, as k throws of a coin: Clopper & Pearson 1934, one side
            agreed = 0 if size is None else _told_apart(pairs, size)
            inner = 2 * 0.025 ** (1 / agreed) - 1 if agreed else math.nan
            return Interval(value, inner, 1.0) if value > 0 else Interval(value, -1.0, -inner)
        return Interval(value, *perfect(value, len(pairs[0][0]), statistic is rho))
    return bounds(value, resampled(statistic, pairs, size, draws, seed))


def _told_apart(pairs: Sequence[Pair], size: np.ndarray) -> int:
    """How many pairs of about equal size have an order in every view."""
    counts = []
    for a, b in pairs:
        x, y = _signs(a[None, :]), _signs(b[None, :])
        counts.append(int(((x != 0) & (y != 0) & _alike(size[None, :])).sum()))
    return min(counts, default=0)


def perfect(value: float, n: int, spearman: bool = False) -> tuple[float, float]:
    """The 95 % interval of a tau (or rho) of 1 or -1 over n architectures; (nan, nan) where n is too small for one.

    It ends at the tau with which samples of n from two normals are still in perfect order in one of 40 draws, the inversion of
    a test as in Clopper & Pearson 1934: 1 - 20 / n**2, simulated for n from 5 to 20 and rounded outwards.
    """
    if n < FEWEST_FOR_INTERVAL:
        return math.nan, math.nan
    inner = 1 - 20 / n**2
    if spearman:  # of two normals with that tau
        inner = 6 / math.pi * math.asin(math.sin(math.pi / 2 * inner) / 2)
    return (inner, 1.0) if value > 0 else (-1.0, -inner)


def difference(
    first: Sequence[Pair],
    second: Sequence[Pair],
    draws: int,
    seed: int,
    statistic: Statistic = tau,
    size: np.ndarray | None = None,
) -> Interval:
    """The statistic, by default tau, of `first` minus that of `second`, resampled together: the paired bootstrap."""
    value = point(statistic, first, size) - point(statistic, second, size)
    if math.isnan(value) or len(first[0][0]) < FEWEST_FOR_INTERVAL:
        return Interval(value)
    one, other = (resampled(statistic, pairs, size, draws, seed) for pairs in (first, second))
    return bounds(value, one - other)


def resampled(
    statistic: Statistic, pairs: Sequence[Pair], size: np.ndarray | None, draws: int, seed: int
) -> np.ndarray:
    """The statistic of `draws` resamples of the architectures, the same ones for the same n and seed: (draws,)."""
    n = len(pairs[0][0])
    picked = np.random.default_rng(seed).integers(0, n, (draws, n))
    at_once = max(1, CHUNK // (n * n))
    found = []
    for start in range(0, draws, at_once):
        rows = picked[start : start + at_once]
        sizes = None if size is None else size[rows]
        found.append(np.mean([statistic(a[rows], b[rows], sizes) for a, b in pairs], axis=0))
    return np.concatenate(found)


def bounds(value: float, draws: np.ndarray) -> Interval:
    """The value with the 2.5th and 97.5th percentile of its resamples; no interval when too few of them have one, or where
    all are alike: that they do not differ says nothing about how far off they are."""
    kept = draws[np.isfinite(draws)]
    if len(kept) < max(20, len(draws) // 2):
        return Interval(value)
    low, high = np.percentile(kept, [2.5, 97.5])
    if high - low < 1e-9:
        return Interval(value)
    return Interval(value, float(low), float(high))


def recall(pairs: Sequence[Pair], k: int) -> float:
    """Share of the k truly best that are among the k best by prediction, averaged over `pairs`.

    Where the k-th place is tied, the tied ones share the places that are left.
    """
    found = []
    for prediction, truth in pairs if k else ():
        chosen, best = _places(prediction, k), _places(truth, k)
        found.append(float(np.minimum(chosen, best).sum()) / k if len(truth) else math.nan)
    return sum(found) / len(found) if found else math.nan


def regret(pairs: Sequence[Pair]) -> float:
    """Truth of the architecture that is best by prediction, minus the best truth; ties and `pairs` are averaged."""
    found = [float(t[p == p.min()].mean() - t.min()) for p, t in pairs if len(t)]
    return sum(found) / len(found) if found else math.nan


def _places(values: np.ndarray, k: int) -> np.ndarray:
    """How much of the best k places every architecture holds: (n,) in [0, 1], with the sum k."""
    edge = np.sort(values)[k - 1]
    inside, tied = (values < edge).astype(float), (values == edge).astype(float)
    held: np.ndarray = inside + tied * ((k - inside.sum()) / tied.sum())
    return held


def _cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of every row: (draws, m) twice -> (draws,); nan where one side is zero."""
    norm = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.where(norm > 0, (x * y).sum(1) / norm, np.nan)
    return found


def _signs(values: np.ndarray) -> np.ndarray:
    """For every pair of a row's values which one is larger: (draws, n) -> (draws, n * (n - 1) / 2)."""
    first, second = np.triu_indices(values.shape[1], 1)
    signs: np.ndarray = np.sign(values[:, first] - values[:, second])
    return signs


def count_places(n: int, k: int | None) -> int:
    """How many count as "the best": `k` as far as there are as many, by default a quarter, at least one."""
    return max(1, min(n, k or round(n / 4))) if n else 0
