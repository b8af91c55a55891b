"""Several objectives as one number: task loss + lambda1 * latency + lambda2 * parameters + ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, Literal

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.objective import (
    ORDER,
    Composed,
    Conditioned,
    LimitViolated,
    Objective,
    Predicting,
    Retrainable,
    Value,
    as_objective,
    estimate_of,
    info_of,
    spec_of,
    value_of,
)
from nas_bo.trial import Direction
from nas_bo.validated import number

WEIGHT = number(at_least=0)


@dataclass(frozen=True)
class Weighted:
    """``sum(weight * objective)``, minimised; an objective that is maximised enters with its sign turned.

    Args:
        terms: pairs (weight, objective); weights are in 1/unit of their objective and at least 0.

    The parts are kept in the value's `info`, and their limits count: a part beyond its limit ends the evaluation.

    Raises:
        ObjectiveError: no terms, a weight that is negative or not finite, or two parts of the same name.
    """

    terms: Sequence[tuple[float, Objective]]
    at_most: float | None = None
    at_least: float | None = None
    name: str = "weighted"
    unit: str = ""
    direction: Direction = "minimize"

    def __post_init__(self) -> None:
        if not self.terms:
            raise ObjectiveError("Weighted([]): give at least one pair (weight, objective)")
        checked = []
        for weight, objective in self.terms:
            if not WEIGHT.holds(weight):
                raise ObjectiveError(f"Weighted: the weight {weight!r} of {objective!r} must be {WEIGHT.must}")
            checked.append((float(weight), as_objective(objective)))
        names = [o.name for _, o in checked]
        if len(set(names)) < len(names):
            raise ObjectiveError(f"Weighted: two parts have the same name among {', '.join(names)}")
        object.__setattr__(self, "terms", tuple(sorted(checked, key=lambda term: ORDER.index(term[1].cost))))

    @property
    def cost(self) -> Literal["analytic", "measured", "trained"]:
        """That of the most expensive part."""
        return self.terms[-1][1].cost

    @property
    def parts(self) -> tuple[Objective, ...]:
        """The objectives of the sum, cheapest first."""
        return tuple(objective for _, objective in self.terms)

    def conditions(self) -> dict[str, object]:
        parts = {o.name: dict(o.conditions()) for _, o in self.terms if isinstance(o, Conditioned)}
        return {"weights": {o.name: w for w, o in self.terms}, **parts}

    def larger(self, factor: float) -> Weighted | None:
        """The same sum with its trained parts at `factor` times their budget; None when no part can be re-trained."""
        if not any(isinstance(o, Retrainable) for _, o in self.terms):
            return None
        parts = [(w, _larger(o, factor) or _unlimited(o)) for w, o in self.terms]
        return Weighted(parts, None, None, self.name, self.unit, self.direction)

    def steer(self, arch: Architecture, info: Mapping[str, Any]) -> float:
        """The sum with the deterministic estimates of its measured parts, where they have one."""
        total = 0.0
        for weight, objective in self.terms:
            if isinstance(objective, Predicting):
                part = estimate_of(objective, arch)
            else:
                part = float(info["parts"][objective.name])
            total += weight * spec_of(objective).sign * part
        return total

    def __call__(self, arch: Architecture, /) -> Value:
        total = 0.0
        parts: dict[str, float] = {}
        info: dict[str, Any] = {}
        for weight, objective in self.terms:
            try:
                value = value_of(objective, arch)
            except LimitViolated as stop:  # of a sum within this sum
                raise LimitViolated({**parts, **stop.values}) from None
            described = spec_of(objective)
            parts[objective.name] = float(value)
            info[objective.name] = dict(info_of(value))
            parts |= info[objective.name].get("parts", {}) if isinstance(objective, Composed) else {}
            if any(sign * (float(value) - bound) > 0 for sign, bound in described.limits().values()):
                raise LimitViolated(parts)
            total += weight * described.sign * float(value)
        return Value(total, how=self.cost, parts=parts, of=info)


def _larger(objective: Objective, factor: float) -> Objective | None:
    return objective.larger(factor) if isinstance(objective, Retrainable) else None


def _unlimited(objective: Objective) -> Objective:
    """The objective without its limits, where it is plain data: a re-training is not refused for a noisy latency."""
    if is_dataclass(objective) and not isinstance(objective, type) and spec_of(objective).limits():
        return replace(objective, at_most=None, at_least=None)
    return objective
