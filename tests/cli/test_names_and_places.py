"""Paths, URLs and study names as users write them: everything lands where it is said to, or one paragraph refuses it."""

import os
import sqlite3
from pathlib import Path

import optuna
import pytest
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from nas_bo import AskTell, database_url, search, study_name
from nas_bo.cli.app import app
from nas_bo.errors import HostError, NasBoError, SearchError
from nas_bo.mlflow import Tracker, beside, tracking_uri
from nas_bo.optuna import merge, studies
from nas_bo.strategies import Random
from tests.problems import Toy

ODD = ["a?b", "a%20b", "a%3Fb", "a#b", "a b", "ü@:é", "x{y}", "100%", "a&mode=ro", "a'b", "[z]*", "-v"]
NAMES = [
    "../up",
    "/x",
    "a/b",
    "..",
    ".hidden",
    "CON",
    "nul.txt",
    "x" * 300,
    "é" * 200,
    "50% off?",
    "a\\b",
    "artifacts",
    ".",
]


SEARCH = [
    "search", "--space", "tests.problems:Toy", "--mlflow", "none", "--retrain", "0", "--strategy", "random",
    "--workers", "1", "--storage", "s.db", "--out", "out",
]  # fmt: skip


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def depth(arch):
    return float(arch.depth)


def run(storage, **more):
    return search(Toy, [depth], **{"strategy": Random(seed=0), "trials": 1, "storage": storage, "retrain": 0, **more})


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


@pytest.mark.parametrize("name", ODD)
def test_a_path_is_taken_as_it_stands(name, tmp_path, monkeypatch):
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    for path in (folder / f"{name}.db", str(folder / f"{name}.log"), f"rel {name}.db", Path(f"{name}.sqlite")):
        run(path)
        assert len(studies.load(path).trials) == 1 and studies.names(path) == ["Toy"]
        assert len(run(path).trials) == 1
    assert files(tmp_path) == sorted(
        f"{name}/{f}" for f in (f"{name}.db", f"{name}.log", f"rel {name}.db", f"{name}.sqlite")
    )
    shown = CliRunner().invoke(app, ["status", f"./{name}.db"])
    assert shown.exit_code == 0 and "Toy: 1 trial, " in shown.output
    for path in (folder / f"{name}.db", f"{name}.db"):
        url = database_url.sqlite_url(path)
        assert make_url(url).database == str(folder / f"{name}.db")
        assert database_url.sqlite_file(url) == folder / f"{name}.db"
        read = database_url.sqlite_url(path, mode="ro")
        assert database_url.sqlite_file(read) == folder / f"{name}.db"
        assert (
            len(
                optuna.load_study(
                    study_name="Toy", storage=database_url.with_driver(read).replace("{", "{{").replace("}", "}}")
                ).trials
            )
            == 1
        )
        assert (
            tracking_uri.database(tracking_uri.resolve(path))
            == folder / f"{name}.db"
            == tracking_uri.database(tracking_uri.resolve(tracking_uri.resolve(path)))
        )
        assert beside(path) == folder / "mlflow_spool" == beside(url)


def test_the_tracker_and_the_report_land_there_too(tmp_path, monkeypatch):
    folder = tmp_path / "a?b %20#{x}"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    track = folder / "m?l%41.db"
    result = run(folder / "s.db", track=str(track))
    assert (
        result.url
        and files(tmp_path)[0].startswith(folder.name)
        and {p.name for p in tmp_path.iterdir()} == {folder.name}
    )
    with sqlite3.connect(track) as database:
        assert database.execute("select count(*) from runs").fetchone()[0] == 2
    assert Tracker(uri=track).log_study(result.study) == 0  # it finds what is there


def test_urls_mean_what_sqlalchemy_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url, file in (
        ("sqlite:///one.db", "one.db"),
        (f"sqlite:///{tmp_path}/two.db", "two.db"),
        ("sqlite:///th%3Free.db", "th?ree.db"),
        (f"sqlite:///file:{tmp_path}/four.db?uri=true", "four.db"),
        ("sqlite:///file:five.db?mode=rwc&uri=true", "five.db"),
        ("file:six.db?mode=rwc", "six.db"),
        ("sqlite:///seven.db?timeout=3", "seven.db"),
    ):
        run(url)
        assert (tmp_path / file).stat().st_size > 0 and len(studies.load(url).trials) == 1, url
    assert len(studies.load("sqlite:///file:one.db?mode=ro&uri=true").trials) == 1
    with pytest.raises(HostError, match=r"readonly database \(mode=ro in its URL\)"):  # at once
        run("sqlite:///file:one.db?mode=ro&uri=true", study_name="new")


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("sqlite:///a?b.db", "after a `[?]`, which begins the options in a URL"),
        ("sqlite:///a.db?colour=red", "'colour' after a `[?]`"),
        ("nonsense://x", "a kind of database that SQLAlchemy does not know"),
        ("mysql+mysqldb://u:secret@h/d", "needs the package 'MySQLdb'.*pip install mysqlclient"),
        ("postgresql+psycopg2://u:secret@h/d", "needs the package 'psycopg2'"),
        ("postgresql://u:se/cret@h:x/d", "not a URL of a database"),
        ("a?b.txt", "neither a URL .* nor a file ending in .db"),
        ("none/a.db", "is missing or read-only"),
    ],
)
def test_what_is_no_storage_is_said_and_no_password_with_it(storage, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NasBoError, match=says) as caught:
        run(storage)
    assert "cret" not in str(caught.value) and files(tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_study_may_be_called_anything_that_can_be_printed(name, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    done = CliRunner().invoke(app, [*SEARCH, "--objective", f"{__name__}:depth", "--trials", "1", "--study", name])
    assert done.exit_code == 0, done.output
    found = files(tmp_path)
    folders = {f.split("/")[2] for f in found if f != "in/s.db"}
    assert len(folders) == 1 and all(f.startswith("in/out/") or f == "in/s.db" for f in found)
    assert optuna.get_all_study_names("sqlite:///s.db") == [name]


def test_names_of_files_are_one_rule():
    made = [
        study_name.file_name(name)
        for name in [*NAMES, "TinyGPT", "TinyGPT-seed3", "a b", "a\nb", "\udcff", "a/b ", "a_b"]
    ]
    assert len(set(made)) == len(made) and all(len(m.encode()) <= 100 for m in made)
    for m in made:
        assert m not in (".", "..") and not set(m) & set('/\\:*?"<>|%#\n\0') and m.strip(". ") == m
    assert study_name.file_name("TinyGPT-seed3") == "TinyGPT-seed3" and study_name.file_name("a b") == "a b"


@pytest.mark.parametrize(
    "name", ["a\nb", "a\0b", "\x1b[31mred", "x" * 501, "", "  ", "\u202egnp", "\udcff", 3, "a\u2028b"]
)
def test_other_names_are_refused_before_anything_starts(name, tmp_path):
    path = tmp_path / "s.db"
    for make in (
        lambda: run(path, study_name=name),
        lambda: AskTell(Toy, ["x"], storage=path, study_name=name),
        lambda: merge([run(None).study], str(path), name),
    ):
        with pytest.raises(SearchError, match="the study name") as caught:
            make()
        assert str(caught.value).isprintable()
    assert not path.exists()


def test_a_name_of_somebody_else_is_printed_without_its_control_characters(tmp_path):
    path = tmp_path / "s.db"
    study = optuna.create_study(study_name="a\x1b[31m\nb", storage=f"sqlite:///{path}")
    study.optimize(lambda t: t.suggest_float("x\x1b", 0, 1), n_trials=2)
    for words in (
        ["report", str(path), "--out", str(tmp_path / "out")],
        ["status", str(path)],
        ["report", str(path), "--study", "c"],
    ):
        done = CliRunner().invoke(app, words)
        assert "\x1b" not in done.output and "a\nb" not in done.output
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_report_that_cannot_be_written_at_the_end_is_no_failed_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*SEARCH, "--objective", f"{__name__}:in_the_way", "--trials", "2", "--study", "s"])
    assert done.exit_code == 4, done.output
    assert "the search is done and kept in s.db" in done.stderr and "cannot be written" in done.stderr
    assert len(studies.load("s.db").trials) == 2
    os.remove("out/s")
    assert CliRunner().invoke(app, ["report", "s.db", "--out", "out"]).exit_code == 0


def in_the_way(arch):
    Path("out").mkdir(exist_ok=True)
    Path("out/s").write_text("a file where the folder of the report should be")
    return float(arch.depth)


def test_what_is_refused_leaves_no_folder_and_a_storage_of_two_is_named(tmp_path):
    from tests.command import nas_bo

    done = nas_bo("search", "--mlflow", "none", "--trials", "0", cwd=tmp_path)
    assert done.returncode == 2 and list(tmp_path.iterdir()) == []
    from nas_bo.optuna.storages import several

    for name in ("one", "two"):
        optuna.create_study(study_name=name, storage=f"sqlite:///{tmp_path}/two.db")
        assert several(str(tmp_path / "two.db")) is (name == "two")
    assert several(str(tmp_path / "none.db")) is False


def test_a_study_and_mlflow_in_one_file_are_refused_before_either_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for storage, track in (("a?.db", "a?.db"), (tmp_path / "b.db", f"sqlite:///{tmp_path}/b.db")):
        with pytest.raises(SearchError, match="both to be kept in"):
            search(Toy, [lambda_free], trials=2, retrain=0, storage=storage, track=track)
    assert list(tmp_path.iterdir()) == []


def lambda_free(arch) -> float:
    return float(arch.width)


def test_what_is_no_storage_is_told_from_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("here.db")
    (tmp_path / "folder").mkdir()
    run(tmp_path / "folder" / "inside.log")
    for words, said in (
        (
            ["report", "none.db"],
            "there is no file 'none.db'; give the storage that `nas-bo search` printed; there is here.db",
        ),
        (
            ["report", "folder"],
            "the storage 'folder' is a folder; give the file of a study, such as nas-bo.db; there is folder/inside.log",
        ),
        (["status", "folder/"], "is a folder"),
        (["search", "--storage", "folder"], "is a folder"),
        (["status", "here.db", "--study", "none"], "the storage holds no study 'none'; there are: Toy"),
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2 and said in done.stderr, done.output


def test_neither_a_study_nor_runs_are_put_into_a_database_of_something_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("theirs.db")
    before = database_url.tables(tmp_path / "theirs.db")
    for words in (["rerun", "x", "--mlflow", "theirs.db"], ["ui", "--mlflow", "theirs.db"]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2 and "holds studies of Optuna, no runs of MLflow" in done.stderr, done.output
    with pytest.raises(HostError, match="holds studies of Optuna"):
        run("mine.db", track="theirs.db")
    with pytest.raises(HostError, match="holds studies of Optuna"):
        tracking_uri.connect(tracking_uri.resolve("theirs.db"))
    assert database_url.tables(tmp_path / "theirs.db") == before and not (tmp_path / "mine.db").exists()
    with sqlite3.connect("runs.db") as database:
        database.execute("CREATE TABLE experiments (name TEXT)")
    with pytest.raises(HostError, match="holds runs of MLflow and no studies"):
        run("runs.db")
    assert database_url.tables(tmp_path / "runs.db") == {"experiments"}
