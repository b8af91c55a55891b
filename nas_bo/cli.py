"""The command `nas-bo`: arguments to `search()` and back, nothing else. Each command has a file in `command/`.

Exit codes: 0 done; 1 the search failed (for example, every trial did); 2 something is wrong with the arguments, the
data, the storage or the tracker, and nothing was started; 3 done, but no trial is feasible; 130 interrupted.
"""

from __future__ import annotations

import os
import sys

import typer

from nas_bo.command.again import register, rerun
from nas_bo.command.asking import ask, tell
from nas_bo.command.dashboard import dashboard
from nas_bo.command.devices import devices
from nas_bo.command.merging import merge
from nas_bo.command.mlflow import app as _mlflow
from nas_bo.command.profile import profile
from nas_bo.command.report import report
from nas_bo.command.search import search
from nas_bo.command.spaces import spaces
from nas_bo.command.ui import ui
from nas_bo.command.validate import validate

app = typer.Typer(
    help="Find language-model architectures that are good and cheap on a given device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(_mlflow, name="mlflow")

app.command()(search)
app.command()(validate)
app.command()(report)
app.command()(spaces)
app.command()(devices)
app.command()(ui)
app.command()(profile)
app.command()(dashboard)
app.command()(ask)
app.command()(tell)
app.command()(merge)
app.command()(rerun)
app.command()(register)


def main() -> None:
    """Entry point of the command; see the module for the exit codes."""
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
