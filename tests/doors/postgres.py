"""A PostgreSQL server of its own for a test: started in a temporary folder on a free port of this machine, ended with the test."""

from __future__ import annotations

import getpass
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
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


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """``host:port`` of a server whose user ``postgres`` needs no password; each test makes a database of its own."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    tools = _tools()
    if tools is None:
        pytest.skip("PostgreSQL is not installed")
    user = getpass.getuser()
    if os.getuid() == 0:  # the server refuses to run as root
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        user = "postgres"
    folder = Path(tempfile.mkdtemp(prefix="nas_bo_pg_"))
    port = _free_port()
    as_user = ["runuser", "-u", user, "--"] if os.getuid() == 0 else []
    try:
        if as_user:
            shutil.chown(folder, user, user)
        data, log = folder / "data", folder / "log"
        quick = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off -c max_connections=60"
        make = [str(tools / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        start = [str(tools / "pg_ctl"), "-D", str(data), "-l", str(log), "-w", "-t", "120", "-o", quick, "start"]
        for command in (make, start):
            with (folder / "said").open("wb") as said:  # no pipe: the server would hold it open
                done = subprocess.run([*as_user, *command], cwd=folder, stdout=said, stderr=said, timeout=300)
            if done.returncode:
                pytest.skip(f"PostgreSQL does not start here: {(folder / 'said').read_text()[-300:]}")
        yield f"127.0.0.1:{port}"
    finally:
        stop = [str(tools / "pg_ctl"), "-D", str(folder / "data"), "-m", "immediate", "stop"]
        subprocess.run([*as_user, *stop], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(server: str, request: pytest.FixtureRequest) -> str:
    """The address of an empty database, as users write it: ``postgresql://postgres@host:port/name``."""
    import hashlib

    import psycopg

    name = "t" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    with psycopg.connect(f"postgresql://postgres@{server}/postgres", autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    return f"postgresql://postgres@{server}/{name}"
