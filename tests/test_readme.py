"""The README's programs run as they stand (with less held-out text, see `fork_server.shorten`), and what it says of files is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fork_server import SHORT
from tests.processes import python

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(BLOCKS[number])
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", SHORT: "1"}
    done = python(script, cwd=tmp_path, env=env, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


def test_there_are_blocks_and_links_lead_somewhere():
    assert len(BLOCKS) >= 4
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_commands_for_ci_are_found():
    out = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "readme_commands.py")], capture_output=True, text=True, check=True
    )
    assert out.stdout.splitlines() == [
        "pip install -c constraints.txt .",
        "nas-bo search",
        "pip install -c constraints.txt '.[test]'",
        "pytest",
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_are_short(path):
    assert len(path.read_text().splitlines()) <= 75


def test_the_tree_names_what_is_there():
    tree = README.split("## The tree")[1].split("```")[1]
    for name in re.findall(r"([\w./]+(?:\.py|/))", tree):
        inside = [ROOT / name, ROOT / "nas_bo" / name]
        assert any(p.exists() for p in inside), name
