"""What the command says when something is wrong or it is interrupted, and its exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import typer

from nas_bo.cli.typed_options import by_option
from nas_bo.errors import EverythingFailed, NasBoError, SearchError

INTERRUPTED = 130


@contextmanager
def errors(interrupted: str | Callable[[], str] = "interrupted") -> Iterator[None]:
    """One clear paragraph on stderr and the right exit code, for every error that is the library's own.

    Args:
        interrupted: what Ctrl-C within this means, or what says so then.
    """
    try:
        yield
    except SearchError as error:
        typer.echo(f"nas-bo: {by_option(str(error))}", err=True)
        raise typer.Exit(1 if isinstance(error, EverythingFailed) else 2) from None
    except NasBoError as error:
        typer.echo(f"nas-bo: {by_option(str(error))}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        _hurry()
        typer.echo(f"nas-bo: {interrupted if isinstance(interrupted, str) else interrupted()}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def refuse_empty(arguments: Sequence[str]) -> None:
    """Raise SearchError where an option or argument is empty, which a variable of a shell easily is."""
    for at, text in enumerate(arguments):
        name, equals, value = text.partition("=")
        if text.strip() and not (equals and name.startswith("--") and not value.strip()):
            continue
        before = arguments[at - 1] if at else ""
        what = name if text.strip() else before if before.startswith("-") else f"the argument after {before!r}"
        raise SearchError(f"{what} is empty; give a value, or leave it out for the default")


def leave_at_once() -> None:
    """From now on Ctrl-C ends the process without a traceback, while it waits for what runs when it exits."""
    signal.signal(signal.SIGINT, _leave)


def _leave(*_: object) -> None:
    sys.stdout.flush()
    os._exit(INTERRUPTED)


def _hurry() -> None:
    """What waits for MLflow is on the disk: the end of the process need not wait for it."""
    tracker = sys.modules.get("nas_bo.mlflow.tracker")
    if tracker is not None:
        tracker.hurry()
