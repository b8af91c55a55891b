"""Ctrl-C at any moment in which a storage is used: nothing but an interruption comes of it, and the same call goes on."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import sys
import threading

import optuna
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from nas_bo import search
from nas_bo.execution.interrupts import uninterrupted, whole
from nas_bo.optuna import storages, studies
from nas_bo.optuna.reading import kept
from nas_bo.strategies import Random
from nas_bo.study import STUDY
from nas_bo.trial import ObjectiveSpec
from tests.problems import Toy, cost, loss

optuna.logging.set_verbosity(optuna.logging.ERROR)
TRIALS = 3
WITHIN = (os.path.join("optuna", "storages"), "sqlalchemy", os.path.join("nas_bo", "optuna"))


def run(storage):
    return search(Toy, [loss, cost], strategy=Random(seed=0), trials=TRIALS, retrain=0, storage=str(storage))


class Interruption:
    """A real SIGINT before the line `at`, counted over the files of storages; without it lines are only counted."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.lines = at, 0

    def __enter__(self) -> Interruption:
        sys.settrace(lambda frame, event, _: self._line if any(w in frame.f_code.co_filename for w in WITHIN) else None)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _line(self, frame, event, _):
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return self._line


@pytest.fixture(scope="module", params=["s.db", "s.log"])
def begun(request, tmp_path_factory):
    """A study without trials; its trials when nothing interrupts; and how many lines of storages that takes."""
    folder = tmp_path_factory.mktemp("begun")
    path = folder / request.param
    search(Toy, [loss, cost], strategy=Random(seed=0), trials=1, retrain=0, storage=str(path))
    shutil.copy(path, folder / f"whole-{request.param}")
    with Interruption() as counted:
        done = run(folder / f"whole-{request.param}")
    return path, [dict(t.architecture.flat) for t in done.trials], counted.lines


@pytest.mark.parametrize("share", [k / 8 + 0.011 for k in range(8)])
def test_the_search_is_interrupted_and_the_same_call_goes_on(share, begun, tmp_path):
    path, expected, lines = begun
    storage = tmp_path / path.name
    shutil.copy(path, storage)
    try:
        with Interruption(int(share * lines)) as interruption:
            found = run(storage)
    except KeyboardInterrupt:
        pass  # before the first trial or after the last
    else:
        assert found.interrupted or interruption.lines < interruption.at
    again = run(storage)
    assert [dict(t.architecture.flat) for t in again.trials] == expected
    assert [t.state.name for t in again.study.trials] == ["COMPLETE"] * TRIALS


class AtOnce:
    """An executor of which everything has ended before anything is taken."""

    workers = 2

    def __init__(self) -> None:
        self.evaluated: list[str] = []
        self._ended: list[tuple[object, object]] = []

    def check_problem(self, problem) -> None:
        pass

    def submit(self, key, problem, arch, judge=None) -> None:
        self.evaluated.append(arch.id)
        self._ended.append((key, problem.evaluate(arch)))

    def take(self):
        return self._ended.pop(0)

    def ended(self):
        found, self._ended = self._ended, []
        return found

    def cancel(self, key) -> None:
        pass

    def close(self) -> None:
        self._ended.clear()


class Interrupted:
    """Random search, with a Ctrl-C while it thinks about the trial `at`."""

    def __init__(self, at: int) -> None:
        self._at, self._random = at, Random(seed=0)

    def suggest(self, problem, trials, n):
        if len(trials) == self._at:
            signal.raise_signal(signal.SIGINT)
        return self._random.suggest(problem, trials, n)


def test_what_ended_while_the_strategy_thought_is_kept(tmp_path):
    wanted = {"trials": 6, "retrain": 0, "baseline": None, "storage": str(tmp_path / "s.db")}
    executor = AtOnce()
    found = search(Toy, [loss, cost], strategy=Interrupted(3), executor=executor, **wanted)
    assert found.interrupted and [t.state.name for t in found.study.trials] == ["COMPLETE"] * 3
    again = search(Toy, [loss, cost], strategy=Interrupted(-1), executor=executor, **wanted)
    assert sorted(executor.evaluated) == sorted(t.architecture.id for t in again.trials) and len(again.trials) == 6


@pytest.mark.parametrize("held", [whole, uninterrupted])
def test_what_is_held_back_comes_at_the_end_also_through_another_thread(held):
    done, now = [], threading.Event()
    other = threading.Thread(target=lambda: now.wait() and signal.raise_signal(signal.SIGINT))  # of which nothing knows
    other.start()
    with pytest.raises(KeyboardInterrupt), held():
        now.set()
        other.join()
        with held():
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]
    with pytest.raises(KeyboardInterrupt):  # as it was before
        signal.raise_signal(signal.SIGINT)


def test_a_second_one_does_not_wait():
    done = []
    with pytest.raises(KeyboardInterrupt), whole():
        signal.raise_signal(signal.SIGINT)
        done.append("first")
        signal.raise_signal(signal.SIGINT)
        done.append("second")
    assert done == ["first"]


def open_again(path, study, name):
    about = kept(study, STUDY)
    return studies.open_study(path, name, [ObjectiveSpec(**c) for c in about["columns"]], about)


NUMBERS = itertools.count()
READS = {
    "trials": lambda path, study: study.trials,
    "attributes": lambda path, study: study.user_attrs,
    "write": lambda path, study: study.set_user_attr("a", 1),
    "load": lambda path, study: storages.load(path).trials,
    "names": lambda path, study: storages.names(path),
    "make": lambda path, study: open_again(path, study, f"new {next(NUMBERS)}"),
}


@pytest.mark.parametrize("what", READS)
def test_an_interrupted_read_leaves_the_database_to_others(tmp_path, what):
    """Ctrl-C before and after each statement, and where a transaction begins or ends: nothing is locked afterwards, with whatever is still held of the interruption."""
    path = str(tmp_path / "s.db")
    study = run(path).study
    kept: list[BaseException] = []
    moments = ("begin", "before_cursor_execute", "after_cursor_execute", "commit", "rollback")
    for at in range(1000):
        left = [at]

        def hit(*_, left=left):
            left[0] -= 1
            if left[0] == -1:
                signal.raise_signal(signal.SIGINT)

        for moment in moments:
            event.listen(Engine, moment, hit)
        try:
            READS[what](path, study)
        except KeyboardInterrupt as interruption:
            kept.append(interruption)  # with all that its frames hold
        finally:
            for moment in moments:
                event.remove(Engine, moment, hit)
        if left[0] >= 0:
            break
        other = sqlite3.connect(path, timeout=0.1)
        other.execute("update studies set study_name = study_name")
        other.commit()  # refused where somebody still reads
        other.close()
    assert len(kept) == at > 1
