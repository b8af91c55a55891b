"""A new SQLite database of MLflow: made once per version of MLflow (68 migrations, about three seconds of CPU), then copied.

It is made under another name and appears under its own only when it is whole: a killed process leaves no half-made
database, and of two processes that start at once one makes it and both use it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from nas_bo import database_url, temporary
from nas_bo.cache_folder import cache_folder


def create(file: Path) -> None:
    temporary.sweep_drafts(file)
    made = temporary.draft(file)
    try:
        _fill(made)
        if file.exists() and not file.stat().st_size:
            file.unlink()
        _appear(made, file)
    finally:
        _remove(made)


def _fill(made: Path) -> None:
    """Tables and nothing in them, from the copy that is kept with what is known about this machine, or from MLflow."""
    from mlflow.version import VERSION

    kept = cache_folder() / f"mlflow-{VERSION}.db"
    if "dev" in VERSION:  # the same name for other tables, next week
        _migrate(made)
    elif not _copied(kept, made):
        _remove(made)
        _migrate(made)
        _keep(made, kept)


def _copied(kept: Path, made: Path) -> bool:
    if not kept.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{kept.absolute().as_uri()}?mode=ro", uri=True)) as source:
            whole = source.execute("PRAGMA quick_check").fetchone() == ("ok",)
            if not whole or source.execute("SELECT count(*) FROM alembic_version").fetchone() != (1,):
                return False
            with closing(sqlite3.connect(made)) as target:
                source.backup(target)
        return True
    except sqlite3.Error:  # damaged, or not to be read: made again
        return False


def _keep(made: Path, kept: Path) -> None:
    part = temporary.draft(kept)
    with suppress(OSError, sqlite3.Error):  # nowhere to keep it: the next one is made again
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary.sweep_drafts(kept)
            with closing(sqlite3.connect(made)) as source, closing(sqlite3.connect(part)) as target:
                source.backup(target)
                target.execute("DELETE FROM experiments")  # the default one names the folder of this process
                target.commit()
            part.replace(kept)
        finally:
            _remove(part)


def _migrate(made: Path) -> None:
    from mlflow import MlflowClient

    talk = logging.getLogger("mlflow.store.db.utils")
    quiet = _Quiet()
    talk.addFilter(quiet)  # two lines about tables, on stderr
    try:
        address = database_url.sqlite_url(made)
        client = MlflowClient(tracking_uri=address, registry_uri=address)
        client.search_experiments(max_results=1)
        with suppress(AttributeError):  # release the file; without this it stays open, which harms nobody
            client._tracking_client.store.engine.dispose()
    finally:
        talk.removeFilter(quiet)


def _appear(made: Path, file: Path) -> None:
    try:
        os.link(made, file)
    except FileExistsError:
        pass  # another process was first
    except OSError:  # a file system without links
        made.replace(file)


def _remove(made: Path) -> None:
    """The file and what SQLite keeps next to it."""
    if not made.parent.is_dir():
        return
    for rest in made.parent.iterdir():  # not glob: a name may have its signs in it
        if rest.name.startswith(made.name):
            rest.unlink(missing_ok=True)


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING
