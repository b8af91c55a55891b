"""The code in the documentation runs as it stands, page by page; nothing is left out without a reason. The tutorials have a
file of their own, so that two processes share the work."""

from __future__ import annotations

from itertools import takewhile

import pytest

from tests.docs.blocks import ROOT, blocks, commands, program, run

PAGES = sorted((ROOT / "docs").rglob("*.md"))
NAMES = [str(p.relative_to(ROOT / "docs")) for p in PAGES]
WITH_CODE = [n for n, p in zip(NAMES, PAGES, strict=True) if program(p.read_text()) and not n.startswith("tutorials/")]
NOT_RUN = ("pip ", "mkdocs ", "nas-bo ui", "nas-bo dashboard", "mlflow server", "nas-bo search")


@pytest.mark.parametrize("name", WITH_CODE)
def test_code(name, tmp_path):
    done = run(ROOT / "docs" / name, tmp_path)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_is_not_run(page):
    for block in blocks(page.read_text()):
        if block.left_out:
            assert block.language in ("console", "text"), f"{page.name}: only commands may be left out"
            for command in commands(block):
                assert command.startswith(NOT_RUN), f"{page.name}: {command!r} could be run"
        assert block.language in ("python", "console", "text", "json", "toml"), f"{page.name}: {block.language!r}"


def test_names_exist():
    """Every night each page runs as a program; every day what it imports of ours is there, and so are the commands and options that it names."""
    import ast
    import shlex
    from importlib import import_module

    import typer.main

    from nas_bo.cli.app import app

    root = typer.main.get_command(app)
    for page in PAGES:
        for block in blocks(page.read_text()):
            if block.language == "python" and not block.left_out and block.title[-3:] in ("", ".py"):
                for node in ast.walk(ast.parse(block.text)):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "nas_bo":
                        module = import_module(f"{node.module}")
                        for alias in node.names:
                            assert getattr(module, alias.name, None) or import_module(f"{node.module}.{alias.name}"), (
                                page
                            )
            for line in commands(block) if block.language == "console" else ():
                lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                command, rest = root, list(takewhile(lambda word: not set(word) <= set("();<>|&"), lexer))
                if rest[:1] != ["nas-bo"]:
                    continue
                rest = rest[1:]
                while rest and (inner := getattr(command, "commands", {}).get(rest[0])):
                    command, rest = inner, rest[1:]
                known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {
                    "--help",
                    "--version",
                }
                assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known, f"{page}: {line}"


def test_blocks_are_found():
    page = '```python\na = 1\n```\n\n<!-- not run: it waits -->\n```console\n$ nas-bo ui\n```\n- x\n  ```python title="b.py"\n  b = 2\n  ```\n```console\n$ true \\\n  two\nout\n$ false\n```\n'
    one, two, three, four = blocks(page)
    assert (one.text, one.left_out) == ("a = 1\n", "")
    assert two.left_out == "it waits"
    assert (three.title, three.text) == ("b.py", "b = 2\n")
    assert commands(four) == ["true    two", "false"]
    text = program(page)
    assert "nas-bo ui" not in text and "a = 1" in text and "write_text('b = 2\\n')" in text
