"""The command `nas-bo`: arguments to `search()` and back, nothing else. Each command has a file in `command/`.

Exit codes: 0 done; 1 the search failed (for example, every trial did); 2 something is wrong with the arguments, the
data, the storage or the tracker, and nothing was started; 3 done, but no trial is feasible; 4 done, but not all
of it is in MLflow (`nas-bo mlflow sync` mends that); 130 interrupted.
"""

from __future__ import annotations

import os
import sys

import typer
from typer.core import TyperGroup

from nas_bo.command import warned
from nas_bo.command.again import register, rerun
from nas_bo.command.asking import ask, tell
from nas_bo.command.dashboard import dashboard
from nas_bo.command.devices import devices
from nas_bo.command.failure import errors, leave_at_once
from nas_bo.command.merging import merge
from nas_bo.command.mlflow import app as _mlflow
from nas_bo.command.profile import profile
from nas_bo.command.report import report
from nas_bo.command.search import search
from nas_bo.command.spaces import spaces
from nas_bo.command.ui import ui
from nas_bo.command.validate import validate


class _Commands(TyperGroup):
    """Ctrl-C is exit code 130 also where a command has nothing to say about it."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        with errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    help="Find language-model architectures that are good and cheap on a given device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(_mlflow, name="mlflow")


@app.callback()
def _begin(context: typer.Context) -> None:
    context.with_resource(warned.collecting())


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
    warned.to_the_end()
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        leave_at_once()
