"""What `--json` prints is what `docs/reference/json.md` says: every command, on a search that costs nothing and on a short training."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from nas_bo.cli.app import app
from nas_bo.cli.documents import KINDS
from tests.command import TEXT, mine

ROOT = Path(__file__).parents[2]
TINY = [
    "--data",
    TEXT[1],
    "--budget",
    "2000",
    "--workers",
    "1",
    "--retrain",
    "0",
    "--no-baseline",
    "--mlflow",
    "mlflow.db",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """Two studies of a space that costs nothing, one of which was tracked and has a trained model."""
    there = mine(tmp_path_factory.mktemp("json"))
    before = os.getcwd()
    os.chdir(there)
    own = [
        "--space",
        "mine.py:Mine",
        "--objective",
        "mine.py:height",
        "--workers",
        "1",
        "--retrain",
        "0",
        "--trials",
        "3",
    ]
    printed("result", "search", *own, "--mlflow", "none", "--storage", "a.db")
    printed("result", "search", *own, "--mlflow", "none", "--storage", "b.db", "--seed", "1")
    printed("result", "search", *TINY, "--objective", "bits_per_byte", "--objective", "parameters", "--trials", "2")
    printed("trained", "train", "--tokens", "2048", "--to", "out", "--pick", "0")
    yield there
    os.chdir(before)


def printed(kind: str, *words: str, code: int = 0, stdin: str | None = None) -> Any:
    """The document that a command prints, with no key that the page does not have, and all that it has."""
    done = CliRunner().invoke(app, [*words, "--json"], input=stdin)
    assert done.exit_code == code, (done.output, done.exception)
    about = KINDS[kind]
    found = [json.loads(line) for line in done.stdout.splitlines()] if about.lines else [json.loads(done.stdout)]
    for data in found:
        assert data.pop("schema", None) == f"nas-bo.{kind}/{about.version}" or not about.version
        always = {key for key in about.keys if not key.endswith("?")} - {"schema"}
        assert always <= set(data), (kind, always - set(data))
        if not about.each:
            allowed = {key.rstrip("?") for key in about.keys}
            others = set(data) - allowed if kind not in ("device", "profile") else set()
            assert not others, (kind, others)
    return found if about.lines else found[0]


def test_looking_into_studies(folder):
    assert printed("result", "report", "a.db")["trials"] == 3
    assert printed("pick", "report", "a.db", "--pick", "knee")["study"] == "Mine"
    assert printed("status", "status", "a.db")["studies"][0]["finished"] == 3
    assert len(printed("comparison", "compare", "a.db", "b.db")["studies"]) == 2
    assert printed("merged", "merge", "a.db", "b.db", "--into", "both.db", "--study", "both")["added"] == 6


def test_asking_and_telling(folder):
    (asked,) = printed(
        "asked",
        "ask",
        "--storage",
        "asked.db",
        "--objective",
        "loss",
        "--objective",
        "parameters",
        "--at-most",
        "loss=5",
    )
    (told,) = printed("outcome", "tell", "--storage", "asked.db", stdin=json.dumps({**asked, "values": {"loss": 6.0}}))
    assert told["violated"] == {"loss<=5": 1.0}
    (asked,) = printed("asked", "ask", "--storage", "asked.db")
    (told,) = printed("outcome", "tell", "--storage", "asked.db", stdin=json.dumps({**asked, "failed": "no power"}))
    assert told["state"] == "failed" and told["reason"] == "no power"


def test_spaces_and_devices(folder):
    assert printed("spaces", "spaces")["tiny_gpt"]["title"] == "TinyGPT"
    assert printed("space", "spaces", "tiny_gpt")["title"] == "TinyGPT"
    assert printed("inspection", "spaces", "inspect", "mine.py:Mine", "--storage", "a.db")["advice"]
    assert printed("devices", "devices")["pi5"]["name"] == "pi5"
    assert printed("device", "devices", "pi5")["kind"] == "cpu"
    assert len(printed("drawings", "devices", "pi5", "--pictures", "drawn")["files"]) == 2


def test_models(folder):
    assert printed("trained", "train", "--tokens", "2048", "--to", "out", "--pick", "0")["resumed"]
    assert printed("generated", "generate", "out", "def ", "--tokens", "4")["prompt"] == "def "
    assert printed("exported", "export", "out", "--to", "copy", "--format", "folder")["folder"] == "copy"
    assert printed("compressed", "compress", "out", "--to", "small", "--bits", "8", "--method", "rtn")["steps"]


def test_mlflow_and_doctor(folder):
    assert printed("synced", "mlflow", "sync", "a.db", "--mlflow", "mlflow.db", "--dry-run")["planned"]
    found = printed("doctor", "doctor", "--storage", "a.db")
    assert found["ok"] and {"group", "name", "state", "found", "fix", "asked"} == set(found["checks"][0])


def test_every_command_prints_json_and_has_its_document_on_the_page():
    def walked(command: Any, typed: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield " ".join(typed), command
        for name, one in (inner or {}).items():
            yield from walked(one, (*typed, name))

    printed_by = " ".join(kind.commands for kind in KINDS.values())
    for typed, command in walked(typer.main.get_command(app)):
        if typed == "mcp":  # speaks a protocol of its own on stdout
            continue
        assert any("--json" in p.opts for p in command.params), typed
        assert f"`{typed}" in printed_by, typed


def test_the_page_is_fresh():
    spec = importlib.util.spec_from_file_location("documents", ROOT / "docs" / "_build" / "documents.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.PAGE.read_text() == made.rendered(), "python docs/_build/documents.py writes it again"
