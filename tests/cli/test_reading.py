"""A command that reads, and one that is refused, leaves no file and no folder behind, and no table in a database of others."""

import sqlite3

import optuna
import pytest
from typer.testing import CliRunner

from nas_bo import search
from nas_bo.cli.app import app
from nas_bo.optuna import storages
from nas_bo.strategies import Random
from tests.problems import Toy


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


NOTHING_THERE = [
    "rerun deadbeef", "rerun deadbeef --mlflow a/b.db", "ui", "ui --mlflow x.db", "report", "report no.log", "status",
    "status sqlite:///no.db", "compare a.db b.db", "validate --storage a.db", "register", "merge a.db --into b.db", "tell",
    "ask --open", "dashboard a.db", "mlflow sync a.db", "mlflow sync",
    "profile --out no/dir/x.json", "profile --out no/x.json --precision 0", "profile --out x.json --precision nan",
    "profile --out x.json --max-seconds 0", "profile --out x.json --architectures 1", "profile --out x.json --clock sundial",
    "profile --out x.json --device meta", "profile --out x.json --runtime no", "profile --out x.json --context 0",
    "devices nope --pictures p", "search --trials 0 --out o --mlflow m/m.db", "search --budget -5 --out o --mlflow m/m.db",
    "search --workers 0 --out o --mlflow m/m.db", "validate --architectures 1 --out o", "validate --seeds 0 --out o",
]  # fmt: skip


@pytest.mark.parametrize("line", NOTHING_THERE)
def test_nothing_is_left_behind(line, tmp_path):
    done = CliRunner().invoke(app, line.split(), input="")
    assert done.exit_code == (0 if line == "mlflow sync" else 2), done.output
    assert not list(tmp_path.iterdir())


READERS = [
    "report {}", "status {}", "compare {} {}", "validate --storage {}", "register {}", "dashboard {}", "tell --storage {}",
    "ask --open --storage {}", "mlflow sync {}", "merge {} --into into.db",
]  # fmt: skip


@pytest.mark.parametrize("line", READERS)
def test_a_database_of_something_else_is_left_as_it_is(line, tmp_path):
    with sqlite3.connect("mlflow.db") as made:
        made.execute("CREATE TABLE runs (id INTEGER)")
    made.close()
    before = (tmp_path / "mlflow.db").read_bytes()
    done = CliRunner().invoke(app, line.replace("{}", "mlflow.db").split(), input='{"number": 0}')
    assert done.exit_code == 2 and "no study" in done.output, done.output
    assert (tmp_path / "mlflow.db").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["mlflow.db"]


def depth(arch):
    return float(arch.depth)


def test_a_search_still_makes_its_tables_in_an_empty_file(tmp_path):
    (tmp_path / "s.db").touch()
    result = search(Toy, [depth], trials=2, storage="s.db", retrain=0, strategy=Random(seed=0))
    assert len(storages.load("s.db").trials) == len(result.trials) == 2
