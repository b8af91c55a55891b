"""The spool: what is still to be logged, one file a trial, on the disk before MLflow is asked for anything.

A file holds all that its run needs, also where it goes; a process that never saw the study can log it. Files are
written whole (temporary name, fsync, rename), and are removed when their run has ended in MLflow.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from nas_bo import database_url
from nas_bo.errors import HostError
from nas_bo.mlflow import tracking_uri
from nas_bo.mlflow.content import Content
from nas_bo.process import owner
from nas_bo.study import StudyRecord, columns_of

try:
    import fcntl
except ImportError:  # Windows: two processes may then write one run; the second one finds it there
    fcntl = None  # type: ignore[assignment]

FOLDER = "mlflow_spool"
VERSION = 1


@dataclass(frozen=True)
class Target:
    """Where the runs of a study go.

    Attributes:
        uri: of the store; in a file without user name and password.
        name: of the parent run; None is the study's name.
        parent: the id of a run of the user that is the parent.
    """

    uri: str
    experiment: str
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None

    def folder(self, subject: StudyRecord) -> str:
        """The same for all trials of a study that go under one parent."""
        text = "\n".join([tracking_uri.public(self.uri), self.experiment, self.parent or ""])
        return f"{subject.key}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Record:
    """One trial on its way."""

    target: Target
    subject: StudyRecord
    made: Content

    def to_json(self) -> str:
        target = asdict(self.target) | {"uri": tracking_uri.public(self.target.uri), "tags": dict(self.target.tags)}
        parts = {"subject": _data(self.subject), "trial": self.made.to_dict()}
        return json.dumps({"version": VERSION, "by": owner(), "target": target, **parts}, separators=(",", ":"))


def read(path: Path) -> tuple[Record, str]:
    """A record and the process that wrote it.

    Raises:
        HostError: the file is not a record, or one of a later version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise HostError(f"{path} was written by another version of nas_bo (format {data['version']}); use that one")
        made = Content.from_dict(data["trial"])
        return Record(Target(**data["target"]), _study(data["subject"]), made), str(data["by"])
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, HostError):
            raise
        raise HostError(f"{path} is not a record of a trial ({error}); move it away") from error


def _data(study: StudyRecord) -> dict[str, Any]:
    columns = [asdict(c) for c in study.columns]
    return {"name": study.name, "key": study.key, "columns": columns, "about": study.about, "sampler": study.sampler}


def _study(data: Mapping[str, Any]) -> StudyRecord:
    about = dict(data["about"])
    return StudyRecord(str(data["name"]), str(data["key"]), tuple(columns_of(data)), about, str(data["sampler"]))


class Spool:
    """A folder of records.

    Args:
        root: made when the first record is written, removed when the last one is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, record: Record) -> Path:
        """Keep a record; it is on the disk when this returns.

        Raises:
            OSError: the folder cannot be written.
        """
        folder = self.root / record.target.folder(record.subject)
        path = folder / f"{record.made.number:06d}.json"
        text = record.to_json().encode()
        for attempt in (0, 1):
            folder.mkdir(parents=True, exist_ok=True)
            made = folder / f".{path.name}.{os.getpid()}.{id(record)}"
            try:
                with made.open("wb") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                made.replace(path)
                break
            except FileNotFoundError:  # another process removed the empty folder a moment ago
                if attempt:
                    raise
            except OSError:
                with suppress(OSError):
                    made.unlink(missing_ok=True)
                raise
        _sync_folder(folder)
        return path

    def left(self, folder: str = "*") -> list[Path]:
        """The records of a study (`Target.folder`), or of all, by number."""
        return sorted(self.root.glob(f"{folder}/[0-9]*.json"))

    def done(self, path: Path) -> None:
        """Remove a record, and the folders that it leaves empty."""
        with suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()
            self.root.rmdir()


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Whether the record is there and is this process's to log for as long as this lasts.

    On a file system without locks it is: two processes may then write one run; the second one finds it there.
    """
    file: IO[bytes] | None = None
    try:
        try:
            file = path.open("r+b")  # to be written: NFS locks no other file
            if fcntl is not None:
                _lock(file)
            mine = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError):  # another process has it, or has just finished it
            mine = False
        yield mine
    finally:
        if file is not None:
            file.close()


def _lock(file: IO[bytes]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise BlockingIOError(*error.args) from error


def default(uri: str) -> Path:
    """``NAS_BO_SPOOL``, else ``mlflow_spool`` next to the database of MLflow, else in the current folder."""
    if os.environ.get("NAS_BO_SPOOL"):
        return Path(os.environ["NAS_BO_SPOOL"]).expanduser().absolute()
    file = tracking_uri.database(uri)
    return (file.parent if file else Path.cwd()) / FOLDER


def beside(storage: object) -> Path | None:
    """``mlflow_spool`` next to a study that is kept in a file; None where it is not, or ``NAS_BO_SPOOL`` is set."""
    file = None if os.environ.get("NAS_BO_SPOOL") else database_url.file_of(storage)
    return None if file is None else file.parent / FOLDER


def find(where: Path) -> Path | None:
    """The spool that is meant by a folder, a file next to it, or the spool itself; None where there is none."""
    folder = where if where.is_dir() else where.parent
    for place in (folder, folder / FOLDER):
        if place.name == FOLDER or any(place.glob("*-*/[0-9]*.json")):
            return place if place.is_dir() else None
    return None


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # Windows
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
