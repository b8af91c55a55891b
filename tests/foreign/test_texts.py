"""Names, messages and notes of others: no control character reaches a terminal, no text breaks a report, nothing is without an end."""

from __future__ import annotations

import json
import math
import os
import pickle

import optuna
import pytest
from typer.testing import CliRunner

from nas_bo import Space, choice, large_info, safe_text, search, study_name
from nas_bo.cli.app import app
from nas_bo.errors import ExportError, MissingExtra
from nas_bo.execution.executor import evaluate
from nas_bo.objective import Value
from nas_bo.optuna import studies
from nas_bo.problem import Problem
from nas_bo.strategies import Random
from nas_bo.workflows.stored_result import load_result
from tests.command import QUICK, mine, nas_bo

optuna.logging.set_verbosity(optuna.logging.ERROR)

ODD = [
    "/x",
    "..",
    "../../x",
    "a\0b",
    "two\nlines",
    "\x1b[31mred\x1b[0m",
    "con",
    "COM¹.txt",
    "x" * 300,
    "\u202egnp.exe",
    "a\u200fb",
    "half \ud800",
    "C:\\x",
    " ",
    "",
    "\r",
    "~",
    "\x9b31m",
]
UNSAFE = {chr(c) for c in (*range(32), *range(0x7F, 0xA0), 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2028)} - {
    "\n",
    "\t",
}


class Small(Space):
    a = choice(1, 2, 3, 4)


class Rude(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError("no text")


def safe(text: str) -> bool:
    return not (UNSAFE & set(text)) and not any("\ud800" <= c <= "\udfff" for c in text)


@pytest.mark.parametrize("name", ODD)
def test_one_function_makes_a_name_of_a_file_of_any_name(name, tmp_path):
    made = study_name.file_name(name)
    path = tmp_path / made
    path.write_text("x")
    assert path.resolve().parent == tmp_path.resolve() and len(os.fsencode(made)) <= 120 and safe(made)
    assert made == study_name.file_name(name) and made.partition(".")[0].lower() not in study_name.RESERVED
    assert len({study_name.file_name(other) for other in ODD}) == len(ODD)


@pytest.mark.parametrize("name", ODD)
def test_text_that_is_shown_is_safe(name):
    assert safe(safe_text.printable(name)) and "\n" not in safe_text.printable(name)
    assert safe(safe_text.lines(name)) and safe(safe_text.message(ValueError(name)))
    safe_text.printable(name).encode()


def test_what_an_exception_says_is_bounded_and_never_raises():
    assert "ZeroDivisionError" in safe_text.told(Rude()) and safe_text.told(Rude()).startswith("Rude: ")
    assert len(safe_text.message(ValueError("x" * 10**6))) == safe_text.LONGEST_MESSAGE
    assert safe_text.told(KeyError()) == "KeyError"


@pytest.mark.parametrize("name", ["../../x\x1b[31mred\nline\x9b31m", "\u202ea\u200fb" + "x" * 300])
def test_reports_of_a_study_of_any_name(name, tmp_path, monkeypatch):
    """As another program has made it; its parameters and metrics are called like it, too."""
    monkeypatch.chdir(tmp_path)
    study = optuna.create_study(study_name=name, storage="sqlite:///s.db")
    study.set_metric_names([name or "m"])
    study.set_user_attr(name, name)
    study.optimize(lambda trial: trial.suggest_float(name or "p", 0, 1), n_trials=2)
    for args in (["report", "s.db", "--out", "out"], ["status", "s.db"]):
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 0, done.output
        assert safe(done.output)
    made = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix in (".html", ".svg", ".csv", ".md")]
    assert len(made) >= 3 and all((tmp_path / "out") in p.parents for p in made)
    assert all(safe(p.read_text(encoding="utf-8").replace("\r", "")) for p in made)


def rude(arch):
    raise {1: Rude(), 2: ValueError("half \ud800 and \x1b[2J"), 3: KeyError("x" * 10**5), 4: OSError("a\0b")}[arch.a]


def noted(arch):
    more = {
        "half \ud800": "\udfff",
        "bad": math.nan,
        "worse": [math.inf],
        "deep": deep(500),
        "own": object(),
        "key": {1: 2},
    }
    return Value(float(arch.a), how="\x1b[31mred", **more)


def deep(levels: int) -> list:
    made: list = []
    for _ in range(levels):
        made = [made]
    return made


def much(arch):
    return Value(float(arch.a), curve=[[i, 0.5] for i in range(200_000)], note="short")


def quits(arch):
    raise SystemExit(Rude())


@pytest.mark.parametrize(("objective", "storage"), [(rude, "s.db"), (noted, "s.log")])
def test_a_search_and_its_report_survive_whatever_an_objective_says(objective, storage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = search(Small, [objective], trials=4, strategy=Random(), storage=storage, retrain=0)
    assert len(found.trials) == 4
    found.save(tmp_path / "out")  # every page and picture
    assert safe(str(found)) and all(safe(t.reason) for t in found.trials)
    for path in (tmp_path / "out").iterdir():
        if path.suffix != ".png":
            assert safe(path.read_text(encoding="utf-8").replace("\r", "")), path
    json.loads((tmp_path / "out" / "result.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    if objective is rude:
        assert {t.state.value for t in found.trials} == {"failed"} and any("__str__" in t.reason for t in found.trials)


def test_an_exit_with_an_odd_reason_fails_its_trial():
    trial = evaluate(Problem(Small, [quits]), Small.sample(0))
    assert trial.state.value == "failed" and trial.reason.startswith("SystemExit")


# ---- what is too long for a study -------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["s.log"])
def test_what_is_too_long_goes_into_a_file_beside_the_study_and_into_mlflow(storage, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    found = search(Small, [much], trials=2, strategy=Random(), storage=storage, retrain=0)
    study = studies.load(storage)
    for frozen in study.trials:
        assert sum(len(str(v)) for v in frozen.user_attrs.values()) < 1.2 * large_info.MOST
        (path,) = (tmp_path / "s_info").rglob(f"{frozen.number:06d}.json")
        assert json.loads(path.read_text())["much"]["curve"][7] == [7, 0.5]
    assert all(t.info["much"]["note"] == "short" and t.info["much"]["left_out"] == ["curve"] for t in found.trials)
    assert "went into" in caplog.text
    from nas_bo.mlflow import content
    from nas_bo.study import source

    one = source(study).trial(0)
    assert json.loads(content.of_trial(source(study).head(), one).files["info.json"])["much"]["curve"]
    one.rest.unlink()
    assert "info.json" not in content.of_trial(source(study).head(), one).files
    assert load_result(storage).trials[0].info["much"]["note"] == "short"


def test_the_longest_is_left_out_first():
    info = {"a": {"x": "1" * 60, "y": "2" * 30, "z": 1}, "b": {"w": "3" * 50}}
    kept, rest = large_info.split(info, 100)
    assert rest == {"a": {"x": "1" * 60}} and kept["b"] == info["b"] and kept["a"]["left_out"] == ["x"]
    assert large_info.split(info) == (info, {}) and "x" in info["a"]


# ---- stdout -----------------------------------------------------------------------------------------------------------


LOUD = """
import os, subprocess, sys, ctypes
from nas_bo import Space, choice
class Loud(Space):
    a = choice(1, 2, 3)
def noise(arch):
    print("from Python")
    sys.__stdout__.write("from the real one\\n"); sys.__stdout__.flush()
    os.write(1, b"from the system\\n")
    ctypes.CDLL(None).puts(b"from C")
    subprocess.run([sys.executable, "-c", "print('from a child')"])
    return float(arch.a)
"""


@pytest.mark.skipif(os.name != "posix", reason="C as it is on POSIX")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_an_objective_prints_is_in_no_answer(workers, tmp_path):
    (tmp_path / "loud.py").write_text(LOUD)
    args = ["search", "--space", "loud.py:Loud", "--objective", "loud.py:noise", "--trials", "2", "--workers", workers]
    done = nas_bo(*args, "--retrain", "0", "--mlflow", "none", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["front"]) == 1
    for words in ("from Python", "from the real one", "from the system", "from C", "from a child"):
        assert words in done.stderr, words


def test_a_study_name_on_the_command_line_changes_no_terminal(tmp_path):
    mine(tmp_path)
    for name in ("\x1b]0;x\x07", "a\nb", "\u202eb"):
        done = nas_bo("search", *QUICK, "--trials", "1", "--mlflow", "none", "--study", name, cwd=tmp_path)
        assert done.returncode == 2 and safe(done.stderr + done.stdout) and len(done.stderr.splitlines()) == 1


def test_the_message_of_an_error_is_one_line_whatever_it_quotes():
    quoted = "Error(s) in loading:\n\tMissing key(s): a.\r\n  Unexpected: b\u2028."
    for error in (
        ExportError(f"the files do not fit together ({quoted}); train it again"),
        MissingExtra("a\nb", "models"),
    ):
        assert len(str(error).splitlines()) == 1
    assert str(ExportError("two  spaces stay")) == "two  spaces stay"
    assert pickle.loads(pickle.dumps(ExportError("a\nb"))).args == ("a b",)
