"""How a search or a report of it ends: what is printed, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nas_bo.command.failure import errors
from nas_bo.trial import State

if TYPE_CHECKING:
    from nas_bo.result import Result


def finish(result: Result, out: Path, as_json: bool, storage: str, mlflow: str | None) -> None:
    """Write the report into a folder of `out`, say where everything is, and leave with the exit code that the result means."""
    with errors():
        written = result.save(out / result.title)
        if as_json:
            typer.echo(json.dumps({**result.to_dict(), "files": [str(p) for p in written]}, indent=1))
        else:
            typer.echo(f"\n{result}\n")
            for path in written[:2]:
                typer.echo(f"{'picture' if path.suffix == '.png' else 'page':<8} {path}")
            typer.echo(f"study    {storage}   (nas-bo report {storage})")
            if result.url and mlflow is not None:
                hint = "" if mlflow.startswith("http") else f"{mlflow}   (nas-bo ui --mlflow {mlflow}), then "
                typer.echo(f"MLflow   {hint}{result.url}")
    if result.interrupted:
        raise typer.Exit(130)
    if not result.front:
        raise typer.Exit(1 if all(t.state is State.FAILED for t in result.trials) else 3)
