"""What is written of a running trial at once: in a few statements and one transaction where the storage can, else one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage


@dataclass(frozen=True)
class Changes:
    """What is new of a trial.

    Attributes:
        params: (Optuna's internal number, distribution) by name; one that the trial has already stays as it is.
        user_attrs, system_attrs: JSON-safe values by key; they replace those that are there.
        intermediate: values by step; they replace those that are there.
    """

    params: Mapping[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    user_attrs: Mapping[str, object] = field(default_factory=dict)
    system_attrs: Mapping[str, object] = field(default_factory=dict)
    intermediate: Mapping[int, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.params or self.user_attrs or self.system_attrs or self.intermediate)


@runtime_checkable
class WritesChanges(Protocol):
    """A storage that writes several things of a trial at once."""

    def write_changes(self, trial_id: int, changes: Changes) -> None:
        """All of them, or nothing.

        Raises:
            ValueError: earlier trials of the study have a parameter of this name that is another one.
            optuna.exceptions.UpdateFinishedTrialError: the trial has ended.
            KeyError: there is no such trial.
        """


def write_changes(storage: BaseStorage, trial_id: int, changes: Changes) -> None:
    """`WritesChanges.write_changes` of any storage; one that cannot may keep a part of them when it fails."""
    if isinstance(storage, WritesChanges):
        storage.write_changes(trial_id, changes)
    else:
        write_each(storage, trial_id, changes)


def write_each(storage: BaseStorage, trial_id: int, changes: Changes) -> None:
    """The same, one after the other."""
    for name, (internal, distribution) in changes.params.items():
        storage.set_trial_param(trial_id, name, internal, distribution)
    for step, value in changes.intermediate.items():
        storage.set_trial_intermediate_value(trial_id, step, value)
    for key, told in changes.system_attrs.items():
        storage.set_trial_system_attr(trial_id, key, told)  # type: ignore[arg-type]  # JSON-safe, which Optuna's type spells out
    for key, told in changes.user_attrs.items():
        storage.set_trial_user_attr(trial_id, key, told)


def write(trial: optuna.Trial, changes: Changes) -> None:
    """The same of a trial that this process has, which knows its attributes afterwards."""
    if changes:
        write_changes(trial.storage, trial._trial_id, changes)
    trial._cached_frozen_trial.user_attrs.update(changes.user_attrs)
