"""What a history holds in addition to final values: objectives at a part of their budget, proxies, measured noise, and trials
that were stopped. See `nas_bo.surrogate.sources` for what is made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.objective import Resumable
from nas_bo.problem import Problem
from nas_bo.surrogate.sources import CoKriging, Observed, bent
from nas_bo.trial import ObjectiveSpec, State, Trial
from nas_bo.validated import is_number

__all__ = ["direct", "noise_of", "sources_of", "still_to_pay", "unfinished"]

GUESS = 0.7  # the slope that is expected between two budgets of one objective, both standardised


def unfinished(trials: Sequence[Trial]) -> dict[str, Architecture]:
    """The architectures, by id, whose only trial was stopped: they may be evaluated once more, to the end."""
    found: dict[str, Architecture] = {}
    others: set[str] = set()
    for trial in trials:
        arch = trial.architecture
        if trial.state is not State.STOPPED or arch.id in found:
            others.add(arch.id)
        else:
            found[arch.id] = arch
    return {key: arch for key, arch in found.items() if key not in others}


def still_to_pay(problem: Problem, trials: Sequence[Trial]) -> dict[str, float]:
    """What it costs to finish the `unfinished` ones, by id, as a share of a whole evaluation: less than 1 where every
    objective that was stopped continues from a checkpoint (has `checkpoints`, as `ValidationLoss`)."""
    waiting = unfinished(trials)
    resumable = {o.name: isinstance(o, Resumable) and bool(o.checkpoints) for o in problem.objectives}
    found = {}
    for trial in trials:
        if trial.architecture.id in waiting:
            reached = {name: trial.rungs(name) for name in resumable}
            shares = [max(rungs) if resumable[name] else 0.0 for name, rungs in reached.items() if rungs]
            found[trial.architecture.id] = 1.0 - min(shares, default=0.0)
    return found


def noise_of(trials: Sequence[Trial], name: str) -> float | None:
    """The standard deviation of the noise of an objective as its trials tell it ("noise_sd" in `Trial.info`), the
    median of them; None where none does."""
    told = [trial.info.get(name, {}).get("noise_sd") for trial in trials]
    found = [sd for sd in map(_number, told) if sd > 0]
    return float(np.median(found)) if found else None


def sources_of(
    problem: Problem,
    trials: Sequence[Trial],
    column: ObjectiveSpec,
    inputs: np.ndarray,
    own: int,
    all_rungs: bool = False,
) -> dict[float | str, CoKriging]:
    """The cheap sources of an objective, by share or name: its value at the highest rung, which has the rung below it
    as its own source, and so on; and the proxies of the problem. Empty where no trial has any.

    Args:
        trials: those that ended, the rows of `inputs` (n, d).
        own: see `GaussianProcess`.
        all_rungs: model rungs also where no trial was stopped at one, so that they tell nothing of the whole that the
            final values do not.
    """
    if not problem.proxies and not all_rungs and not any(trial.state is State.STOPPED for trial in trials):
        return {}
    told: dict[str, dict[float, float]] = {}  # one that was stopped and finished later counts once, as its last trial
    for trial in trials:
        told.setdefault(trial.architecture.id, {}).update(trial.rungs(column.name))
    last = {trial.architecture.id: i for i, trial in enumerate(trials)}
    rungs = [told[t.architecture.id] if last[t.architecture.id] == i else {} for i, t in enumerate(trials)]
    if not all_rungs and not any(each for t, each in zip(trials, rungs, strict=True) if t.state is State.STOPPED):
        rungs = [{} for _ in rungs]
    found: dict[float | str, CoKriging] = {}
    below: list[CoKriging] = []
    for share in sorted({share for each in rungs for share in each}):
        values = np.array([column.sign * each.get(share, math.nan) for each in rungs])
        level = Observed(values, GUESS)
        if level.usable():
            below = [CoKriging(inputs, level, below, own)]
            found[share] = below[0]
    for proxy in problem.proxies:
        values = np.array([_number(t.info.get(proxy.name, {}).get("value")) for t in trials])
        level = Observed(bent(values))
        if level.usable():
            found[proxy.name] = CoKriging(inputs, level, [], own)
    return found


def direct(sources: Mapping[float | str, CoKriging]) -> list[CoKriging]:
    """Those of `sources_of` that are the objective's own: the highest rung, and the proxies."""
    shares = [key for key in sources if isinstance(key, float)]
    return [source for key, source in sources.items() if isinstance(key, str) or key == max(shares)]


def _number(value: object) -> float:
    """NaN for what is not a finite number."""
    return float(value) if is_number(value) else math.nan
