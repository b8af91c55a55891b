"""`nas-bo merge`: the studies of several teams as one."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_bo import database_url
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json
from nas_bo.cli.output import say
from nas_bo.wording import counted


def merge(
    sources: Annotated[
        list[str], typer.Argument(help="Storages with one study each, or STORAGE::STUDY where there are several.")
    ],
    into: Annotated[
        str, typer.Option(help="The storage that gets all finished trials. It is created if it does not exist.")
    ],
    study: Annotated[str | None, typer.Option(help="Name of the merged study. By default that of the first.")] = None,
    as_json: Json = False,
) -> None:
    """Copy the finished trials of several studies of one space into one; the same command later copies only what is new."""
    with errors("interrupted; the same command copies what is not there yet"):
        import optuna

        from nas_bo.optuna import merge as merged
        from nas_bo.optuna import studies

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pairs = [source.partition("::") for source in sources]
        found = merged([studies.load(storage, name or None) for storage, _, name in pairs], into, study)
        shown = database_url.shown(into)
        if as_json:
            counts = {"added": found.added, "known": found.known, "left": found.left}
            print_document("merged", {"study": found.study.study_name, "storage": shown, **counts})
            return
        left = f", {found.left} not finished and left where they are" if found.left else ""
        say(
            f"study {found.study.study_name!r} in {shown}: {counted(found.added, 'trial')} added, {found.known} known{left}"
        )
