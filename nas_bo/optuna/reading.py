"""Optuna studies as records: the one place that reads what Optuna and nas_bo keep in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import IntDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_bo.errors import HostError
from nas_bo.execution.interrupts import whole
from nas_bo.large_info import LEFT_OUT
from nas_bo.optuna.coding import EXACT
from nas_bo.optuna.storages import info_file
from nas_bo.safe_text import printable
from nas_bo.space import Space
from nas_bo.study import (
    PREFIX,
    SINCE,
    STUDY,
    StudyRecord,
    TrialRecord,
    columns_of,
    key_of,
    no_study,
    read_attributes,
    stored,
    understood,
)
from nas_bo.trial import ObjectiveSpec, State, Trial

STATES = {
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.INFEASIBLE,
    TrialState.FAIL: State.FAILED,
    TrialState.RUNNING: State.RUNNING,
}
ENDED = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@whole()
def read(study: Study) -> StudyRecord:
    """All that is stored of a study."""
    record, trials = head(study), study.get_trials(deepcopy=False)
    rounded = () if record.about else _rounded(trials)
    return replace(record, trials=[trial_record(t, record.columns) for t in trials], rounded=rounded)


@whole()
def head(study: Study) -> StudyRecord:
    """The same without trials."""
    fields = stored(study.user_attrs)
    about = fields["about"]
    starts = [] if about.get("started") else [t.datetime_start for t in study.get_trials(deepcopy=False)]
    key = key_of(study.study_name, about, [start for start in starts if start is not None])
    return StudyRecord(study.study_name, key, objectives(study, about), sampler=type(study.sampler).__name__, **fields)


@whole()
def kept(study: Study, key: str) -> Any:
    """What is kept with the study under a key of `nas_bo.study`, or None."""
    return read_attributes(study.user_attrs, PREFIX + key)


def columns(study: Study) -> tuple[ObjectiveSpec, ...]:
    """The objectives of a study: names from `set_metric_names` (or value_0, ...), directions from the study."""
    names = study.metric_names or [f"value_{i}" for i in range(len(study.directions))]
    return tuple(
        ObjectiveSpec(printable(name), direction="maximize" if d == StudyDirection.MAXIMIZE else "minimize")
        for name, d in zip(names, study.directions, strict=True)
    )


def objectives(study: Study, about: Mapping[str, Any] | None = None) -> tuple[ObjectiveSpec, ...]:
    """The objectives as nas_bo keeps them in a study of its own; else as `columns`, each with a name of its own ("value" where
    there is only one without)."""
    known = columns_of(kept(study, STUDY) or {} if about is None else about)
    if len(known) == len(study.directions):
        return tuple(known)
    found: list[ObjectiveSpec] = []
    for i, c in enumerate(columns(study)):
        name = (c.name or f"value_{i}") if study.metric_names else ("value" if len(study.directions) == 1 else c.name)
        taken = {other.name for other in found}
        found.append(replace(c, name=name if name not in taken else f"{name} ({i})"))
    return tuple(found)


def trial_record(trial: FrozenTrial, cols: Sequence[ObjectiveSpec]) -> TrialRecord:
    """A trial as Optuna stores it, with what nas_bo noted of it."""
    values: dict[str, float] = {}
    if trial.state is TrialState.COMPLETE and trial.values is not None:
        values = {c.name: float(v) for c, v in zip(cols, trial.values, strict=True)}
    failed = trial.system_attrs if trial.state is TrialState.FAIL else {}
    told = next((v for k, v in failed.items() if k in ("fail_reason", "STUDY_TELL_WARNING")), None) or ""
    one = TrialRecord(
        trial.number, STATES.get(trial.state), ENDED.get(trial.state, ""), trial.params, values, trial.constraints,
        since=_since(trial), started=trial.datetime_start, finished=trial.datetime_complete,
        reported=trial.intermediate_values,
    )  # fmt: skip
    return understood(one, trial.user_attrs, cols, str(told).strip().partition("\n")[0])


def from_frozen(trial: FrozenTrial, space: type[Space], cols: Sequence[ObjectiveSpec]) -> Trial | None:
    """One Optuna trial as a trial of nas_bo; None while it is waiting, or when its parameters are not an architecture of `space`."""
    if trial.state not in STATES:
        return None
    return trial_record(trial, cols).within(space)


@whole()
def history(
    study: Study,
    space: type[Space],
    cols: Sequence[ObjectiveSpec],
    below: int | None = None,
    remembered: dict[int, Trial] | None = None,
) -> list[Trial]:
    """The study's trials as trials of nas_bo, in number order; those that hold no architecture of `space` are left out.

    Args:
        below: only trials with a smaller number.
        remembered: finished trials read before, by number; those read now are added.
    """
    found = []
    for frozen in study.get_trials(deepcopy=False):
        if below is not None and frozen.number >= below:
            continue
        ours = remembered.get(frozen.number) if remembered is not None else None
        if ours is None:
            ours = from_frozen(frozen, space, cols)
            if remembered is not None and ours is not None and frozen.state.is_finished():
                remembered[frozen.number] = ours
        if ours is not None:
            found.append(ours)
    return found


class OptunaSource:
    """An Optuna study as a `nas_bo.study.Source`."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._columns: tuple[ObjectiveSpec, ...] | None = None

    def head(self) -> StudyRecord:
        return head(self._study)

    def ended(self, without: Collection[int] = ()) -> list[TrialRecord]:
        trials = self._study.get_trials(deepcopy=False, states=tuple(ENDED))
        return [self._record(t) for t in trials if t.number not in without]

    def trial(self, given: object) -> TrialRecord | None:
        if not isinstance(given, FrozenTrial):
            given = next((t for t in self._study.get_trials(deepcopy=False) if t.number == given), None)
        return None if given is None or not given.state.is_finished() else self._record(given)

    def running(self) -> int:
        return len(self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def follow(self, look: Callable[[], None], every: float) -> AbstractContextManager[None]:
        raise HostError(
            "a study of Optuna is not watched; pass the tracker as a callback: study.optimize(..., callbacks=[tracker])"
        )

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        if self._columns is None:
            self._columns = objectives(self._study)
        found = trial_record(trial, self._columns)
        if any(LEFT_OUT in told for told in found.info.values()):
            return replace(found, rest=info_file(self._study, trial.number))
        return found


def source(study: object) -> OptunaSource:
    """See `nas_bo.study.source`."""
    if not isinstance(study, Study):
        raise no_study(study)
    return OptunaSource(study)


def _since(trial: FrozenTrial) -> datetime | None:
    """In UTC. Databases keep the time of whoever wrote it, without its zone; where that is all there is, the zone of this machine
    is taken."""
    try:
        return datetime.fromisoformat(str(trial.user_attrs[SINCE]))
    except (KeyError, ValueError):
        return None if trial.datetime_start is None else trial.datetime_start.astimezone(UTC)


def _rounded(trials: Sequence[FrozenTrial]) -> list[str]:
    dists = [(name, d) for t in trials for name, d in t.distributions.items() if isinstance(d, IntDistribution)]
    return sorted({name for name, d in dists if max(-d.low, d.high) > EXACT})


__all__ = [
    "FrozenTrial", "OptunaSource", "Study", "columns", "from_frozen", "head", "history", "kept", "objectives",
    "read", "source", "trial_record",
]  # fmt: skip
