"""What had ended when its driver was killed is given to whoever continues: it is not evaluated a second time."""

from __future__ import annotations

import os
import pickle
import signal
from collections import Counter

import pytest

from nas_bo import search, temporary
from nas_bo.execution import outcome_spool
from nas_bo.execution.worker import answered, unpacked
from nas_bo.problem import Problem
from nas_bo.strategies import Random
from nas_bo.testing.evaluations import Small, Staged, at, half, loss, raises, size
from nas_bo.trial import State
from tests.execution.killed import Logged
from tests.processes import python

CODE = """
import os, sys, tempfile
tempfile.tempdir = os.environ.get("FOLDER")
from nas_bo import search, validate
from nas_bo.execution import InProcess, Processes, Ray
from nas_bo.strategies import Random
from nas_bo.testing.evaluations import Small, size
from tests.execution.killed import Logged, killing

if __name__ == "__main__":
    kind, log, storage, after = sys.argv[1:]
    asked = {"strategy": Random(seed=0), "storage": storage}
    if kind == "validate":
        made = killing(InProcess, int(after))()
        validate(Small, [size], Logged(log), architectures=3, seeds=1, keep=storage + ".jsonl", executor=made)
        sys.exit()
    if kind == "in process":
        executor = killing(InProcess, int(after))()
        asked |= {"trials": 1, "retrain": 2, "retrain_others": 0, "baseline": Small.sample(5)}
    else:
        executor = killing(Processes, int(after))(2) if kind == "processes" else killing(Ray, int(after))(kind, workers=2)
        asked |= {"trials": 4, "retrain": 0, "baseline": None}
    search(Small, [Logged(log)], executor=executor, **asked)
"""


def run(folder, kind: str, after: int = 0):
    """The search, killed instead of being given outcome number `after`; 0: to its end. What came to its end, and how often."""
    (folder / "job.py").write_text(CODE)
    env = {**os.environ, "PYTHONPATH": os.getcwd(), **({} if ":" in kind else {"FOLDER": str(folder)})}
    ran = python(folder / "job.py", kind, folder / "log", folder / "s.db", after, env=env, timeout=300)
    assert ran.returncode == (-signal.SIGKILL if after else 0), ran.stderr
    return Counter((folder / "log").read_text().split("\n")[:-1])


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL: POSIX only")
@pytest.mark.parametrize("after", [1, 2, 3], ids=["baseline", "trial", "re-training"])
def test_nothing_ends_twice_in_this_process(after, tmp_path):
    run(tmp_path, "in process", after)
    ended = run(tmp_path, "in process")
    assert set(ended.values()) == {1} and sorted(line[0] for line in ended) == list("1122")
    assert not list(tmp_path.glob("nas-bo-*/outcomes/*")), "what is stored is not kept"


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL: POSIX only")
def test_nothing_ends_twice_in_a_validation(tmp_path):
    assert len(run(tmp_path, "validate", 2)) == 3 and list(tmp_path.glob("nas-bo-*/outcomes/*"))
    ended = run(tmp_path, "validate")
    assert set(ended.values()) == {1} and len(ended) == 3
    assert not list(tmp_path.glob("nas-bo-*/outcomes/*"))


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL: POSIX only")
def test_nothing_ends_twice_in_worker_processes(tmp_path):
    assert len(run(tmp_path, "processes", 1)) == 4
    assert len(list(tmp_path.glob("nas-bo-*/outcomes/*"))) == 4
    ended = run(tmp_path, "processes")
    assert set(ended.values()) == {1} and len(ended) == 4
    assert not list(tmp_path.glob("nas-bo-*/outcomes/*"))


# ---- what is kept, and for whom ----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(temporary, "private", lambda: tmp_path)


def answer(objective, name="some", judge=None, arch=None):
    return unpacked(answered(arch or at(1), lambda: (Problem(Small, [objective]), judge), name))[0]


def test_the_second_evaluation_of_a_name_is_the_first(tmp_path):
    first = answer(Logged(str(tmp_path / "log")))
    assert answer(Logged(str(tmp_path / "log"))) == first == answer(raises)
    assert (tmp_path / "log").read_text().count("\n") == 1
    assert answer(size, arch=at(2)).values == {"size": 16.0}, "of another architecture"
    outcome_spool.remove("some")
    assert answer(size).values == {"size": 8.0}
    assert answer(size, "other", arch=at(2)).values == {"size": 16.0}


def test_what_failed_is_not_kept_and_what_was_stopped_is():
    assert answer(raises).state is State.FAILED and answer(size).state is State.COMPLETE
    stopped = answer(Staged(), "stopped", half)
    assert stopped.state is State.STOPPED and answer(raises, "stopped") == stopped


@pytest.mark.parametrize("damage", [b"", b"no pickle", pickle.dumps((1, 2))])
def test_what_cannot_be_read_is_evaluated_again(damage, tmp_path):
    answer(size)
    (tmp_path / outcome_spool.FOLDER / "some").write_bytes(damage)
    assert answer(loss).values == {"loss": float(loss(at(1)))}


def test_a_full_disk_costs_no_evaluation(tmp_path):
    (tmp_path / outcome_spool.FOLDER).touch()  # no folder can be made there
    assert answer(size).values == answer(size).values == {"size": 8.0}
    outcome_spool.remove("some")


def test_without_a_name_nothing_is_kept(tmp_path):
    answer(size, "")
    search(Small, [size], strategy=Random(seed=0), trials=2, retrain=0)
    assert not (tmp_path / outcome_spool.FOLDER).exists()


def test_names_differ_where_outcomes_do(tmp_path):
    small, names = Problem(Small, [size]), outcome_spool.Names("study")
    name = names.of("trial", 0, small, at(1))
    assert name == outcome_spool.Names("study").of("trial", 0, Problem(Small, [size]), at(1))
    others = [
        outcome_spool.Names("another").of("trial", 0, small, at(1)), outcome_spool.Names("study", "stopping").of("trial", 0, small, at(1)),
        names.of("baseline", 0, small, at(1)), names.of("trial", 1, small, at(1)), names.of("trial", 0, small, at(2)),
        names.of("trial", 0, Problem(Small, [size, loss]), at(1)), names.of("trial", 0, Problem(Small, [size], [], [loss]), at(1)),
    ]  # fmt: skip
    assert len({name, *others}) == 8


def test_what_is_old_or_too_much_is_swept(tmp_path, monkeypatch):
    for age, name in enumerate(["new", "older", "oldest"]):
        (tmp_path / name).write_bytes(b"1234")
        os.utime(tmp_path / name, times=(2e9 - age, 2e9 - age))
    monkeypatch.setattr("nas_bo.execution.outcome_spool.time.time", lambda: 2e9 + 1)
    monkeypatch.setattr(outcome_spool, "MOST_BYTES", 8)
    outcome_spool.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "older"]
    monkeypatch.setattr(outcome_spool, "OLDEST_S", 1.5)
    outcome_spool.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["new"]
