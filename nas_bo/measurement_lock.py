"""Nothing is measured while a sibling worker trains: a time taken during a training is up to a fifth too long.

The workers of one search and the process that drives it share two files. A process that trains, or fits a strategy's models, holds a
lock on the second that others may hold too, and between two steps looks whether somebody waits; a process that measures
takes both for itself, so the others pause at their next step and continue when it is done. A lock goes with its process, however
that ends. Outside of such processes all this does nothing.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from nas_bo import temporary

try:
    import fcntl
except ImportError:  # Windows: no such locks, nothing is held back
    fcntl = None  # type: ignore[assignment]


class _Gate:
    """The two files, opened by one process. Locks of this kind belong to the opened file, so each process opens its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting = (folder / "waiting").open("a+b")
        self._running = (folder / "running").open("a+b")
        self._depth = 0  # trainings of this process: an objective may train within another one

    @contextmanager
    def working(self) -> Iterator[Callable[[], None]]:
        if self._depth == 0:
            self._enter()
        self._depth += 1
        try:
            yield self._step
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._rest()

    def _enter(self) -> None:
        self._take(self._waiting, fcntl.LOCK_SH)
        self._take(self._running, fcntl.LOCK_SH)
        fcntl.flock(self._waiting, fcntl.LOCK_UN)

    def _take(self, file: BinaryIO, how: int) -> None:
        """Take a lock, and continue without it where one of the others, which may have been stopped, does not give it back."""
        begun, said = time.monotonic(), False
        while True:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                waited = time.monotonic() - begun
            if waited > PATIENCE_S:
                _log.warning(
                    "another process of this search has kept the others waiting for %.0f s (is it stopped, or does it hang?); this one "
                    "continues at the same time, and what is measured now may be less exact",
                    waited,
                )
                return
            if waited > SAY_AFTER_S and not said:
                said = True
                _log.warning(
                    "this process has waited %.0f s until another process of this search has ended a step or a measurement; it continues "
                    "without it after %.0f s",
                    waited,
                    PATIENCE_S,
                )
            time.sleep(LOOK_EVERY_S)

    def _step(self) -> None:
        try:
            fcntl.flock(self._waiting, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(self._waiting, fcntl.LOCK_UN)
        except OSError:  # somebody measures, or waits to
            self._rest()
            self._enter()

    def _rest(self) -> None:
        """Let others measure once the device has done what it was given."""
        torch = sys.modules.get("torch")
        try:
            if torch is not None and torch.cuda.is_initialized():
                torch.cuda.synchronize()
        finally:
            fcntl.flock(self._running, fcntl.LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        if self._depth:  # a measurement within a training waits for nobody, or it would wait for itself
            yield
            return
        self._take(self._waiting, fcntl.LOCK_EX)
        self._take(self._running, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._running, fcntl.LOCK_UN)
            fcntl.flock(self._waiting, fcntl.LOCK_UN)

    def idle(self) -> bool:
        """Whether nobody measures or waits to."""
        try:
            fcntl.flock(self._waiting, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(self._waiting, fcntl.LOCK_UN)
        except OSError:
            return False
        return True


_gate: _Gate | None = None
_owner: int | None = None  # the thread that `_gate` is of; every other one opens the files for itself


class _Threads(threading.local):
    """What each further thread has opened for itself."""

    gate: _Gate | None = None


_others = _Threads()
LOOK_EVERY_S = 0.005
SAY_AFTER_S = 60.0  # of waiting for others: longer than a step or a measurement takes
PATIENCE_S = 600.0
MACHINE_PATIENCE_S = 3600.0  # for another session of measurements, such as a profile of a device

_log = logging.getLogger(__name__)


def _mine() -> _Gate | None:
    if _gate is None or _owner in (None, threading.get_ident()):
        return _gate
    found = _others.gate
    if found is None or found.folder != _gate.folder:
        found = _others.gate = _Gate(_gate.folder)
    return found


def join(folder: str | Path) -> None:
    """From now on this process is one of those that share `folder`, which must exist."""
    global _gate, _owner
    _gate, _owner = (_Gate(Path(folder)), threading.get_ident()) if fcntl is not None else (None, None)


@contextmanager
def joined(folder: str | Path) -> Iterator[None]:
    """`join`, for as long as the block lasts; after it this process is one of those that it was of before."""
    global _gate, _owner
    before = _gate, _owner
    join(folder)
    try:
        yield
    finally:
        _gate, _owner = before


def joined_folder() -> Path | None:
    """The folder that this process shares; None where it is not one of several."""
    return None if _gate is None else _gate.folder


def leave() -> None:
    """No longer."""
    global _gate, _owner
    _gate = _owner = None


@contextmanager
def working() -> Iterator[Callable[[], None]]:
    """Around a training, or other work of a processor; call what it gives between two steps."""
    gate = _mine()
    if gate is None:
        yield _nothing
        return
    with gate.working() as step:
        yield step


@contextmanager
def alone() -> Iterator[None]:
    """Around a measurement: waits until no sibling works, and keeps them from continuing."""
    gate = _mine()
    if gate is None:
        yield
        return
    with gate.alone():
        yield


def pause(seconds: float = 10.0) -> None:
    """Wait until nobody measures, at most so long: for work that may itself have to wait for others, such as a server, and
    must not keep anybody from measuring meanwhile."""
    gate, until = _mine(), time.monotonic() + seconds
    while gate is not None and not gate.idle() and time.monotonic() < until:
        time.sleep(LOOK_EVERY_S)


@contextmanager
def machine(waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Around a whole session of measurements: one at a time per user and machine, the others wait; `waiting` is called
    before a wait, which ends after `MACHINE_PATIENCE_S` with a warning. Nobody else can hold the lock: it lies in a folder of
    this user's."""
    folder = temporary.private()
    if folder is None:
        _log.warning(
            "the folder nas-bo-... of this user in %s cannot be used (somebody else has it, or it cannot be written), so that nothing "
            "keeps two measurements from disturbing one another; set TMPDIR to a folder of yours",
            tempfile.gettempdir(),
        )
        yield
        return
    lock = FileLock(folder / "measuring")
    with suppress(OSError):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting()
            try:
                lock.acquire(timeout=MACHINE_PATIENCE_S)
            except Timeout:
                _log.warning(
                    "another process has measured for %.0f s (is it stopped, or does it hang?); this one measures at the same time, and its "
                    "times may be too long",
                    MACHINE_PATIENCE_S,
                )
    try:
        yield
    finally:
        lock.release()


def _nothing() -> None:
    pass
