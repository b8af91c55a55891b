"""A history as arrays: what was evaluated, which of it is best (Deb et al., 2002, IEEE TEC 6(2)), what is pending.

Notation: n architectures, m objectives, everything minimised.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.pareto import crowding
from nas_bo.problem import Problem
from nas_bo.strategies.strategy import guide, violation
from nas_bo.trial import State, Trial

ABSURD = 1e6  # quartile distances
FEW = 8  # points, none of which is called absurd
DECADE = 10.0  # positive objectives that span more along the front are compared on a logarithmic scale

logger = logging.getLogger(__name__)

Entry = tuple[Trial, str, bool, np.ndarray | None, float]  # trial, id, whether evaluated, values, violation

_read: WeakKeyDictionary[Problem, dict[int, Entry]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Past:
    """What a history says about architectures; equal ones count once, with their last trial.

    Attributes:
        archs: the feasible ones that have finite values, the oldest first.
        points: (n, m), their values.
        infeasible: the others that were evaluated, the least violated first.
        pending: those of running trials.
        seen: the ids of all of them, and of failed ones.
        entries: the evaluated trials, feasible or not, with what was read from them; the oldest first.
    """

    archs: list[Architecture]
    points: np.ndarray
    infeasible: list[Architecture]
    pending: list[Architecture]
    seen: set[str]
    entries: list[Entry]

    @staticmethod
    def of(problem: Problem, trials: Sequence[Trial]) -> Past:
        entries = _entries(problem, trials)
        pending = [trial.architecture for trial in trials if trial.state is State.RUNNING]
        done = [entry for entry in entries if entry[2]]
        return Past._of(done, len(problem.columns), pending, {entry[1] for entry in entries})

    @staticmethod
    def _of(entries: list[Entry], objectives: int, pending: list[Architecture], seen: set[str]) -> Past:
        archs, points, infeasible = [], [], []
        for trial, key, _, values, broken in {entry[1]: entry for entry in entries}.values():
            if broken > 0:
                infeasible.append((broken, key, trial.architecture))
            elif values is not None:
                archs.append(trial.architecture)
                points.append(values)
        infeasible.sort(key=lambda found: found[:2])
        matrix = np.concatenate(points or [np.zeros(0)]).reshape(-1, objectives)
        odd = absurd(matrix)
        if odd.any():  # as if it had failed, but the last resort as a parent
            infeasible += [(math.inf, archs[i].id, archs[i]) for i in np.flatnonzero(odd)]
            archs, matrix = [archs[i] for i in np.flatnonzero(~odd)], matrix[~odd]
        return Past(archs, matrix, [arch for _, _, arch in infeasible], pending, seen, entries)

    def last(self, number: int) -> Past:
        """The past of which only the last `number` evaluated trials are known."""
        return Past._of(self.entries[-number:], self.points.shape[1], self.pending, self.seen)

    def within(self, common: Mapping[str, object]) -> Past:
        """The past of which only trials of architectures with these values are known, by flat path."""
        inside = [e for e in self.entries if all(e[0].architecture.flat.get(p) == v for p, v in common.items())]
        return Past._of(inside, self.points.shape[1], self.pending, self.seen)

    def best(self, most: int) -> list[Architecture]:
        """The `most` best, best first: by non-dominated rank, then the lonelier; infeasible ones last."""
        if self.points.shape[1] == 1:  # the same, without a front for each of them
            order = np.argsort(self.points[:, 0], kind="stable")[:most]
            return ([self.archs[i] for i in order] + self.infeasible)[:most]
        chosen: list[Architecture] = []
        rows, front = np.arange(len(self.archs)), self.front
        while len(rows) and len(chosen) < most:
            lonely = np.argsort(-crowding(self.scale(self.points[rows[front]])), kind="stable")
            chosen += [self.archs[i] for i in rows[front][lonely]]
            rows = rows[~front]
            front = undominated(self.points[rows])
        return (chosen + self.infeasible)[:most]

    @cached_property
    def front(self) -> np.ndarray:
        """Which points are on the front, (n,) bool."""
        return undominated(self.points)

    @cached_property
    def scale(self) -> Scale:
        """That of the front."""
        return Scale(self.points[self.front])


def absurd(points: np.ndarray) -> np.ndarray:
    """Which points (n, m) have a value that can only be a mistake, (n,) bool: `ABSURD` times as far from the quartiles as these
    are from each other. One such value would set the scale of its objective, or dominate all others."""
    if len(points) < FEW:
        return np.zeros(len(points), dtype=bool)
    low, high = np.percentile(points, [25, 75], axis=0)
    reach = ABSURD * (high - low)
    return np.asarray(((points < low - reach) | (points > high + reach))[:, high > low].any(1))


def undominated(points: np.ndarray) -> np.ndarray:
    """`nas_bo.trial.non_dominated` in a tenth of a millisecond, (n,) bool."""
    import moocore

    if not len(points):
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(points, keep_weakly=True))


def _entries(problem: Problem, trials: Sequence[Trial]) -> list[Entry]:
    """What is read from every trial. The very same objects as at the last call are not read again: reading takes longer
    than all the rest."""
    before = _read.get(problem, {})
    nothing = (None,)
    found = [e if (e := before.get(id(t), nothing))[0] is t else _entry(problem, t) for t in trials]
    _read[problem] = {id(entry[0]): entry for entry in found}
    return found


def _entry(problem: Problem, trial: Trial) -> Entry:
    if trial.state not in (State.COMPLETE, State.INFEASIBLE):
        return trial, trial.architecture.id, False, None, 0.0
    return trial, trial.architecture.id, True, guide(problem, trial), violation(trial)


class Scale:
    """Makes objectives comparable: by their range along a front (k, m), on a logarithmic scale where it spans a decade."""

    def __init__(self, front: np.ndarray) -> None:
        low, high = front.min(0), front.max(0)
        self.log = (low > 0) & (high > DECADE * low)
        span = np.ptp(self._bent(front), axis=0)
        self.span = np.where(span > 0, span, 1.0)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(n, m) -> (n, m)."""
        return np.asarray(self._bent(values) / self.span)

    def _bent(self, values: np.ndarray) -> np.ndarray:
        return np.where(self.log, np.log(np.where(self.log, np.maximum(values, 1e-300), 1.0)), values)


def known_values(problem: Problem, arch: Architecture) -> np.ndarray:
    """(m,) what is known about the objectives without evaluation, NaN where nothing is."""
    try:
        values = problem.known(arch)
    except Exception as error:
        logger.debug("the known objectives of %s cannot be computed: %s", arch.id, error)
        values = {}
    return np.array([c.sign * values.get(c.name, np.nan) for c in problem.columns])
