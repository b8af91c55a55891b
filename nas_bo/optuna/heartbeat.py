"""Signs of life of a process that evaluates trials, in every storage: so that machines can see that a process of another one is dead.

Every `BEAT_S` seconds a process notes the time with its running trials: with those that have no sign yet, and with one of the others. A process
whose last sign is older than `SILENT_S` is taken for dead, and whoever continues evaluates its trials again. Clocks of machines may differ
by minutes (let them follow a time server). Trials that end sooner cost nothing; those of processes that give no signs, as in version 0.1, are
never taken for dead from another machine.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_bo.optuna.changes import Changes, write
from nas_bo.process import Place
from nas_bo.study import ALIVE, OWNER, PLACE, SINCE

BEAT_S = 30.0
SILENT_S = 600.0  # a storage that is waited for, or a machine that is busy, delays signs

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
    """The owners of running trials that gave signs of life once, and none for `SILENT_S`."""
    last: dict[str, datetime] = {}
    for trial in running:
        owner, sign = str(trial.user_attrs.get(OWNER, "")), _time(trial.user_attrs.get(ALIVE))
        if sign is not None:  # it may be of a process that had the trial before
            last[owner] = max(sign, _time(trial.user_attrs.get(SINCE)) or sign, last.get(owner, sign))
    until = now or datetime.now(UTC)
    return frozenset(owner for owner, sign in last.items() if (until - sign).total_seconds() > SILENT_S)


def _time(noted: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(noted))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
