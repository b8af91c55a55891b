"""What a history says about the limits that no objective explains: amounts where they are known, signs elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nas_bo.problem import Problem
from nas_bo.strategies.fidelity import noise_of
from nas_bo.surrogate.censored import Amounts, Censored
from nas_bo.trial import State, Trial
from nas_bo.validated import is_number

__all__ = ["Limits", "amounts_of"]

FEWEST = 2  # trials that failed, and that did not, before a model tells where
MOST = 10  # limits with a model each; those beyond, the least violated, share one
RECENT = 10  # trials that caution depends on, the last ones
CAUTION = 10.0  # how much the power of the chance grows, when all of them violate a limit
Bound = tuple[str, float, float]  # name of the number, sign, bound: violated by sign * (number - bound) above 0


class Limits:
    """The limits that are neither decided beforehand nor limits of an objective, as far as any was violated, and failures, which are a limit of
    which only the sign is known.

    A proposal that violates one tells the user little, and where the best point lies on a limit, half of the proposals of
    the highest expected gain do. So the chance to meet the limits weighs the more, the more of the last trials violated
    one; once all meet them, gain and chance are multiplied as they are.

    Attributes:
        models: one for every limit.
        caution: the power of the chance.
        explains_failures: whether one of them is about failures.

    Args:
        trials: those that ended, the rows of `inputs` (n, d).
        own: see `GaussianProcess`.
        found: whether any trial is feasible; without one the chance decides alone.
        failed: (n,) which trials failed; one that did tells of no other limit.
    """

    def __init__(
        self, problem: Problem, trials: Sequence[Trial], inputs: np.ndarray, own: int, found: bool = True,
        failed: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        bounds = problem.bounds()
        known = {name: a for name, a in amounts_of(problem, trials).items() if a.violated.any()}
        often = sorted(known, key=lambda name: (-int(known[name].violated.sum()), name))
        self.models = []
        for name in often[:MOST]:
            noise = noise_of(trials, bounds[name][0]) if name in bounds else None
            self.models.append(Censored(inputs, known[name], own, noise))
        if often[MOST:]:
            self.models.append(Censored(inputs, _worst([known[name] for name in often[MOST:]]), own))
        broken = [known[name].violated for name in often]
        self.explains_failures = failed is not None and min(int(failed.sum()), int((~failed).sum())) >= FEWEST
        if failed is not None and self.explains_failures:
            signs = np.where(failed, 1.0, -1.0)
            self.models.append(Censored(inputs, Amounts(np.full(len(signs), math.nan), signs), own))
            broken.append(failed)
        violated = np.any([each[-RECENT:] for each in broken], axis=0)
        self.caution = 1.0 + CAUTION * float(violated.mean()) if found and broken else 1.0

    def log_chance(self, inputs: np.ndarray) -> np.ndarray:
        """The logarithm of the probability that all are met at inputs (n, d), to the power `caution`, (n,)."""
        return np.asarray(sum((self.caution * m.log_chance(inputs) for m in self.models), np.zeros(len(inputs))))

    def believe(self, inputs: np.ndarray) -> None:
        """Take the expectations at inputs (n, d) for observed, as in `GaussianProcess.believe`."""
        for model in self.models:
            model.believe(inputs)


def amounts_of(problem: Problem, trials: Sequence[Trial]) -> dict[str, Amounts]:
    """The `Amounts` of every limit in `trials`, by name, in the order of names.

    `Trial.violations` says 0 where a limit is satisfied by an unknown margin and where it was not evaluated, unless
    somebody tells signed amounts. So the number itself counts, where the trial has it.
    """
    bounds = problem.bounds()
    explained = problem.exact_constraints | {name for c in problem.columns for name in c.limits()}
    names = {name for t in trials for name in t.violations if name not in explained}
    return {name: _amounts(name, bounds.get(name) or _spelled(name), trials) for name in sorted(names)}


def _amounts(name: str, bound: Bound | None, trials: Sequence[Trial]) -> Amounts:
    told = [t.violations.get(name, 0.0) if name in t.violations else math.nan for t in trials]
    absent = np.array([name not in t.violations for t in trials], dtype=bool)
    amounts = np.array([math.nan if v is None else float(v) for v in told])
    complete = np.array([t.state is State.COMPLETE for t in trials], dtype=bool)
    exact = np.array([math.nan if bound is None else _exact(t, bound) for t in trials])

    finite = np.isfinite(amounts)
    signed = bool((amounts[finite] < 0).any())
    above = np.unique(amounts[finite & (amounts > 0)])
    sized = signed or bound is not None or len(above) != 1 or above[0] != 1.0  # else it is true or false
    values = np.where(finite & ((amounts != 0) | signed) & sized, amounts, np.nan)
    values = np.where(np.isfinite(exact), exact, values)
    signs = np.zeros(len(trials))
    signs[(amounts > 0) | (np.isnan(amounts) & ~absent)] = 1.0  # a host lost the amount of one that is violated
    signs[(amounts < 0) | ((amounts == 0) & complete)] = -1.0
    return Amounts(values, signs)


def _exact(trial: Trial, bound: Bound) -> float:
    """How far the number that a trial has lies beyond the bound, NaN where it has none."""
    name, sign, limit = bound
    there: list[object] = [trial.values.get(name), trial.info.get(name, {}).get("value")]
    for about in trial.info.values():
        parts = about.get("parts")
        there.append(parts.get(name) if isinstance(parts, Mapping) else None)
    for value in there:
        if is_number(value):
            return sign * (float(value) - limit)
    return math.nan


def _spelled(name: str) -> Bound | None:
    """The bound that a name such as "latency_ms<=6" spells, for a history whose problem is not at hand."""
    for mark, sign in (("<=", 1.0), (">=", -1.0)):
        number, found, bound = name.rpartition(mark)
        if found:
            try:
                return number, sign, float(bound)
            except ValueError:
                return None
    return None


def _worst(every: Sequence[Amounts]) -> Amounts:
    """Several limits as one: the largest of their amounts, each in its own scale."""
    bent = np.array([np.sinh(a.bent(a.scale(len(a.values)))) for a in every])
    known = np.isfinite(bent).any(0)
    return Amounts(np.where(known, np.where(np.isfinite(bent), bent, -np.inf).max(0), np.nan), np.zeros(len(known)))
