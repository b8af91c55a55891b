"""`nas-bo export`: a trained model in the format of a stock tool."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nas_bo.cli import warnings_shown
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json
from nas_bo.cli.output import say
from nas_bo.cli.typed_options import within


def export(
    folder: Annotated[Path, typer.Argument(help="A folder of `nas-bo train`.")],
    to: Annotated[Path, typer.Option(help="The folder that is written; it must not exist.")],
    format: Annotated[
        str, typer.Option(help="What is written: huggingface, gguf, onnx, or folder (a copy).")
    ] = "huggingface",
    padding: Annotated[
        float,
        typer.Option(
            help="The most weights of zeros that may be added, as a share, where a class wants layers of one size.",
            callback=within(0, what="a share"),
        ),
    ] = 0.1,
    remote_code: Annotated[
        bool,
        typer.Option("--remote-code", help="Where no stock class of transformers fits, write one that needs nas_bo."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a trained model in the format of a stock tool, and check there that it computes the same."""
    with errors():
        from nas_bo.workflows.export import export as write

        made = write(folder, to, format, padding=padding, remote_code=remote_code)
    if as_json:
        check = None if made.check is None else {**asdict(made.check), "good": made.check.good}
        said = {
            "folder": str(made.folder),
            "format": made.format,
            "what": made.what,
            "check": check,
            "unchecked": made.unchecked,
        }
        say(json.dumps({**said, "warnings": warnings_shown.current().texts}, indent=1))
    else:
        say(str(made))
