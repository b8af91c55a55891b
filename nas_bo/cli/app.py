"""The command `nas-bo`: arguments to `search()` and back, nothing else. Each command has a file in `command/`.

Exit codes: 0 done; 1 the search failed (for example, every trial did, or the storage in the middle); 2 something is wrong with the arguments, the
data, the storage or the tracker, and nothing was started; 3 done, but no trial is feasible; 4 done and kept in the
storage, but not all of it is in MLflow (`nas-bo mlflow sync` fixes that), or the report could not be written (`nas-bo
report` writes it again); 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from nas_bo.cli import warnings_shown
from nas_bo.cli.ask import ask, tell
from nas_bo.cli.compare import compare
from nas_bo.cli.compress import compress
from nas_bo.cli.dashboard import dashboard
from nas_bo.cli.devices import devices
from nas_bo.cli.export import export
from nas_bo.cli.failure import leave_at_once
from nas_bo.cli.generate import generate
from nas_bo.cli.help import WIDE, Commands, Grouped
from nas_bo.cli.merge import merge
from nas_bo.cli.mlflow import app as _mlflow
from nas_bo.cli.profile import profile
from nas_bo.cli.report import report
from nas_bo.cli.rerun import register, rerun
from nas_bo.cli.search import search
from nas_bo.cli.spaces import spaces
from nas_bo.cli.status import status
from nas_bo.cli.train import train
from nas_bo.cli.ui import ui
from nas_bo.cli.validate import validate


def _empty() -> typer.Typer:
    return typer.Typer(
        cls=Commands,
        context_settings=WIDE,
        help="Find language-model architectures that are good and cheap on a given device.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


app = _empty()
app.add_typer(_mlflow, name="mlflow")


@app.callback()
def _begin(context: typer.Context) -> None:
    context.with_resource(warnings_shown.collecting())


app.command(cls=Grouped, context_settings=WIDE)(search)
app.command(cls=Grouped, context_settings=WIDE)(validate)
app.command(cls=Grouped, context_settings=WIDE)(report)
app.command(cls=Grouped, context_settings=WIDE)(compare)
app.command(cls=Grouped, context_settings=WIDE)(spaces)
app.command(cls=Grouped, context_settings=WIDE)(devices)
app.command(cls=Grouped, context_settings=WIDE)(ui)
app.command(cls=Grouped, context_settings=WIDE)(profile)
app.command(cls=Grouped, context_settings=WIDE)(dashboard)
app.command(cls=Grouped, context_settings=WIDE)(ask)
app.command(cls=Grouped, context_settings=WIDE)(tell)
app.command(cls=Grouped, context_settings=WIDE)(merge)
app.command(cls=Grouped, context_settings=WIDE)(status)
app.command(cls=Grouped, context_settings=WIDE)(rerun)
app.command(cls=Grouped, context_settings=WIDE)(register)
app.command(cls=Grouped, context_settings=WIDE)(train)
app.command(cls=Grouped, context_settings=WIDE)(generate)
app.command(cls=Grouped, context_settings=WIDE)(export)
app.command(cls=Grouped, context_settings=WIDE)(compress)


def asked(words: Sequence[str]) -> typer.Typer:
    """What reads `words`: the whole command, or where the first word is a command's name, one that knows only that.

    To read the options of all others out of their functions takes most of the time of a short command.
    """
    named = [one for one in app.registered_commands if one.callback and words[:1] == [one.callback.__name__]]
    if not named:
        return app
    only = _empty()
    only.registered_callback, only.registered_commands = app.registered_callback, named
    return only


def main() -> None:
    """Entry point of the command; see the module for the exit codes."""
    warnings_shown.to_the_end()
    try:
        asked(sys.argv[1:])()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        leave_at_once()
