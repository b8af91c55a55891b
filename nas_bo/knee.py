"""The knee of a front: the architecture to take when nobody says which objective counts more.

The knee is the member of the front that lies nearest to the best value of every objective at once, each objective scaled to
its range over the front (by its logarithm where it spans more than three times), and all trained objectives together
counting as much as all costs together; what is no better than guessing, or worse than a baseline in everything, is left out. Of a front of one it is that one; of equally
near ones, as two are in one trained objective and one cost, it is the best in the first objective.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_bo.chance import guessed
from nas_bo.validated import is_number

if TYPE_CHECKING:
    from nas_bo.trial import ObjectiveSpec, Trial

SPAN = 3.0  # a positive value that spans more than this is compared by its logarithm
LEAST = 0.02  # of the value: a smaller range counts as this, so that noise is not stretched to a choice


def recommended(
    best: Sequence[Trial],
    columns: Sequence[ObjectiveSpec],
    baselines: Sequence[Mapping[str, object]] = (),
    levels: Mapping[str, object] | None = None,
) -> Trial | None:
    """The knee of the front `best`; of several equally near the first. None of an empty front.

    Where nothing is left after guessing and the baselines, the whole front is looked at.

    Args:
        baselines: ``{"values": {objective: value}, ...}``, in the state in which `best` is.
        levels: objective name -> value of guessing, see `nas_bo.chance`.
    """
    learned = [t for t in best if not guessed(t.values, columns, levels)] or list(best)
    kept = [t for t in learned if not beaten(t.values, columns, baselines)] or learned
    if not kept:
        return None
    return kept[bend(kept, columns)]


def bend(members: Sequence[Trial], columns: Sequence[ObjectiveSpec]) -> int:
    """The place of the knee among `members` (at least one), all of which count."""
    trained = np.array([c.cost == "trained" for c in columns])
    far = np.zeros(len(members))
    for c, quality in zip(columns, trained, strict=True):
        together = trained.sum() if quality else (~trained).sum()
        far += _scaled(members, c) ** 2 / together
    return int(np.argmin(far.round(9)))  # rounded: equal ones stay equal, and the first of them is taken


def _scaled(members: Sequence[Trial], c: ObjectiveSpec) -> np.ndarray:
    """Distance from the best value in units of the range: (members,), from 0 to 1."""
    values = np.array([t.values[c.name] for t in members], dtype=float)
    least = max(LEAST * float(np.abs(values).max()), _noise(members, c))
    if values.min() > 0 and values.max() > SPAN * values.min() and (c.sign > 0 or c.cost != "trained"):
        values, least = np.log(values), 0.0
    values = c.sign * values
    wide = max(float(values.max() - values.min()), least)
    return np.zeros(len(values)) if wide <= 0 else (values - values.min()) / wide


def _noise(members: Sequence[Trial], c: ObjectiveSpec) -> float:
    """The width of the measurement intervals, their median; 0 where there are none."""
    found = [high - low for t in members for low, high in [interval(t.info.get(c.name, {}))] if high > low]
    return float(np.median(found)) if found else 0.0


def interval(info: Mapping[str, object]) -> tuple[float, float]:
    """The ends of the interval that was noted with a number; (nan, nan) where none was."""
    ends = [info.get(side) for side in ("low", "high")]
    known = [float(v) for v in ends if is_number(v)]
    return (known[0], known[1]) if len(known) == 2 and known[0] <= known[1] else (math.nan, math.nan)


def beaten(
    values: Mapping[str, float], columns: Sequence[ObjectiveSpec], baselines: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether a baseline is better in every objective."""
    for base in baselines:
        theirs = base.get("values") or {}
        if base.get("state", "complete") != "complete" or not all(is_number(theirs.get(c.name)) for c in columns):
            continue
        if all(c.sign * values[c.name] > c.sign * theirs[c.name] for c in columns):
            return True
    return False
