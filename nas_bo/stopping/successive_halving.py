"""Asynchronous successive halving (Li et al., 2020, "A system for massively parallel hyperparameter tuning", MLSys,
arXiv 1810.05934), over several objectives (Schmucker et al., 2021, "Multi-objective asynchronous successive halving",
arXiv 2106.12639).

At every rung an evaluation continues while it is among the best share 1 / `eta` of all that ever came so far. With several
objectives they are ordered by non-dominated rank, those of one rank by an epsilon-net (section 3.2 of the second
paper): each the farthest from those before it. What is known without training, and what was measured before, counts as
it is; what is in training counts as it was at the rung, less what its objective knows that larger and deeper models have still to gain
(`nas_bo.objective.CorrectsEarly`).

Notation: n architectures that were at a rung, m objectives of which values are there, everything minimised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.objective import CorrectsEarly, Judge, Staged
from nas_bo.pareto import ranks
from nas_bo.problem import Problem
from nas_bo.strategies.history import Scale, known_values
from nas_bo.strategies.strategy import violation
from nas_bo.trial import ObjectiveSpec, State, Trial
from nas_bo.validated import check_fields, checked, number, whole_number

SAME = 1e-6  # shares that differ by no more are the same rung


@runtime_checkable
class Stopping(Protocol):
    """Which evaluations are ended early. No base class is needed.

    A pure function of its settings, the problem and the history, so that a search that is continued stops the same
    trials. The judge is sent to worker processes, so it must be possible to pickle it.
    """

    def judge(self, problem: Problem, trials: Sequence[Trial], arch: Architecture) -> Judge:
        """What decides at the rungs of the trial of `arch` (see `Problem.evaluate`), from the trials before it."""


@runtime_checkable
class ByPeers(Protocol):
    """A rule that decides from what others were at the same rung, without a problem: for studies whose objectives are only
    reported (`nas_bo.optuna.staged`)."""

    def among(
        self, columns: Sequence[ObjectiveSpec], peers: Mapping[str, Sequence[tuple[float, Mapping[str, float]]]]
    ) -> Judge:
        """See `SuccessiveHalving.among`."""


@dataclass(frozen=True)
class SuccessiveHalving:
    """Ends an evaluation that is not among the best 1 / `eta` at a rung.

    The stopping variant of the paper: nothing is paused, what continues is decided when it reaches the rung. An
    architecture that was stopped may be proposed again by a strategy that has changed its mind (`Bayes` does); it is
    then evaluated to the end.

    Attributes:
        eta: of so many evaluations one continues.
        startup: how many of the trials that come to a rung continue whatever they are; a model of the final values needs a few.
        least: below this share of the budget nothing is stopped; early ranks are no better than chance.

    Raises:
        SearchError: a setting that is not of that kind.
    """

    eta: float = checked(3.0, number(above=1))
    startup: int = checked(4, whole_number(0))
    least: float = checked(0.25, number(above=0, below=1))

    def __post_init__(self) -> None:
        check_fields(self, SearchError)

    def judge(self, problem: Problem, trials: Sequence[Trial], arch: Architecture) -> Judge:
        """See `Stopping.judge`."""
        peers: dict[str, dict[str, list[tuple[float, dict[str, float]]]]] = {}
        staged = [o.name for o in problem.objectives if isinstance(o, Staged)]
        taken = {o.name: o.early_correction(trials) for o in problem.objectives if isinstance(o, CorrectsEarly)}

        def off(name: str, arch: Architecture, share: float) -> float:
            return taken[name](arch, share) if name in taken else 0.0

        for trial in trials:
            if trial.state not in (State.COMPLETE, State.STOPPED) or violation(trial) > 0:
                continue
            for name in staged:
                # the last one of an architecture counts: one that was stopped and finished later counts once
                values = {**trial.values, **_known(problem, trial)}
                found = [
                    (share, {**values, name: value - off(name, trial.architecture, share)})
                    for share, value in trial.rungs(name).items()
                ]
                if found:
                    peers.setdefault(name, {})[trial.architecture.id] = found
        table = {name: [rung for rungs in by_id.values() for rung in rungs] for name, by_id in peers.items()}
        corrections = {name: {share: off(name, arch, share) for share, _ in there} for name, there in table.items()}
        return _Judge(self, tuple(problem.columns), table, corrections)

    def among(
        self, columns: Sequence[ObjectiveSpec], peers: Mapping[str, Sequence[tuple[float, Mapping[str, float]]]]
    ) -> Judge:
        """What decides at rungs by comparing with `peers` alone.

        Args:
            peers: what is evaluated in stages -> (share of the budget, values there) of every architecture that came to
                it; values by the names of `columns`, in their own directions.
        """
        return _Judge(self, tuple(columns), peers)


def _known(problem: Problem, trial: Trial) -> dict[str, float]:
    """What is known about the trial's objectives without evaluation, in their own directions."""
    found = known_values(problem, trial.architecture)
    return {c.name: c.sign * float(v) for c, v in zip(problem.columns, found, strict=True) if math.isfinite(v)}


@dataclass(frozen=True)
class _Judge:
    """What the history says at the rungs: objective -> (share, values there) of every architecture; and objective -> share -> what to take off
    the value of the one that is judged, as it was taken off theirs."""

    settings: SuccessiveHalving
    columns: tuple[ObjectiveSpec, ...]
    peers: Mapping[str, Sequence[tuple[float, Mapping[str, float]]]]
    corrections: Mapping[str, Mapping[float, float]] = field(default_factory=dict)

    def __call__(self, name: str, share: float, values: Mapping[str, float]) -> bool:
        if share < self.settings.least - SAME:
            return True
        there = [other for at, other in self.peers.get(name, ()) if abs(at - share) <= SAME]
        if len(there) < max(1, self.settings.startup):
            return True
        off = next((by for at, by in self.corrections.get(name, {}).items() if abs(at - share) <= SAME), 0.0)
        values = {**values, name: values[name] - off} if name in values else values
        # an objective that is evaluated later is compared by nobody yet
        columns = [c for c in self.columns if c.name in values and all(c.name in other for other in there)]
        points = np.array([[c.sign * other[c.name] for c in columns] for other in [*there, values]])
        if not np.isfinite(points[-1]).all():
            return True
        points = points[np.isfinite(points).all(1)]
        allowed = max(1, math.ceil(len(points) / self.settings.eta))
        return place(points) < allowed


def place(points: np.ndarray) -> int:
    """How many of the points (n, m) come before the last one: by rank, then by epsilon-net."""
    rank = ranks(points)
    before = int((rank < rank[-1]).sum())
    peers = np.flatnonzero(rank == rank[-1])  # the last point is the last of them
    if len(peers) == 1:
        return before
    return before + int(np.flatnonzero(epsilon_net(points[peers]) == len(peers) - 1)[0])


def epsilon_net(points: np.ndarray) -> np.ndarray:
    """The points (n, m) of one rank in the order in which they cover it, (n,): the best in the first objective, then
    always the one that is farthest from all before it."""
    scaled = Scale(points)(points)
    order = [int(np.argmin(scaled[:, 0]))]
    nearest = np.full(len(points), np.inf)
    for _ in range(len(points) - 1):
        nearest = np.minimum(nearest, ((scaled - scaled[order[-1]]) ** 2).sum(1))
        nearest[order] = -1.0
        order.append(int(np.argmax(nearest)))
    return np.array(order)
