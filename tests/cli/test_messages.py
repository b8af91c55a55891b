"""What the command prints at its end: commands that can be copied, what is no time, and nothing that is over."""

import errno
import importlib
import py_compile
import re
import shlex

import optuna
import pytest
import typer
from typer.testing import CliRunner

from nas_bo.cli.app import app
from nas_bo.cli.failure import errors
from nas_bo.optuna import storages
from nas_bo.optuna.running import Running
from nas_bo.workflows.stored_result import unfinished
from tests.command import QUICK, mine


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_printed_commands_can_be_copied_from_a_folder_with_spaces(tmp_path, monkeypatch):
    folder = mine(tmp_path / "my runs; no") if (tmp_path / "my runs; no").mkdir() is None else None
    monkeypatch.chdir(folder)
    args = ["search", *QUICK, "--trials", "2", "--storage", "my study.db", "--mlflow", "none", "--out", "my out"]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    (command,) = re.findall(r"\((nas-bo report .*)\)", done.output)
    assert shlex.split(command) == ["nas-bo", "report", "my study.db"]
    assert CliRunner().invoke(app, shlex.split(command)[1:]).exit_code == 0


def test_a_bound_and_milliseconds_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(mine(tmp_path))
    args = [
        "--objective", "parameters", "--objective", "latency_ms", "--target", "pi5", "--target", "h100", "--trials",
        "3",
    ]  # fmt: skip
    words = ["search", "--workers", "1", "--retrain", "0", "--mlflow", "none", *args]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "latency_ms@pi5.roofline is a roofline bound" in done.output.replace("\n", " ")
    assert "not to be compared with milliseconds" in (tmp_path / "nas-bo-out/TinyGPT/front.html").read_text()
    lines = [line for line in done.stderr.splitlines() if line.startswith("search 1/")]
    assert "latency_ms@pi5.roofline (bound) " in lines[0] and "latency_ms@h100.roofline (bound)" not in lines[0]
    twice = CliRunner().invoke(app, ["compare", "nas-bo.db", "nas-bo.db"])
    assert twice.exit_code == 2 and "itself" in twice.stderr


def test_trials_elsewhere_are_told_with_the_moment():
    """What is told when a search begins is listed again when it ends, and may be over by then."""
    others = [Running(3, "process", "elsewhere", 123)]
    assert re.match(
        r"1 trial was being evaluated elsewhere when this search began \(.* UTC\)", unfinished(others, begins=True)
    )
    assert re.match(r"1 trial is still being evaluated elsewhere \(as of .* UTC\)", unfinished(others))
    assert re.match("2 trials are still", unfinished(others * 2))


@pytest.mark.parametrize(
    "same",
    [
        ("a.db", "a.db"),
        ("a.db", "./a.db"),
        ("a.db::one", "a.db"),
        ("sqlite:///a.db", "a.db"),
        ("b.db", "a.db", "link.db"),
    ],
)
def test_a_study_is_not_compared_with_itself(same, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        study = optuna.create_study(study_name="one", storage=storages.backend(f"{name}.db"))
        study.optimize(lambda t: t.suggest_float("x", 0, 1), 3)
    (tmp_path / "link.db").symlink_to("a.db")
    done = CliRunner().invoke(app, ["compare", *same])
    assert done.exit_code == 2 and "compared with itself" in done.stderr and "'one'" in done.stderr
    assert CliRunner().invoke(app, ["compare", "a.db", "b.db"]).exit_code == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("/x/_rotation_cy.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_where_there_is_no_memory_it_is_said(error, capsys):
    with pytest.raises(typer.Exit), errors():
        raise error
    said = capsys.readouterr().err
    assert "no memory left" in said and "the same command continues" in said and said.count("\n") == 1


@pytest.mark.parametrize("error", [ImportError("no module named x"), OSError(errno.EACCES, "denied")])
def test_other_errors_are_not_taken_for_that(error):
    with pytest.raises(type(error)), errors():
        raise error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "9" * 400], "no"),
        (["report", "9" * 400], "no"),
        (["generate", "9" * 400, "def "], "longer than the name of a file"),
        (["search", "--trials", "9" * 400], "--trials beyond 1e300: it must be a whole number of at least 1"),
        (["search", "--trials", f"-{'9' * 400}"], "--trials beyond 1e300"),
    ],
)
def test_words_longer_than_anything_are_refused_in_one_paragraph(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2 and isinstance(found.exception, SystemExit), found.exception
    assert said in found.output and "Traceback" not in found.output


def test_swapped_and_wrong_files_are_said_and_nothing_is_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "mine.json").write_text("{")
    for words, said in (
        (["generate", "def ", "out"], "the folder comes first, then the text, as in nas-bo generate out 'def '"),
        (["profile", "--out", "mine.json"], "'mine.json' holds no profile and is not overwritten"),
        (["search", "--baseline", "mine.json"], "--baseline mine.json: that file holds no architecture"),
        (
            ["search", "--baseline", "none", "--baseline", "standard"],
            "--baseline standard with --baseline none: leave one",
        ),
        (["search", "--baseline", "none", "--no-baseline"], "--baseline none with --no-baseline: leave one"),
        (["spaces", "tiny_gpt", "--study", "x"], "only `nas-bo spaces inspect SPACE` takes more"),
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2 and said in done.stderr, done.output
    assert (tmp_path / "mine.json").read_text() == "{"


def test_a_pick_of_a_study_without_trainings_says_nothing_about_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = optuna.create_study(study_name="one", storage=storages.backend("a.db"))
    study.optimize(lambda t: t.suggest_float("x", 0, 1), 2)
    done = CliRunner().invoke(app, ["report", "a.db", "--pick", "best:value"])
    assert done.exit_code == 0 and "trained" not in done.stdout


def test_a_full_disk_and_a_damaged_compiled_file_are_reported(tmp_path, monkeypatch):
    """Python leaves half of a compiled file where the disk is full, and cannot read it afterwards."""

    def full(*_more):
        raise OSError(errno.ENOSPC, "No space left on device", "a.png")

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("nas_bo.cli.resolve.stored", full)
    done = CliRunner().invoke(app, ["report", "a.db"])
    assert done.exit_code == 2 and "nas-bo: 'a.png': No space left on device. Free space" in done.stderr
    (tmp_path / "half_compiled.py").write_text("x = 1\n")
    compiled = py_compile.compile(str(tmp_path / "half_compiled.py"), doraise=True)
    with open(compiled, "r+b") as file:
        file.truncate(20)
    monkeypatch.setattr("nas_bo.cli.resolve.stored", lambda *_more: importlib.import_module("half_compiled"))
    done = CliRunner().invoke(app, ["report", "a.db"])
    assert done.exit_code == 2 and f"the compiled Python file {compiled!r} is damaged" in done.stderr, done.output
