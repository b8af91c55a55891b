"""Journals of Optuna: repaired where their last line was cut by a full disk or a loss of power, and written once for many records."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

try:
    import fcntl
except ImportError:  # Windows: Optuna's own lock alone, which looks again and again
    fcntl = None  # type: ignore[assignment]

from nas_bo import temporary
from nas_bo.process import is_dead, owner
from nas_bo.wording import counted

_log = logging.getLogger(__name__)
_threads: dict[str, threading.Lock] = {}  # journal -> that of this process's threads
CHUNK = 1 << 16  # bytes read at a time, from the end
QUEUE_S, LOOK_S = 20.0, 0.002  # a place in the queue of this machine is waited for so long, and looked for so often
LEFT_S = 1.0  # a lock that a dead process has left


def journal(file: Path) -> Journal:
    """The storage in a journal file. What is appended after a cut line would become part of it and the journal be unreadable
    from then on, so the last line is looked at before each append."""
    return Journal(_File(file))


class Journal(JournalStorage):
    """A journal of Optuna whose records can be written together."""

    def __init__(self, backend: _File) -> None:
        super().__init__(backend)
        self._file = backend

    @contextmanager
    def together(self) -> Iterator[None]:
        """See `nas_bo.optuna.patient.Together`: the file is locked once, and waited for once until it is on the disk."""
        with self._file.together():
            yield


class _File(JournalFileBackend):
    """A journal file. Within `together` a thread appends without a lock of its own for each record."""

    def __init__(self, file: Path) -> None:
        super().__init__(str(file), _Lock(str(file)))
        self._path = file
        self._known = _place(file)
        self._within: tuple[int, BinaryIO] | None = None  # the thread that writes together, and its file

    def append_logs(self, logs: list[dict[str, object]]) -> None:
        if self._within is not None and self._within[0] == threading.get_ident():
            _append(self._within[1], logs)
            return
        with self._locked(), self._path.open("ab") as opened:
            _append(opened, logs)
            os.fsync(opened.fileno())

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._locked(), self._path.open("ab") as opened:
            self._within = threading.get_ident(), opened
            try:
                yield
            finally:
                self._within = None
            os.fsync(opened.fileno())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The lock of Optuna, on a file that ends with a whole line. Processes of one machine queue for it: Optuna's own way is to
        sleep for longer and longer times."""
        with ExitStack() as stack:
            self._check()
            stack.enter_context(_queued(self._path))
            self._lock.acquire()
            stack.callback(self._lock.release)
            mend(self._path)
            yield

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, object]]:  # type: ignore[override]  # it is only read
        self._check()
        return super().read_logs(log_number_from)

    def _check(self) -> None:
        """Raise OSError where this is not the file that was opened: what was read of that one does not continue in another."""
        found = _place(self._path)
        read = next(reversed(self._log_number_offset.values()), 0)
        what = "was removed" if found is None else "was replaced by another file" if found != self._known else ""
        if not what and self._path.stat().st_size < read:
            what = "became shorter"
        if what:
            raise FileNotFoundError(errno.ENOENT, f"the journal {what} while it was in use", str(self._path))

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_within": None}


class _Lock(JournalFileSymlinkLock):
    """Optuna's lock, which a process that was killed leaves behind, to be waited for 30 seconds. So a process of nas_bo notes in the
    folder of this user that it wants the lock, until it has given it back: what a dead one has left is removed."""

    def acquire(self) -> bool:
        note = self._note()
        if note is not None:
            with suppress(OSError, UnicodeDecodeError):
                if is_dead(note.read_text()):
                    self._take_away()
            with suppress(OSError):
                note.write_text(owner())
        return super().acquire()

    def release(self) -> None:
        super().release()
        note = self._note()
        if note is not None:
            with suppress(OSError):
                note.unlink()

    def _note(self) -> Path | None:
        folder = temporary.private()
        name = hashlib.sha256(os.fsencode(os.path.realpath(self._lock_target_file))).hexdigest()[:16]
        return None if folder is None else folder / f"journal-{name}"

    def _take_away(self) -> None:
        """Remove the lock, if it stays the same for `LEFT_S`: a process that does not write notes may have it by now."""
        link, until = _link(self._lock_file), time.monotonic() + LEFT_S
        while time.monotonic() < until:
            time.sleep(LOOK_S)
            if _link(self._lock_file) != link:
                return
        os.unlink(self._lock_file)


def _place(file: Path) -> tuple[int, int] | None:
    """Which file it is on which disk; None where there is none."""
    try:
        about = file.stat()
    except FileNotFoundError:
        return None
    return about.st_dev, about.st_ino


def _link(file: str) -> tuple[int, int]:
    """A symbolic link, distinct from every later one of its name. Raises OSError where there is none."""
    about = os.lstat(file)
    return about.st_ino, about.st_ctime_ns


def _append(opened: BinaryIO, logs: list[dict[str, object]]) -> None:
    lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
    opened.write("".join(lines).encode())
    opened.flush()


@contextmanager
def _queued(file: Path) -> Iterator[None]:
    """Alone among the processes and threads of this machine that come here, or after `QUEUE_S`: whoever is in front may have been
    stopped."""
    until = time.monotonic() + QUEUE_S
    with ExitStack() as stack:
        threads = _threads.setdefault(os.path.realpath(file), threading.Lock())
        if threads.acquire(timeout=QUEUE_S):
            stack.callback(threads.release)
        opened = stack.enter_context(file.open("ab"))
        while fcntl is not None and time.monotonic() < until:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOOK_S)
            except OSError:  # a file system without such locks
                break
        try:
            yield
        finally:
            if fcntl is not None:
                with suppress(OSError):
                    fcntl.flock(opened, fcntl.LOCK_UN)


def mend(file: Path) -> int:
    """End the last line of a journal where it is a whole record, and else cut it off; returns the number of bytes cut off.

    Only for whoever holds the lock: another process may be writing that line.
    """
    with file.open("r+b") as opened:
        end = opened.seek(0, os.SEEK_END)
        start, line = _last_line(opened, end)
        if not line:
            return 0
        try:
            whole = isinstance(json.loads(line), dict)
        except ValueError:
            whole = False
        if whole:
            opened.seek(end)
            opened.write(b"\n")
            return 0
        opened.truncate(start)
    _log.warning(
        "the last line of the journal %s was cut (a full disk, or a loss of power?): %s of it removed; what they should have "
        "recorded is evaluated again",
        file,
        counted(len(line), "byte"),
    )
    return len(line)


def _last_line(opened: BinaryIO, end: int) -> tuple[int, bytes]:
    """(where it begins, its bytes) of what is after the last line end of a file."""
    line, start = b"", end
    while start:
        begin = max(0, start - CHUNK)
        opened.seek(begin)
        chunk = opened.read(start - begin)
        at = chunk.rfind(b"\n")
        if at >= 0:
            return begin + at + 1, chunk[at + 1 :] + line
        line, start = chunk + line, begin
    return 0, line
