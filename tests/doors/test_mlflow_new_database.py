"""New SQLite databases of MLflow: copies of one that is kept, the same as MLflow makes them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from types import SimpleNamespace

import optuna
import pytest

from nas_bo import AskTell
from nas_bo.mlflow import new_database, tracking_uri
from nas_bo.optuna import storages
from nas_bo.strategies import Random
from tests.problems import Toy

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before mlflow is imported


def content(file) -> set[tuple[str, str]]:
    """Tables and indices, and all that is in them but the default experiment, which names a folder."""
    with closing(sqlite3.connect(file)) as database:
        made = {(name, str(sql)) for name, sql in database.execute("SELECT name, sql FROM sqlite_master")}
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        filled = [name for name in tables if name not in ("experiments", "sqlite_stat1")]
        return made | {(name, str(row)) for name in filled for row in database.execute(f'SELECT * FROM "{name}"')}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A database as MLflow's migrations make it, which takes seconds."""
    path = tmp_path_factory.mktemp("migrated") / "m.db"
    new_database._migrate(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM experiments")  # the default one names a folder
        database.commit()
    return path


@pytest.mark.parametrize("damage", [None, b"", b"no database", "half"])
def test_a_database_is_migrated_once_and_then_copied(damage, tmp_path, monkeypatch, migrated) -> None:
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    ran = []
    migrate = new_database._migrate if damage is None else partial(shutil.copy, migrated)
    monkeypatch.setattr(new_database, "_migrate", lambda made: ran.append(made) or migrate(made))
    tracking_uri.connect(f"sqlite:///{tmp_path}/first.db")
    (kept,) = (tmp_path / "cache").iterdir()
    if damage is not None:
        kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2] if damage == "half" else damage)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    client = tracking_uri.connect(f"sqlite:///{tmp_path}/other/second.db")
    assert len(ran) == (1 if damage is None else 2) and len(list((tmp_path / "cache").iterdir())) == 1
    (default,) = client.search_experiments()
    assert default.experiment_id == "0" and default.artifact_location.startswith(str(tmp_path / "other"))
    first, second = content("../first.db"), content("second.db")
    assert {name for name, _ in first} == {name for name, _ in second} and len(first) > 60
    if damage is None:  # MLflow itself orders columns and indices differently from one migration to the next
        assert first == second
    assert sorted(p.name for p in (tmp_path / "other").iterdir()) == ["second.db"]


def test_where_nothing_can_be_kept_a_database_is_made_all_the_same(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "file" / "cache"))
    assert tracking_uri.connect(f"sqlite:///{tmp_path}/m.db").search_experiments()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "m.db"]


@pytest.mark.parametrize("name", ["s.db", "s.log"])
def test_a_study_that_is_there_is_opened_without_waiting(name, tmp_path, monkeypatch) -> None:
    """That its name is taken is an answer, not a race for the tables."""
    naps = []
    monkeypatch.setattr(storages, "time", SimpleNamespace(sleep=naps.append))
    for _ in range(2):
        AskTell(Toy, ["loss"], storage=str(tmp_path / name), strategy=Random())
    assert naps == [] and len(optuna.get_all_study_names(storages.backend(str(tmp_path / name)))) == 1
