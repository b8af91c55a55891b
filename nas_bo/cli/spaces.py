"""`nas-bo spaces`: the named search spaces."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json
from nas_bo.cli.output import say


def spaces(
    name: Annotated[str | None, typer.Argument(help="Describe this one.")] = None,
    as_json: Json = False,
) -> None:
    """List the named search spaces, or describe one."""
    with errors():
        from nas_bo.cli import resolve
        from nas_bo.search_spaces import NAMED

        if name is None:
            if as_json:
                say(
                    json.dumps({n: {"size": s.size(rules=False), "title": s.title} for n, s in NAMED.items()}, indent=1)
                )
                return
            for known, space in NAMED.items():
                first = (space.__doc__ or "").strip().partition("\n")[0]
                say(f"{known:<16} {space.size(rules=False):>12.3g} architectures   {first}")
            return
        chosen = resolve.named_space(name)
        say(chosen.to_json() if as_json else chosen.describe())
