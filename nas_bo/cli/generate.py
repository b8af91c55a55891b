"""`nas-bo generate`: text from a trained model."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json
from nas_bo.cli.output import say
from nas_bo.cli.typed_options import within
from nas_bo.errors import ExportError


def generate(
    folder: Annotated[Path, typer.Argument(help="A folder of `nas-bo train`.")],
    prompt: Annotated[str, typer.Argument(help="The text that is continued.")],
    tokens: Annotated[int, typer.Option(help="How many tokens.", callback=within(1))] = 200,
    temperature: Annotated[
        float,
        typer.Option(
            help="How much chance decides. 0 takes the most probable token.", callback=within(0, what="a number")
        ),
    ] = 0.7,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.", callback=within(0))] = 0,
    as_json: Json = False,
) -> None:
    """Continue a text with a trained model."""
    with errors():
        from nas_bo.workflows.export import continued

        if not folder.exists() and os.path.isdir(prompt):
            shown = f"nas-bo generate {shlex.quote(prompt)} {shlex.quote(str(folder))}"
            raise ExportError(
                f"there is no folder {str(folder)!r}, and {prompt!r} is one: the folder comes first, then the text, as in {shown}"
            )
        text = continued(folder, prompt, tokens, temperature, seed)
    if as_json:
        print_document("generated", {"prompt": prompt, "text": text})
    else:
        say(text)
