"""A Gaussian process and randomised trees that are averaged, on the scale and with the weights that left-out examples prefer (Wolpert, 1992,
"Stacked generalization", Neural Networks 5; Breiman, 1996, "Stacked regressions", Machine Learning 24).

Neither member is best everywhere: a process continues trends and is nearly exact where an objective is smooth; trees find which few of many
columns matter, and what they do together. Both say what they would have predicted of every example without it, so nothing is fitted twice to
choose between them.

Heavy tails of bad values are learned as ranks where that orders the examples better; predictions then return through the quantiles of the
examples.

Notation: n examples, d columns; everything minimised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.surrogate.process import OCCAM, GaussianProcess, Settings
from nas_bo.surrogate.regressor import Blocks, Standard
from nas_bo.surrogate.sources import settled
from nas_bo.surrogate.trees import FittedForest, RandomTrees
from nas_bo.validated import check_fields, checked, whole_number

UNIT = 6.0  # standard deviations of a column that are a distance of 1
FEWEST_TIED = 50  # examples from which groups of columns may differ
TAIL = 3.0  # how many times farther bad examples lie from the middle than good ones, where ranks are learned
ENDS = 0.1  # the share of the examples that is good, and that is bad
SHARES = (0.5, 0.35, 0.65, 0.2, 0.8, 0.0, 1.0)  # weights of the process that are tried, the most cautious first
TREES = 60  # of the surrogate of a search
CAUTION = 1.5  # standard errors by which the squared error of a less cautious weight must be smaller, about


@dataclass(frozen=True)
class Committee:
    """The default of `nas_bo.objectives.Predicted`.

    Args:
        trees: how many trees.

    Raises:
        ObjectiveError: fewer than two trees.
    """

    trees: int = checked(100, whole_number(2))
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)

    def fit(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> FittedCommittee:
        return FittedCommittee(self, inputs, np.asarray(targets, dtype=float), blocks)


class FittedCommittee:
    """
    Args:
        fitted: hyperparameters and scales are fitted to so many examples only, the first ones; all when None.

    Attributes:
        share: the weight of the process, 0 to 1; that of the trees is the rest.
        ranks: whether the examples are learned as ranks.
        left_out: what is predicted of every example without it, (n,); on the scale that is learned.
    """

    def __init__(
        self,
        settings: Committee,
        inputs: np.ndarray,
        targets: np.ndarray,
        blocks: Blocks,
        fitted: int | None = None,
    ) -> None:
        self._scales = Ranks(targets)
        self.ranks = tailed(targets)
        y = self._scales.to(targets) if self.ranks else targets
        trees = RandomTrees(trees=settings.trees, seed=settings.seed)
        self._standard = Standard(inputs[:fitted])
        x = self._standard(inputs) / UNIT
        groups = np.searchsorted(np.asarray(blocks), self._standard.kept, side="right")
        self.process: GaussianProcess | None = None
        if x.shape[1]:
            own = int((self._standard.kept < blocks[0]).sum())
            self.process = GaussianProcess(x, y, own, fitted, settings=Settings(cut=not self.ranks))
        if self.process is not None and len(y) >= FEWEST_TIED and groups.max() > groups.min():
            ties = (groups[:, None] == np.unique(groups)).astype(float)
            tied = GaussianProcess(x, y, own, fitted, settings=Settings(cut=not self.ranks, ties=ties))
            if tied.evidence > self.process.evidence + OCCAM * ties.shape[1]:
                self.process = tied
        self.forest: FittedForest = trees.fit(inputs, y, blocks)
        self.share, self.left_out = 0.0, self.forest.left_out
        if self.process is not None:
            guessed = _left_out(self.process)
            errors = {w: float(((w * guessed + (1 - w) * self.forest.left_out - y) ** 2).mean()) for w in SHARES}
            self.share = SHARES[0]
            for w in SHARES[1:]:
                if errors[w] < (1 - CAUTION / np.sqrt(len(y))) * errors[self.share]:
                    self.share = w
            self.left_out = self.share * guessed + (1 - self.share) * self.forest.left_out

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,) of a new measurement, its noise included."""
        if self.process is None or self.share == 0:
            mean, sd = self.forest.predict(inputs)
        else:
            mean, spread = self.process.predict(self._standard(inputs) / UNIT)
            sd = np.hypot(spread, self.process.noise)
            if self.share < 1:
                other, error = self.forest.predict(inputs)
                mean = self.share * mean + (1 - self.share) * other
                sd = np.sqrt(self.share * sd**2 + (1 - self.share) * error**2)
        if not self.ranks:
            return mean, sd
        value = self._scales.back(mean)
        return value, np.maximum((self._scales.back(mean + sd) - self._scales.back(mean - sd)) / 2, 1e-12)

    def expect(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,) of what is expected, without noise, on the scale that is learned."""
        mean, sd = self.forest.disagree(inputs)
        if self.process is None:
            return mean, sd
        other, spread = self.process.predict(self._standard(inputs) / UNIT)
        return self.share * other + (1 - self.share) * mean, np.sqrt(self.share * spread**2 + (1 - self.share) * sd**2)

    def believe(self, inputs: np.ndarray) -> None:
        """The process takes what it expects at inputs (m, d) for observed."""
        if self.process is not None:
            self.process.believe(self._standard(inputs) / UNIT)


class RankProcess:
    """A committee as the surrogate of a search: the interface of `nas_bo.surrogate.process.GaussianProcess`, on ranks.

    Its uncertainty is that of the members about the expected rank, without noise: the posterior of the process, and how far trees disagree.

    Args:
        inputs: (n, d); targets: (n,), minimised; blocks: see `nas_bo.surrogate.regressor.Regressor`.

    Attributes:
        bend: the scale of ranks, on which it predicts.
        agreement: the rank correlation of left-out predictions with the better half of the targets, -1 to 1.
    """

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks, seed: int = 0) -> None:
        first = settled(
            len(targets)
        )  # ranks among these alone: hyperparameters are fitted to them, once for several trials
        self.bend = Ranks(targets[:first])
        ranks = self.bend.to(targets)
        self._fitted = FittedCommittee(Committee(TREES, seed), inputs, ranks, blocks, first)
        self.agreement = agreement(self._fitted.left_out, targets)
        self._errors = self._fitted.left_out - ranks, ranks

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the rank (m,)."""
        return self._fitted.expect(inputs)

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """The errors (n,) of predicting each rank from all others, and the ranks."""
        return self._errors

    def believe(self, inputs: np.ndarray) -> None:
        """As in `GaussianProcess.believe`; trees stay as they are."""
        self._fitted.believe(inputs)


def agreement(guessed: np.ndarray, targets: np.ndarray) -> float:
    """The rank correlation of predictions with the better half of the targets (n,); 0 where it is undefined."""
    from scipy.stats import rankdata

    half = np.argsort(targets, kind="stable")[: max(2, len(targets) // 2)]
    first, second = rankdata(guessed[half]), rankdata(targets[half])
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


class Ranks:
    """Targets as ranks between 0 and 1, and back through the quantiles of the examples.

    Attributes:
        knee: the least of the examples' ranks, see `nas_bo.surrogate.bend.Bend`.
        bad: as far beyond the median of the targets as good ones lie before it.
    """

    def __init__(self, targets: np.ndarray) -> None:
        self._values = np.sort(targets)
        self._places = (np.arange(len(targets)) + 0.5) / len(targets)
        self._slope = float(self._values[-1] - self._values[0]) / max(1, len(self._values)) or 1.0
        self.knee = float(self._places[0])
        good, middle = np.quantile(targets, [ENDS, 0.5])
        self.bad = float(2 * middle - good)

    def to(self, targets: np.ndarray) -> np.ndarray:
        """(m,) of any values; equal examples have the mean of their ranks, and what lies beyond the examples is a line."""
        low = np.searchsorted(self._values, targets, side="left")
        high = np.searchsorted(self._values, targets, side="right")
        n = len(self._values)
        between = np.interp(targets, self._values, self._places)
        outside = np.minimum(targets - self._values[0], 0.0) + np.maximum(targets - self._values[-1], 0.0)
        return np.asarray(np.where(high > low, (low + high) / (2 * n), between + outside / self._slope))

    def back(self, ranks: np.ndarray) -> np.ndarray:
        """Beyond the examples a line, so that the order stays."""
        outside = np.minimum(ranks - self._places[0], 0.0) + np.maximum(ranks - self._places[-1], 0.0)
        return np.asarray(np.interp(ranks, self._places, self._values) + self._slope * outside)


def _left_out(process: GaussianProcess) -> np.ndarray:
    """What is predicted of every example without it, (n,)."""
    errors, targets = process.left_out()
    return np.asarray(process.mean + process.scale * (targets - errors))


def tailed(targets: np.ndarray) -> bool:
    """Whether bad examples lie much farther from the middle than good ones."""
    good, middle, bad = np.quantile(targets, [ENDS, 0.5, 1 - ENDS])
    return bool(bad - middle > TAIL * (middle - good))
