"""Errors of the library name arguments of Python; the command shows its own options instead."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

import nas_bo
from nas_bo.cli.app import app
from nas_bo.cli.commands import COMMANDS, Loaded
from nas_bo.cli.typed_options import ALSO, by_option, remembered
from nas_bo.optuna.storages import backend

EVERY = {"storage": "--storage", "seeds": "--seeds", "mlflow": "--mlflow", "target": "--target", "data": "--data", "tokens": "--tokens",
    "prune": "--prune", "bits": "--bits", "gpus_per_trial": "--gpus-per-trial", "heads": "--heads"}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("validate(history='x'): that study was not made", "--storage my.db: that study was not made"),
        ("validate(track=...): give its study as history=...", "--mlflow: give its study as --storage"),
        ("validate(seeds=3): use seeds=1, or a dataclass", "--seeds: use --seeds 1, or a dataclass"),
        ("validate(): two proxies are alike", "two proxies are alike"),
        ("take modelled energy: Energy(target=...)", "take modelled energy: --target"),
        ("on 2 GPUs; give Ray(num_gpus=2)", "on 2 GPUs; give --gpus-per-trial 2"),
        ("give one with corpus= (--data)", "give one with --data"),
        ("such as tokens=1e6 (--tokens), or leave it out", "such as --tokens 1e6, or leave it out"),
        ("give it with --mlflow (track=), by default", "give it with --mlflow, by default"),
        ("give bits, such as bits=4, or both (--bits)", "give bits, such as --bits 4, or both (--bits)"),
        ("attention with heads=3 does not divide width=32", "attention with heads=3 does not divide width=32"),
        ("allow it: --data x, or in Python data=[...] of Y", "allow it: --data x, or in Python data=[...] of Y"),
        ("the trial has latency_ms<=2 and data_share=0.1", "the trial has latency_ms<=2 and data_share=0.1"),
    ],
)  # fmt: skip
def test_arguments_are_shown_as_options(text, shown):
    with remembered({"storage": ("--storage", "my.db")}, EVERY):
        assert by_option(text) == shown
    assert by_option(text.partition(": ")[2] or text)  # no command runs: nothing is known


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("none", "none of 300 architectures is within"),
        ("2", "2 of 3 trials failed"),
        ("1", "the nearest misses peak_bytes<=1.5e+06"),
        ("4", "the nearest misses latency_ms<=4 by .2"),
    ],
)
def test_a_text_that_begins_with_the_word_of_an_option_is_not_about_it(value, text):
    with remembered({"mlflow": ("--mlflow", value)}, EVERY):
        assert by_option(text) == text
        assert by_option(f"{value}: nobody answers") == f"--mlflow {value}: nobody answers"


def test_a_study_of_somebody_else_is_refused_by_its_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optuna.create_study(study_name="one", storage=backend("a.db")).optimize(lambda t: t.suggest_float("x", 0, 1), 1)
    done = CliRunner().invoke(app, ["validate", "--storage", "a.db"])
    assert done.exit_code == 2 and done.stderr.startswith(
        "nas-bo: --storage a.db: the study 'one' was not made by nas_bo"
    )
    assert "history" not in done.stderr


CALLED = {
    "validate": ["validate"],
    "ladder": ["ladder"],
    "compress": ["compress"],
    "rerun": ["rerun"],
    "profile": ["profile"],
}
PYTHON_ONLY = {"keep", "settings", "draws", "proxies", "on_progress", "rules"}


def _heads():
    """(function, argument) of messages that begin with them."""
    for file in Path(nas_bo.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                first = node.exc.args[0]
                text = first.values[0] if isinstance(first, ast.JoinedStr) and first.values else first
                if isinstance(text, ast.Constant) and (found := re.match(r"(\w+)\((\w+)=", str(text.value))):
                    yield found[1], found[2]


def test_messages_of_what_a_command_calls_begin_with_arguments_that_it_has_options_for():
    commands = Loaded(tuple(COMMANDS))
    found = sorted({(who, what) for who, what in _heads() if who in CALLED and what not in PYTHON_ONLY})
    assert len(found) > 5
    for who, what in found:
        names = {p.name for command in CALLED[who] for p in commands[command].params}
        assert names & set(ALSO.get(what, (what,))), (
            f"{who}({what}=): no option of nas-bo {who} is that; add it to ALSO"
        )
