"""A PostgreSQL server of its own for a test: started in a temporary folder on a free port of this machine, ended with the test."""

from __future__ import annotations

import getpass
import glob
import hashlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _tools() -> Path | None:
    """The folder with initdb and pg_ctl of the newest version that is installed."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda p: float(p.split("/")[4]))
    named = shutil.which("initdb")
    return Path(found[-1] if found else named).parent if found or named else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Unavailable(Exception):
    """There is no server here, and why."""


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """``host:port`` of a server whose user ``postgres`` needs no password; each test makes a database of its own."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    try:
        with serving() as address:
            yield address
    except Unavailable as reason:
        pytest.skip(str(reason))


@contextmanager
def serving() -> Iterator[str]:
    """The same as a context (raises Unavailable)."""
    tools = _tools()
    if tools is None:
        raise Unavailable("PostgreSQL is not installed")
    user = getpass.getuser()
    if os.getuid() == 0:  # the server refuses to run as root
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            raise Unavailable("PostgreSQL does not run as root, and there is no user postgres") from None
        user = "postgres"
    folder, before = Path(tempfile.mkdtemp(prefix="nas_bo_pg_")), dict(_commands)  # of a server that runs already
    port = _free_port()
    as_user = ["runuser", "-u", user, "--"] if os.getuid() == 0 else []
    try:
        if as_user:
            shutil.chown(folder, user, user)
        data, log = folder / "data", folder / "log"
        quick = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off -c max_connections=60"
        make = [str(tools / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        begin = [str(tools / "pg_ctl"), "-D", str(data), "-l", str(log), "-w", "-t", "120", "-o", quick, "start"]
        end = [str(tools / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop"]
        for name, command in (("make", make), ("start", begin), ("stop", end)):
            _commands[name] = [*as_user, *command], folder
        for name in ("make", "start"):
            if _run(name):
                raise Unavailable(f"PostgreSQL does not start here: {(folder / 'said').read_text()[-300:]}")
        yield f"127.0.0.1:{port}"
    finally:
        if "stop" in _commands:
            stop()
        shutil.rmtree(folder, ignore_errors=True)
        _commands.clear()
        _commands.update(before)


_commands: dict[str, tuple[list[str], Path]] = {}


def _run(name: str) -> int:
    command, folder = _commands[name]
    with (folder / "said").open("wb") as said:  # no pipe: the server would hold it open
        return subprocess.run(command, cwd=folder, stdout=said, stderr=said, timeout=300).returncode


def stop() -> None:
    """End the server at once, as where its machine fails."""
    _run("stop")


def kill() -> None:
    """End its first process by SIGKILL; the others follow by themselves."""
    folder = _commands["start"][1]
    os.kill(int((folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)


def start() -> None:
    """Start it again, on the same port."""
    for _ in range(20):  # what is left of one that was killed holds its memory for a moment
        if _run("start") == 0:
            return
        time.sleep(0.5)
    raise AssertionError((_commands["start"][1] / "said").read_text())


def made(server: str, name: str, template: str = "template1") -> str:
    """The address of a new database, empty or as another one is."""
    import psycopg

    with psycopg.connect(f"postgresql://postgres@{server}/postgres", autocommit=True) as connection:
        connection.execute(f'create database "{name}" template "{template}"'.encode())
    return f"postgresql://postgres@{server}/{name}"


@pytest.fixture
def database(server: str, request: pytest.FixtureRequest) -> str:
    """The address of an empty database, as users write it: ``postgresql://postgres@host:port/name``."""
    return made(server, "t" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12])
