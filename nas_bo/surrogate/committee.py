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
from nas_bo.surrogate.trees import FittedForest, RandomTrees
from nas_bo.validated import check_fields, checked, whole_number

UNIT = 6.0  # standard deviations of a column that are a distance of 1
FEWEST_TIED = 50  # examples from which groups of columns may differ
TAIL = 3.0  # how many times farther bad examples lie from the middle than good ones, where ranks are learned
ENDS = 0.1  # the share of the examples that is good, and that is bad
SHARES = (0.5, 0.35, 0.65, 0.2, 0.8, 0.0, 1.0)  # weights of the process that are tried, the most cautious first
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
    Attributes:
        share: the weight of the process, 0 to 1; that of the trees is the rest.
        ranks: whether the examples are learned as ranks.
        left_out: what is predicted of every example without it, (n,); on the scale that is learned.
    """

    def __init__(self, settings: Committee, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> None:
        self._scales = _Ranks(targets)
        self.ranks = _tailed(targets)
        y = self._scales.to(targets) if self.ranks else targets
        trees = RandomTrees(trees=settings.trees, seed=settings.seed)
        self._standard = Standard(inputs)
        x = self._standard(inputs) / UNIT
        groups = np.searchsorted(np.asarray(blocks), self._standard.kept, side="right")
        self.process: GaussianProcess | None = None
        if x.shape[1]:
            own = int((self._standard.kept < blocks[0]).sum())
            self.process = GaussianProcess(x, y, own, settings=Settings(cut=not self.ranks))
        if self.process is not None and len(y) >= FEWEST_TIED and groups.max() > groups.min():
            ties = (groups[:, None] == np.unique(groups)).astype(float)
            tied = GaussianProcess(x, y, own, settings=Settings(cut=not self.ranks, ties=ties))
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


class _Ranks:
    """Targets as ranks between 0 and 1, and back through the quantiles of the examples."""

    def __init__(self, targets: np.ndarray) -> None:
        self._values = np.sort(targets)
        self._places = (np.arange(len(targets)) + 0.5) / len(targets)

    def to(self, targets: np.ndarray) -> np.ndarray:
        from scipy.stats import rankdata

        return np.asarray((rankdata(targets) - 0.5) / len(targets))

    def back(self, ranks: np.ndarray) -> np.ndarray:
        """Beyond the examples a line, so that the order stays."""
        slope = (self._values[-1] - self._values[0]) / max(1, len(self._values))
        outside = np.minimum(ranks - self._places[0], 0.0) + np.maximum(ranks - self._places[-1], 0.0)
        return np.asarray(np.interp(ranks, self._places, self._values) + slope * outside)


def _left_out(process: GaussianProcess) -> np.ndarray:
    """What is predicted of every example without it, (n,)."""
    errors, targets = process.left_out()
    return np.asarray(process.mean + process.scale * (targets - errors))


def _tailed(targets: np.ndarray) -> bool:
    """Whether bad examples lie much farther from the middle than good ones."""
    good, middle, bad = np.quantile(targets, [ENDS, 0.5, 1 - ENDS])
    return bool(bad - middle > TAIL * (middle - good))
