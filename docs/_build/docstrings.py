"""Griffe extension: docstrings of the library as Markdown. Plain-text tables become code, ``like this::`` a colon, and
``rows[arch][seed]`` no link."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

# a table between two lines of equal signs, with or without a heading row
TABLE = re.compile(r"^( *)(=+(?: +=+)+)\n(?:.*\n)*?(?: *=+(?: +=+)+\n(?:(?! *=+ +=).*\n)*?)? *=+(?: +=+)+$", re.M)


def markdown(text: str) -> str:
    """`text` with its tables fenced and the double colons before code single."""
    text = TABLE.sub(lambda m: f"\n{m[1]}```text\n{m[0]}\n{m[1]}```", text)
    return re.sub(r"::$", ":", text, flags=re.M).replace("][", "]\\[")


class Docstrings(Extension):
    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
