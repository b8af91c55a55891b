"""`nas-bo ui`: MLflow's page of the searches."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json, Mlflow
from nas_bo.cli.output import say
from nas_bo.cli.typed_options import within
from nas_bo.execution.interrupts import ended_by_sigterm


def ui(
    mlflow: Mlflow = "mlflow.db",
    port: Annotated[
        int, typer.Option(help="Port on this machine. 0 takes a free one.", callback=within(0, 65535))
    ] = 5000,
    as_json: Json = False,
) -> None:
    """Open the MLflow page of the searches on this machine only, and print the address that opens on the front."""
    with errors():
        from nas_bo.mlflow import open_ui, tracking_uri

        tracking_uri.there(tracking_uri.resolve(mlflow))
        with ended_by_sigterm(), open_ui(mlflow, port) as shown, contextlib.suppress(KeyboardInterrupt):
            if as_json:
                print_document("page", {"url": shown.front()})
            else:
                say(f"{shown.front()}\nPress Ctrl-C to stop.")
            shown.process.wait()
