"""The place where runs are kept: an address that does not depend on the current folder, checked before it is used.

MLflow tries a bad SQLite path for 100 seconds and a dead server for four minutes. Here a path is tried with the
file system first, and requests to a server are made once, with a short time-out.
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from nas_bo import database_url, study_name, temporary
from nas_bo.errors import HostError
from nas_bo.mlflow import new_database
from nas_bo.redaction import HIDDEN, address, redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SHORT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # MLflow would repeat POST too, and so double what did arrive
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines per run, into what a program may pipe on
}


def resolve(uri: str | Path | None) -> str:
    """An absolute tracking URI.

    None is ``MLFLOW_TRACKING_URI`` if that is set, else ``mlflow.db`` in the current folder; a path of a file is an
    SQLite database.

    Raises:
        HostError: a scheme that MLflow has not, or a folder of files, which MLflow no longer writes.
    """
    text = str(uri or os.environ.get("MLFLOW_TRACKING_URI") or "mlflow.db")
    shown = redact(text)  # from here on what is secret in it is known
    scheme = text.split(":", 1)[0] if "://" in text or text.startswith("sqlite:") else ""
    if scheme in ("http", "https"):
        if not urlsplit(text).hostname:
            raise HostError(f"the tracking URI {shown!r} names no host; write it like http://127.0.0.1:5000")
        return text.rstrip("/")
    if scheme == "sqlite":
        database_url.with_driver(text)  # says what is wrong with its options
        file = database_url.sqlite_file(text)
        if file is None:
            raise HostError(
                f"the tracking URI {shown!r} names no file; write sqlite:///mlflow.db, or sqlite:////absolute/path/mlflow.db"
            )
        return database_url.sqlite_url(file)
    if scheme in ("databricks", "databricks-uc"):
        return text
    if scheme.partition("+")[0] in ("postgres", "postgresql", "mysql", "mssql"):
        return database_url.with_driver(text)
    if "+" in scheme:
        return text
    path_text = text.removeprefix("file://")
    if scheme in ("", "file") and (path_text.endswith((".db", ".sqlite", ".sqlite3")) or Path(path_text).is_file()):
        return database_url.sqlite_url(path_text)
    if scheme in ("", "file"):
        raise HostError(
            f"the tracking URI {shown!r} is a folder of files, which MLflow 3 no longer writes; name a database file "
            "such as sqlite:///mlflow.db, or the address of a server such as http://127.0.0.1:5000"
        )
    raise HostError(
        f"the tracking URI {shown!r} has the unknown scheme {scheme!r}; use sqlite:///mlflow.db, http://host:5000 or a "
        "database such as postgresql://..."
    )


def redact(text: str) -> str:
    """The text without the user names and passwords of addresses in it."""
    return address(text) if re.match(r"[\w+.-]+://", text) and "\n" not in text else redacted(text)


def public(uri: str) -> str:
    """The URI as it may be written to a file: of a server without user name and password, of a database with ``***``."""
    shown = redact(uri)
    return shown.replace(f"://{HIDDEN}@", "://") if uri.startswith(("http://", "https://")) else shown


def database(uri: str) -> Path | None:
    """The file behind an SQLite URI."""
    return database_url.sqlite_file(uri) if uri.startswith("sqlite:") else None


def artifact_root(uri: str, experiment: str) -> str | None:
    """Where artifacts of a new experiment go: next to the database file; None lets the server decide."""
    file = database(uri)
    if file is None:
        return None
    return (file.parent / f"{file.stem}_artifacts" / study_name.file_name(experiment)).as_uri()


def check(uri: str, timeout: float) -> None:
    """Whether the store can be reached and written, without importing mlflow.

    Raises:
        HostError: it cannot; the message says what to do.
    """
    file = database(uri)
    if file is not None:
        _check_file(file)
    elif uri.startswith(("http://", "https://")):
        _check_server(uri, timeout)
    elif uri.startswith(("postgresql", "mysql", "mssql")):
        _check_database(uri, timeout)


def there(uri: str) -> None:
    """Whether a store that is only read is there: MLflow would make a new database and look into that (raises HostError)."""
    file = database(uri)
    if file is not None and not (file.exists() and file.stat().st_size):
        raise HostError(
            f"there is no MLflow database {str(file)!r}; give the one that a search was tracked in with --mlflow (track=), by default "
            "mlflow.db in the folder of the search"
        )
    if file is not None:
        _check_tables(file)


def _check_tables(file: Path) -> None:
    """Whether an SQLite file is empty or of MLflow, which would make its tables in one of anything else (raises HostError)."""
    found = database_url.tables(file)
    if found and "experiments" not in found:
        what = "holds studies of Optuna" if "studies" in found else "is a database of something else"
        raise HostError(
            f"{file} {what}, no runs of MLflow; give MLflow a file of its own, such as mlflow.db (--mlflow)"
        )


def _check_file(file: Path) -> None:
    where = next((p for p in file.parents if p.exists()), file.parent)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        probe = file.parent / f".nas_bo_{os.getpid()}_{threading.get_ident()}"
        probe.touch()
        probe.unlink()
        if file.exists():
            with file.open("r+b") as opened:
                if file.stat().st_size and opened.read(16) != b"SQLite format 3\x00":
                    raise HostError(f"{file} is not an SQLite database; give the tracker another file name")
    except OSError as error:
        raise HostError(
            f"the MLflow database {file} cannot be written ({error.strerror or error}, at {where}); choose "
            "a folder that you may write to, for example with uri='sqlite:///path/to/mlflow.db', or the address of a "
            "running server"
        ) from error
    if file.exists() and file.stat().st_size:
        _check_tables(file)
        try:
            with sqlite3.connect(file, timeout=5) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
        except sqlite3.Error as error:
            raise HostError(
                f"the MLflow database {file} cannot be written ({error}); end the program that holds it, or choose "
                "another file"
            ) from error
        finally:
            with suppress(NameError, sqlite3.Error):
                connection.close()


def _check_database(uri: str, timeout: float) -> None:
    from sqlalchemy import create_engine

    limited = {"connect_args": {"connect_timeout": max(1, round(timeout))}}
    engine = create_engine(database_url.with_driver(uri), **limited)
    try:
        engine.connect().close()
    except Exception as error:
        said = redact((str(error).strip().splitlines() or [""])[0])
        raise HostError(
            f"the database of MLflow at {redact(uri)} does not answer ({said}); start it, or track into a file with "
            "uri='sqlite:///mlflow.db'"
        ) from error
    finally:
        engine.dispose()


def _check_server(uri: str, timeout: float) -> None:
    from base64 import b64encode

    shown = redact(uri)

    parts = urlsplit(uri)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}/api/2.0/mlflow/experiments/search"
    request = urllib.request.Request(address, b'{"max_results": 1}', {"Content-Type": "application/json"})
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or unquote(parts.username or "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or unquote(parts.password or "")
    if user and password:
        request.add_header("Authorization", "Basic " + b64encode(f"{user}:{password}".encode()).decode())
    elif os.environ.get("MLFLOW_TRACKING_TOKEN"):
        request.add_header("Authorization", f"Bearer {os.environ['MLFLOW_TRACKING_TOKEN']}")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            if "json" not in answer.headers.get("Content-Type", ""):
                raise HostError(f"what answers at {shown} is not an MLflow server; check the address and the port")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise HostError(
                f"the MLflow server at {shown} refuses access ({error.code}); set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN (a 403 without any login is the server's check of "
                "host names: start it with --allowed-hosts)"
            ) from error
        raise HostError(
            f"what answers at {shown} is not an MLflow server (it said {error.code}); check the address and the port"
        ) from error
    except (OSError, ValueError) as error:
        raise HostError(_silent(uri, error)) from error


def reach(uri: str, timeout: float) -> None:
    """Whether anybody listens at a server's address: while nobody does, MLflow need not be imported, which takes seconds.

    Raises:
        HostError: nobody does.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.hostname is None or parts.scheme in urllib.request.getproxies():
        return
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout).close()
    except OSError as error:
        raise HostError(_silent(uri, error)) from error


def _silent(uri: str, error: Exception) -> str:
    return (
        f"no MLflow server answers at {redact(uri)} ({error.reason if isinstance(error, urllib.error.URLError) else error}); start one with 'nas-bo ui' or "
        "'mlflow server', or track into a file with uri='sqlite:///mlflow.db'"
    )


def connect(uri: str) -> MlflowClient:
    """An `MlflowClient` for exactly this store; the global tracking URI stays as it is.

    A new SQLite database is made under another name and appears under its own only when it is whole: see `new_database`.
    """
    from mlflow import MlflowClient

    file = database(uri)
    if file is not None and not (file.exists() and file.stat().st_size):
        _check_file(file)
        new_database.create(file)
    elif file is not None:
        _check_tables(file)
        temporary.sweep_drafts(file)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def quietly() -> Iterator[None]:
    """Downloads inside of this draw no progress bars on stderr."""
    name = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
    ours = name not in os.environ
    if ours:
        os.environ[name] = "false"
    try:
        yield
    finally:
        if ours:
            os.environ.pop(name, None)


class _Patience:
    """How many are inside `patience`; the environment is the only place where MLflow reads its retries from."""

    def __init__(self) -> None:
        self.lock, self.inside, self.ours = threading.Lock(), 0, list[str]()

    def enter(self, timeout: float) -> None:
        with self.lock:
            if self.inside == 0:
                wanted = {**_SHORT, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(timeout)))}
                self.ours = [name for name in wanted if name not in os.environ]
                os.environ.update({name: wanted[name] for name in self.ours})
            self.inside += 1

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                for name in self.ours:
                    os.environ.pop(name, None)


_patience = _Patience()


@contextmanager
def patience(uri: str, timeout: float) -> Iterator[None]:
    """Requests to a server inside of this are made once and give up after `timeout` seconds.

    It sets ``MLFLOW_HTTP_REQUEST_*`` (and stops MLflow from printing addresses) in the environment of this process for
    as long as it lasts, as far as they are not set already: other MLflow calls of the process are as impatient then.
    """
    if not uri.startswith(("http://", "https://")):
        yield
        return
    _patience.enter(timeout)
    try:
        yield
    finally:
        _patience.leave()
