"""The commands of `nas-bo` by name, each imported when it is used: most of what a short command would do is to import and build all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

import typer
import typer.main

from nas_bo.cli.help import WIDE, Grouped

COMMANDS: Mapping[str, str] = {
    "search": "nas_bo.cli.search",
    "validate": "nas_bo.cli.validate",
    "ladder": "nas_bo.cli.ladder",
    "report": "nas_bo.cli.report",
    "compare": "nas_bo.cli.compare",
    "spaces": "nas_bo.cli.spaces",
    "devices": "nas_bo.cli.devices",
    "ui": "nas_bo.cli.ui",
    "profile": "nas_bo.cli.profile",
    "dashboard": "nas_bo.cli.dashboard",
    "ask": "nas_bo.cli.ask",
    "tell": "nas_bo.cli.ask",
    "merge": "nas_bo.cli.merge",
    "status": "nas_bo.cli.status",
    "rerun": "nas_bo.cli.rerun",
    "register": "nas_bo.cli.rerun",
    "train": "nas_bo.cli.train",
    "generate": "nas_bo.cli.generate",
    "export": "nas_bo.cli.export",
    "compress": "nas_bo.cli.compress",
    "doctor": "nas_bo.cli.doctor",
    "mcp": "nas_bo.cli.mcp",
}
"""Command -> the module with the function of that name."""

GROUPS: Mapping[str, str] = {"mlflow": "nas_bo.cli.mlflow"}
"""Group of commands -> the module whose `app` it is."""


class Loaded(Mapping[str, object]):
    """Command -> what typer makes of it, made when it is looked up.

    Args:
        names: those that are there.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._made: dict[str, object] = {}

    def __getitem__(self, name: str) -> object:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            alone = typer.Typer(rich_markup_mode=None)
            if name in GROUPS:
                alone.add_typer(import_module(GROUPS[name]).app, name=name)
            else:
                function = vars(import_module(COMMANDS[name]))[name]
                alone.command(name, cls=Grouped, context_settings=WIDE)(function)
            alone.callback()(_nothing)
            self._made[name] = typer.main.get_group(alone).commands[name]
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _nothing() -> None: ...
