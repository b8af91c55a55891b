"""The spool: what is still to be logged, one file a trial, on the disk before MLflow is asked for anything.

A file holds all that its run needs, also where it goes; a process that never saw the study can log it. Files are
written whole (temporary name, fsync, rename), and are removed when their run has ended in MLflow.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from nas_bo import database_url, study_name
from nas_bo.errors import HostError
from nas_bo.foreign_document import WRONG, regular, text_of
from nas_bo.mlflow import tracking_uri
from nas_bo.mlflow.content import STATUS, Content
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

    @property
    def file(self) -> str:
        """What its file is called."""
        return f"{self.made.number:06d}.json"

    def to_json(self) -> str:
        target = asdict(self.target) | {"uri": tracking_uri.public(self.target.uri), "tags": dict(self.target.tags)}
        parts = {"subject": _data(self.subject), "trial": self.made.to_dict()}
        return json.dumps({"version": VERSION, "by": owner(), "target": target, **parts}, separators=(",", ":"))


def read(path: Path) -> tuple[Record, str]:
    """A record and the process that wrote it.

    A spool may be somebody else's: a record has the form that `Record.to_json` gives it, files in it are names and not paths,
    and it lies in the folder of its own target.

    Raises:
        HostError: the file is not a record, not the one that belongs there, or one of a later version.
        OSError: it cannot be read, is a link, or no file.
    """
    try:
        data = json.loads(text_of(path, follow=False))
        if data["version"] != VERSION:
            raise HostError(f"{path} was written by another version of nas_bo (format {data['version']}); use that one")
        record = Record(Target(**data["target"]), _study(data["subject"]), Content.from_dict(data["trial"]))
        _check(record)
        by = str(data["by"])
    except HostError:
        raise
    except WRONG as error:
        raise HostError(f"{path} is not a record of a trial ({error!s:.200}); move it away") from error
    place = Path(record.target.folder(record.subject)) / record.file
    if place != Path(path.parent.name) / path.name:
        raise HostError(
            f"{path} is a record of the study {record.subject.name!r} for another place, {place}: it was renamed or is somebody "
            "else's; move it away"
        )
    return record, by


def _check(record: Record) -> None:
    """Raise ValueError where a record has a form that none is written in."""
    target, study, made = record.target, record.subject, record.made
    texts = (target.uri, target.experiment, *target.tags, *target.tags.values(), made.name)
    texts += (*made.params, *made.params.values(), *made.tags, *made.tags.values(), *made.files.values())
    if not all(isinstance(text, str) for text in (*texts, *(c.name for c in study.columns))):
        raise ValueError("a name or a text in it is not a text")
    if not all(isinstance(text, str | None) for text in (target.name, target.parent)):
        raise ValueError("its parent has no name")
    if not re.fullmatch(r"[0-9a-f]{12}", study.key) or not re.fullmatch(r"[\w-]{1,64}", target.parent or "0"):
        raise ValueError("its study or its parent run has a key that nothing has")
    if made.status not in STATUS.values() or not _is_count(made.number):
        raise ValueError(f"a trial does not end as {made.status!r}, or has the number {made.number!r}")
    if reserved := [tag for tag in target.tags if tag.startswith(("mlflow.", "nas."))]:
        raise ValueError(f"the tag {reserved[0]!r} is written by MLflow or nas_bo")
    if not all(moment is None or _is_count(moment) for moment in (made.start, made.end)):
        raise ValueError("its times are not milliseconds")
    if made.point is not None and (
        len(made.point) != len(study.columns) or not all(isinstance(v, float) and math.isfinite(v) for v in made.point)
    ):
        raise ValueError("its values do not belong to the objectives of the study")
    for name in made.files:
        if not isinstance(name, str) or study_name.file_name(name) != name:
            raise ValueError(f"the file {name!r} in it is not named by a name, but by a path")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


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
        path = folder / record.file
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
            regular(path, follow=False)
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
    """The spool that is meant by a folder, a file next to it, the spool itself or one of its folders; None where there is none."""
    folder = where if where.is_dir() else where.parent
    if folder.parent.name == FOLDER:
        folder = folder.parent
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
