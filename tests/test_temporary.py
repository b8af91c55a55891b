"""Folders for temporary files: of one user, and swept when their owner is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nas_bo import measurement_lock, temporary
from nas_bo.execution.processes import Processes
from nas_bo.hardware.measuring import machine
from nas_bo.mlflow import new_database, tracking_uri
from nas_bo.process import owner
from tests.command import environment

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and modes of POSIX")
DEAD = owner().rsplit(":", 1)[0] + ":1"  # of a process whose number was given again


@pytest.fixture(autouse=True)
def everybodys(tmp_path, monkeypatch):
    """A folder for temporary files of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(temporary, "_swept", set())
    return tmp_path


def test_the_folder_is_this_users_alone(everybodys):
    own = temporary.private()
    assert own is not None and own.parent == everybodys and own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)
    assert temporary.private() == own and own.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("taken", ["link", "file", "other"])
def test_a_name_that_somebody_else_has_is_not_used(taken, everybodys, tmp_path_factory, monkeypatch, caplog):
    path = everybodys / f"nas-bo-{os.getuid()}"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    if taken == "link":
        path.symlink_to(elsewhere)
    elif taken == "file":
        path.touch()
    else:
        other = os.getuid() + 1
        (everybodys / f"nas-bo-{other}").mkdir()
        monkeypatch.setattr(os, "getuid", lambda: other)
    assert temporary.private() is None
    with temporary.folder("x") as made:  # in that of everybody, under a name that nobody can know
        assert made.is_dir() and everybodys in made.parents and "nas-bo-x-" in str(made)
    with measurement_lock.machine():
        pass
    assert "cannot be used" in caplog.text and list(elsewhere.iterdir()) == []


def test_nobody_holds_the_lock_for_ever(everybodys, monkeypatch, caplog):
    """A process of this user that was stopped; and a fixed name of earlier versions, which somebody else may hold."""
    (everybodys / f"nas-bo-measuring-{os.getuid()}").mkdir()
    monkeypatch.setattr(measurement_lock, "MACHINE_PATIENCE_S", 0.2)
    told = []
    with measurement_lock.machine(), measurement_lock.machine(lambda: told.append("waits")):
        assert told == ["waits"]
    assert caplog.text.count("measures at the same time") == 1
    with measurement_lock.machine(lambda: told.append("again")):
        assert told == ["waits"]


def test_a_sibling_that_was_stopped_holds_nobody_back_for_ever(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(measurement_lock, "PATIENCE_S", 0.3)
    monkeypatch.setattr(measurement_lock, "SAY_AFTER_S", 0.1)
    stopped = measurement_lock._Gate(tmp_path)
    with stopped.alone():  # it holds both files
        mine = measurement_lock._Gate(tmp_path)
        with mine.alone():
            pass
        with mine.working() as step:
            step()
    assert "has waited" in caplog.text and "continues at the same time" in caplog.text


def test_folders_of_the_dead_are_removed_and_of_the_living_stay(everybodys):
    own = temporary.private()
    living = temporary.made("quiet")
    for name, by in (("nas-bo-quiet-a", DEAD), ("nas-bo-files-b", DEAD), ("nas-bo-c", owner()), ("other", DEAD)):
        (own / name).mkdir()
        (own / name / "owner").write_text(by)
        (own / name / "more").touch()
    (own / "nas-bo-young").mkdir()
    (own / "nas-bo-old").mkdir()
    os.utime(own / "nas-bo-old", (1, 1))
    (own / "nas-bo-link").symlink_to(everybodys)
    temporary.sweep(own)
    left = {path.name for path in own.iterdir()}
    assert left == {"nas-bo-c", "other", "nas-bo-young", "nas-bo-link", Path(living.name).name}
    living.cleanup()


KILLED = """
import os, signal, sys
from pathlib import Path
from nas_bo import temporary
from nas_bo.mlflow import new_database
folder = temporary.made("quiet")
new_database._fill = lambda made: (Path(made).write_bytes(b"half"), Path(f"{made}-journal").touch(), os.kill(os.getpid(), signal.SIGKILL))
new_database.create(Path(sys.argv[1]))
"""


def test_what_a_killed_process_left_is_gone_after_the_next_start(everybodys, monkeypatch):
    monkeypatch.setenv("NAS_BO_CACHE", str(everybodys / "cache"))
    file = everybodys / "study folder" / "mlflow.db"
    file.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(file)],
        env=environment(TMPDIR=str(everybodys)),
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    own = temporary.private()
    assert len(list(file.parent.iterdir())) == 2 and len(list(own.glob("nas-bo-quiet-*"))) == 1
    mine = temporary.draft(file)
    mine.touch()  # of a process that lives
    (file.parent / ".mlflow.db.elsewhere-7-8.9").touch()  # of another machine
    monkeypatch.setattr(new_database, "_fill", lambda made: made.write_bytes(b"whole"))
    new_database.create(file)
    assert {p.name for p in file.parent.iterdir()} == {"mlflow.db", mine.name, ".mlflow.db.elsewhere-7-8.9"}
    temporary.made("quiet").cleanup()
    assert list(own.glob("nas-bo-quiet-*")) == []


def test_a_database_that_is_there_is_swept_around_as_well(everybodys):
    file = everybodys / "mlflow.db"
    file.write_bytes(b"SQLite format 3\x00")
    left = temporary.draft(file)
    left = left.with_name(left.name.replace(f"-{os.getpid()}-", "-999999999-"))
    left.touch()
    with pytest.raises(Exception, match="not a database"):
        tracking_uri.connect(f"sqlite:///{file}")
    assert not left.exists()


def test_without_a_home_the_cache_is_of_this_user_too(everybodys, monkeypatch):
    for name in ("NAS_BO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert machine.cache_folder().parent == temporary.private()
    (everybodys / f"nas-bo-{os.getuid()}").rmdir()
    (everybodys / f"nas-bo-{os.getuid()}").touch()
    assert (
        not machine.write(machine.cache_folder() / "x.json", {})
        and machine.read(machine.cache_folder() / "x.json") == {}
    )


def test_what_processes_share_lies_in_the_folder_of_this_user_only(everybodys, tmp_path_factory):
    """Tables of a new database are made under a lock: nothing with a name that can be known before is next to everybody's files."""
    from nas_bo.optuna import storages

    place = tmp_path_factory.mktemp("studies")
    storages.backend(str(place / "s.db"))
    with temporary.folder("gguf"):
        pass
    assert [path.name for path in everybodys.iterdir()] == [f"nas-bo-{os.getuid()}"]


def test_a_folder_that_two_threads_ask_for_at_once_is_one_and_stays(monkeypatch):
    quick = temporary.made

    def slow(kind):
        time.sleep(0.05)
        return quick(kind)

    monkeypatch.setattr(temporary, "made", slow)
    team = Processes(2)
    with ThreadPoolExecutor(8) as threads:
        names = list(threads.map(lambda _: team.gate, range(8)))
    assert len(set(names)) == 1 and Path(names[0]).is_dir()
    team.close()
    assert not Path(names[0]).exists()
