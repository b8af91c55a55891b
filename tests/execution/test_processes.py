"""Local processes that are killed, that cannot be started, and that end with nobody; the rest is in the shipped suite."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nas_bo.errors import SearchError
from nas_bo.execution import Processes
from nas_bo.problem import Function, Problem
from nas_bo.trial import State
from tests import problems
from tests.problems import Toy, loss


@pytest.fixture
def processes():
    made = Processes(2)
    yield made
    made.close()


def toy(depth: int, width: int = 8):
    layer = {"mixer": {"kind": "attention", "heads": 1}}
    return Toy.architecture({"depth": depth, "width": width, "layers": [layer] * depth})


def lines(log) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def test_one_that_is_killed_costs_its_siblings_nothing(processes, tmp_path, monkeypatch, caplog):
    """Nothing of them is evaluated twice, and what was killed from outside is evaluated once more."""
    log = tmp_path / "log"
    monkeypatch.setenv("NAS_BO_TEST_LOG", str(log))
    archs = [toy(2), *(toy(depth, width) for depth in (1, 3) for width in (8, 16))]
    problem = Problem(Toy, [problems.waits_to_be_killed])
    for key, arch in enumerate(archs):
        processes.submit(key, problem, arch)
    until = time.monotonic() + 600
    while not (first := [pid for arch_id, pid in lines(log) if arch_id == archs[0].id]):
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(int(first[0]), signal.SIGKILL)
    with caplog.at_level(logging.WARNING):
        found = dict(processes.take() for _ in archs)
    assert {trial.state for trial in found.values()} == {State.COMPLETE}
    begun = [arch_id for arch_id, _ in lines(log)]
    assert begun.count(archs[0].id) == 2 and all(begun.count(arch.id) == 1 for arch in archs[1:])
    assert "SIGKILL" in caplog.text and "evaluated once more, alone" in caplog.text


def ends_when_it_is_asked_to(arch) -> float:
    """Leaves a file when it has begun; where the width is 8 a request to end brings it to its end."""
    asked = threading.Event()
    if arch.width == 8:
        signal.signal(signal.SIGTERM, lambda *_: asked.set())
    with open(os.environ["NAS_BO_TEST_LOG"], "a") as log:
        log.write(f"{arch.id} {os.getpid()}\n")
    while not asked.is_set():
        time.sleep(0.02)
    return float(arch.depth)


def test_what_comes_to_its_end_while_everything_is_ended_is_kept(processes, tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("NAS_BO_TEST_LOG", str(log))
    problem = Problem(Toy, [ends_when_it_is_asked_to])
    for key, arch in enumerate([toy(2), toy(2, 16), toy(3)]):  # the second is cut, the third never begins
        processes.submit(key, problem, arch)
    until = time.monotonic() + 600
    while len(lines(log)) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    ((key, trial),) = processes.stop()
    assert key == 0 and trial.state is State.COMPLETE and trial.values == {"ends_when_it_is_asked_to": 2.0}
    assert processes.stop() == [] and len(lines(log)) == 2


def test_one_that_is_killed_while_it_has_nothing_to_do_is_replaced(processes):
    problem = Problem(Toy, [loss])
    processes.submit("first", problem, toy(1))
    processes.take()
    for hand in processes._hands:
        if hand.child is not None:
            os.kill(hand.child._process.pid, signal.SIGKILL)
    for key in range(4):
        processes.submit(key, problem, toy(2))
    assert {processes.take()[1].state for _ in range(4)} == {State.COMPLETE}


def test_what_cannot_be_sent_is_said(processes):
    local = Problem(Toy, [Function(lambda arch: 1.0, "local")])
    with pytest.raises(SearchError, match="workers=2 needs a space and objectives that can be sent"):
        processes.check_problem(local)
    processes.submit("local", local, toy(1))
    key, trial = processes.take()
    assert key == "local" and trial.state is State.FAILED and "cannot be sent" in trial.reason
    processes.submit("judge", Problem(Toy, [loss]), toy(1), lambda *_: True)
    assert "cannot be sent" in processes.take()[1].reason
    processes.submit("answer", Problem(Toy, [problems.gives_what_cannot_be_sent]), toy(1))
    assert "cannot be sent back" in processes.take()[1].reason


@pytest.mark.parametrize("workers", [0, 1.5, True, "2"])
def test_a_number_of_workers_is_a_whole_number(workers):
    with pytest.raises(SearchError, match="workers must be an integer of at least 1"):
        Processes(workers)


def test_take_waits_in_a_way_that_ctrl_c_ends(processes):
    """A driver that waits holds nothing that an interrupt would not break."""
    processes.submit("long", Problem(Toy, [problems.sleeps]), toy(1))
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        processes.take()
    processes.close()
    processes.submit("short", Problem(Toy, [loss]), toy(1))
    assert processes.take()[0] == "short"


UNGUARDED = """
from nas_bo.execution import Processes
from nas_bo.problem import Problem
from tests.problems import Toy, cost
team = Processes(2)
team.submit(0, Problem(Toy, [cost]), Toy.sample(0))
print(team.take())
"""
UNCLOSED = """
from nas_bo.execution import Processes
from nas_bo.problem import Problem
from tests.problems import Toy, cost, sleeps
if __name__ == "__main__":
    team = Processes(2)
    team.submit(0, Problem(Toy, [cost]), Toy.sample(0))
    print(team.take()[1].values)
    team.submit(1, Problem(Toy, [sleeps]), Toy.sample(0))
"""


@pytest.mark.parametrize(
    ("script", "code", "says"), [(UNGUARDED, 1, "if __name__ == '__main__':"), (UNCLOSED, 0, "cost")]
)
def test_a_script_ends_whatever_it_forgot(script, code, says, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(script)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    ran = subprocess.run([sys.executable, str(path)], env=env, capture_output=True, text=True, timeout=600)
    assert ran.returncode == code and says in ran.stdout + ran.stderr, ran.stderr
