"""MkDocs hook: the page of a room in the reference has every public name of the room, also one that nobody wrote down.

What the page names itself keeps its place; the others follow at its end. Read from the source, nothing is imported.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[2] / "nas_bo"
ROOMS = ("ax", "compress", "hardware", "mlflow", "model", "objectives", "optuna", "report", "space", "strategies", "surrogate")
PAGES = {"search": "", **dict(zip(ROOMS, ROOMS, strict=True))}  # page -> room; "" is the package itself


def public(room: str) -> dict[str, str]:
    """Public name -> the module that has it, for the package `nas_bo` (what it has from a room left out) or a room of it."""
    found = {}
    files = [PACKAGE / room / name for name in ("__init__.pyi", "__init__.py")]  # names that load lazily stand in a stub
    for node in ast.walk(ast.parse(next(f for f in files if f.exists()).read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        home = ".".join(filter(None, ("nas_bo", room, node.module))) if node.level else node.module
        if home.startswith("nas_bo.") and (room or home.split(".")[1] not in ROOMS):
            found |= {a.asname or a.name: home for a in node.names if not a.name.startswith("_")}
    return found


def written(page: str) -> set[str]:
    """The names that a page has by itself; of a module that stands there as a whole the module."""
    names = set()
    for name, options in re.findall(r"^::: [\w.]*?(\w+)\n((?: +.*\n)*)", page + "\n", re.M):
        members = re.search(r"members: \[([^\]]+)\]", options)
        names |= set(re.split(r",\s*", members[1])) if members else {name}
    return names


def completed(page: str, room: str) -> str:
    """`page` with the public names of `room` that it lacks."""
    there = written(page)
    lacking = {name: home for name, home in public(room).items() if not there & {name, home.rpartition(".")[2]}}
    if not lacking:
        return page
    return page + "\n\n## Also here\n" + "".join(f"\n::: {home}.{name}\n" for name, home in sorted(lacking.items()))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    room = Path(page.file.src_uri)
    if room.parent.name != "reference" or room.stem not in PAGES:
        return markdown
    return completed(markdown, PAGES[room.stem])
