"""Journals of Optuna whose last line was cut by a full disk or a loss of power. Imports optuna inside functions."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from nas_bo.wording import counted

if TYPE_CHECKING:
    from optuna.storages import JournalStorage
    from optuna.storages.journal._file import BaseJournalFileLock

_log = logging.getLogger(__name__)
CHUNK = 1 << 16  # bytes read at a time, from the end


def journal(file: Path) -> JournalStorage:
    """The storage in a journal file. What is appended after a cut line would become part of it and the journal be unreadable
    from then on, so the last line is looked at before each append."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    lock = _Mending(file, JournalFileSymlinkLock(str(file)))
    return JournalStorage(JournalFileBackend(str(file), cast("BaseJournalFileLock", lock)))


class _Mending:
    """A lock of a journal; whoever holds it finds a file that ends with a whole line."""

    def __init__(self, file: Path, lock: BaseJournalFileLock) -> None:
        self._file, self._lock = file, lock

    def acquire(self) -> bool:
        held: bool = self._lock.acquire()
        try:
            mend(self._file)
        except BaseException:
            self._lock.release()
            raise
        return held

    def release(self) -> None:
        self._lock.release()


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
