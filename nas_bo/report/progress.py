"""How a search went: best values, size of the front and hypervolume after every trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.trial import ObjectiveSpec, Trial, matrix, non_dominated

ENOUGH = 10  # feasible trials from which the reference point of the hypervolume is taken
MOST_OBJECTIVES = 5  # of a hypervolume: its cost grows with their number, and its meaning shrinks


@dataclass(frozen=True)
class Step:
    """What was known after one feasible trial.

    Attributes:
        number: of the trial.
        best: per objective, in its own unit and direction.
        n_pareto: size of the front.
        hypervolume: in the product of the objectives' units; None where there is no reference point.
        changed: whether the trial entered the front.
    """

    number: int
    best: tuple[float, ...]
    n_pareto: int
    hypervolume: float | None
    changed: bool


def reference(trials: Sequence[Trial], columns: Sequence[ObjectiveSpec]) -> list[float] | None:
    """The reference point of the hypervolume, in minimised values: `beyond` of the first `ENOUGH` feasible trials.

    The first ones only, so that it stays where it is while a study grows: whoever follows the study, and whoever reports it
    in the end, has the same figures.
    """
    feasible = sorted((t for t in trials if t.feasible), key=lambda t: math.inf if t.number is None else t.number)
    if not feasible or not 2 <= len(columns) <= MOST_OBJECTIVES:
        return None
    return beyond(matrix(feasible[:ENOUGH], columns))


def beyond(points: np.ndarray) -> list[float]:
    """A tenth of their spread beyond the worst of `points` (n, m), which are minimised."""
    worst = points.max(0)
    spread = worst - points.min(0)
    found: list[float] = (worst + 0.1 * np.where(spread > 0, spread, np.maximum(1.0, np.abs(worst)))).tolist()
    return found


def steps(trials: Sequence[Trial], columns: Sequence[ObjectiveSpec], worst: Sequence[float] | None) -> list[Step]:
    """One step per feasible trial with a number, in the order of the numbers.

    Args:
        worst: see `reference`; without it no hypervolume.
    """
    made: list[Step] = []
    kept = np.empty((0, len(columns)))
    for t in sorted((t for t in trials if t.feasible and t.number is not None), key=lambda t: t.number or 0):
        point = matrix([t], columns)
        changed = not any(np.all(p <= point[0]) for p in kept)
        if changed:
            kept = np.concatenate([kept, point])
            kept = kept[non_dominated(kept)]
            best = tuple(columns[j].sign * float(kept[:, j].min()) for j in range(len(columns)))
            made.append(Step(t.number or 0, best, len(kept), volume(kept, worst), True))
        else:
            last = made[-1]
            made.append(Step(t.number or 0, last.best, last.n_pareto, last.hypervolume, False))
    return made


def units(columns: Sequence[ObjectiveSpec]) -> str:
    """The unit of a hypervolume."""
    return " · ".join(c.unit or c.name for c in columns)


def volume(points: np.ndarray, worst: Sequence[float] | None) -> float | None:
    """The hypervolume of `points` (n, m), to be minimised; None where it cannot be computed."""
    if worst is None or points.shape[1] != len(worst):
        return None
    try:
        import moocore
    except ImportError:
        return None
    inside = points[np.all(points < np.asarray(worst), axis=1)]
    return float(moocore.hypervolume(inside, ref=np.asarray(worst))) if len(inside) else 0.0
