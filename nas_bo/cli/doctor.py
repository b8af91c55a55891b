"""`nas-bo doctor`: what of an installation works, and what installs the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import nas_bo
from nas_bo.cli import completion
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json
from nas_bo.cli.output import say


def doctor(
    storage: Annotated[
        str | None,
        typer.Option(
            help="A storage of studies that must be reachable: a .db or .log file, or any Optuna storage URL."
        ),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(
            help="An MLflow tracking URI or .db file that must be reachable. By default MLFLOW_TRACKING_URI, if it is set."
        ),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(
            help="An extra that must be installed, repeatable: ax, onnx, gguf, ...", autocompletion=completion.extras
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="A torch device that must be there: cuda, cuda:1, cpu.")] = None,
    as_json: Json = False,
) -> None:
    """Say what of this installation works, and which line installs what is missing; exit code 1 where something that was asked for does not work."""
    with errors():
        from nas_bo.workflows.installation import examine

        found = examine(extras=extra or (), device=device, storage=storage, mlflow=mlflow)
    if as_json:
        checks = [asdict(one) for one in found.checks]
        print_document("doctor", {"ok": found.ok, "version": nas_bo.__version__, "checks": checks})
    else:
        say(str(found))
    if not found.ok:
        raise typer.Exit(1)
