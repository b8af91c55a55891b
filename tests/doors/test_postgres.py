"""Studies and runs on a PostgreSQL server, in all spellings of its address; what is said where the driver is missing."""

import sys

import optuna
import pytest
from typer.testing import CliRunner

from nas_bo import database_url, search
from nas_bo.cli.app import app
from nas_bo.errors import HostError, MissingExtra
from nas_bo.mlflow import tracking_uri
from nas_bo.optuna import studies
from nas_bo.strategies import Random
from tests.doors.postgres import database, server  # noqa: F401
from tests.problems import Toy, cost, loss


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def depth(arch):
    return float(arch.depth)


def test_both_spellings_and_the_driver_are_one_study(database):  # noqa: F811
    rest = database.partition("://")[2]
    for k, scheme in enumerate(("postgresql", "postgres", "postgresql+psycopg"), 1):
        url = f"{scheme}://{rest}"
        result = search(Toy, [depth], strategy=Random(seed=0), trials=k, storage=url, retrain=0)
        assert len(result.trials) == k and studies.names(url) == ["Toy"]
    status = CliRunner().invoke(app, ["status", database])
    assert status.exit_code == 0 and "Toy: 3 trials" in status.output and "postgres@" not in status.output
    tracking_uri.check(tracking_uri.resolve(f"postgres://{rest}"), 5)


def test_a_server_that_is_not_there_is_said_without_its_password():
    pytest.importorskip("psycopg")
    url = "postgresql://me:secret@127.0.0.1:1/d"
    for ask in (
        lambda: search(Toy, [depth], storage=url, trials=1),
        lambda: tracking_uri.check(tracking_uri.resolve(url), 2),
    ):
        with pytest.raises(HostError, match="127.0.0.1") as caught:
            ask()
        assert "secret" not in str(caught.value)


def test_a_missing_driver_is_one_line_with_the_command(monkeypatch):
    for name in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, name, None)
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        with pytest.raises(MissingExtra, match=r"pip install .*\[postgres\]'"):
            database_url.with_driver(f"{scheme}://u:p@h/d")
        done = CliRunner().invoke(app, ["status", f"{scheme}://u:p@h/d"])
        assert done.exit_code == 2 and len(done.stderr.strip().splitlines()) == 1 and "[postgres]" in done.stderr


def test_a_search_and_a_session_hold_one_connection_each(database):  # noqa: F811
    """Servers admit so many: what is looked at before a search or a session begins is closed again."""
    import gc

    import psycopg

    from nas_bo.workflows.ask_tell import AskTell

    def connections():
        with psycopg.connect(database) as connection:
            return connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            ).fetchone()[0]

    gc.disable()
    try:
        held = [
            search(Toy, [loss, cost], strategy=Random(seed=0), trials=2, retrain=0, storage=database).study
            for _ in range(2)
        ]
        assert connections() <= 2
        held += [AskTell(Toy, ["loss"], storage=database, study_name="asked") for _ in range(3)]
        assert connections() <= 5
        assert len(held) == 5
    finally:
        gc.enable()


def test_a_name_that_the_server_does_not_take_is_said_before_anything_is_evaluated(database):  # noqa: F811
    class Limit:
        name, unit, direction, cost = "l" * 600, "", "minimize", "analytic"
        at_most, at_least = 9.0, None

        def __call__(self, arch):
            return 1.0

    evaluated = []

    def noted(arch):
        evaluated.append(arch)
        return 1.0

    with pytest.raises(HostError, match=r"has 60. characters, and a database server takes 500; shorten it"):
        search(
            Toy,
            [noted],
            limits=[Limit()],
            strategy=Random(seed=0),
            trials=2,
            retrain=0,
            baseline=None,
            storage=database,
        )
    assert len(evaluated) <= 3  # the look before the search, at most


def test_what_the_server_refuses_is_one_message(database):  # noqa: F811
    study = search(Toy, [loss, cost], strategy=Random(seed=0), trials=2, retrain=0, storage=database).study
    with pytest.raises(
        HostError, match="refuses what was to be read or written .*too long.*names of up to 512 characters"
    ):
        study.set_user_attr("k" * 600, 1)
    study.set_user_attr("k", 1)
    assert study.user_attrs["k"] == 1


def test_a_right_that_is_missing_is_one_message(database):  # noqa: F811
    """Tables cannot be made, or are there and may not be read, or not be written."""
    psycopg = pytest.importorskip("psycopg")
    name = database.rpartition("/")[2]
    theirs = database.replace("postgres@", f"{name}_user@")
    wanted = {"strategy": Random(seed=0), "trials": 2, "retrain": 0}

    def refused() -> None:
        with pytest.raises(HostError, match="permission denied .*let the owner of the database grant it") as caught:
            search(Toy, [loss, cost], storage=theirs, **wanted)
        assert "\n" not in str(caught.value)

    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(f"create role {name}_user login")
        refused()
        search(Toy, [loss, cost], storage=database, **wanted)
        refused()
        owner.execute(f"grant select on all tables in schema public to {name}_user")
        refused()
        owner.execute(f"grant insert, update, delete on all tables in schema public to {name}_user")
        owner.execute(f"grant usage on all sequences in schema public to {name}_user")
        assert len(search(Toy, [loss, cost], storage=theirs, **{**wanted, "trials": 3}).trials) == 3
        owner.execute(f"drop owned by {name}_user")
        owner.execute(f"drop role {name}_user")
