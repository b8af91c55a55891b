"""What nas_bo writes into an Optuna study: the outcome of a trial, and data that is kept with the study."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Mapping, Sequence

import optuna
from optuna.study import Study
from optuna.study._tell import _tell_with_warning
from optuna.trial import FrozenTrial, TrialState

from nas_bo import large_info
from nas_bo.errors import NasBoError
from nas_bo.execution.interrupts import whole
from nas_bo.optuna.changes import Changes, write
from nas_bo.optuna.patient import together
from nas_bo.optuna.storages import in_memory, info_file
from nas_bo.safe_text import lines, plain, printable
from nas_bo.study import ATTRIBUTE_WIDTH, LABEL, PREFIX, REASON, attributes, write_attributes
from nas_bo.trial import State, Trial

CONSTRAINTS = "constraints:"  # Optuna's own prefix of the system attributes with what `Trial.set_constraint` was given
_log = logging.getLogger(__name__)


class EvaluationFailed(NasBoError, RuntimeError):
    """Raised by `conclude` for a failed trial, so that Optuna records it as FAIL; pass it to ``optimize(catch=...)``."""


@whole()
def keep(study: Study, key: str, data: object) -> None:
    """Keep JSON-safe `data` with the study under a key of `nas_bo.study`."""
    for part, text in write_attributes(f"{PREFIX}{key}", data).items():
        study.set_user_attr(part, text)


def conclude(trial: optuna.Trial, outcome: Trial) -> list[float]:
    """Tell `trial` what became of its architecture and return the values for Optuna.

    Sets every constraint of the outcome in its fixed order and keeps how each number was obtained as user attributes.

    Raises:
        optuna.TrialPruned: the outcome was not evaluated to the end: it is infeasible, or was stopped.
        EvaluationFailed: the outcome failed; its reason is the message.
    """
    record(trial, outcome)
    if outcome.state in (State.INFEASIBLE, State.STOPPED):
        raise optuna.TrialPruned(outcome.reason)
    if outcome.state is not State.COMPLETE:
        raise EvaluationFailed(outcome.reason)
    return list(outcome.values.values())


@whole()
def record(trial: optuna.Trial, outcome: Trial, label: str | None = None) -> None:
    """The part of `conclude` that only writes: constraints, values at rungs and user attributes.

    The rungs of the first objective that has any are the trial's intermediate values, at steps in percent of its budget;
    not of a trial that ends early in a study of several objectives, on which Optuna's own TPESampler would raise ever after.
    """
    rungs = next((found for name in outcome.info if (found := outcome.rungs(name))), {})
    if outcome.state is not State.COMPLETE and len(trial.study.directions) > 1:
        rungs = {}
    told: dict[str, object] = {**attributes(outcome, _room(trial, outcome))}
    if label is not None:
        told[LABEL] = label
    amounts = _new(trial, outcome.violations)
    steps = {round(100 * share): value for share, value in rungs.items()}
    if type(trial) is optuna.Trial:
        write(trial, Changes(user_attrs=told, system_attrs=amounts, intermediate=steps))
        return
    write(trial, Changes(system_attrs=amounts, intermediate=steps))  # not `report`, which refuses several objectives
    for key, text in told.items():
        trial.set_user_attr(key, text)


def _room(trial: optuna.Trial, outcome: Trial) -> float:
    """How much of the outcome's info is kept with the trial; what is more is put into its file."""
    if in_memory(trial.study):
        return math.inf
    rest = large_info.split(plain(outcome.info))[1]
    if rest:
        path = info_file(trial.study, trial.number)
        named = ", ".join(f"{name}.{key}" for name, told in rest.items() for key in list(told)[:3])
        try:
            large_info.write(path, rest)
            _log.warning(
                "the info of trial %d is longer than %d characters, which would slow down every report: %s went into %s",
                trial.number, large_info.MOST, printable(named)[:200], path,
            )  # fmt: skip
        except OSError as error:
            _log.warning(
                "the info of trial %d is longer than %d characters, and what is more is lost, since %s cannot be written (%s): %s",
                trial.number, large_info.MOST, path, error.strerror or error, printable(named)[:200],
            )  # fmt: skip
    return large_info.MOST


def constrain(trial: optuna.Trial, amounts: Mapping[str, float]) -> None:
    """Set constraints; of a trial that is evaluated a second time the amounts of the first are replaced.

    `Trial.set_constraint` reads the trial for each of them; here it is read once.
    """
    write(trial, Changes(system_attrs=_new(trial, amounts)))


def _new(trial: optuna.Trial, amounts: Mapping[str, float]) -> dict[str, float]:
    """The attributes of those constraints that the trial does not have yet."""
    before = trial.constraints if amounts else {}
    found: dict[str, float] = {}
    for name, amount in amounts.items():
        if type(trial) is not optuna.Trial or math.isnan(amount):  # it says what is wrong with it
            trial.set_constraint(name, amount)
        elif before.get(name) != amount:
            found[f"{CONSTRAINTS}{name}"] = float(amount)
    return found


def unknown(trial: optuna.Trial, constraints: Sequence[str]) -> None:
    """Set every constraint that was not evaluated to 0: samplers want the same keys, in one order, on every trial."""
    there = trial.constraints
    constrain(trial, {name: 0.0 for name in constraints if name not in there})


@whole()
def tell(
    study: Study, trial: optuna.Trial, state: str, reason: str, values: Sequence[float] | None = None
) -> FrozenTrial:
    """End a trial: ``state`` is "complete" (with values), "pruned" or "fail" (with a reason)."""
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "fail": TrialState.FAIL}
    if reason:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr(REASON, lines(reason)[:ATTRIBUTE_WIDTH])
    # as `Study.tell`, which makes a deep copy of the trial with all that belongs to it; nobody here changes it
    _tell_with_warning(study, trial, values if state == "complete" else None, states[state], skip_if_finished=True)
    return study._storage.get_trial(trial._trial_id)


@whole()
def tell_outcome(study: Study, trial: optuna.Trial, outcome: Trial, label: str | None = None) -> FrozenTrial:
    """Record an outcome and end its trial accordingly; nothing is raised for a failed one."""

    def write() -> FrozenTrial:
        # Suppressed: another process took over the same trial and was faster; its outcome counts.
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            record(trial, outcome, label)
        if outcome.state is State.COMPLETE:
            return tell(study, trial, "complete", "", list(outcome.values.values()))
        pruned = outcome.state in (State.INFEASIBLE, State.STOPPED)
        return tell(study, trial, "pruned" if pruned else "fail", outcome.reason)

    return together(study, write)
