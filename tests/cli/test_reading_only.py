"""What only looks needs nothing that can be written: by the modes of files, and on a read-only file system."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
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
from typer.testing import CliRunner
from nas_bo.cli.app import app
said = []
for command in commands:
    done = CliRunner().invoke(app, [word.format(out=out) for word in command])
    said.append([command, done.exit_code, done.output])
print(json.dumps(said))
"""


def run(folder: Path, out: Path, *prefix: str) -> None:
    """All commands in one process."""
    env = environment(HOME=str(out), MPLCONFIGDIR=str(out), TMPDIR=str(out))
    words = ["-c", ALL, json.dumps(COMMANDS), str(out)]
    if prefix:
        done = subprocess.run([*prefix, sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True)
    else:
        done = python(*words, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    wrong = [one for one in json.loads(done.stdout.splitlines()[-1]) if one[1] != 0]
    assert not wrong, wrong


def test_what_may_not_be_written_is_read(kept, tmp_path):
    """By modes, which root obeys without the capabilities that set it above them."""
    prefix = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root obeys no modes")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]
    for path in (*kept.rglob("*"), kept):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = state(kept)
        run(kept, tmp_path, *prefix)
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
