"""Early stopping in studies of several objectives, in which Optuna's own `report` and `should_prune` raise.

The rule is asynchronous successive halving by non-dominated rank (Schmucker et al., 2021, "Multi-objective asynchronous
successive halving", arXiv 2106.12639): `nas_bo.stopping.SuccessiveHalving` has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from nas_bo.errors import HostError
from nas_bo.optuna.reading import columns, trial_record
from nas_bo.stopping import SuccessiveHalving
from nas_bo.stopping.successive_halving import SAME, ByPeers
from nas_bo.study import TRIAL, TrialRecord, from_attributes, write_attributes
from nas_bo.trial import ObjectiveSpec, State
from nas_bo.validated import check_values, number
from nas_bo.wording import counted

MOST_RUNGS = 20

Report = float | Sequence[float] | Mapping[str, float] | np.ndarray
Peer = tuple[float, dict[str, float]]  # share of the budget, values there


class StagedTrial(optuna.Trial):
    """An Optuna trial whose `report` takes all objectives at once; made by `staged`.

    What it was at the rungs is kept with the trial (`nas_bo.Trial.rungs`), so that other threads, processes and machines
    on the study compare with it, and strategies of nas_bo learn from it, also from trials that were stopped.
    """

    _budget: float
    _rungs: tuple[float, ...]
    _stopping: ByPeers
    _columns: tuple[ObjectiveSpec, ...]
    _kept: list[Peer]
    _diverged: str
    _asked: float | None

    def report(self, value: Report, step: int) -> None:
        """Report all objectives after `step` of the budget (epochs, tokens, ...).

        Args:
            value: one number for each direction of the study, in their order, or a mapping from metric names. In a mapping
                some may be missing at every rung: they are compared by nobody then.

        Raises:
            HostError: the numbers do not fit the study, or a step that is not a number of at least 0.
        """
        values = self._named(value)
        if not isinstance(step, (int, float)) or isinstance(step, bool) or not math.isfinite(step) or step < 0:
            raise HostError(
                f"report(step={step!r}): the step is a number of what the budget of {self._budget:g} counts"
            )
        strange = [name for name, v in values.items() if not math.isfinite(v)]
        if len(self._columns) == 1:  # in other studies Optuna's own TPESampler raises where a pruned trial has a curve
            super().report(next(iter(values.values())), int(step))
        if strange:
            self._diverged = f"{strange[0]} is {values[strange[0]]} at step {step:g}"
            self._keep(State.INFEASIBLE, self._diverged)
            return
        share = step / self._budget
        reached = [rung for rung in self._rungs if rung <= share + SAME]
        if reached and all(abs(reached[-1] - at) > SAME for at, _ in self._kept):
            self._kept.append((reached[-1], values))
            self._asked = reached[-1]
            self._keep()

    def should_prune(self) -> bool:
        """Whether the trial is not worth continuing with: it is asked for at rungs, and False in between.

        True as well once a number was reported that is not finite. An architecture that was stopped before, and was
        proposed again, runs to the end.
        """
        if self._diverged:
            return True
        if self._asked is None:
            return False
        share, values = self._kept[-1]
        self._asked = None  # an answer is given once: later trials do not change it
        every = self.study.get_trials(deepcopy=False)
        others = [trial_record(t, self._columns) for t in every if t.number != self.number]
        if any(t.state is State.STOPPED and t.params == self.params for t in others):
            return False
        peers = [peer for t in others if _counts(t) for peer in _rungs(t.info)]
        judge = self._stopping.among(self._columns, {"": peers})
        if judge("", share, values):
            return False
        self._keep(State.STOPPED, f"stopped at {share:.0%} of the budget")
        return True

    def _named(self, value: Report) -> dict[str, float]:
        names = [c.name for c in self._columns]
        if isinstance(value, Mapping):
            foreign = [name for name in value if name not in names]
            if foreign or not value:
                raise HostError(f"report({foreign[0] if foreign else value!r}): the study has {', '.join(names)}")
            found = {name: value[name] for name in names if name in value}
        else:
            several = isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim > 0)
            numbers: list[Any] = [*value] if several else [value]  # type: ignore[misc]
            if len(numbers) != len(names):
                raise HostError(
                    f"report({value!r}): the study wants {counted(len(names), 'number')}, in the order {', '.join(names)}; or report a "
                    "mapping from these names"
                )
            found = dict(zip(names, numbers, strict=True))
        try:
            return {name: float(number) for name, number in found.items()}
        except (TypeError, ValueError):
            raise HostError(f"report({value!r}): one of them is not a number") from None

    def _keep(self, state: State | None = None, reason: str = "") -> None:
        """Into the attributes that readers of nas_bo know, in addition to what is there already."""
        before = from_attributes(self.user_attrs)
        info = {name: dict(about) for name, about in before.get("info", {}).items()}
        for column in self._columns:
            rungs = [[share, values[column.name]] for share, values in self._kept if column.name in values]
            if rungs:
                info[column.name] = {**info.get(column.name, {}), "rungs": rungs}
        data = {**before, "info": info, "reason": reason}
        if state is not None:  # Optuna knows one kind of trial that ends early
            data["state"] = state.value
        for key, text in write_attributes(TRIAL, data).items():
            self.set_user_attr(key, text)


def staged(
    trial: optuna.Trial,
    *,
    budget: float,
    stopping: ByPeers | None = None,
    rungs: Sequence[float] | None = None,
) -> StagedTrial:
    """`trial` with early stopping, in studies of one or several objectives, with any sampler::

        trial = staged(trial, budget=27)
        for epoch in range(1, 28):
            ...
            trial.report([loss, latency_ms], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

    The study's own pruner plays no part. A trial that reports at other steps counts at a rung with its first report
    there or beyond.

    Args:
        budget: the step at which an evaluation is complete.
        stopping: `SuccessiveHalving()` by default: at every rung the best third continues.
        rungs: the steps at which it is decided; by default budget / eta, budget / eta**2, ... as far as
            `SuccessiveHalving.least` allows (with the defaults: a third of the budget).

    Raises:
        HostError: a budget or rungs that mean nothing.
    """
    rule: ByPeers = SuccessiveHalving() if stopping is None else stopping
    if not isinstance(rule, ByPeers) or isinstance(rule, type):
        raise HostError(f"staged(stopping={rule!r}): pass a SuccessiveHalving(...)")
    last = number(above=0).advise("it is the last step that is reported")
    check_values("staged", HostError, last, budget=budget)
    if rungs is None:
        if not isinstance(rule, SuccessiveHalving):
            raise HostError(
                f"staged(stopping={rule!r:.60}, rungs=None): the rule names no rungs; give rungs=[...], steps of the budget"
            )
        powers = (rule.eta**-k for k in range(1, MOST_RUNGS))
        shares = [share for share in powers if share >= rule.least - SAME and share * budget >= 1]
    else:
        shares = [step / budget for step in rungs]
        if not shares or any(not 0 < share < 1 for share in shares):
            raise HostError(f"staged(rungs={rungs!r}): they are steps between 0 and the budget, {budget:g}")
    made = StagedTrial.__new__(StagedTrial)
    made.__dict__.update(trial.__dict__)
    made._budget, made._rungs, made._stopping = float(budget), tuple(sorted(shares)), rule
    made._columns, made._diverged, made._asked = columns(trial.study), "", None
    made._kept = _rungs(from_attributes(trial.user_attrs).get("info", {}))
    return made


def rungs_of(trial: FrozenTrial) -> list[Peer]:
    """What a trial was at the rungs that it reached: (share of the budget, values by name)."""
    return _rungs(from_attributes(trial.user_attrs).get("info", {}))


def _rungs(info: Mapping[str, object]) -> list[Peer]:
    found: dict[float, dict[str, float]] = {}
    for name, about in info.items():
        for share, value in about.get("rungs", ()) if isinstance(about, dict) else ():
            found.setdefault(float(share), {})[name] = float(value)
    return sorted(found.items())


def _counts(trial: TrialRecord) -> bool:
    """Whether others are compared with it: failed and infeasible ones say nothing about what is worth continuing with."""
    return trial.state is not State.FAILED and all(amount <= 0 for amount in trial.violations.values())
