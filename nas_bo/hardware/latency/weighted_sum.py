"""Latency models that add up the parts of a model with a few weights, believed or fitted to measured models."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np

from nas_bo.hardware.latency.calibration import Calibration, calibrate
from nas_bo.hardware.latency.model import Fitted
from nas_bo.hardware.latency.parts_index import PartsTable
from nas_bo.hardware.workload import Part
from nas_bo.model.counts import Arch


class WeightedSum(Fitted):
    """``sums over parts @ weights + fixed``; the weights are those that are believed until `fit`.

    Args:
        believed: the weights before anything is measured; the last is the fixed part.
        timed: as of `nas_bo.hardware.latency.parts_index.PartsIndex`.
    """

    def __init__(self, believed: tuple[float, ...], *, timed: bool = False) -> None:
        self._believed = believed
        self._parts = PartsTable(self.setting, len(believed) - 1, self._row, timed)
        self._set(Calibration(believed, float("inf"), 0))

    @abstractmethod
    def _row(self, part: Part) -> Sequence[float] | np.ndarray:
        """What a part adds to each sum."""

    @abstractmethod
    def _again(self) -> Self:
        """The same model before anything was measured."""

    def fit(self, architectures: Sequence[Arch], measured_ms: Sequence[float]) -> Self:
        """The same model with its weights fitted to whole models; three measurements give an interval, ten a good one.

        Raises:
            ObjectiveError: nothing measured, not one time per architecture, or times that are not numbers above 0.
            ModelError: an architecture cannot be built.
        """
        made = self._again()
        sums = made._parts.sums(architectures)
        columns = np.column_stack([sums, np.ones(len(sums))])
        made._set(calibrate(columns, np.array(self._believed), measured_ms, self.level))
        return made

    def predict_many(self, architectures: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        *weights, fixed = self.calibration.weights
        milliseconds = self._parts.sums(architectures) @ np.array(weights) + fixed
        return milliseconds, milliseconds * self.calibration.share

    def _set(self, calibration: Calibration) -> None:
        self.calibration, self.measured = calibration, calibration.measured
