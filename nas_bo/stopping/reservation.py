"""Stopping by reservation price (Weitzman, 1979, "Optimal search for the best alternative", Econometrica 47(3)): an
evaluation continues while it promises as much for what it still costs as the next one would promise from its start.

What a value at a rung says about the final one comes from the same joint belief that `Bayes` proposes by (the idea of
Swersky et al., 2014, "Freeze-thaw Bayesian optimization", arXiv 1406.3896; with the model of `nas_bo.surrogate.sources`
in place of theirs). Costs are shares of the budget. With G(v) the expected gain once the value v was seen at the share
s, the price is the solution z of

    E[(G(v) - (1 - s) z)+] = s z

the rate of gain that the next architecture offers, if it is as promising as this one was. A rung that says nothing
leaves z = G and stops nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.objective import Judge
from nas_bo.problem import Problem
from nas_bo.stopping.successive_halving import SAME
from nas_bo.strategies.objective_models import Belief
from nas_bo.strategies.scores import gain_of
from nas_bo.strategies.strategy import generator
from nas_bo.surrogate.sources import CoKriging
from nas_bo.trial import State, Trial
from nas_bo.validated import check_fields, checked, number, whole_number

POINTS = 81  # values at a rung that are looked at
REACH = 4.0  # standard deviations to either side of what is expected there
FAR = REACH * 2.0 ** np.arange(1, 11)  # and further ones, which have no weight, but may be seen

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reservation:
    """Ends an evaluation when what it still costs is better spent on the next architecture.

    Made for `Bayes`, whose proposals all promise about as much. Unlike `SuccessiveHalving` it stops hardly anything where
    rungs say little about the final value, and it is no better than the belief that it rests on. An architecture that was
    stopped may be proposed again; it is then evaluated to the end.

    Attributes:
        startup: how many trials are evaluated to the end before anything is stopped; 8 is where `Bayes` begins.
        least: below this share of the budget nothing is stopped.

    Raises:
        SearchError: a setting that is not of that kind.
    """

    startup: int = checked(8, whole_number(2))
    least: float = checked(0.25, number(at_least=0, at_most=1))

    def __post_init__(self) -> None:
        check_fields(self, SearchError)

    def judge(self, problem: Problem, trials: Sequence[Trial], arch: Architecture) -> Judge:
        """See `Stopping.judge`."""
        if sum(t.state is State.COMPLETE for t in trials) < self.startup:
            return _Judge(self.least)
        try:
            return _Judge(self.least, *self._prices(problem, trials, arch))
        except Exception as error:  # whatever a fit does, the search continues
            logger.warning("Reservation: no surrogate at trial %d, nothing is stopped: %s", len(trials), error)
            return _Judge(self.least)

    def _prices(
        self, problem: Problem, trials: Sequence[Trial], arch: Architecture
    ) -> tuple[dict[str, list[_Rung]], dict[str, float]]:
        belief = Belief(problem, trials, all_rungs=True)
        belief.believe([t.architecture for t in trials if t.state is State.RUNNING])
        rng = np.random.default_rng(generator("reservation", len(trials)).getrandbits(63))
        gain = gain_of(belief, rng)
        genomes = belief.genomes([arch])
        inputs, known = belief.inputs(genomes), belief.exact([arch])
        mean, sd = belief.predict(inputs, known)
        found: dict[str, list[_Rung]] = {}
        prices: dict[str, float] = {}
        for j, process in belief.processes.items():
            column = belief.columns[j]
            shares = [share for share in belief.sources[j] if isinstance(share, float) and share >= self.least - SAME]
            if not shares or not isinstance(process, CoKriging):
                continue
            rungs = []
            for share in sorted(shares):
                source = belief.sources[j][share]
                middle, spread = (float(part[0]) for part in source.predict(inputs))
                variance = spread**2 + source.noise**2
                slope = float(process.shared(inputs, source)[0]) / variance
                off = np.concatenate([-FAR[::-1], np.linspace(-REACH, REACH, POINTS), FAR]) * variance**0.5
                told, less = np.repeat(mean, len(off), axis=0), np.repeat(sd, len(off), axis=0)
                told[:, j] += slope * off
                whole = sd[0, j] ** 2 + process.unexpected()
                less[:, j] = np.sqrt(np.maximum(whole - slope**2 * variance, 1e-4 * whole))
                logs = gain(told, less) + belief.log_chance(np.repeat(inputs, len(off), axis=0), told, less)
                rungs.append((share, column.sign, middle + off, logs))
            # relative to the highest gain: gains may be as small as 1e-300
            likely = slice(len(FAR), len(FAR) + POINTS)
            top = max(float(logs[likely].max()) for *_, logs in rungs)
            found[column.name] = [_Rung(s, sign, at, np.exp(np.minimum(logs - top, 50))) for s, sign, at, logs in rungs]
            prices[column.name] = price(found[column.name][0].gains[likely], min(shares))
        return found, prices


@dataclass(frozen=True)
class _Rung:
    """The expected gain after a value at a rung: values (p,), minimised and rising, and gains (p,)."""

    share: float
    sign: float
    values: np.ndarray
    gains: np.ndarray


@dataclass(frozen=True)
class _Judge:
    """Rungs and the price of a unit of gain, by objective; without them everything continues."""

    least: float
    rungs: Mapping[str, Sequence[_Rung]] = field(default_factory=dict)
    prices: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, name: str, share: float, values: Mapping[str, float]) -> bool:
        rung = next((r for r in self.rungs.get(name, ()) if abs(r.share - share) <= SAME), None)
        if rung is None or share < self.least - SAME:
            return True
        gain = float(np.interp(rung.sign * values[name], rung.values, rung.gains))
        return gain >= (1.0 - share) * self.prices[name] * (1.0 - 1e-9)


def price(gains: np.ndarray, share: float) -> float:
    """The reservation price for gains (p,) after values that lie evenly within `REACH` standard deviations of a normal
    distribution, when seeing one costs `share` and the rest 1 - `share`."""
    weights = np.exp(-0.5 * np.linspace(-REACH, REACH, len(gains)) ** 2)
    weights /= weights.sum()
    low, high = 0.0, float(gains.max()) / (1.0 - share)
    for _ in range(60):
        middle = 0.5 * (low + high)
        if weights @ np.maximum(gains - (1.0 - share) * middle, 0.0) > share * middle:
            low = middle
        else:
            high = middle
    return low
