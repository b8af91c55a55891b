"""`nas-bo export`: a trained model in the format of a stock tool."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nas_bo.cli import completion
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json
from nas_bo.cli.output import say
from nas_bo.cli.typed_options import within
from nas_bo.errors import ExportError


def export(
    folder: Annotated[Path, typer.Argument(help="A folder of `nas-bo train`.")],
    to: Annotated[Path, typer.Option(help="The folder that is written; it must not exist.")],
    format: Annotated[
        str,
        typer.Option(
            help="What is written: huggingface, gguf, onnx, openvino, or folder (a copy).",
            autocompletion=completion.formats,
        ),
    ] = "huggingface",
    padding: Annotated[
        float | None,
        typer.Option(
            help="The most weights of zeros that may be added, as a share, where a class of huggingface or gguf wants layers of one size. By default 0.1.",
            callback=within(0, what="a share"),
        ),
    ] = None,
    remote_code: Annotated[
        bool,
        typer.Option(
            "--remote-code",
            help="Where no stock class of transformers fits, write one into the folder; it is loaded with trust_remote_code=True.",
        ),
    ] = False,
    type: Annotated[
        str | None,
        typer.Option(
            help="Of a gguf file: F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, Q3_K_M, Q2_K and others of llama.cpp; of huggingface: packed, the integers of a model of `nas-bo compress --symmetric`. By default float32."
        ),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            help="Of the weights in files of onnx (8, 4 or 2) or openvino (8, 4, 3 or 2). By default float32.",
            callback=within(2, what="a number of bits"),
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="Text that says what fewer bits cost. By default what was held out of the training."),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(help="MLflow tracking URI or a .db file: also log the export next to its trial, and register it."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With --mlflow: name of the model in the registry. By default nas-bo.")
    ] = None,
    alias: Annotated[str | None, typer.Option(help="With --mlflow: its alias there. By default the format.")] = None,
    as_json: Json = False,
) -> None:
    """Write a trained model in the format of a stock tool, and check there that it computes the same."""
    with errors():
        for option, value in (("alias", alias), ("name", name)):
            if value is not None and mlflow in (None, "none"):
                raise ExportError(
                    f"--{option} {value}: it is that of a registered model; give --mlflow as well, or leave it out"
                )
        from nas_bo.cli.tracking import store
        from nas_bo.workflows.export import check_log, log
        from nas_bo.workflows.export import export as write

        where = store(mlflow)
        registered = name or "nas-bo", alias or format
        if where is not None:
            check_log(track=where, name=registered[0], alias=registered[1])
        made = write(folder, to, format, padding=padding, remote_code=remote_code, type=type, bits=bits, text=text)
        logged = None if where is None else log(made, track=where, name=registered[0], alias=registered[1])
    if as_json:
        check = None if made.check is None else {**asdict(made.check), "good": made.check.good}
        said = {
            "folder": str(made.folder),
            "format": made.format,
            "what": made.what,
            "check": check,
            "unchecked": made.unchecked,
            "mlflow": None if logged is None else asdict(logged),
        }
        print_document("exported", said)
    else:
        say(str(made))
        if logged is not None:
            say(
                f"in MLflow as run {logged.run_id} and {logged.uri}"
                + ("" if logged.of else ", of no trial that is there")
            )
