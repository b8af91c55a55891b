"""Gradient boosting of small trees (Friedman, 2001, Annals of Statistics 29(5), "Greedy function approximation"; on random
parts of the examples: Friedman, 2002, "Stochastic gradient boosting"), by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.errors import MissingExtra, ObjectiveError
from nas_bo.surrogate.regressor import Blocks
from nas_bo.validated import check_fields, checked, number, whole_number

if TYPE_CHECKING:
    from sklearn.ensemble import GradientBoostingRegressor


@dataclass(frozen=True)
class GradientBoosting:
    """Needs the extra ``predict``. Trees cannot continue a trend: with few examples the smooth models are better.

    Raises:
        ObjectiveError: fewer than one tree, or a rate or share outside (0, 1].
    """

    trees: int = checked(200, whole_number(1))
    depth: int = checked(3, whole_number(1))
    rate: float = checked(0.05, number(above=0, at_most=1))
    share: float = checked(0.7, number(above=0, at_most=1))
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)

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
    def __init__(self, trees: GradientBoostingRegressor) -> None:
        self._trees = trees

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and 1 (m,): trees do not know where they are uncertain."""
        return np.asarray(self._trees.predict(inputs)), np.ones(len(inputs))
