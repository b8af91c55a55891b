"""Trial: what became of one architecture; and which trials form the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from nas_bo import moved
from nas_bo.architecture import Architecture
from nas_bo.knee import recommended
from nas_bo.process import Place
from nas_bo.spelling import spelled
from nas_bo.validated import is_number

Direction = Literal["minimize", "maximize"]


class State(Enum):
    RUNNING = "running"
    COMPLETE = "complete"
    INFEASIBLE = "infeasible"  # a rule or a limit is violated; evaluation stopped there
    FAILED = "failed"  # it raised, diverged or gave no finite number
    STOPPED = "stopped"  # its training was ended at a rung; what was seen until then is in `Trial.rungs`


@dataclass(frozen=True)
class ObjectiveSpec:
    """What is known about an objective without the objective: enough to tabulate, draw and compare its values.

    Attributes:
        cost: "analytic" (from the architecture alone), "measured" or "trained".
        at_most, at_least: hard limits, in `unit`; None is not a limit.
    """

    name: str
    unit: str = ""
    direction: Direction = "minimize"
    cost: Literal["analytic", "measured", "trained"] = "trained"
    at_most: float | None = None
    at_least: float | None = None

    @property
    def usual_way(self) -> str:
        """How its values are obtained where an objective notes nothing of it; empty where only the objective knows."""
        return "computed from the architecture" if self.cost == "analytic" else ""

    @property
    def sign(self) -> float:
        """+1 when smaller is better, -1 when larger is."""
        return 1.0 if self.direction == "minimize" else -1.0

    @property
    def title(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name

    def limits(self) -> dict[str, tuple[float, float]]:
        """Constraint name -> (sign, bound); violated by ``sign * (value - bound)`` where that is positive."""
        found = {}
        if self.at_most is not None:
            found[f"{self.name}<={self.at_most:g}"] = (1.0, self.at_most)
        if self.at_least is not None:
            found[f"{self.name}>={self.at_least:g}"] = (-1.0, self.at_least)
        return found


class Trains(Protocol):
    """What knows how its architectures are trained: a `nas_bo.Result`."""

    def train(self, to: str | Path, pick: object, tokens: float | None, **more: object) -> Any: ...


@dataclass(frozen=True)
class Trial:
    """One architecture and what is known about it so far.

    Attributes:
        values: objective name -> value, in the objective's own unit and direction; complete only in state COMPLETE.
        violations: constraint name -> how far it is violated (0 when satisfied or not evaluated).
        reason: why it failed, is infeasible or was stopped, in one line.
        info: objective name -> how the number was obtained (JSON-safe: spread, repeats, device, curve, seconds);
            proxies of the problem are here too, with their "value".
        number: its number in the study, if it has one.
        place: of the process that evaluated it, on a cluster.
    """

    architecture: Architecture
    values: Mapping[str, float] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    state: State = State.COMPLETE
    reason: str = ""
    info: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    number: int | None = None
    seconds: float = 0.0
    place: Place | None = field(default=None, compare=False)

    def __str__(self) -> str:
        number = "trial" if self.number is None else f"trial {self.number}"
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.values.items())
        return f"{number}, {self.state.value}{': ' * bool(values)}{values}{'; ' * bool(self.reason)}{self.reason}; {self.architecture}"

    @property
    def feasible(self) -> bool:
        return self.state is State.COMPLETE and all(v <= 0 for v in self.violations.values())

    def rungs(self, name: str) -> dict[float, float]:
        """Share of the budget, below 1 -> what the objective `name` was after it; {} where there was no rung."""
        kept = self.info.get(spelled(name, self.info), {}).get("rungs")
        found = {}
        for rung in kept if isinstance(kept, (list, tuple)) else ():
            if isinstance(rung, (list, tuple)) and len(rung) == 2 and is_number(rung[0]) and is_number(rung[1]):
                found[float(rung[0])] = float(rung[1])
        return {share: value for share, value in found.items() if 0 < share < 1}

    def train(self, result: Trains, to: str | Path, tokens: float | None = None, **more: object) -> Any:
        """Train this architecture to the end, as the search behind `result` trains, and write it to the folder `to`:
        ``result.knee().train(result, "out", 5e7)``. See `nas_bo.workflows.train.train`."""
        return result.train(to, self, tokens, **more)

    def attributes(self) -> dict[str, str]:
        """As in version 0.1; see `nas_bo.study.attributes`."""
        found: dict[str, str] = moved.value(__name__, "attributes")(self)
        return found


def not_finite(values: Mapping[str, float]) -> str:
    """Why a trial with these values has failed, though its host calls it complete: hosts keep infinities, no front can. "" of
    finite values."""
    return next((f"{name} is {v}, not a finite number" for name, v in values.items() if not math.isfinite(v)), "")


def matrix(trials: Sequence[Trial], columns: Sequence[ObjectiveSpec]) -> np.ndarray:
    """The values of complete trials, to be minimised: (trials, objectives); directions are turned by their sign."""
    rows = [[c.sign * t.values[c.name] for c in columns] for t in trials]
    return np.asarray(rows, dtype=float).reshape(len(trials), len(columns))


def non_dominated(points: np.ndarray) -> np.ndarray:
    """Which rows of `points` (n, m), to be minimised, are dominated by no other row: (n,) bool.

    Of equal rows all are kept.
    """
    keep = np.ones(len(points), dtype=bool)
    for i, p in enumerate(points):
        if keep[i]:
            worse = np.all(points >= p, axis=1) & np.any(points > p, axis=1)
            keep &= ~worse
    return keep


def front(trials: Iterable[Trial], columns: Sequence[ObjectiveSpec]) -> list[Trial]:
    """The feasible trials that no other feasible trial dominates, best in the first objective first.

    Of several trials with equal values only the first is kept.
    """
    feasible = [t for t in trials if t.feasible]
    if not feasible:
        return []
    points = matrix(feasible, columns)
    chosen, seen = [], set()
    for i in np.flatnonzero(non_dominated(points)):
        if tuple(points[i]) not in seen:
            seen.add(tuple(points[i]))
            chosen.append((tuple(points[i]), feasible[i]))
    return [trial for _, trial in sorted(chosen, key=lambda pair: pair[0])]


def knee(
    trials: Sequence[Trial],
    columns: Sequence[ObjectiveSpec],
    baselines: Sequence[Mapping[str, object]] = (),
    levels: Mapping[str, object] | None = None,
) -> Trial | None:
    """The trial of the front to take when nobody says which objective counts more; None without a feasible trial.

    It lies nearest to the best value of every objective at once, each objective scaled to its range over the front (by its
    logarithm where it spans more than three times), and all trained objectives together counting as much as all costs
    together; what is no better than guessing, or worse than a baseline in everything, is left out.

    Args:
        baselines: ``{"values": {objective: value}, ...}``.
        levels: objective name -> value of guessing; what is in bits per byte has 8 by itself.
    """
    return recommended(front(trials, columns), columns, baselines, levels)


if not TYPE_CHECKING:  # names that were here in version 0.1

    def __getattr__(name: str) -> object:
        return moved.value(__name__, name)
