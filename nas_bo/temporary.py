"""Temporary folders: in one that is this user's alone, and gone at the latest when a later process finds their owner dead.

The folder for temporary files is everybody's: a name in it that is known before may be taken by somebody else, or be a link of
theirs. So all that has a fixed name lies in a folder of this user's with mode 0700, which is looked at before it is used.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nas_bo.process import is_dead, owner

OWNER = "owner"  # the file in a folder that says who made it
UNNAMED_S = 3600.0  # a folder without that file is of a process that was killed while it made it
_swept: set[str] = set()


def private() -> Path | None:
    """The folder of this user; None where its name is somebody else's, or nothing can be made there."""
    user = os.getuid() if os.name == "posix" else 0
    path = Path(tempfile.gettempdir()) / f"nas-bo-{user}"
    with suppress(OSError):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        about = path.lstat()
        if os.name != "posix" or (stat.S_ISDIR(about.st_mode) and about.st_uid == user):
            if os.name == "posix" and stat.S_IMODE(about.st_mode) & 0o077:
                path.chmod(0o700)
            return path
    return None


def made(kind: str) -> tempfile.TemporaryDirectory[str]:
    """A new temporary folder, named after its `kind`; where this user has no folder, in that of everybody, under a name that
    cannot be known before."""
    own = private()
    if own is not None and str(own) not in _swept:
        _swept.add(str(own))
        sweep(own)
    made = tempfile.TemporaryDirectory(prefix=f"nas-bo-{kind}-", dir=own, ignore_cleanup_errors=True)
    with suppress(OSError):
        (Path(made.name) / OWNER).write_text(owner())
    return made


class Late:
    """A temporary folder that is made when its name is first asked for, once, whichever threads ask; after `remove` it is made again.

    Made by two threads at once, the first one would be removed with the object that nobody holds any more.
    """

    def __init__(self, kind: str) -> None:
        self._kind, self._lock = kind, threading.Lock()
        self._made: tempfile.TemporaryDirectory[str] | None = None

    @property
    def name(self) -> str:
        with self._lock:
            if self._made is None:
                self._made = made(self._kind)
            return self._made.name

    def remove(self) -> None:
        with self._lock:
            if self._made is not None:
                self._made.cleanup()
                self._made = None


@contextmanager
def folder(kind: str) -> Iterator[Path]:
    """An empty temporary folder for as long as this lasts."""
    with made(kind) as name:
        inside = Path(name) / kind
        inside.mkdir()
        yield inside


def sweep(own: Path) -> None:
    """Remove the folders of processes that were killed."""
    for path in _entries(own):
        with suppress(OSError):
            if not path.name.startswith("nas-bo-") or path.is_symlink() or not path.is_dir():
                continue
            note = path / OWNER
            gone = is_dead(note.read_text()) if note.is_file() else time.time() - path.stat().st_mtime > UNNAMED_S
            if gone:
                shutil.rmtree(path, ignore_errors=True)


def draft(file: Path) -> Path:
    """A name for what is to become `file`, which says whose it is: see `sweep_drafts`."""
    machine, number, began = owner().rsplit(":", 2)
    safe = re.sub(r"[^\w.]", "_", machine)[:60]
    return file.with_name(f".{file.name}.{safe}-{number}-{began}.{time.monotonic_ns()}")


@contextmanager
def whole(file: Path, durable: bool = False) -> Iterator[Path]:
    """A draft that becomes `file` when this ends, unless it is raised within: others see the whole file, or what was there before.

    Args:
        durable: it is on the disk before it takes the name, so that it is whole after a power cut too.

    Raises:
        OSError: the folder cannot be made or written.
    """
    made = draft(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield made
        if durable:
            with made.open("rb") as written:
                os.fsync(written.fileno())
        made.replace(file)
    finally:
        with suppress(OSError):
            made.unlink()


def sweep_drafts(file: Path) -> None:
    """Remove what killed processes of this machine left half made next to `file`."""
    machine = owner().rsplit(":", 2)[0]
    safe = re.sub(r"[^\w.]", "_", machine)[:60]
    name = re.compile(rf"\.{re.escape(file.name)}\.{re.escape(safe)}-(\d+)-(\d*)\.\d+(-journal|-wal|-shm)?")
    for path in _entries(file.parent):
        found = name.fullmatch(path.name)
        if found and is_dead(f"{machine}:{found[1]}:{found[2]}"):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
