"""Writes `docs/reference/json.md`, the page of what `--json` prints, from `nas_bo.cli.documents`: `python docs/_build/documents.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "json.md"

HEAD = """\
# What --json prints

Every command has `--json`: one JSON document on stdout, and nothing else there. Progress, warnings and errors go to stderr; the [exit code](command.md) says how it ended.
With an exit code of 2 stdout is empty, and the reason is one paragraph on stderr.

Each document has the key `schema`, a name and a version such as `nas-bo.status/1`. Within a version no key is removed or renamed, and none gets another type or meaning. New keys may come: ignore what
you do not know. Values that are not known are `null`; infinity and "not a number" are not written. A key with a question mark is there only where the text says so.
Spaces, devices and profiles are files of nas_bo that a command prints as they are: their version is a whole number.

```console
$ nas-bo spaces --json | python -c "import json, sys; print(json.load(sys.stdin)['schema'])"
nas-bo.spaces/1
```

| document | printed by |
|---|---|
"""


def rendered() -> str:
    """The page."""
    from nas_bo.cli.documents import KINDS

    rows, sections = [], []
    for name, kind in KINDS.items():
        rows.append(f"| [`{_schema(name, kind.version)}`](#{name}) | {kind.commands} |")
        lines = [f"## {name}", ""]
        lines += [f"Printed by {kind.commands}." + (" One line each." if kind.lines else ""), ""]
        keys = dict(kind.keys)
        if kind.version:
            keys = {"schema": f'"{_schema(name, kind.version)}"', **keys}
        lines += ["| key | what it is |", "|---|---|"]
        lines += [f"| `{key}` | {text} |" for key, text in keys.items()]
        lines += [f"| any other | {kind.each} |"] if kind.each else []
        sections.append("\n".join(lines))
    return HEAD + "\n".join(rows) + "\n\n" + "\n\n".join(sections) + "\n"


def _schema(name: str, version: int) -> str:
    return f"nas-bo.{name}/{version}" if version else name


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(rendered())
