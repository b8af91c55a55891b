"""The code in the documentation runs as it stands, page by page; nothing is left out without a reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, commands, program

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
NAMES = [str(p.relative_to(ROOT / "docs")) for p in PAGES]
WITH_CODE = [name for name, page in zip(NAMES, PAGES, strict=True) if program(page.read_text())]
NOT_RUN = ("pip ", "mkdocs ", "nas-bo ui", "optuna-dashboard ", "mlflow server", "nas-bo search")
TOOLS = {"nas-bo": "-m nas_bo", "python": "", "optuna": "-c 'import optuna.cli; raise SystemExit(optuna.cli.main())'"}


@pytest.mark.parametrize("name", WITH_CODE)
def test_code(name, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool, words in TOOLS.items():
        (tools / tool).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (tools / tool).chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "page.py").write_text(program((ROOT / "docs" / name).read_text()))
    env = os.environ | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    env.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run([sys.executable, "page.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_is_not_run(page):
    for block in blocks(page.read_text()):
        if block.left_out:
            assert block.language in ("console", "text"), f"{page.name}: only commands may be left out"
            for command in commands(block):
                assert command.startswith(NOT_RUN), f"{page.name}: {command!r} could be run"
        assert block.language in ("python", "console", "text", "json", "toml"), f"{page.name}: {block.language!r}"


def test_the_tutorials_are_programs():
    assert {"tutorials/optuna.md", "tutorials/ax.md", "tutorials/device.md"} <= set(WITH_CODE)
    for name in WITH_CODE:
        if name.startswith("tutorials/"):
            assert program((ROOT / "docs" / name).read_text()).count("\n") > 20


def test_blocks_are_found():
    page = '```python\na = 1\n```\n\n<!-- not run: it waits -->\n```console\n$ nas-bo ui\n```\n- x\n  ```python title="b.py"\n  b = 2\n  ```\n```console\n$ true \\\n  two\nout\n$ false\n```\n'
    one, two, three, four = blocks(page)
    assert (one.text, one.left_out) == ("a = 1\n", "")
    assert two.left_out == "it waits"
    assert (three.title, three.text) == ("b.py", "b = 2\n")
    assert commands(four) == ["true    two", "false"]
    text = program(page)
    assert "nas-bo ui" not in text and "a = 1" in text and "write_text('b = 2\\n')" in text
