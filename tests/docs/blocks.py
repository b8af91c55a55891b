"""The code of a page of the documentation as one program: its blocks in their order, in one session and one folder.

```python                     runs; later blocks see its names
```python title="mine.py"     is written to that file
```console                    the lines after `$ ` run, in bash; what is beside them is output
<!-- not run: reason -->      the block below this line is left out
--8<-- "examples/..."         an example, which is run as such
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FENCE = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```$", re.M | re.S)
LEFT_OUT = re.compile(r"<!-- not run: (.+?) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str
    left_out: str  # why; "" when it runs


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page."""
    found = []
    for fence in FENCE.finditer(page):
        indent, language, rest, text = fence.groups()
        reason = LEFT_OUT.search(page[: fence.start()])
        title = re.search(r'title="([^"]+)"', rest)
        text = re.sub(rf"^{indent}", "", text, flags=re.M)
        found.append(Block(language, title[1] if title else "", text, reason[1] if reason else ""))
    return found


def commands(block: Block) -> list[str]:
    """The commands of a console block; one that ends in a backslash goes on in the next line."""
    joined = block.text.replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def program(page: str) -> str:
    """The program of a page; "" where nothing is to be run."""
    parts = []
    for block in blocks(page):
        if block.left_out:
            continue
        if block.language == "python" and block.title:
            parts.append(f"__import__('pathlib').Path({block.title!r}).write_text({block.text!r})")
        elif block.language == "python":
            parts.append(block.text)
        elif block.language == "console":
            script = "\n".join(["set -e", *commands(block)])
            parts.append(f"__import__('subprocess').run(['bash', '-c', {script!r}], check=True)")
    return "\n".join(parts)
