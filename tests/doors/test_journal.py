"""A journal whose last line was cut is read and goes on, in this process and in several at once."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path

import optuna
import pytest

from nas_bo import search
from nas_bo.errors import StorageUnavailable
from nas_bo.optuna import journal, storages
from nas_bo.strategies import Random
from tests.command import ROOT, environment, nas_bo
from tests.problems import Toy
from tests.processes import Python, python


def depth(arch):
    return float(arch.depth)


def _search(path, trials):
    return search(Toy, [depth], strategy=Random(seed=0), trials=trials, storage=str(path), retrain=0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A journal of three trials, of a process that is gone."""
    path = tmp_path_factory.mktemp("journal") / "j.log"
    code = f"from tests.doors.test_journal import _search; _search({str(path)!r}, 3)"
    python("-c", code, env=environment(), cwd=ROOT, check=True)
    return path


@pytest.fixture
def made(written, tmp_path):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return Path(shutil.copy(written, tmp_path / "j.log"))


@pytest.mark.parametrize("cut", [1, 2, 17, 60])
def test_a_cut_line_is_removed_and_the_search_goes_on(cut, made, caplog):
    whole = made.read_bytes()
    last = whole.rstrip(b"\n").rsplit(b"\n", 1)[1]
    made.write_bytes(whole[: -min(cut, len(last))])
    with caplog.at_level(logging.WARNING, "nas_bo"):
        found = _search(made, 6)
    assert len(found.trials) == 6 and all(t.values for t in found.trials)
    for line in made.read_bytes().splitlines():
        assert line.startswith(b"{") and line.endswith(b"}")
    said = [r.getMessage() for r in caplog.records if "was cut" in r.getMessage()]
    assert bool(said) == (cut > 1)  # without its line end only, the record is whole
    assert len(_search(made, 8).trials) == 8
    assert [t.architecture.id for t in found.trials] == [
        t.architecture.id for t in _search(made.with_name("new.log"), 6).trials
    ]


def test_bytes_of_a_lost_page_are_removed(made):
    with made.open("ab") as file:
        file.write(b"\x00" * 5000)
    assert journal.mend(made) == 5000
    assert len(_search(made, 5).trials) == 5


def test_a_line_longer_than_a_look_is_cut_whole(made):
    before = made.stat().st_size
    with made.open("ab") as file:
        file.write(b'{"a": "' + b"x" * 300_000)
    assert journal.mend(made) == 300_007 and made.stat().st_size == before


def test_a_full_disk_in_the_middle_of_a_line_loses_that_line_only(made, monkeypatch):
    """What the failed append has left is removed by the next one of the same process."""
    study = optuna.load_study(study_name="Toy", storage=storages.backend(str(made)))
    with made.open("ab") as file:
        file.write(b'{"op_code": 8, "worker')
    study.set_user_attr("after", 1)
    assert optuna.load_study(study_name="Toy", storage=storages.backend(str(made))).user_attrs["after"] == 1


def test_reading_writes_nothing(made):
    made.write_bytes(made.read_bytes()[:-9])
    before = made.read_bytes()
    done = nas_bo("status", str(made), cwd=made.parent)
    assert done.returncode == 0 and "Toy: 3 trials" in done.stdout, done.stderr
    assert made.read_bytes() == before


def test_processes_that_begin_together_after_a_cut_lose_nothing(made):
    made.write_bytes(made.read_bytes()[:-9])
    code = (
        "import optuna, sys; from nas_bo.optuna import storages; optuna.logging.set_verbosity(40)\n"
        f"study = optuna.load_study(study_name='Toy', storage=storages.backend({str(made)!r}))\n"
        "for k in range(20): study.set_user_attr(f'{sys.argv[1]}.{k}', k)\n"
    )
    running = [Python("-c", code, n, env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True) for n in range(3)]
    for process in running:
        assert process.wait(600) == 0, process.stderr.read()
    kept = optuna.load_study(study_name="Toy", storage=storages.backend(str(made))).user_attrs
    assert {f"{n}.{k}" for n in range(3) for k in range(20)} <= set(kept)


def test_a_process_that_was_killed_while_it_wrote_is_not_waited_for(made):
    """Optuna takes the lock of a dead process away after 30 seconds; here, that of a living one never."""
    opened = (
        "import os, signal, sys; from nas_bo.optuna import storages\n"
        f"backend = storages.backend({str(made)!r})\n"
        "backend = getattr(backend, '_backend', backend); backend._lock.grace_period = None\n"
    )
    killed = opened + "with backend._locked(): os.kill(os.getpid(), signal.SIGKILL)\n"
    assert Python("-c", killed, env=environment(), cwd=ROOT).wait(600) == -9
    assert os.path.lexists(f"{made}.lock")
    after = opened + "with backend._locked(): print('whole')\n"
    process = Python("-c", after, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.wait(600) == 0 and process.stdout.read() == "whole\n"
    os.symlink(made, f"{made}.lock")  # of somebody else, who lives
    process = Python("-c", after, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    process.kill()
    process.wait()


@pytest.mark.parametrize("what", ["removed", "replaced by another file", "shorter"])
def test_a_journal_that_is_gone_in_the_middle_is_one_message(tmp_path, what):
    """Trials that are written into another file are never read again: the search began them for ever."""
    path = tmp_path / "s.log"

    def hit(arch):
        if what == "shorter":
            os.truncate(path, 200)
        else:
            path.rename(tmp_path / "old")
            if what != "removed":
                path.write_bytes(b"")
        return 1.0

    with pytest.raises(StorageUnavailable, match=f"the journal (was|became) {what} while it was in use"):
        search(Toy, [hit], strategy=Random(seed=0), trials=3, storage=str(path), retrain=0, storage_patience=0.1)
