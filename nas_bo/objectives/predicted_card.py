"""The card of a predictor: how it was fitted, and what it is worth where it had not seen the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.foreign_document import reading
from nas_bo.surrogate.conformal import CrossConformal, folds
from nas_bo.surrogate.regressor import Blocks, Regressor
from nas_bo.surrogate.ridge import Ridge
from nas_bo.wording import counted

OUTER, INNER = 5, 10  # folds of the nested check of the intervals
MANY, FEWER = 100, (3, 5)  # examples above which that many folds are enough
FEW = 20  # architectures below which intervals after a transfer were found too narrow


@dataclass(frozen=True)
class Card:
    """Everything here is cross-validated: of architectures that the model had not seen.

    Attributes:
        target, unit: what is predicted.
        n: distinct architectures with a value.
        model: with its settings.
        logarithm: whether the model works on the logarithm of the target; `rmse` is in the target's unit anyway.
        proxies: the measured columns; none are used for an architecture that lacks one of them.
        rmse, rmse_of_mean, rmse_of_size: of the model, of always saying the mean, and of a straight line in log size.
        tau, tau_of_size: Kendall's tau of the model and of that line with the target; NaN where undefined.
        tau_size_removed: of the model, the logarithm of the size regressed out of both.
        coverage: share of held-out values inside their 90 % intervals.
        earlier: what an earlier study did for it: its target and n, whether it is used, errors with and without.
        columns: the names of the inputs.
        versions: of what computed it.
        made: when, in UTC.
        about: what the user wrote: corpus, device, budget.
    """

    target: str
    unit: str
    n: int
    model: str
    logarithm: bool
    proxies: tuple[str, ...]
    rmse: float
    rmse_of_mean: float
    rmse_of_size: float
    tau: float
    tau_of_size: float
    tau_size_removed: float
    coverage: float
    earlier: Mapping[str, Any]
    columns: tuple[str, ...] = field(repr=False)
    versions: Mapping[str, str]
    made: str
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: numbers that are not there are None."""
        data = asdict(self)
        return {k: None if isinstance(v, float) and v != v else v for k, v in data.items()}

    @staticmethod
    @reading("the card of a predictor", ObjectiveError)
    def from_dict(data: Mapping[str, Any]) -> Card:
        nan = {k: float("nan") for k, v in data.items() if v is None}
        return Card(**{**data, **nan, "proxies": tuple(data["proxies"]), "columns": tuple(data["columns"])})

    def text(self) -> str:
        """The card in a few lines, the doubts first."""
        lines = [f"{self.target} predicted by {self.model} from {counted(self.n, 'architecture')}"]
        if not self.rmse < self.rmse_of_mean:
            lines.append("It is no better than always saying the mean: do not use it.")
        elif not self.rmse < self.rmse_of_size:
            lines.append("It is no better than a straight line in the logarithm of the size.")
        if self.earlier.get("used") and self.n < FEW:
            lines.append(
                f"Its intervals are too narrow: with an earlier study and fewer than {FEW} architectures of this one, intervals "
                "that were meant to hold 90 % of the values held 76 %."
            )
        unit = f" {self.unit}" if self.unit else ""
        lines += [
            f"error (root mean square) {self.rmse:.4g}{unit}; of the mean {self.rmse_of_mean:.4g}, of size {self.rmse_of_size:.4g}",
            f"Kendall's tau {self.tau:.2f}, of size {self.tau_of_size:.2f}; with size removed {self.tau_size_removed:.2f}",
            f"{self.coverage:.0%} of held-out values lie in their 90 % intervals",
        ]
        if self.proxies:
            lines.append(f"measured columns: {', '.join(self.proxies)}")
        if self.earlier:
            e = self.earlier
            lines.append(
                f"earlier study ({counted(e['n'], 'architecture')}, {e['target']}) {'used' if e['used'] else 'not used'}: "
                f"error {e['rmse_with']:.4g} with it, {e['rmse_without']:.4g} without"
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def measures(
    regressor: Regressor,
    inputs: np.ndarray,
    values: np.ndarray,
    blocks: Blocks,
    held_out: np.ndarray,
    size: np.ndarray | None,
    undo: Callable[[np.ndarray], np.ndarray],
) -> dict[str, float]:
    """The figures of a card from targets as the model sees them (n,), what was predicted of them held out, and log sizes (n,);
    `undo` leads back to the target's unit."""

    def rmse(found: np.ndarray) -> float:
        return float(np.sqrt(((undo(found) - undo(values)) ** 2).mean()))

    n = len(values)
    told = {
        "rmse": rmse(held_out),
        "rmse_of_mean": rmse((values.sum() - values) / (n - 1)),
        "tau": tau(held_out, values),
    }
    told |= dict.fromkeys(("rmse_of_size", "tau_of_size", "tau_size_removed"), float("nan"))
    if size is not None and np.ptp(size) > 1e-9:
        line = CrossConformal(Ridge(penalties=(1e-9,)), size[:, None], values, (1,)).held_out
        told["rmse_of_size"], told["tau_of_size"] = rmse(line), tau(line, values)
        told["tau_size_removed"] = tau(without(held_out, size), without(values, size))
    inside = np.zeros(n, dtype=bool)
    outer, inner = (OUTER, INNER) if n <= MANY else FEWER
    fold = folds(n, outer, seed=1)
    for k in range(int(fold.max()) + 1):  # intervals of models that have not seen what they are judged by
        out = fold == k
        low, high = CrossConformal(regressor, inputs[~out], values[~out], blocks, inner).interval(inputs[out])
        inside[out] = (low <= values[out]) & (values[out] <= high)
    return {**told, "coverage": float(inside.mean())}


def tau(first: np.ndarray, second: np.ndarray) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)


def without(values: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(n,) what a straight line in log size (n,) does not explain."""
    away = size - size.mean()
    return np.asarray(values - values.mean() - away * (away @ values) / (away @ away))
