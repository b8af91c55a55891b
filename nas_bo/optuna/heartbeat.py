"""Signs of life of a process that evaluates trials, in every storage: so that machines can see that a process of another one is dead.

Every `BEAT_S` seconds a process notes the time with its running trials: with those that have no sign yet, and with one of the others. A process
whose last sign is older than `SILENT_S`, and which gives none while it is watched for two beats, is taken for dead, and whoever continues evaluates
its trials again. The age of a sign compares the clocks of two machines; that a sign changes needs no clock. Trials that end sooner cost nothing; those of processes that give no signs, as in version 0.1, are
never taken for dead from another machine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_bo import process
from nas_bo.optuna.changes import Changes, write
from nas_bo.process import Place
from nas_bo.study import ALIVE, OWNER, PLACE, SINCE

BEAT_S = 30.0
SILENT_S = 600.0  # a storage that is waited for, or a machine that is busy, delays signs
WATCH_S = 75.0  # that a silent process is watched: two beats and what a storage takes
STEP_S = 5.0

pause = time.sleep
_behind: dict[str, float] = {}  # machine -> seconds by which its clock, or its signs, are behind the clock here

_log = logging.getLogger(__name__)


@contextmanager
def beating(
    study: Study, trials: Callable[[], Sequence[optuna.Trial]], places: Callable[[], Mapping[Hashable, Place]]
) -> Iterator[None]:
    """Signs of life with the trials of this process, for as long as the block lasts. Nothing in memory, which nobody else sees.

    Args:
        trials: gives those that run now.
        places: on a cluster, where they run, by their numbers: noted with the first sign, and again where that changes.
    """
    if isinstance(study._storage, InMemoryStorage):
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_beat, args=(trials, places, over), name="nas_bo-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(BEAT_S)


def _beat(
    trials: Callable[[], Sequence[optuna.Trial]], places: Callable[[], Mapping[Hashable, Place]], over: threading.Event
) -> None:
    marked: dict[int, object] = {}
    while not over.wait(BEAT_S):
        where = places()
        mine = [(trial, where.get(trial.number)) for trial in trials()]
        known = [(trial, place) for trial, place in mine if marked.get(trial.number, marked) == place]
        for trial, place in [*(one for one in mine if one not in known), *known[:1]]:
            if over.is_set():
                return
            try:
                signs: dict[str, object] = {ALIVE: datetime.now(UTC).isoformat(timespec="seconds")}
                write(trial, Changes(user_attrs=signs if place is None else {**signs, PLACE: place.noted}))
                marked[trial.number] = place
            except (
                Exception
            ) as error:  # it has ended meanwhile, or the storage fails: what the search itself writes reports that
                _log.debug("no sign of life with trial %s: %s", trial.number, error)


def silent(running: Sequence[FrozenTrial], now: datetime | None = None) -> frozenset[str]:
    """The owners of running trials that gave signs of life once, and none for `SILENT_S`, by the clocks as far as they are known."""
    until = now or datetime.now(UTC)
    return frozenset(
        owner
        for owner, sign in _signs(running).items()
        if (until - sign).total_seconds() > SILENT_S + _behind.get(process.parted(owner)[0], 0.0)
    )


def watch(owners: Collection[str], read: Callable[[], Sequence[FrozenTrial]]) -> frozenset[str]:
    """Those of the silent `owners` that give no sign while they are watched. Clocks that are found to differ are named, once, and known from then on.

    Args:
        read: gives the running trials as they are in the storage.
    """
    left, first = set(owners), _signs(read())
    _log.warning(
        "%s gave no sign of life for %.0f s by the clocks, and is watched for at most %.0f s before its trials are evaluated again here",
        ", ".join(sorted(process.parted(one)[0] for one in left)), SILENT_S, WATCH_S,
    )  # fmt: skip
    for _ in range(round(WATCH_S / STEP_S)):
        if not left:
            break
        pause(STEP_S)
        for owner, sign in _signs(read()).items():
            if owner in left and sign > first.get(owner, sign):
                left.remove(owner)
                machine, age = process.parted(owner)[0], (datetime.now(UTC) - sign).total_seconds()
                _behind[machine] = age
                _log.warning(
                    "the process on %s lives: the clock there is %.0f s behind the one here, so its trials stay its own; let both follow a time "
                    "server (NTP)",
                    machine,
                    age,
                )
    return frozenset(left)


def _signs(running: Sequence[FrozenTrial]) -> dict[str, datetime]:
    """The last sign of each owner that gave one."""
    last: dict[str, datetime] = {}
    for trial in running:
        owner, sign = str(trial.user_attrs.get(OWNER, "")), _time(trial.user_attrs.get(ALIVE))
        if sign is not None:  # it may be of a process that had the trial before
            last[owner] = max(sign, _time(trial.user_attrs.get(SINCE)) or sign, last.get(owner, sign))
    return last


def _time(noted: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(noted))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
