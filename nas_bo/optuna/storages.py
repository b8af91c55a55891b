"""Storages of Optuna by path or URL: opened to be written, or only to be read, with one clear message where that fails."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study

from nas_bo import database_url, large_info, temporary
from nas_bo.errors import HostError, NasBoError
from nas_bo.execution.interrupts import whole
from nas_bo.optuna import patient
from nas_bo.optuna.journal import journal
from nas_bo.optuna.patient import PatientStorage, said
from nas_bo.optuna.proxy import SCHEME, proxy
from nas_bo.safe_text import printable
from nas_bo.wording import plural

Storage = str | os.PathLike[str] | BaseStorage
JOURNALS = (".log", ".journal")
SQLITE = (".db", ".sqlite", ".sqlite3")
MAKING = 32  # locks for making tables
MAKING_S = 60.0  # for which another process is waited for that makes tables
READ_ONLY = {"mode=ro", "immutable=1"}  # options in the URL of an SQLite file
TRIES = 12  # to make the tables of a new database, where another process makes them at the same moment
NO_TABLE = ("no such table", "does not exist", "doesn't exist")  # SQLite, PostgreSQL, MySQL
RACES = ("already exists", "duplicate key", "unique constraint", "deadlock", "locked", "concurrent")

Made = TypeVar("Made")


@whole()
def several(storage: Storage) -> bool:
    """Whether a storage holds more than one study, so that one has to be named."""
    try:
        return len(optuna.get_all_study_names(opened(storage, reading=True))) > 1
    except NasBoError:  # gone since a moment ago
        return False


@whole()
def load(storage: Storage, name: str | None = None, *, reading: bool = False) -> Study:
    """A study that is there; `name` may be left out when the storage holds only one.

    Args:
        reading: nothing will be written; the file may be one that cannot be.

    Raises:
        HostError: no such storage or study, or several studies and no name.
    """
    backend = opened(storage, reading=reading)
    found = optuna.get_all_study_names(backend)
    shown = "the storage" if isinstance(storage, BaseStorage) else database_url.shown(storage)
    listed = ", ".join(sorted(printable(n) for n in found)) or "none"
    if name is None and len(found) != 1:
        raise HostError(f"{shown} holds {len(found)} studies ({listed}); name one with --study")
    if name is not None and name not in found:
        raise HostError(f"{shown} holds no study {name!r}; there are: {listed}")
    return optuna.load_study(study_name=name or found[0], storage=backend)


@whole()
def names(storage: Storage) -> list[str]:
    """The studies in a storage that is there.

    Raises:
        HostError: it cannot be opened.
    """
    if path := missing(storage):
        raise HostError(_absent(path))
    try:
        return sorted(optuna.get_all_study_names(backend(storage, reading=True)))
    except NasBoError:
        raise
    except Exception as error:
        raise HostError(
            f"{database_url.shown(storage)!r} is not a storage of studies that can be read ({said(error)})"
        ) from error


@whole()
def opened(storage: Storage, *, reading: bool = False) -> BaseStorage:
    """A storage that is there (raises HostError where it is not, or cannot be read)."""
    if path := missing(storage):
        raise HostError(_absent(path))
    try:
        found = patient.storage(
            backend(storage, reading=reading, there=True), database_url.shown(storage), patient.AT_ONCE
        )
        optuna.get_all_study_names(found)
    except NasBoError:
        raise
    except Exception as error:
        raise HostError(
            f"the storage {database_url.shown(storage)!r} cannot be read ({said(error)}); give the one that `nas-bo search` "
            "printed"
        ) from error
    return found


def missing(storage: Storage) -> str:
    """The file that a storage is in, where there is none; else nothing."""
    file = database_url.file_of(storage)
    try:
        if file is None or file.exists():
            return ""
    except OSError:  # no file can be called so
        pass
    given = os.fspath(storage) if isinstance(storage, (str, os.PathLike)) else ""
    return str(file) if database_url.is_url(given) else given


def _absent(path: str) -> str:
    """The message about a file that is not there."""
    there = _beside(Path(path).expanduser().parent)
    return f"there is no file {path!r}; give the storage that `nas-bo search` printed{_such_as(there)}"


def _beside(folder: Path) -> list[str]:
    """The files in a folder that hold studies, those that are written last first."""
    try:
        files = [p for p in folder.iterdir() if p.suffix in (*JOURNALS, *SQLITE) and p.is_file()]
        files.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    except OSError:
        return []
    return [str(p) for p in files if (_is_journal(p) if p.suffix in JOURNALS else "studies" in database_url.tables(p))]


def _is_journal(path: Path) -> bool:
    """Whether a file begins as Optuna's journals do; other programs call theirs .log too."""
    try:
        with path.open("rb") as file:
            return file.read(11) == b'{"op_code":'
    except OSError:
        return False


def _such_as(files: list[str]) -> str:
    return f"; there {plural(min(3, len(files)), 'is', 'are')} {', '.join(map(printable, files[:3]))}" if files else ""


def backend(storage: Storage | None, *, reading: bool = False, there: bool = False) -> Any:
    """What Optuna opens: a path or URL as a storage, with tables where there were none; anything else as it is.

    Args:
        reading: no tables are made, and a file that cannot be written is opened anyway.
        there: no tables are made, since it must hold a study already.

    Raises:
        HostError: a path or URL that cannot be one, or, with either, a database without studies.
    """
    storage = os.fspath(storage) if isinstance(storage, os.PathLike) else storage
    if not isinstance(storage, str):
        return storage
    if storage.startswith(SCHEME):
        return proxy(storage)
    file = database_url.file_of(storage)
    if file is None or database_url.is_url(storage):
        url = database_url.with_driver(storage)
    else:
        url = _of_file(storage, file, reading)
        if not url:
            return journal(file)
    return _database(url, file, reading, reading or there)


def check_name(storage: str) -> None:
    """Raise HostError where a path cannot be that of a storage, there or not; nothing is opened."""
    file = database_url.file_of(storage)
    if file is not None and not database_url.is_url(storage):
        _of_file(storage, file, reading=True)


def in_memory(study: Study) -> bool:
    """Whether a study is gone when its process ends."""
    return isinstance(_inner(study), InMemoryStorage)


def _inner(study: Study) -> BaseStorage:
    """The storage itself, behind what makes it patient."""
    kept = study._storage
    return kept.inner if isinstance(kept, PatientStorage) else kept


def info_file(study: Study, number: int) -> Path:
    """Where that is of a trial's info which is too long for the storage (`nas_bo.large_info`)."""
    kept: object = _inner(study)
    if isinstance(kept, _CachedStorage):
        kept = kept._backend
    file = None
    if isinstance(kept, RDBStorage):
        file = database_url.file_of(kept.url)
    elif isinstance(kept, JournalStorage) and isinstance(kept._backend, JournalFileBackend):
        file = Path(kept._backend._file_path).absolute()
    return large_info.file(file, study.study_name, number)


def _of_file(storage: str, file: Path, reading: bool) -> str:
    """The URL of an SQLite file; nothing of a journal."""
    if file.is_dir():
        raise HostError(
            f"the storage {storage!r} is a folder; give the file of a study, such as nas-bo.db{_such_as(_beside(Path(storage).expanduser()))}"
        )
    if not storage.endswith((*JOURNALS, *SQLITE)):
        raise HostError(
            f"the storage {database_url.shown(storage)!r} is neither a URL (sqlite:///study.db) nor a file ending in .db or .log; name one"
        )
    if not file.parent.is_dir() or not (reading or os.access(file.parent, os.W_OK)):
        raise HostError(
            f"the storage {storage!r} cannot be written: the folder {str(file.parent)!r} is missing or read-only"
        )
    if storage.endswith(JOURNALS):
        return ""
    found = set() if reading else database_url.tables(file)
    if "experiments" in found and "studies" not in found:
        raise HostError(
            f"the storage {storage!r} holds runs of MLflow and no studies; give the study a file of its own, such as nas-bo.db"
        )
    return database_url.sqlite_url(file)


def _database(url: str, file: Path | None, reading: bool, there: bool) -> RDBStorage:
    from nas_bo.optuna.database import Database  # with SQLAlchemy, which is loaded for databases only

    engine: dict[str, object]
    if url.startswith("sqlite"):
        # Several processes may write: wait for each other instead of failing after SQLite's default five seconds.
        engine = {"connect_args": {"timeout": 60}}
    else:
        engine = {"pool_pre_ping": True}  # servers end connections that were idle during a training
        if reading:  # servers admit so many connections: none stays open for a look
            from sqlalchemy.pool import NullPool

            engine = {"poolclass": NullPool}
    if there:
        try:
            if reading and file is not None and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
                return _unwritable(file, engine)
            return Database(_literal(url), engine, skip_table_creation=True)
        except Exception as error:
            if not any(sign in said(error) for sign in NO_TABLE):
                raise
            shown = database_url.shown(file or url)
            raise HostError(f"{shown!r} holds no study of Optuna; give the storage of a search") from error
    if found := READ_ONLY & set(
        url.partition("?")[2].split("&")
    ):  # else the first write would be tried again for minutes
        raise HostError(
            f"the storage {database_url.shown(url)!r} is opened as a readonly database ({min(found)} in its URL), and a search "
            "writes into it; leave that out"
        )
    with _making(file):
        return patiently(lambda: Database(_literal(url), engine))


@contextmanager
def _making(file: Path | None) -> Iterator[None]:
    """Around whatever may make the tables of a database in a file: the other processes of this user and machine wait, so that each
    finds them whole. A process that has waited for too long continues without the lock: `patiently` tries again."""
    folder = None if file is None else temporary.private()
    if file is None or folder is None:
        yield
        return
    one = (
        hashlib.sha256(os.fsencode(os.path.realpath(file))).digest()[0] % MAKING
    )  # a few names, whatever the number of files
    lock = FileLock(folder / f"tables-{one}")
    with ExitStack() as stack:
        with suppress(Timeout, OSError):
            stack.enter_context(lock.acquire(timeout=MAKING_S))
        yield


def _unwritable(file: Path, engine: dict[str, object]) -> RDBStorage:
    """A file that cannot be written: as SQLite reads such, and where it cannot (a log next to it), as one that is complete."""
    try:
        return RDBStorage(_literal(database_url.sqlite_url(file, mode="ro")), engine, skip_table_creation=True)
    except Exception:
        whole = database_url.sqlite_url(file, mode="ro", immutable="1")
        return RDBStorage(_literal(whole), engine, skip_table_creation=True)


def _literal(url: str) -> str:
    """Optuna fills a template in URLs; braces of a file or a password are none."""
    return url.replace("{", "{{").replace("}", "}}")


def patiently(make: Callable[[], Made]) -> Made:
    """What `make` makes, tried again where another process makes the same at this moment."""
    for attempt in range(1, TRIES + 1):
        try:
            with whole():  # a session that is cut in the middle raises anything, and keeps the database locked
                return make()
        except optuna.exceptions.DuplicatedStudyError:  # the answer, which waiting does not change
            raise
        except Exception as error:
            if attempt == TRIES or not any(sign in str(error).lower() for sign in RACES):
                raise
            time.sleep(random.random() * 0.1 * attempt)
    raise AssertionError  # the last attempt returns or raises


__all__ = ["Storage", "backend", "in_memory", "info_file", "load", "missing", "names", "opened", "patiently", "said"]
