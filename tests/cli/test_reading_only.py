"""What only looks needs nothing that can be written: by the modes of files, and on a read-only file system."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import optuna
import pytest

from nas_bo import search
from nas_bo.optuna import storages
from nas_bo.strategies import Random
from tests.command import environment
from tests.problems import Toy, cost, loss
from tests.processes import python

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with a study in a database and one in a journal, that everybody may read and nobody write."""
    folder = tmp_path_factory.mktemp("kept")
    for name in ("s.db", "s.log"):
        search(Toy, [loss, cost], trials=3, strategy=Random(), storage=str(folder / name), retrain=0)
    study = optuna.create_study(study_name="other", storage=f"sqlite:///{folder}/other.db")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    return folder


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


COMMANDS = [
    ("report", "s.db", "--out", "{out}"),
    ("report", "s.log", "--out", "{out}"),
    ("report", "other.db", "--out", "{out}"),
    ("report", "s.db", "--pick", "knee"),
    ("status", "s.db"),
    ("status", "s.log"),
    ("compare", "s.db", "s.log"),
    ("mlflow", "sync", "s.db", "--dry-run"),
    ("mlflow", "sync", "s.log", "--dry-run"),
    ("mlflow", "sync", ".", "--dry-run"),
]


ALL = """
import json, sys
commands, out = json.loads(sys.argv[1]), sys.argv[2]
if sys.argv[3]:
    from tests.cli.test_reading_only import obey_modes
    obey_modes()
from typer.testing import CliRunner
from nas_bo.cli.app import app
said = []
for command in commands:
    done = CliRunner().invoke(app, [word.format(out=out) for word in command])
    said.append([command, done.exit_code, done.output])
print(json.dumps(said))
"""


def obey_modes() -> None:
    """As root, of this process from now on: without the capabilities that set it above the modes of files."""
    import ctypes

    above = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER of linux/capability.h
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: the first 32 bits, then the others
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    for number in range(3):
        data[number] &= ~sum(1 << bit for bit in above)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def run(folder: Path, out: Path, modes: bool = False) -> None:
    """All commands in one process, which obeys the modes of files where it is asked to."""
    env = environment(HOME=str(out), MPLCONFIGDIR=str(out), TMPDIR=str(out))
    done = python("-c", ALL, json.dumps(COMMANDS), out, "1" if modes else "", cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    wrong = [one for one in json.loads(done.stdout.splitlines()[-1]) if one[1] != 0]
    assert not wrong, wrong


WRITES = """
import sys
from tests.cli.test_reading_only import obey_modes
obey_modes()
open(sys.argv[1], "ab")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is above the modes of files")
def test_a_process_that_obeys_modes_cannot_write(kept):
    (kept / "s.db").chmod(0o444)
    done = python("-c", WRITES, kept / "s.db", env=environment())
    assert done.returncode == 1 and "PermissionError" in done.stderr


def test_what_may_not_be_written_is_read(kept, tmp_path):
    """By modes, which root obeys without the capabilities that set it above them."""
    for path in (*kept.rglob("*"), kept):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = state(kept)
        run(kept, tmp_path, modes=os.geteuid() == 0)
        assert state(kept) == before and list(tmp_path.rglob("front.html"))
    finally:
        kept.chmod(0o755)


def test_on_a_read_only_file_system(kept, tmp_path_factory, tmp_path):
    where = tmp_path_factory.mktemp("mounted")
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root mounts")
    steps = (["mount", "--bind", kept, where], ["mount", "-o", "remount,ro,bind", where])
    try:
        if any(subprocess.run(list(map(str, step)), capture_output=True, check=False).returncode for step in steps):
            pytest.skip("this root may not mount")
        run(where, tmp_path)
    finally:
        subprocess.run(["umount", str(where)], capture_output=True, check=False)


def test_a_storage_of_a_reader_makes_no_table(kept, tmp_path):
    shutil.copy(kept / "s.db", tmp_path / "s.db")
    before = state(tmp_path)
    storages.load(str(tmp_path / "s.db"), reading=True)
    assert state(tmp_path) == before
