"""Drift: a machine that is 10 % slower in the next minute is not another architecture. A two-way fit (median polish,
Tukey, 1977, "Exploratory Data Analysis", chapter 11) of the logarithms of times tells what belongs to the minute.

A round visits many models once, in random order. ``log time = level of the model + shift of the round + noise``; models
that are measured in every round (anchors) tie those together in which different models were measured.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.wording import counted

SWEEPS = 8
SURE = 2.0  # standard errors that a shift must have to count
MENTIONED = 0.05  # shift from which a drift is worth a word


@dataclass(frozen=True)
class Drift:
    """What was divided out of the times, never averaged in.

    Attributes:
        factors: of each round in turn, relative to the first session: 1.1 is a round in which all was 10 % slower.
        sessions: median factor of each session; a measurement that was interrupted and continued has several.
        rounds: how many there were.
    """

    factors: tuple[float, ...]
    sessions: tuple[float, ...]

    @property
    def rounds(self) -> int:
        return len(self.factors)

    @property
    def largest(self) -> float:
        """The factor furthest from 1."""
        return max(self.factors, key=lambda f: abs(math.log(f)), default=1.0)

    def __str__(self) -> str:
        if abs(math.log(self.largest)) < math.log1p(MENTIONED):
            return f"no drift of more than {MENTIONED:.0%} in {counted(self.rounds, 'round')}"
        between = ", ".join(f"{f:.3f}" for f in self.sessions)
        last = f"; sessions relative to the first: {between}" if len(self.sessions) > 1 else ""
        return (
            f"the machine drifted: rounds ran at {min(self.factors):.3f} to {max(self.factors):.3f} times the usual; it is "
            f"divided out{last}"
        )


def polish(times: np.ndarray) -> np.ndarray:
    """(rounds,) factors of a table (models, rounds) of times, nan where a model was not visited.

    A factor that is not clear of the noise is 1. The median of the factors is 1.
    """
    logs = np.log(times)
    shift = np.zeros(logs.shape[1])
    if logs.shape[0] < 2 or logs.shape[1] < 2:
        return np.exp(shift)
    rest = logs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rounds or models with nothing
        for _ in range(SWEEPS):
            level = np.nanmedian(logs - shift, axis=1, keepdims=True)
            rest = logs - level
            shift = np.nan_to_num(np.nanmedian(rest, axis=0))
            shift -= np.median(shift)
        rest = rest - shift
        spread = 1.4826 * np.nanmedian(np.abs(rest), axis=0)
    seen = np.maximum(1, np.isfinite(logs).sum(0))
    error = 1.2533 * np.nan_to_num(spread, nan=np.inf) / np.sqrt(seen)
    return np.where((np.abs(shift) > SURE * error) & (seen > 1), np.exp(shift), 1.0)


def drift_of(visits: Mapping[str, Sequence[tuple[int, float]]], sessions: Sequence[int]) -> Drift:
    """The drift in visits (round, milliseconds) of models; `sessions[r]` is the session of round r, from 0 on."""
    rounds = len(sessions)
    table = np.full((len(visits), rounds), np.nan)
    for row, found in enumerate(visits.values()):
        for at, spent in found:
            table[row, at] = spent
    factors = polish(table)
    of = np.asarray(sessions)
    medians = [float(np.median(factors[of == s])) for s in sorted(set(sessions))]
    if medians:
        factors = factors / medians[0]
        medians = [m / medians[0] for m in medians]
    return Drift(tuple(float(f) for f in factors), tuple(medians))
