"""What the command says when something is wrong, and its exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from nas_bo.errors import EverythingFailed, NasBoError, SearchError


@contextmanager
def errors() -> Iterator[None]:
    """One clear paragraph on stderr and the right exit code, for every error that is the library's own."""
    try:
        yield
    except SearchError as error:
        typer.echo(f"nas-bo: {error}", err=True)
        raise typer.Exit(1 if isinstance(error, EverythingFailed) else 2) from None
    except NasBoError as error:
        typer.echo(f"nas-bo: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("nas-bo: interrupted before the search began", err=True)
        raise typer.Exit(130) from None
