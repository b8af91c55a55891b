"""Whatever is wrong with an option is told by its name as typed, with the value, before anything is made."""

import re
from typing import get_type_hints

import optuna
import pytest
import typer
from typer.testing import CliRunner

from nas_bo.cli.app import app


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


WORDS = [
    "search --space nope", "search --space nope.py:X", "search --strategy nope", "search --objective nope", "search --target nope",
    "search --dtype nope", "search --baseline nope", "search --retrain -5", "search --device nope",
    "search --vocab-size -5", "search --max-memory nope", "search --max-latency-ms -5", "search --parameters-near nope",
    "search --adopt-after nope", "search --tokenizer nope", "search --data nope", "search --mlflow nope",
    "search --objective val_loss+nope", "search --objective nope:f", "validate --proxy nope", "validate --data nope",
    "validate --space nope", "validate --storage nope", "validate --tokenizer nope", "profile --dtype nope", "profile --phase nope",
    "profile --runtime nope", "profile --device nope", "profile --clock nope", "profile --space nope", "ask --space nope",
    "ask --strategy nope", "ask --at-most nope", "ask --at-least x=nope", "ask --storage nope", "devices --here --pictures p --phase nope",
    "devices pi5 --pictures p --dtype nope", "devices pi5 --pictures p --arch nope", "devices pi5 --pictures p --space nope",
    "rerun deadbeef --mlflow nope", "ui --mlflow nope", "ui --port -5",
]  # fmt: skip


@pytest.mark.parametrize("line", WORDS)
def test_a_wrong_word_is_told_by_its_option(line, tmp_path):
    *_, option, value = line.split()
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 2, done.output
    assert option in done.stderr and (value in done.stderr or "--port" in line), done.stderr
    assert not re.search(r"\b[A-Za-z]+\(\w+=", done.stderr), "it names an argument in Python"
    assert not list(tmp_path.iterdir())


def commands(group, path):
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, (*path, name))
        else:
            yield (*path, name), one


COMMANDS = dict(commands(typer.main.get_command(app), ()))  # once: their options are read out of their functions


def numeric():
    """Every option of every command that takes a number, by what Typer was given."""
    for path, command in COMMANDS.items():
        kinds = get_type_hints(command.callback)
        for p in command.params:
            if p.param_type_name == "option" and re.search(r"\b(int|float)\b", str(kinds.get(p.name))):
                yield [*path, p.opts[0]]


def arguments(words):
    """Something for each argument that the command needs."""
    return ["x"] * sum(p.param_type_name == "argument" and p.required for p in COMMANDS[tuple(words)].params)


NUMBERS = list(numeric())


def test_numbers_are_found():
    assert len(NUMBERS) >= 25 and ["search", "--budget"] in NUMBERS and ["ask", "--count"] in NUMBERS


@pytest.mark.parametrize("value", ["-5", "many", ""])
@pytest.mark.parametrize("words", NUMBERS, ids=" ".join)
def test_a_wrong_number_is_told_by_its_option(words, value, tmp_path):
    before = arguments(words[:-1])
    done = CliRunner().invoke(app, [*words[:-1], *before, words[-1], value])
    assert done.exit_code == 2, done.output
    assert words[-1] in done.stderr and not re.search(r"\b[A-Za-z]+\(\w+=", done.stderr), done.stderr
    assert done.stderr.startswith("nas-bo: ") and done.stderr.count("\n") == 1, "a paragraph, not the parser's usage"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "search --budget abc",
            "nas-bo: --budget 'abc': it must be a number such as 200000; see `nas-bo search --help`",
        ),
        (
            "search --trials=1.5",
            "nas-bo: --trials '1.5': it must be a whole number such as 40; see `nas-bo search --help`",
        ),
        ("serch", "nas-bo: no such command 'serch'; did you mean 'search'?; see `nas-bo --help`"),
        ("report x.db --jsno", "nas-bo: no such option: --jsno (Possible options: --json); see `nas-bo report --help`"),
        ("compare", "nas-bo: missing argument 'storages'; see `nas-bo compare --help`"),
        ("mlflow sync --x", "nas-bo: no such option: --x; see `nas-bo mlflow sync --help`"),
        ("search --objective", "nas-bo: option '--objective' requires an argument"),
    ],
)
def test_what_the_parser_refuses_is_one_line_of_ours(line, said):
    done = CliRunner().invoke(app, line.split(), prog_name="nas-bo")
    assert (done.exit_code, done.stderr.strip()) == (2, said)


def test_a_store_is_the_one_that_mlflows_own_variable_names(monkeypatch):
    """As in Python and in every program of MLflow; an option is stronger, and an empty variable names none."""
    default = {
        path: (command, option)
        for path, command in COMMANDS.items()
        for option in command.params
        if option.name == "mlflow" and option.default == "mlflow.db"
    }
    assert {("search",), ("ladder",), ("validate",), ("ui",), ("rerun",)} <= default.keys()
    cases = ("file:x", {}, "file:x"), ("file:x", {"mlflow": "a.db"}, "a.db"), ("", {}, "mlflow.db")
    for command, option in default.values():
        for variable, given, found in cases:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
            with command.context_class(command) as context:
                assert option.consume_value(context, given)[0] == found, (command.name, variable, given)
