"""`nas-bo mcp`: the real client of the SDK over stdin and stdout, in one session: the loop of an agent, and all that it may not do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from nas_bo.cli.agent_tools import Tools
from nas_bo.cli.documents import KINDS
from nas_bo.errors import SearchError
from nas_bo.foreign_recipe import Allowed
from tests.cli.test_ask_trust import EVIL
from tests.command import environment
from tests.command import nas_bo as command
from tests.processes import for_a_shell

mcp = pytest.importorskip("mcp", reason="needs the extra agents")
Answer = tuple[bool, Any]  # whether it is an error, the document or the text


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> dict[str, Any]:
    """What a server answered, and its folder."""
    folder = tmp_path_factory.mktemp("agent") / "work"
    folder.mkdir()
    (folder / "evil.py").write_text(EVIL.format(mark=str(folder.parent / "it-ran")))
    (folder / "text.txt").write_text("a small text of some words, written for a test\n" * 400)
    (folder.parent / "private.txt").write_text("not for an agent\n" * 400)
    return asyncio.run(_talk(folder))


async def _talk(folder) -> dict[str, Any]:
    python, *words = for_a_shell().split()
    start = mcp.StdioServerParameters(
        command=python, args=[*words, "-m", "nas_bo", "mcp", "--budget-limit", "5000"], cwd=folder,
        env=environment(),
    )  # fmt: skip
    async with mcp.Client(start) as client:
        said: dict[str, Any] = {"folder": folder, "tools": (await client.list_tools()).tools}

        async def call(name: str, **arguments: object) -> Answer:
            found = await client.call_tool(name, arguments)
            return bool(found.is_error), found.structured_content or found.content[0].text

        wanted = {"objectives": ["bits_per_byte", "parameters"], "at_most": {"parameters": 100_000}}
        said["ask"] = await call("ask", **wanted, count=2)
        said["train"] = await call("train", number=0, tokens=2000, data="text.txt")
        said["tell"] = await call("tell", number=0, values=said["train"][1]["values"])
        said["failed"] = await call("tell", number=1, failed="out of memory")
        said["status"] = await call("status")
        said["report"] = await call("report")
        said["best"] = await call("best", pick="best:parameters")
        said["waiting"] = await call("ask", waiting=True)
        outside = str(folder.parent / "private.txt")
        said["refused"] = {
            "outside of the current folder": [
                await call("ask", storage=str(folder.parent / "other.db")),
                await call("status", storage=f"sqlite:///{folder.parent}/other.db"),
                await call("report", storage="../other.db"),
            ],
            "has not allowed": [
                await call("ask", study="b", space="evil.py:Mine"),
                await call("ask", study="b", strategy="evil:Proposes"),
                await call("ask", study="b", objectives=["max:evil:height"]),
                await call("ask", study="b", at_most={"evil:height": 3}),
            ],
            "only the server": [await call("ask", storage="postgresql://me:secret@127.0.0.1:9/x")],
            "whole number from 1": [await call("ask", count=0), await call("ask", count=10_000)],
            "does not wait for a result": [await call("train", number=0), await call("train", number=99)],
            "at most 5000": [await call("train", number=0, tokens=1e9)],
            "private.txt": [await call("train", number=0, tokens=2000, data=outside)],
            "which is hidden": [await call("ask", storage=".hidden.db")],
            "no value of 'bits_per_byte'": [
                await call("tell", number=(await call("ask"))[1]["asked"][0]["number"], values={})
            ],
        }
        return said


def test_the_six_verbs_are_there_and_described(session):
    assert [tool.name for tool in session["tools"]] == ["ask", "train", "tell", "status", "report", "best"]
    assert all(len(tool.description) > 40 for tool in session["tools"])


def test_the_loop_of_an_agent(session):
    failed, asked = session["ask"]
    assert not failed and [one["number"] for one in asked["asked"]] == [0, 1]
    assert asked["asked"][0]["tell"] == ["bits_per_byte"] and asked["asked"][0]["known"]["parameters"] <= 100_000
    failed, trained = session["train"]
    assert not failed and trained["state"] == "complete" and set(trained["values"]) == {"bits_per_byte"}
    assert session["tell"][1]["values"]["bits_per_byte"] == trained["values"]["bits_per_byte"]
    assert session["failed"][1]["reason"] == "out of memory"
    (study,) = session["status"][1]["studies"]
    assert study["finished"] == 1 and study["failed"] == 1
    assert session["report"][1]["knee"] == 0 and "bits_per_byte" in session["report"][1]["text"]
    assert session["best"][1]["trial"] == 0
    assert session["waiting"][1]["asked"] == []


def test_every_answer_is_a_document_of_the_page(session):
    for name, kind in {
        "ask": "proposals", "train": "evaluated", "tell": "outcome", "failed": "outcome", "status": "status", "report": "result", "best": "pick",
    }.items():  # fmt: skip
        data = dict(session[name][1])
        assert data.pop("schema") == f"nas-bo.{kind}/1"
        keys = KINDS[kind].keys
        assert {k for k in keys if not k.endswith("?")} <= set(data) <= {k.rstrip("?") for k in keys}, name


def test_what_an_agent_may_not_do_is_refused_in_a_line(session):
    for said, answers in session["refused"].items():
        for failed, text in answers:
            assert failed and said in text, (said, text)
            assert "Traceback" not in text and len(text.splitlines()) == 1, (said, text)
    assert "secret@" not in json.dumps(session["refused"])
    folder = session["folder"]
    assert not (folder.parent / "it-ran").exists() and not (folder.parent / "other.db").exists()


def test_what_was_allowed_when_the_server_was_started_is_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    tools = Tools(allowed=Allowed(paths=[tmp_path / "other.db"]))
    wanted = ["loss", "parameters"]
    assert tools.ask(objectives=wanted, storage=str(tmp_path / "other.db"))["asked"]
    with pytest.raises(SearchError, match=r"outside of the current folder"):
        tools.ask(objectives=wanted, storage=str(tmp_path / "third.db"))
    with pytest.raises(SearchError, match=r"'loss'"):  # nothing of nas_bo measures that
        tools.train(0, 2000, storage=str(tmp_path / "other.db"))


def test_what_cannot_be_a_storage_ends_it_before_an_agent_comes(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from nas_bo.cli.app import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "server.log").write_text("started\n")
    for storage, says in (
        (".", "is a folder; give the file of a study, such as nas-bo.db"),
        ("study.txt", "neither a URL"),
    ):
        ran = CliRunner().invoke(app, ["mcp", "--storage", storage])
        assert ran.exit_code == 2 and says in ran.stderr and "server.log" not in ran.stderr


def test_without_the_sdk_the_line_that_installs_it_is_named(tmp_path):
    (tmp_path / "mcp.py").write_text("raise ImportError('no SDK')")
    done = command("mcp", cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{environment()['PYTHONPATH']}", PYTHONHASHSEED="0")
    assert done.returncode == 2 and "[agents]" in done.stderr and not done.stdout
