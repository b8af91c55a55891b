"""The README's programs run as they stand (with less held-out text, see `fork_server.shorten`), what it says about files and options is true, its figures are
those of `benchmarks/results/`, and it stays short."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fork_server import SHORT
from tests.processes import python

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_programs_run_one_after_the_other(tmp_path):
    """In one folder, as somebody would who reads it from the start: the second makes the model of the first smaller."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", SHORT: "1"}
    for number, block in enumerate(BLOCKS):
        script = tmp_path / f"block_{number}.py"
        script.write_text(block)
        done = python(script, cwd=tmp_path, env=env, timeout=900)
        assert done.returncode == 0, f"program {number + 1}:\n{block}\n{done.stderr[-3000:]}"
    assert "gain" in (tmp_path / "block_0.py").read_text()
    assert {"model.safetensors", "arch.json"} <= {path.name for path in (tmp_path / "part").iterdir()}


def test_there_are_blocks_and_links_lead_somewhere():
    assert len(BLOCKS) == 5
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


def test_commands_have_the_options_that_it_names():
    import typer.main

    from nas_bo.cli.app import app

    lines = re.findall(r"(?:\$|&&) (nas-bo [^#\n]*)", README) + re.findall(r"`(nas-bo [^`\n]*)`", README)
    assert len(lines) >= 4
    for line in lines:
        command, words = typer.main.get_command(app), shlex.split(line)[1:]
        while words and hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= known | {"--help", "--version"}, line


def test_what_its_commands_write_into_a_clone_is_no_change_of_the_clone():
    named = set(re.findall(r"--(?:to|out) ([\w.-]+)", README)) | set(re.findall(r"\.train\(\"([\w.-]+)\"", README))
    named |= set(re.findall(r"sqlite:///([\w.-]+)", README)) | {
        "nas-bo.db",
        "mlflow.db",
        "mlflow_artifacts",
        "nas-bo-out",
    }
    assert {"winner", "hf", "out", "part", "board.json"} <= named
    files = sorted(name if "." in name else f"{name}/file" for name in named)
    done = subprocess.run(["git", "check-ignore", "--no-index", *files], cwd=ROOT, capture_output=True, text=True)
    assert sorted(done.stdout.split()) == files, done.stderr


def test_it_can_be_read_in_five_minutes():
    """Optuna's has 1,186 words, Ax's 883."""
    assert len(README.split()) <= 1300
    assert README.index("## What it does not do") < len(README) / 2


def test_every_figure_is_read_from_a_result():
    """What is typed has no decimals but in versions, and no percentage but the level of an interval; see `docs/_build/pages.py`."""
    source = (ROOT / "docs" / "_build" / "pages" / "README.md.in").read_text()
    assert len(re.findall(r"\{\{ [\w.]+\.json: ", source)) >= 6
    typed = re.sub(r"```.*?```|`[^`\n]*`|\{\{.*?\}\}|\]\([^)]*\)", "", source, flags=re.S)
    found = set(re.findall(r"(?<![\w.])\d*\.\d+(?![\w.])|\d+ %|\d+,\d{3}", typed))
    assert found <= {"3.11", "3.13", "95 %"}, found


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_are_short(path):
    assert len(path.read_text().splitlines()) <= 75


def test_the_tree_names_what_is_there():
    tree = README.split("## The tree")[1].split("```")[1]
    for name in re.findall(r"([\w./]+(?:\.py|/))", tree):
        inside = [ROOT / name, ROOT / "nas_bo" / name]
        assert any(p.exists() for p in inside), name
