"""Gradient boosting of small trees (Friedman, 2001, Annals of Statistics 29(5), "Greedy function approximation"; on random
parts of the examples: Friedman, 2002, "Stochastic gradient boosting"), by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nas_bo.errors import MissingExtra, ObjectiveError
from nas_bo.surrogate.regressor import Blocks


@dataclass(frozen=True)
class GradientBoosting:
    """Needs the extra ``predict``. Trees cannot continue a trend: with few examples the smooth models are better.

    Raises:
        ObjectiveError: fewer than one tree, or a rate or share outside (0, 1].
    """

    trees: int = 200
    depth: int = 3
    rate: float = 0.05
    share: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trees < 1 or self.depth < 1:
            raise ObjectiveError(f"GradientBoosting(trees={self.trees!r}, depth={self.depth!r}): at least 1 of each")
        for name in ("rate", "share"):
            if not 0 < getattr(self, name) <= 1:
                raise ObjectiveError(f"GradientBoosting({name}={getattr(self, name)!r}): it lies in (0, 1]")

    def fit(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> FittedTrees:
        try:
            from sklearn.ensemble import GradientBoostingRegressor
        except ImportError as error:
            raise MissingExtra("scikit-learn", "predict") from error
        trees = GradientBoostingRegressor(
            n_estimators=self.trees,
            max_depth=self.depth,
            learning_rate=self.rate,
            subsample=self.share,
            min_samples_leaf=min(3, len(targets)),
            random_state=self.seed,
        )
        return FittedTrees(trees.fit(inputs, targets))


class FittedTrees:
    def __init__(self, trees: Any) -> None:
        self._trees = trees

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and 1 (m,): trees do not know where they are uncertain."""
        return np.asarray(self._trees.predict(inputs)), np.ones(len(inputs))
