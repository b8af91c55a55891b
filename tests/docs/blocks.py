"""The code of a page of the documentation as one program: its blocks in their order, in one session and one folder.

```python                     runs; later blocks see its names
```python title="mine.py"     is written to that file
```console                    the lines after `$ ` run, in bash; what is beside them is output
<!-- not run: reason -->      the block below this line is left out
``` { .python }               is not run: an example or a space, which has tests of its own, or a program for a cluster
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.fork_server import SHORT
from tests.processes import for_a_shell, python

ROOT = Path(__file__).parents[2]
TOOLS = {"nas-bo": "-m nas_bo", "python": "", "optuna": "-c 'import optuna.cli; raise SystemExit(optuna.cli.main())'"}

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


def run(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the program of a page in an empty folder, with the commands of this checkout at hand; with less held-out text and
    shorter measurements (`fork_server.shorten`), since no figure of it is looked at."""
    tools, work = folder / "bin", folder / "work"
    tools.mkdir()
    work.mkdir()
    for tool, words in TOOLS.items():
        (tools / tool).write_text(f'#!/bin/sh\nexec {for_a_shell()} {words} "$@"\n')
        (tools / tool).chmod(0o755)
    (work / "page.py").write_text(program(page.read_text()))
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", SHORT: "1"}
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "NAS_BO_SPOOL"):
        env.pop(name, None)
    return python("page.py", cwd=work, env=env, timeout=900)
