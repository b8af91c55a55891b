"""Studies on a MySQL server: a MariaDB of its own, on loopback; skipped with the reason where none is installed."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import optuna
import pytest

from nas_bo import search
from nas_bo.errors import HostError
from nas_bo.optuna import studies
from nas_bo.strategies import Random
from tests.problems import Toy, cost, loss

optuna.logging.set_verbosity(optuna.logging.ERROR)
WANTED = {"strategy": Random(seed=0), "retrain": 0}


class Server:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        user = "mysql" if os.getuid() == 0 else getpass.getuser()  # the server refuses to run as root
        self.before = ["runuser", "-u", user, "--"] if os.getuid() == 0 else []
        shutil.chown(folder, user)
        made = self._run("mariadb-install-db", f"--datadir={folder}/data", "--auth-root-authentication-method=normal")
        if made.wait(300):
            pytest.skip(f"MariaDB makes no data folder here: {(folder / 'said').read_text()[-300:]}")
        self.start()
        self.do("create user u@localhost identified by 'hidden'; create database d; grant all on d.* to u@localhost")

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen([*self.before, *command], cwd=self.folder, stdout=said, stderr=said)

    def start(self) -> None:
        place = f"--datadir={self.folder}/data", f"--socket={self.folder}/s", f"--pid-file={self.folder}/data/pid"
        self.process = self._run("mariadbd", "--no-defaults", *place, f"--port={self.port}", "--bind-address=127.0.0.1")
        until = time.monotonic() + 120
        while self.tried("select 1").returncode:
            assert time.monotonic() < until and self.process.poll() is None, (self.folder / "said").read_text()[-2000:]
            time.sleep(0.1)

    def kill(self) -> None:
        os.kill(int((self.folder / "data" / "pid").read_text()), 9)
        self.process.wait()

    def tried(self, statement: str) -> subprocess.CompletedProcess[bytes]:
        command = ["mariadb", "--no-defaults", "-S", f"{self.folder}/s", "-u", "root", "-e", statement]
        return subprocess.run(command, capture_output=True, timeout=60)

    def do(self, statement: str) -> None:
        done = self.tried(statement)
        assert done.returncode == 0, done.stderr

    def url(self, database: str = "d", user: str = "u:hidden") -> str:
        return f"mysql://{user}@127.0.0.1:{self.port}/{database}"  # with PyMySQL, which is there


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("pymysql", reason="pymysql is not installed")
    if shutil.which("mariadbd") is None:
        pytest.skip("MariaDB is not installed")
    folder = Path(
        tempfile.mkdtemp(prefix="nas_bo_my_")
    )  # pytest's own folder is closed to the user that the server runs as
    try:
        made = Server(folder)
        yield made
        made.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_search_waits_for_a_server_that_was_killed_and_is_continued(server):
    """SIGKILL of the server between two trials: the search waits for it, and nothing is lost or evaluated twice."""
    evaluated = []

    def noted(arch):
        evaluated.append(arch.id)
        if len(evaluated) == 3:
            server.kill()
            server.start()
        return loss(arch)

    noted.__name__ = "loss"
    found = search(Toy, [noted, cost], storage=server.url(), trials=6, baseline=None, **WANTED)
    assert [t.number for t in found.trials] == list(range(6))
    again = search(Toy, [noted, cost], storage=server.url(), trials=8, baseline=None, **WANTED)
    assert len(again.trials) == 8 == len(studies.load(server.url()).trials)
    own = [t.architecture.id for t in again.trials]
    assert sorted(i for i in evaluated if i in own) == sorted(own)


def test_a_right_that_is_missing_is_said_at_once(server):
    """Other databases call it an error of the statement; MySQL one of the connection, which might pass."""
    server.do("create user r@localhost identified by 'hidden'; grant select on d.* to r@localhost")
    with pytest.raises(HostError, match="command denied .*let the owner of the database grant it") as caught:
        search(Toy, [loss, cost], storage=server.url(user="r:hidden"), study_name="new", trials=1, **WANTED)
    assert "hidden" not in str(caught.value)


def test_what_of_the_address_may_be_wrong_is_said(server):
    for url in (server.url(user="u:wrong"), server.url("other"), server.url().replace(str(server.port), "1")):
        with pytest.raises(HostError, match="are user, password, host, port and database of the URL right") as caught:
            search(Toy, [loss, cost], storage=url, trials=1, **WANTED)
        assert "wrong" not in str(caught.value)


def test_letters_that_a_database_was_not_made_for(server):
    server.do("create database few character set latin1; grant all on few.* to u@localhost")
    with pytest.raises(HostError, match="character set utf8mb4"):
        search(Toy, [loss, cost], storage=server.url("few"), study_name="rocket 🚀", trials=1, **WANTED)
    server.do("create database many character set utf8mb4; grant all on many.* to u@localhost")
    found = search(Toy, [loss, cost], storage=server.url("many"), study_name="rocket 🚀", trials=1, **WANTED)
    assert len(found.trials) == 1
