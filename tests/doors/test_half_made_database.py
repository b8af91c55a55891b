"""A process that was killed while it made the tables of an SQLite file: what is missing is made by the next one."""

import sqlite3

import optuna
import pytest

from nas_bo import search
from nas_bo.errors import HostError
from nas_bo.optuna import storages
from nas_bo.strategies import Random
from tests.problems import Toy, cost, loss

INDICES = ("ix_studies_study_name", "ix_trials_study_id")


def names_of(kind, file):
    with sqlite3.connect(file) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = ?", [kind])}


@pytest.fixture
def half(tmp_path):
    """Tables without an index: SQLite commits each of these statements by itself, and Optuna makes indices with their tables only."""
    file = tmp_path / "study.db"
    storages.backend(str(file)).engine.dispose()
    with sqlite3.connect(file) as database:
        for index in INDICES:
            database.execute(f"DROP INDEX {index}")
    return file


def searched(file, trials):
    return search(Toy, [loss, cost], trials=trials, strategy=Random(), retrain=0, storage=str(file), study_name="one")


def test_missing_indices_are_made_so_that_a_search_is_one_study(half):
    searched(half, 2)
    found = searched(half, 4)
    assert names_of("index", half) >= set(INDICES)
    assert optuna.get_all_study_names(f"sqlite:///{half}") == ["one"] and len(found.trials) == 4


def test_a_missing_table_is_made(half):
    with sqlite3.connect(half) as database:
        database.execute("DROP TABLE trial_heartbeats")
    searched(half, 2)
    assert "trial_heartbeats" in names_of("table", half)


def test_a_file_with_two_studies_of_one_name_is_refused(half):
    with sqlite3.connect(half) as database:
        database.execute("INSERT INTO studies (study_name) VALUES ('one'), ('one'), ('other')")
    with pytest.raises(HostError, match="two studies are called 'one'.*rename one"):
        searched(half, 2)
