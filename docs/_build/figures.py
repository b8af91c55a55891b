"""Figures of README and documentation: read from `benchmarks/results/`, or the page cannot be made (`pages.py` makes them).

    {{ sampling.json: figures/tiny_gpt/sample/median | ,.0f }}    a number by its path, in a format
    {{ hardware.json: published                                   a table: a row for each thing in a list or mapping,
       device = device                                           a column for each line: heading = path | format
       error, % = learned/mape_percent/mean | .2f }}
    {{ default_search.json: front where on_final_front by final/bits_per_byte
       trial = trial }}                                       only the rows that have it, in this order
    {{ fidelity.md }}                                             a result in Markdown; its headings go one level down
    {{ every result }}                                            a table of all files: what it is, from which machine
    --8<-- "examples/own_model.py"                                a line of its own: the text of that file

In a table of a mapping `key` is the key.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
NUMBER = re.compile(r"\{\{ *([\w.-]+\.json): *([^|}\n]+?) *(?:\| *([^}\n]+?) *)?\}\}")
ROWS = re.compile(r"^\{\{ *([\w.-]+\.json): *([^|}\n=]+?) *\n(.+?)\}\}$", re.M | re.S)
TABLE = re.compile(r"^\{\{ *([\w.-]+\.md) *\}\}$", re.M)
INDEX = re.compile(r"^\{\{ every result \}\}$", re.M)
FILE = re.compile(r'^--8<-- "([\w./]+)"$', re.M)


class NoFigure(ValueError):
    """A figure, table or file that a page asks for is not there."""



def find(data: Any, path: str) -> Any:
    """What stands at `path`: keys, and positions in lists, between slashes. Raises LookupError, TypeError, ValueError."""
    for key in path.split("/") if path else ():
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


def read(name: str) -> Any:
    """Raises NoFigure: no such file, or no JSON."""
    try:
        return json.loads((RESULTS / name).read_text())
    except (OSError, ValueError) as error:
        raise NoFigure(f"benchmarks/results/{name} cannot be read: {error}") from error


def number(name: str, path: str, form: str | None) -> str:
    """Raises NoFigure: no such file or no such figure."""
    try:
        return format(find(read(name), path), form or "")
    except (LookupError, TypeError, ValueError) as error:
        raise NoFigure(f"no figure {path!r} in benchmarks/results/{name}: {error!r}") from error


def rows(name: str, path: str, columns: str) -> str:
    """Raises NoFigure: no such file, or no such list or mapping, or a figure that no row has."""
    place, order = (path.split(" by ", 1) + [""])[:2]
    place, only = (place.split(" where ", 1) + [""])[:2]
    try:
        found = find(read(name), place.strip())
        items = [(key, value) for key, value in found.items()] if isinstance(found, dict) else list(enumerate(found))
        items = [item for item in items if not only or item[1].get(only.strip())]
        items = sorted(items, key=lambda item: find(item[1], order.strip())) if order else items
    except (LookupError, TypeError, ValueError) as error:
        raise NoFigure(f"nothing at {path!r} in benchmarks/results/{name}: {error!r}") from error
    heads, body = [], [[] for _ in items]
    for line in filter(None, map(str.strip, columns.splitlines())):
        head, _, rest = line.partition(" = ")
        where, _, form = (part.strip() for part in rest.partition("|"))
        heads.append(head)
        for cells, (key, value) in zip(body, items, strict=True):
            try:
                got = key if where == "key" else find(value, where)
                cells.append("-" if got is None else format(got, form))
            except (LookupError, TypeError, ValueError):
                cells.append("-")
        if items and all(cells[-1] == "-" for cells in body):
            raise NoFigure(f"no row of {path!r} in benchmarks/results/{name} has {where!r} as {form!r}")
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *body]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def table(name: str) -> str:
    """The text of a result in Markdown without its title. Raises NoFigure: no such file."""
    try:
        text = (RESULTS / name).read_text()
    except OSError as error:
        raise NoFigure(f"there is no benchmarks/results/{name}: {error}") from error
    return re.sub(r"^(#+) ", r"#\1 ", re.sub(r"\A# .*\n", "", text), flags=re.M)


def every_result() -> str:
    """A row for each JSON document of the folder."""
    lines = ["| result | what | machine |", "|---|---|---|"]
    for path in sorted(RESULTS.glob("*.json")):
        data = read(path.name)
        data = data if isinstance(data, dict) else {}
        machine = data.get("machine", "")
        if isinstance(machine, dict):
            machine = machine.get("processor") or machine.get("device") or machine.get("name") or ""
        machine = ", ".join(map(str, machine)) if isinstance(machine, list) else str(machine)
        what = str(data.get("what", "")).replace("|", "\\|")
        lines.append(f"| `{path.name}` | {what} | {machine} |")
    return "\n".join(lines)


def included(name: str) -> str:
    """The text of a file of the repository. Raises NoFigure: it cannot be read."""
    try:
        return (ROOT / name).read_text().rstrip("\n")
    except OSError as error:
        raise NoFigure(f"{name} cannot be read: {error}") from error


def rendered(markdown: str) -> str:
    """`markdown` with its figures, tables and files. Raises NoFigure: one is not there."""
    markdown = INDEX.sub(lambda _: every_result(), markdown)
    markdown = ROWS.sub(lambda m: rows(*m.groups()), markdown)
    markdown = NUMBER.sub(lambda m: number(*m.groups()), markdown)
    markdown = TABLE.sub(lambda m: table(m.group(1)), markdown)
    return FILE.sub(lambda m: included(m.group(1)), markdown)
