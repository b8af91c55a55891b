"""Addresses of databases: a path becomes a URL and a URL a path, in this one place.

A path is taken as it stands, whatever is in it (``?``, ``%20``, ``#``, spaces). In a URL these have a meaning: ``?`` begins
its options, and ``%3F`` is a question mark. Imports SQLAlchemy when it is needed, never Optuna or MLflow.
"""

from __future__ import annotations

import importlib
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from nas_bo.errors import HostError, MissingExtra
from nas_bo.redaction import address, redacted

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

SQLITE_OPTIONS = {"uri", "timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements"}
DRIVERS = {"psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}  # module -> what pip calls it


def is_url(text: str) -> bool:
    """Whether a text is a URL and not a path; ``file:study.db?mode=ro`` is SQLite's own spelling of one."""
    return "://" in text or text.startswith("file:")


def sqlite_url(path: str | os.PathLike[str], **options: str) -> str:
    """The URL of an SQLite file, which every SQLAlchemy reads as that path; absolute.

    Args:
        options: of SQLite itself, such as ``mode="ro"``.
    """
    file = os.path.abspath(os.path.expanduser(os.fspath(path)))
    if options:
        return _rendered(_url("sqlite", "file:" + quote(file), {"uri": "true", **options}))
    plain = f"sqlite:///{file}"
    if _reads_as(plain, file):
        return plain
    made = _rendered(_url("sqlite", file))
    if _reads_as(made, file):  # SQLAlchemy 2.1 and later
        head, _, tail = made.partition("sqlite:///")
        # MLflow makes the folder of the text after sqlite:///, undecoded: with no slash in it there is none to be made
        return f"{head}sqlite:///{tail.replace('/', '%2F')}"
    return _rendered(_url("sqlite", "file:" + quote(file, safe=""), {"uri": "true"}))


def sqlite_file(url: str) -> Path | None:
    """The file behind an SQLite URL, absolute; None of another database, and of one in memory."""
    if url.startswith("file:"):
        url = f"sqlite:///{url}"
    if not url.startswith(("sqlite:", "sqlite+")):
        return None
    made = parsed(url)
    name = made.database or ""
    if made.query.get("uri") in ("true", "1") or name.startswith("file:"):
        name = unquote(re.sub(r"^file:(//[^/]*(?=/))?", "", name.partition("?")[0]))
    if not name or ":memory:" in name or made.query.get("mode") == "memory":
        return None
    return Path(os.path.abspath(os.path.expanduser(name)))


def tables(file: Path) -> set[str]:
    """The names of the tables in an SQLite file; none where it is not there, or cannot be read now."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return set()


def file_of(storage: object) -> Path | None:
    """The file that a storage is in: of a path that path, of an SQLite URL its file; None of anything else."""
    if isinstance(storage, os.PathLike):
        storage = os.fspath(storage)
    if not isinstance(storage, str) or not storage:
        return None
    return sqlite_file(storage) if is_url(storage) else Path(storage).expanduser().absolute()


def is_server(storage: object) -> bool:
    """Whether it is the URL of what lies on a server: no file and no memory of this process."""
    if not isinstance(storage, str) or not is_url(storage):
        return False
    return not storage.startswith(("sqlite", "file:"))


def with_driver(url: str) -> str:
    """The URL with a driver that is installed; both ``postgres://`` and ``postgresql://`` mean psycopg 3, where it is there.

    Raises:
        HostError: it is not a URL, has options that SQLite does not know, or its driver is not installed.
        MissingExtra: psycopg is not installed.
    """
    from sqlalchemy.exc import NoSuchModuleError

    made = parsed(f"sqlite:///{url}" if url.startswith("file:") else url)
    kind, _, driver = made.drivername.partition("+")
    if kind == "sqlite":
        return _sqlite(made, url)
    if kind in ("postgres", "postgresql"):
        if not driver:
            driver = "psycopg" if _there("psycopg") or not _there("psycopg2") else "psycopg2"
        if driver == "psycopg" and not _there("psycopg"):
            raise MissingExtra("psycopg", "postgres")
        made = made.set(drivername=f"postgresql+{driver}")
    if made.drivername == "mysql" and _there("pymysql") and not _there("MySQLdb"):
        made = made.set(drivername="mysql+pymysql")
    try:
        made.get_dialect().import_dbapi()
    except NoSuchModuleError:
        raise HostError(
            f"the URL {shown(url)!r} names {made.drivername!r}, a kind of database that SQLAlchemy does not know; use "
            "sqlite:///study.db, postgresql://user:password@host/database or mysql+pymysql://..."
        ) from None
    except ImportError as error:
        module = str(error.name or driver or kind)
        raise HostError(
            f"the URL {shown(url)!r} needs the package {module!r}, which is not installed; install it with: pip install "
            f"{DRIVERS.get(module, module)}"
        ) from None
    return _rendered(made)


def parsed(url: str) -> URL:
    """The URL as SQLAlchemy reads it (raises HostError where it cannot)."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    safe = shown(url)  # from here on what is secret in it is known
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise HostError(
            f"{safe!r} is not a URL of a database ({redacted(str(error).splitlines()[0])}); write sqlite:///study.db or "
            "postgresql://user:password@host:5432/database, with signs such as @ and / in a password as %40 and %2F"
        ) from None


def shown(storage: object) -> str:
    """A storage as it may be printed: without the user names and passwords of addresses."""
    return address(storage) if isinstance(storage, str) and is_url(storage) else redacted(storage)


def _sqlite(made: URL, given: str) -> str:
    own = (made.database or "").startswith("file:") or made.query.get("uri") in ("true", "1")
    unknown = [] if own else sorted(set(made.query) - SQLITE_OPTIONS)
    if unknown or ("?" in given and not made.query):
        raise HostError(
            f"the URL {given!r} has {(unknown or [given.partition('?')[2]])[0]!r} after a `?`, which begins the options in a URL, "
            "and SQLite has no such option. For a file with ? in its name give the path instead of a URL, or write %3F"
        )
    if own:
        return _rendered(made.update_query_dict({"uri": "true"}))
    file = sqlite_file(given)
    return _rendered(made) if file is None or made.query else sqlite_url(file)


def _there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:  # also where its own library is missing
        return False
    return True


def _url(kind: str, database: str, query: dict[str, str] | None = None) -> URL:
    from sqlalchemy.engine import URL

    return URL.create(kind, database=database, query=query or {})


def _rendered(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _reads_as(url: str, file: str) -> bool:
    from sqlalchemy.engine import make_url

    made = make_url(url)
    return made.database == file and not made.query
