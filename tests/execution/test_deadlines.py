"""Evaluations that take longer than they may: ended with all that they have started, while their siblings do not notice."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import psutil
import pytest

from nas_bo import search
from nas_bo.errors import SearchError
from nas_bo.execution import InProcess, Processes, processes
from nas_bo.execution.interrupts import ended_by_sigterm
from nas_bo.problem import Problem
from nas_bo.strategies import Random
from nas_bo.trial import State
from tests import problems
from tests.problems import Retrainable, Toy, cost, loss

LIMIT_S = 600.0


class Clock:
    """Time that jumps beyond every limit as soon as the late evaluation has started all its processes."""

    def __init__(self, log):
        self.log, self.ahead = log, 0.0

    def __call__(self):
        if not self.ahead and self.log.exists() and len(self.log.read_text().split()) == 4:
            self.ahead = 2 * LIMIT_S
        return time.monotonic() + self.ahead


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Where the late evaluation leaves the numbers of its processes."""
    found = tmp_path / "log"
    monkeypatch.setenv("NAS_BO_TEST_LOG", str(found))
    monkeypatch.setattr(processes, "clock", Clock(found))
    return found


def toy(depth: int, width: int = 8):
    layer = {"mixer": {"kind": "attention", "heads": 1}}
    return Toy.architecture({"depth": depth, "width": width, "layers": [layer] * depth})


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # of a parent that does not ask
    except psutil.NoSuchProcess:
        return True


def test_one_that_is_late_is_ended_with_all_its_processes_and_nobody_else(log):
    executor = Processes(2, timeout=LIMIT_S)
    try:
        problem = Problem(Toy, [problems.sleeps_with_children])
        for width in (8, 16, 32):
            executor.submit(width, problem, toy(1, width))
        found = dict([executor.take(), executor.take()])  # both processes have begun
        executor.submit("late", problem, toy(2))
        found |= dict([executor.take(), executor.take()])
        late = found.pop("late")
        assert late.state is State.FAILED and late.seconds == LIMIT_S
        assert "took longer than the 600 s that an evaluation may take (timeout)" in late.reason
        assert {t.state for t in found.values()} == {State.COMPLETE}
        started = [int(pid) for pid in log.read_text().split()]
        assert len(started) == 4
        psutil.wait_procs([psutil.Process(p) for p in started if not is_gone(p)], timeout=300)
        assert [p for p in started if not is_gone(p)] == []
        executor.submit("next", problem, toy(1))
        assert executor.take()[1].state is State.COMPLETE
    finally:
        executor.close()


def test_a_search_with_one_worker_fails_the_late_trial_alone(log, tmp_path):
    asked = [toy(1), toy(2), toy(3)]
    found = search(
        Toy, [problems.sleeps_with_children, cost], enqueue=asked, trials=3, retrain=0, timeout=LIMIT_S,
        strategy=Random(seed=0), storage=str(tmp_path / "s.db"),
    )  # fmt: skip
    assert [t.state for t in found.trials] == [State.COMPLETE, State.FAILED, State.COMPLETE]
    assert "took longer" in found.trials[1].reason and found.trials[1].architecture.id == asked[1].id


class Limits(InProcess):
    """Notes what it is asked to keep."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def limit(self, seconds):
        self.asked.append(seconds)


def test_baselines_and_re_trainings_have_limits_too():
    executor = Limits()
    search(
        Toy, [Retrainable(), cost], trials=4, timeout=10, retrain=3, executor=executor, baseline=[toy(1)],
        strategy=Random(seed=0),
    )  # fmt: skip
    assert executor.asked == [10, 30]


def test_an_executor_that_cannot_end_anything_is_refused_before_anything_starts():
    with pytest.raises(SearchError, match=r"search\(timeout=10\): InProcess cannot end an evaluation"):
        search(Toy, [loss], timeout=10, executor=InProcess(), trials=2)
    with pytest.raises(SearchError, match="a process of its own needs a space and objectives that can be sent"):
        search(Toy, [lambda_named()], timeout=10, trials=2)


def lambda_named():
    def local(arch):
        return 1.0

    return local


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "10m", True])
def test_a_limit_is_a_number_of_seconds(seconds):
    with pytest.raises(SearchError, match="timeout must be a number"):
        search(Toy, [loss], timeout=seconds, trials=2)
    with pytest.raises(SearchError, match="timeout must be a number"):
        Processes(1, timeout=seconds)


def test_closing_ends_what_does_not_want_to(log, monkeypatch):
    monkeypatch.setattr(processes, "clock", time.monotonic)
    executor = Processes(1)
    executor.submit("stubborn", Problem(Toy, [problems.sleeps_with_children]), toy(2))
    while not (log.exists() and len(log.read_text().split()) == 4):
        time.sleep(0.02)
    started = [int(pid) for pid in log.read_text().split()]
    executor.close()
    psutil.wait_procs([psutil.Process(p) for p in started if not is_gone(p)], timeout=300)
    assert [p for p in started if not is_gone(p)] == []


# ---- a whole search --------------------------------------------------------------------------------------------------


def test_a_search_begins_nothing_when_its_time_is_over(tmp_path, monkeypatch, caplog):
    """What runs comes to its end, and the same call continues, with its re-trainings."""
    from nas_bo.workflows import search_run

    ahead = [0.0]
    monkeypatch.setattr(search_run, "clock", lambda: time.monotonic() + ahead[0])

    def progress(state):
        ahead[0] = 3600.0 * 2 if state.done == 3 else ahead[0]

    asked = {"strategy": Random(seed=0), "trials": 6, "retrain": 2, "storage": str(tmp_path / "s.db")}
    found = search(Toy, [Retrainable(), cost], hours=1.5, on_progress=progress, **asked)
    assert len(found.trials) == 3 and not found.retrained and not found.interrupted
    assert found.notes[0].startswith("The time of 90 min is over after 3 of 6 trials, 2 re-trainings were left out.")
    ahead[0] = 0.0
    found = search(Toy, [Retrainable(), cost], hours=1.5, **asked)
    assert len(found.trials) == 6 and found.retrained and not any("time of" in note for note in found.notes)
    with pytest.raises(SearchError, match="hours must be a number of hours above 0"):
        search(Toy, [cost], hours=0)


@pytest.mark.parametrize(
    ("took", "trials", "again"), [(0.05, 10, 1), (0.2, 3, 1), (0.4, 1, 1), (0.6, 1, 0), (1.2, 1, 0)]
)
def test_what_is_trained_again_has_its_part_of_the_time(took, trials, again, tmp_path, monkeypatch):
    """Of an hour in which a trial takes `took`, and its re-training twice as long: at most half is kept for that, one that would end later by more than
    half of itself does not begin, and where it is left out it is said."""
    from nas_bo import problem
    from nas_bo.workflows import search_run

    now, seen = [0.0], []
    monkeypatch.setattr(search_run, "clock", lambda: now[0])
    monkeypatch.setattr(problem, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Timed(Retrainable):
        def __call__(self, arch):
            now[0] += 3600 * took * self.factor
            return super().__call__(arch)

        def larger(self, factor):
            return Timed(factor)

    def told(progress):
        seen.append(progress)

    asked = {"strategy": Random(seed=0), "retrain": 2, "baseline": None, "retrain_others": 0, "on_progress": told}
    found = search(Toy, [Timed()], trials=10, hours=1, storage=str(tmp_path / "s.db"), **asked)
    assert (len(found.trials), len(found.retrained)) == (trials, again)
    assert ("left out" in " ".join(found.notes)) == (not again) and all(
        p.seconds_left is None or p.seconds_left >= 0 for p in seen
    )


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM: POSIX only")
def test_sigterm_is_what_ctrl_c_is(tmp_path):
    """A machine that is taken back asks with it: what ended is kept, what ran may be continued by anyone."""

    def progress(state):
        if state.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    asked = {"strategy": Random(seed=0), "trials": 5, "retrain": 0, "storage": str(tmp_path / "s.db")}
    found = search(Toy, [loss, cost], on_progress=progress, **asked)
    assert found.interrupted and 2 <= len(found.trials) < 5
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert len(search(Toy, [loss, cost], **asked).trials) == 5


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM: POSIX only")
def test_what_a_page_that_is_open_does_with_sigterm_ends_with_the_page():
    with pytest.raises(SystemExit) as ended, ended_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
