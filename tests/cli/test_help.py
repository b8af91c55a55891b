"""`--help` of every command: whole sentences, and no word that is cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from nas_bo.cli.app import app, asked
from nas_bo.cli.help import GROUPS

OWN = "--help"  # click writes this one


def walked(command: Any, typed: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command with the words that are typed for it."""
    yield typed, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from walked(inner, (*typed, name))


COMMANDS = dict(walked(typer.main.get_command(app)))
each_command = pytest.mark.parametrize("typed", COMMANDS, ids=" ".join)


def helps(command: Any) -> list[tuple[str, str]]:
    """(name, help) of a command and of its parameters."""
    own = [(p.opts[0], p.help or "") for p in command.params if OWN not in p.opts]
    return [("the command", command.help or ""), *own]


def test_all_commands_are_walked():
    assert {("search",), ("status",), ("mlflow", "sync")} <= set(COMMANDS)
    assert sum(len(helps(c)) for c in COMMANDS.values()) > 100


@each_command
def test_every_help_is_in_whole_sentences(typed):
    wrong = [
        (name, text) for name, text in helps(COMMANDS[typed]) if not re.fullmatch(r"[A-Z'\"`].*\.", text, re.DOTALL)
    ]
    assert not wrong
    noted = [(name, text) for name, text in helps(COMMANDS[typed]) if re.search(r"^Repeatable|[Dd]efault: ", text)]
    assert not noted


@each_command
def test_no_word_of_a_help_is_cut(typed):
    shown = CliRunner().invoke(app, [*typed, OWN], env={"COLUMNS": "80"}, prog_name="nas-bo")
    assert shown.exit_code == 0 and max(map(len, shown.output.splitlines())) <= 80
    words = shown.output.split()
    for name, text in helps(COMMANDS[typed]):
        assert set(text.split()) <= set(words), name
    for inner in getattr(COMMANDS[typed], "commands", {}).values():
        assert set(inner.help.split("\n\n")[0].split(". ")[0].split()) <= set(words), inner.name


def test_a_command_by_itself_is_what_it_is_among_the_others():
    """Where the first word is a command's name no other is built, which is most of what a short command would do."""
    whole = typer.main.get_command(app).commands
    for name, command in whole.items():
        only = typer.main.get_command(asked([name, "--help"])).commands
        assert name in only and (len(only) == 1 or hasattr(command, "commands")), name
        assert [p.opts for p in only[name].params] == [p.opts for p in command.params], name
    for words in ([], ["--help"], ["serch"], ["--version"], [""]):
        assert asked(words) is app


def test_every_name_under_a_heading_is_an_option_of_that_command():
    for name, headings in GROUPS.items():
        there = {p.name for p in COMMANDS[name,].params}
        listed = [one for names in headings.values() for one in names]
        assert set(listed) <= there and len(listed) == len(set(listed)), name


def test_commands_with_many_options_have_headings():
    many = {" ".join(typed) for typed, command in COMMANDS.items() if len(command.params) > 9 and typed}
    assert many <= set(GROUPS), many - set(GROUPS)
