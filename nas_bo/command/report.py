"""`nas-bo report`: the report of a study, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_bo.command.ending import finish
from nas_bo.command.failure import errors
from nas_bo.command.options import Json, Study

INTERRUPTED = "interrupted before the report was complete; the same command writes it again"


def report(
    storage: Annotated[str, typer.Argument(help="the storage of a search")] = "nas-bo.db",
    study: Study = None,
    out: Annotated[Path, typer.Option(help="folder for the report")] = Path("nas-bo-out"),
    as_json: Json = False,
) -> None:
    """Write the table, the picture and the page of a study again."""
    with errors(INTERRUPTED):
        from nas_bo.command import resolve

        result = resolve.stored(storage, study)
    finish(result, out, as_json, storage, None, INTERRUPTED)
