"""`nas-bo report`: the report of a study, written again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nas_bo.cli import completion
from nas_bo.cli.documents import print_document
from nas_bo.cli.ending import finish
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json, OneStudy
from nas_bo.cli.output import say

INTERRUPTED = "interrupted before the report was complete; the same command writes it again"


def report(
    storage: Annotated[str, typer.Argument(help="The storage of a search, or of any study of Optuna.")] = "nas-bo.db",
    study: OneStudy = None,
    pick: Annotated[
        str | None,
        typer.Option(
            help="Print one architecture instead: knee, best:NAME, 'bits_per_byte where latency_ms<=2 and parameters<=200k', or the number of a trial.",
            autocompletion=completion.picks,
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(help="Of a study that nas_bo did not make: the space whose architectures its parameters are."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("nas-bo-out"),
    as_json: Json = False,
) -> None:
    """Write the table, the picture and the page of a study again, a search's or any of Optuna; or print one architecture of it."""
    with errors(INTERRUPTED):
        from nas_bo.cli import resolve

        result = resolve.stored(storage, study, space)
        if pick is not None:
            from nas_bo.workflows.pick import described

            chosen = result.pick(pick)
            data = {"study": result.title, "pick": pick, **described(result, chosen)}
            if as_json:
                print_document("pick", data)
            else:
                say(_text(data, json.dumps(json.loads(chosen.architecture.to_json()))))
            return
    finish(result, out, as_json, storage, None, INTERRUPTED)


def _text(data: dict[str, Any], architecture: str) -> str:
    """A pick in lines: its name, a line per value, and the architecture as the last line, for a file or a pipe."""
    from nas_bo.report.digits import figure, measured

    lines = [f"trial {data['trial']}: {data['label']}"]
    for name, value in data["values"].items():
        ends = data["intervals"].get(name)
        shown = measured(value, ends["low"], ends["high"]) if ends else figure(value)
        before = data["searched"].get(name)
        then = f"   (in the search {figure(before)})" if before is not None and before != value else ""
        lines.append(f"{name:<16} {shown} {data['units'].get(name, '')}".rstrip() + then)
    if data["parameters"] is not None and "parameters" not in data["values"]:
        lines.append(f"{'parameters':<16} {figure(data['parameters'])}")
    if not data["retrained"] and data["trained"]:
        lines.append("it was not trained again: the values of what is trained are those of the search")
    return "\n".join([*lines, architecture])
