"""The command `nas-bo`: arguments to `search()` and back, nothing else. Each command has a file in this folder.

Exit codes: 0 done; 1 the search failed (for example, every trial did, or the storage in the middle); 2 something is wrong with the arguments, the
data, the storage or the tracker, and nothing was started; 3 done, but no trial is feasible; 4 done and kept in the
storage, but not all of it is in MLflow (`nas-bo mlflow sync` fixes that), or the report could not be written (`nas-bo
report` writes it again); 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import nas_bo
from nas_bo.cli.commands import COMMANDS, GROUPS, Loaded
from nas_bo.cli.failure import end, leave_at_once
from nas_bo.cli.help import FIRST, WIDE, Commands
from nas_bo.cli.output import say

COMPLETING = "_NAS_BO_COMPLETE"  # the variable by which a shell asks for completions


def _version(wanted: bool) -> None:
    if wanted:
        say(f"nas-bo {nas_bo.__version__}")
        raise typer.Exit


def _begin(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        say(FIRST)
        return
    from nas_bo.cli import warnings_shown

    context.with_resource(warnings_shown.collecting())


def _of(*names: str) -> typer.Typer:
    """The command with these of its commands."""

    class Chosen(Commands):
        def __init__(self, **more: object) -> None:
            super().__init__(**{**more, "commands": Loaded(names)})  # type: ignore[arg-type]  # what typer passes on

    made = typer.Typer(
        cls=Chosen,
        context_settings=WIDE,
        help="Find language-model architectures that are good and cheap on a given device.",
        invoke_without_command=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    made.callback()(_begin)
    return made


app = _of(*COMMANDS, *GROUPS)


def asked(words: Sequence[str]) -> typer.Typer:
    """What reads `words`: the whole command, or where the first word is a command's name, one that knows only that."""
    return _of(words[0]) if words and words[0] in COMMANDS else app


QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1", "MLFLOW_LOGGING_LEVEL": "WARNING"}
"""Of other libraries, also in processes that are started from here; what the user has set stays."""


def main() -> None:
    """Entry point of the command; see the module for the exit codes."""
    if COMPLETING not in os.environ:
        from nas_bo.cli import warnings_shown

        for name, value in QUIET.items():
            os.environ.setdefault(name, value)

        warnings_shown.to_the_end()
    try:
        asked(sys.argv[1:])(prog_name="nas-bo")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except SystemExit as ended:
        leave_at_once()
        if isinstance(ended.code, int):
            end(ended.code)
        raise
    finally:
        leave_at_once()
