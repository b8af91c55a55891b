"""A storage that fails in the middle of a search is waited for; nothing of what was evaluated is lost, and nothing is there twice."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from contextlib import contextmanager, nullcontext

import optuna
import pytest
from sqlalchemy.exc import DataError, OperationalError

from nas_bo import search
from nas_bo.errors import StorageUnavailable
from nas_bo.optuna import patient, storages
from nas_bo.patience import Exhausted, Patience
from nas_bo.strategies import Random
from tests.doors import postgres
from tests.doors.postgres import database, server  # noqa: F401
from tests.problems import Toy, cost, loss

TRIALS = 6


class Clock:
    """Seconds that pass when somebody sleeps."""

    def __init__(self):
        self.now, self.slept = 100.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.slept.append(seconds)


def failing(times, error=None):
    left, error = [times], error or OSError("full")

    def work():
        if left[0]:
            left[0] -= 1
            raise error
        return "done"

    return work


def is_os(error):
    return isinstance(error, OSError)


def test_pauses_grow_and_end(caplog):
    clock = Clock()
    waits = Patience("the storage x", 300, clock=clock, sleep=clock.sleep)
    with caplog.at_level(logging.WARNING):
        assert waits.call(failing(9), is_os) == "done"
    assert clock.now - 100 == pytest.approx(0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 6.4 + 10 + 10)
    said = [r.getMessage() for r in caplog.records]
    assert (
        len(said) == 2
        and "the storage x fails (full); it is tried again for 5 min" in said[0]
        and "works again" in said[1]
    )
    with pytest.raises(Exhausted) as ended:
        waits.call(failing(10**6), is_os)
    assert isinstance(ended.value.__cause__, OSError) and 332 < clock.now - 100 < 345
    before = clock.now
    with pytest.raises(Exhausted):  # whoever ends then does not wait again
        waits.call(failing(1), is_os)
    assert clock.now == before


def test_what_does_not_pass_is_raised_at_once():
    clock = Clock()
    waits = Patience("x", clock=clock, sleep=clock.sleep)
    with pytest.raises(KeyError):
        waits.call(failing(1, KeyError("no such trial")), is_os)
    assert clock.slept == []


def test_a_moment_is_not_worth_a_line(caplog):
    clock = Clock()
    with caplog.at_level(logging.WARNING):
        Patience("x", clock=clock, sleep=clock.sleep).call(failing(3), is_os)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OperationalError("INSERT", {}, Exception("database or disk is full")), True),
        (OperationalError("INSERT", {}, Exception("database is locked")), True),
        (OperationalError("INSERT", {}, Exception("the database system is starting up")), True),
        (OperationalError("INSERT", {}, Exception("database disk image is malformed")), False),
        (
            OperationalError(
                "INSERT", {}, Exception(1142, "INSERT command denied to user 'u'@'h' for table `studies`")
            ),
            False,
        ),
        (OperationalError("INSERT", {}, Exception(2006, "MySQL server has gone away")), True),
        (DataError("INSERT", {}, Exception("value too long")), False),
        (OSError(28, "No space left on device"), True),
        (ConnectionResetError(), True),
        (RuntimeError("Error: did not possess lock"), True),
        (RuntimeError("dictionary changed size"), False),
        (optuna.exceptions.UpdateFinishedTrialError(), False),
        (KeyError("x"), False),
    ],
)
def test_which_errors_may_pass(error, passes):
    assert patient.passes(error) is passes
    wrapped = optuna.exceptions.StorageInternalError("...")
    wrapped.__cause__ = error
    assert patient.passes(wrapped) is passes


# ---- a storage that fails after it has written, before it says so ------------------------------------------------------


class Lossy(optuna.storages.InMemoryStorage):
    """Every third write is done and then reported as failed, as where the connection is lost during the answer."""

    WRITES = (
        "create_new_trial",
        "set_trial_param",
        "set_trial_state_values",
        "set_trial_user_attr",
        "set_trial_system_attr",
    )

    def __init__(self):
        super().__init__()
        self.count, self.failed, self.armed = 0, 0, False


def _lossy(name):
    def write(self, *args, **more):
        found = getattr(optuna.storages.InMemoryStorage, name)(self, *args, **more)
        self.count += self.armed
        if self.armed and self.count % 3 == 0:
            self.failed += 1
            raise OSError(104, "connection reset")
        return found

    return write


for _name in Lossy.WRITES:
    setattr(Lossy, _name, _lossy(_name))


def test_what_was_written_without_an_answer_is_there_once():
    inner, clock = Lossy(), Clock()
    wrapped = patient.PatientStorage(inner, Patience("x", clock=clock, sleep=clock.sleep), nullcontext)
    inner.armed = True
    found = search(Toy, [loss, cost], trials=TRIALS, retrain=0, strategy=Random(seed=0), storage=wrapped)
    assert inner.failed > 5
    assert [t.number for t in found.trials] == list(range(TRIALS))
    study = optuna.load_study(study_name="Toy", storage=inner)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * TRIALS
    assert flats(found) == flats(search(Toy, [loss, cost], trials=TRIALS, retrain=0, strategy=Random(seed=0)))


def flats(result):
    return [dict(t.architecture.flat) for t in result.trials]


# ---- a disk that is full -----------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder, kilobytes=1024):
    """A file system of this size (root may mount one)."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Fills:
    """An objective that leaves no byte on the disk when it is called for the third time.

    Args:
        after: seconds until there is room again; None for never.
    """

    name, unit, direction, cost = "loss", "", "minimize", "trained"

    def __init__(self, folder, after):
        self.filler, self.after, self.calls = folder / "filler", after, 0

    def __call__(self, arch):
        self.calls += 1
        if self.calls == 3:
            with self.filler.open("wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(b"x" * 512)
            if self.after is not None:
                threading.Timer(self.after, self.filler.unlink).start()
        return float(loss(arch))


@pytest.mark.parametrize("file", ["s.db", "s.log"])
def test_a_disk_that_is_full_for_a_while_costs_nothing(file, tmp_path):
    with small_disk(tmp_path / "small") as folder:
        objective = Fills(folder, after=1.0)
        found = search(
            Toy, [objective, cost], trials=TRIALS, retrain=0, strategy=Random(seed=0), storage=str(folder / file)
        )
        assert objective.calls == TRIALS
        assert flats(found) == flats(search(Toy, [loss, cost], trials=TRIALS, retrain=0, strategy=Random(seed=0)))


@pytest.mark.parametrize("file", ["s.db", "s.log"])
def test_a_disk_that_stays_full_is_one_message_and_the_search_continues_later(file, tmp_path):
    """In the same process, too, which is still there."""
    with small_disk(tmp_path / "small") as folder:
        objective = Fills(folder, after=None)
        asked = {
            "trials": TRIALS, "retrain": 0, "strategy": Random(seed=0), "storage": str(folder / file), "storage_patience": 0.3,
        }  # fmt: skip
        with pytest.raises(
            StorageUnavailable, match=r"(?s)s\.(db|log).*was tried again for 0.3 s.*the same call continues"
        ):
            search(Toy, [objective, cost], **asked)
        assert objective.calls == 3
        objective.filler.unlink()
        found = search(Toy, [objective, cost], **asked)
        assert objective.calls == TRIALS  # what could not be stored was kept elsewhere
        assert [t.number for t in found.trials] == list(range(TRIALS))
        assert flats(found) == flats(search(Toy, [loss, cost], trials=TRIALS, retrain=0, strategy=Random(seed=0)))


# ---- a server that is restarted ----------------------------------------------------------------------------------------


class Restarts:
    """An objective that stops the server at its third call; it is started again a moment later."""

    name, unit, direction, cost = "loss", "", "minimize", "trained"

    def __init__(self, again):
        self.again, self.calls, self.threads = again, 0, []

    def __call__(self, arch):
        self.calls += 1
        if self.calls == 3:
            postgres.stop()
            if self.again:
                self.threads.append(threading.Thread(target=self._start))
                self.threads[0].start()
        return float(loss(arch))

    def _start(self):
        time.sleep(0.5)
        postgres.start()


def test_postgresql_that_is_restarted_costs_nothing(database):  # noqa: F811
    objective = Restarts(again=True)
    try:
        found = search(Toy, [objective, cost], trials=TRIALS, retrain=0, strategy=Random(seed=0), storage=database)
    finally:
        [t.join() for t in objective.threads] or postgres.start()
    assert objective.calls == TRIALS
    assert flats(found) == flats(search(Toy, [loss, cost], trials=TRIALS, retrain=0, strategy=Random(seed=0)))


def test_postgresql_that_stays_away_is_one_message(database):  # noqa: F811
    objective = Restarts(again=False)
    asked = {"trials": TRIALS, "retrain": 0, "strategy": Random(seed=0), "storage": database, "storage_patience": 0.3}
    try:
        with pytest.raises(StorageUnavailable, match="was tried again for 0.3 s, without success") as said:
            search(Toy, [objective, cost], **asked)
    finally:
        postgres.start()
    assert "\n" not in str(said.value)
    found = search(Toy, [objective, cost], **asked)
    assert objective.calls == TRIALS and [t.number for t in found.trials] == list(range(TRIALS))


# ---- one write ---------------------------------------------------------------------------------------------------------


def test_a_trial_is_two_commits(tmp_path):
    """One when it is claimed, one with its parameters, one with its outcome: each waits for the disk."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    path = str(tmp_path / "s.db")
    written: list[str] = []
    dirty: list[object] = []

    def note(connection, cursor, statement, *more):
        if statement.startswith(("INSERT", "UPDATE")):
            dirty.append(statement)

    def commit(connection):
        if dirty:
            written.append(str(dirty[0]))
            dirty.clear()

    def rollback(connection):
        dirty.clear()

    listeners = {"before_cursor_execute": note, "commit": commit, "rollback": rollback}
    for name, listener in listeners.items():
        event.listen(Engine, name, listener)
    try:
        search(Toy, [loss, cost], trials=2, retrain=0, strategy=Random(seed=0), storage=path)
        before = len(written)
        search(Toy, [loss, cost], trials=12, retrain=0, strategy=Random(seed=0), storage=path)
    finally:
        for name, listener in listeners.items():
            event.remove(Engine, name, listener)
    assert len(written) - before == 2 * 10, written[before:]


@pytest.mark.parametrize("file", ["s.db", "s.log"])
def test_what_is_written_together_is_there_as_a_whole(file, tmp_path):
    path = str(tmp_path / file)
    made = patient.storage(storages.backend(path), path, 0.0)
    study = optuna.create_study(study_name="x", storage=made)
    trial = study.ask()

    def breaks():
        trial.set_user_attr("first", 1)
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        patient.together(study, breaks)
    patient.together(study, lambda: [trial.set_user_attr(name, 2) for name in ("second", "third")])
    there = optuna.load_study(study_name="x", storage=storages.backend(path)).trials[0].user_attrs
    assert there == {"second": 2, "third": 2} | (
        {"first": 1} if file == "s.log" else {}
    )  # a journal ends at any record


def test_threads_that_write_at_once_wait_for_each_other(tmp_path):
    for file in ("s.db", "s.log"):
        made = patient.storage(storages.backend(str(tmp_path / file)), file)
        study = optuna.create_study(study_name="x", storage=made)
        together = [study.ask() for _ in range(4)]

        def write(trial, study=study):
            for k in range(5):
                patient.together(study, lambda: [trial.set_user_attr(f"{k}.{i}", i) for i in range(3)])  # noqa: B023
                trial.suggest_float(f"p{k}", 0, 1)

        threads = [threading.Thread(target=write, args=(t,), daemon=True) for t in together]
        [t.start() for t in threads]
        [t.join(600) for t in threads]
        assert not any(t.is_alive() for t in threads)
        for trial in optuna.load_study(study_name="x", storage=storages.backend(str(tmp_path / file))).trials:
            assert len(trial.user_attrs) == 15 and len(trial.params) == 5
