"""Trials that run: who evaluates them, since when, and which may be evaluated again."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_bo import process
from nas_bo.optuna.changes import Changes, write
from nas_bo.optuna.heartbeat import silent, watch
from nas_bo.optuna.reading import trial_record
from nas_bo.study import OWNER, SINCE, TrialRecord
from nas_bo.wording import plural

RELEASED = "released"  # instead of the owner of a running trial
ASKED = "asked"  # the same: whoever asked for it will tell, from whatever process

_abandoned: dict[str, datetime] = {}  # study -> when a search of this process could not even release its trials


@dataclass(frozen=True)
class Running:
    """A trial that has begun and not ended.

    Attributes:
        by: "process" (of `machine`, with the number `pid`), "asked" (whoever asked for it tells it), "released" (a search that
            was interrupted left it, the next one takes it up) or "unknown" (begun by something else than nas_bo).
        since: when it was begun, or taken up; None where nobody noted it.
        alive: whether the process lives; None where that cannot be known from here, as on another machine.
    """

    number: int
    by: str
    machine: str = ""
    pid: int | None = None
    since: datetime | None = None
    alive: bool | None = None

    @property
    def here(self) -> bool:
        """Whether a process of this machine evaluates it."""
        return self.machine == platform.node()

    def seconds(self, now: datetime | None = None) -> float | None:
        """How long it has been running."""
        return None if self.since is None else ((now or datetime.now(UTC)) - self.since).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        return {
            "trial": self.number,
            "by": self.by,
            "machine": self.machine or None,
            "process": self.pid,
            "alive": self.alive,
            "since": None if self.since is None else self.since.isoformat(timespec="seconds"),
        }


def running(study: Study) -> list[Running]:
    """The running trials of a study, in the order of their numbers."""
    return [of(trial_record(t, ())) for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]


def of(trial: TrialRecord) -> Running:
    by, since = trial.owner, trial.since
    if by in (RELEASED, ASKED):
        return Running(trial.number, by, since=since)
    machine, pid = process.parted(by)
    if pid is None:
        return Running(trial.number, "unknown", since=since)
    alive = None if machine != platform.node() else not process.is_dead(by)
    return Running(trial.number, "process", machine, pid, since, alive)


def listed(found: Sequence[Running]) -> str:
    """Which trials run where and since when, as a part of a sentence."""
    groups: dict[str, list[Running]] = {}
    for one in found:
        where = {"asked": "whoever asked for them", "released": "nobody", "unknown": "an unknown process"}.get(one.by)
        groups.setdefault(where or f"{one.machine} (process {one.pid})", []).append(one)
    parts = []
    for where, some in groups.items():
        numbers = ", ".join(str(one.number) for one in some[:8]) + (", ..." if len(some) > 8 else "")
        since = min((one.since for one in some if one.since is not None), default=None)
        began = "" if since is None else f" since {since:%Y-%m-%d %H:%M} UTC"
        parts.append(f"{plural(len(some), 'trial')} {numbers} by {where}{began}")
    return "; ".join(parts)


def take(trial: optuna.Trial) -> None:
    """From now on this process evaluates the trial."""
    write(trial, Changes(user_attrs=mine()))


def mine() -> dict[str, str]:
    """The attributes of a trial that this process begins now."""
    return {OWNER: process.owner(), SINCE: datetime.now(UTC).isoformat(timespec="seconds")}


def left(study: Study, older: float | None = None) -> list[FrozenTrial]:
    """The running trials that this process may evaluate again: of dead processes of this machine, of silent ones of others
    (`nas_bo.optuna.heartbeat`), and released ones.

    Args:
        older: also those that any other process, of whatever machine, has been evaluating for at least so many seconds;
            not those that somebody asked for and will tell.
    """
    found = []
    me, until = process.owner(), _abandoned.get(study.study_name)
    trials = _running(study)
    quiet = silent(trials) - {me, RELEASED, ASKED}
    if doubted := {by for by in quiet if not is_dead(by)}:
        quiet -= doubted - watch(doubted, lambda: _running(study))
        trials = _running(study)
    for trial in trials:
        one = trial_record(trial, ())
        by, age = one.owner, None if older is None else of(one).seconds()
        late = age is not None and older is not None and age >= older and by not in (ASKED, me)
        own = by == me and until is not None and one.since is not None and one.since <= until
        if late or own or by in quiet or (by and is_dead(by)):
            found.append(trial)
    return found


def _running(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def abandon(study: Study) -> None:
    """What this process evaluates of the study now is left to whoever continues, itself included; nothing is written."""
    _abandoned[study.study_name] = datetime.now(UTC)


def is_dead(by: str) -> bool:
    """Whether nobody will end the trials of this owner; False where that cannot be known."""
    return by == RELEASED or process.is_dead(by)
