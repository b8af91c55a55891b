"""What is kept on disk until MLflow has it: killed processes, dead and full stores, and what `sync` makes of them."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import HostError
from nas_bo.mlflow import Tracker, content, records, spool
from nas_bo.mlflow import writer as writing
from nas_bo.mlflow.session import Session
from nas_bo.mlflow.spool import Record, Spool, Target
from nas_bo.mlflow.standing import Standing
from nas_bo.mlflow.sync import sync, sync_study
from nas_bo.optuna import reading
from nas_bo.process import owner
from nas_bo.trial import ObjectiveSpec, Trial, front
from tests.doors.test_mlflow import Store, empty_store, ours, uri  # noqa: F401
from tests.doors.test_mlflow_content import add, our_study
from tests.processes import Python, python

ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT)}


def a_record(study: optuna.Study, number: int = 0, **target) -> Record:
    subject = reading.head(study)
    return Record(
        Target(**{"uri": "sqlite:////x/mlflow.db", "experiment": "Tiny"} | target),
        subject,
        content.of_trial(subject, reading.trial_record(study.trials[number], subject.columns)),
    )


# ---- records on disk ------------------------------------------------------------------------------------------------


def test_a_record_says_all_that_the_study_said(tmp_path):
    record, kept = a_record(ours(2), 1, tags={"team": "blue"}, parent="abc"), Spool(tmp_path / "spool")
    path = kept.put(record)
    again, by = spool.read(path)
    assert again.made == record.made and again.subject == record.subject and by == owner()
    assert again.target == record.target and kept.left() == [path] == kept.left(record.target.folder(record.subject))
    assert sorted(p.name for p in path.parent.iterdir()) == ["000001.json"]  # nothing half-written beside it
    kept.done(path)
    assert not (tmp_path / "spool").exists()


def test_passwords_are_not_written_to_disk(tmp_path):
    for address, stands in (
        ("http://me:secret@host:5000/team", "http://host:5000/team"),
        ("postgresql://me:secret@db/x", "postgresql://***@db/x"),
    ):
        path = Spool(tmp_path).put(a_record(ours(1), uri=address))
        assert "secret" not in path.read_text() and spool.read(path)[0].target.uri == stands
        with_login, without = a_record(ours(1), uri=address), a_record(ours(1), uri=stands)
        assert with_login.target.folder(with_login.subject) == without.target.folder(without.subject)


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.ENOTSUP])
def test_a_record_is_logged_also_where_files_cannot_be_locked(tmp_path, monkeypatch, number):
    """NFS locks files only that are open to be written (EBADF), other file systems none."""

    def lock(file, _how):
        if number != errno.EBADF or not file.writable():
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(spool.fcntl, "flock", lock)
    path = Spool(tmp_path).put(a_record(ours(1)))
    with spool.claim(path) as mine:
        assert mine
    path.unlink()
    with spool.claim(path) as mine:
        assert not mine


def test_what_could_not_be_told_of_the_front_is_told_later(uri, monkeypatch):  # noqa: F811
    """Without the report at the end, which would mend it."""
    tracker, study = Tracker("x", uri=uri), our_study()
    for i in range(12):
        add(study, i, 3.0 - 0.1 * i, latency=5.0 + i % 3)
        tracker.log(study, study.trials[-1])
    assert tracker.flush()
    (opened,) = tracker._writer.open.values()

    def fails(*_args, **_more):
        raise ConnectionError("the server is restarted")

    for method in ("tell_progress", "mark"):
        with monkeypatch.context() as broken:
            broken.setattr(type(opened.session), method, fails)
            tracker._writer.guarded(lambda: tracker._writer.tell(opened, last=True))
    tracker._writer.guarded(lambda: tracker._writer.tell(opened, last=True))
    store = Store(uri)
    best = {t.number for t in records.summary(reading.head(study), reading.source(study).ended(), "x").front()}
    runs = store.runs("Tiny", "trial")
    assert {int(r.data.tags["nas.trial"]) for r in runs if r.data.tags["nas.pareto"] == "true"} == best and best
    (parent,) = store.runs("Tiny", "study")
    assert parent.data.metrics["study/best_val_loss"] == pytest.approx(1.9)
    steps = [m.step for m in store.client.get_metric_history(parent.info.run_id, "study/n_pareto")]
    assert steps == sorted(set(steps)) and steps[-1] == 11


def test_one_process_at_a_time_has_a_record(tmp_path):
    path = Spool(tmp_path).put(a_record(ours(1)))
    code = (
        "import sys, pathlib; from nas_bo.mlflow import spool\n"
        "with spool.claim(pathlib.Path(sys.argv[1])) as mine: print(mine)"
    )

    def other() -> str:
        return python("-c", code, path, env=ENV).stdout.strip()

    with spool.claim(path) as mine:
        assert mine and other() == "False"
    assert other() == "True"
    Spool(tmp_path).done(path)
    with spool.claim(path) as mine:
        assert not mine


def test_what_is_no_record_is_said_and_stays(tmp_path):
    path = Spool(tmp_path / spool.FOLDER).put(a_record(ours(1)))
    path.write_text("{}")
    with pytest.raises(HostError, match="is not a record"):
        spool.read(path)
    found = sync(tmp_path)
    assert found.logged == 0 and "is not a record" in found.left[0][2] and path.exists()
    with pytest.raises(HostError, match="there is no"):
        sync(tmp_path / "nowhere")
    assert sync(ROOT / "tests") == type(found)()


# ---- dead, hanging and full stores ----------------------------------------------------------------------------------


def test_a_hanging_server_costs_the_search_nothing_and_sync_brings_all_in(uri, tmp_path, caplog, monkeypatch):  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        study, tracker = our_study(), Tracker(uri=address, timeout=1, spool=tmp_path / "kept", tags={"team": "blue"})
        asking: list[str] = []
        connect = socket.socket.connect
        monkeypatch.setattr(
            socket.socket, "connect", lambda *a: (asking.append(threading.current_thread().name), connect(*a))[1]
        )
        for i in range(5):
            add(study, i, 2.0 + i, latency=5.0 + i)
            tracker(study, study.trials[-1])
            assert len(list((tmp_path / "kept").glob("*/*.json"))) == i + 1  # before anything was asked of the server
        assert not tracker.flush(600)
        assert asking and threading.current_thread().name not in asking  # the search's own thread never asks the server
        before = len(asking)
        tracker.finish(study)
        assert len(asking) - before < 60 and len(tracker.pending) == 5  # each asking waits for a second
        # the first message says why, the second where the trials are
        said = [r.message for r in caplog.records if r.name == "nas_bo.mlflow"]
        assert len(said) == 2 and "timed out" in said[0] and f"sync {tmp_path / 'kept'}" in said[1]
        found = sync(tmp_path / "kept", uri=address, timeout=1)
        assert (
            found.logged == 0 and [n for _, n, _ in found.left] == [0, 1, 2, 3, 4] and "timed out" in found.left[0][2]
        )
    found = sync(tmp_path / "kept", uri=uri)
    assert (found.logged, found.left, found.ended) == (5, [], []) and not (tmp_path / "kept").exists()
    runs = Store(uri).runs("Tiny", "trial")
    assert [r.data.metrics["obj/val_loss"] for r in runs] == [t.values[0] for t in study.trials]
    best = {t.number for t in study.best_trials}
    assert [r.data.tags["nas.pareto"] == "true" for r in runs] == [n in best for n in range(5)] and 0 < len(best) < 5
    assert runs[0].data.tags["team"] == "blue"
    assert Tracker(uri=uri).log_study(study) == 0  # as if it had never been away


DEAD = """
import sys, time, optuna
from nas_bo.mlflow import Tracker
optuna.logging.set_verbosity(optuna.logging.ERROR)
tracker = Tracker(uri=sys.argv[1], spool=sys.argv[2])
optuna.create_study().optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=3, callbacks=[tracker])
until = time.monotonic() + 600
while not tracker._writer.failures and time.monotonic() < until:
    time.sleep(0.05)
print(tracker._writer.failures, len(tracker.pending), "mlflow" in sys.modules)
"""


def test_mlflow_is_not_even_imported_while_its_server_is_dead(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", DEAD, address, tmp_path / "spool"], env=ENV, capture_output=True, text=True
        )
    assert done.stdout.split() == ["1", "3", "False"], done.stderr
    assert "no MLflow server answers" in done.stderr and len(Spool(tmp_path / "spool").left()) == 3


def test_files_that_cannot_be_written_wait_and_the_numbers_do_not(uri, tmp_path, caplog):  # noqa: F811
    study, tracker = ours(3), Tracker(uri=uri)
    tracker.log(study, study.trials[0])
    assert tracker.flush()
    place = tmp_path / "mlflow_artifacts" / "Tiny"
    place.rename(tmp_path / "away")
    place.write_text("no folder")
    for trial in study.trials[1:]:
        tracker.log(study, trial)
    assert not tracker.flush() and tracker.pending == [("ours", 1), ("ours", 2)]
    assert caplog.text.count("could not be written") == 1 and "files of trial 1" in caplog.text
    store = Store(uri)
    runs = store.runs("Tiny", "trial")
    assert [r.info.status for r in runs] == ["FINISHED", "RUNNING", "RUNNING"]
    assert [r.data.metrics["obj/val_loss"] for r in runs] == [t.values[0] for t in study.trials]
    found = sync(tmp_path)
    assert [n for _, n, _ in found.left] == [1, 2] and found.ended == []
    place.unlink()
    (tmp_path / "away").rename(place)
    assert sync(tmp_path).logged == 2
    runs = store.runs("Tiny", "trial")
    assert [r.info.status for r in runs] == ["FINISHED"] * 3 and store.files(runs[2]) >= {"arch.json"}
    assert len(store.client.get_metric_history(runs[1].info.run_id, "train/loss")) == 30  # not doubled


def test_a_trial_that_fails_though_the_store_answers_holds_up_no_other(uri, monkeypatch, caplog):  # noqa: F811
    study, tracker = ours(3), Tracker(uri=uri)
    log = Session.log

    def fails(self, made, *more):
        if made.number == 0:
            raise ConnectionError("cut off")
        return log(self, made, *more)

    monkeypatch.setattr(writing, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(Session, "log", fails)
    for trial in study.trials:
        tracker.log(study, trial)
    until = time.monotonic() + 600
    while len(tracker.pending) > 1 and time.monotonic() < until:
        time.sleep(0.05)
    assert tracker.pending == [("ours", 0)] and not tracker.flush() and "in 3 attempts, although MLflow" in caplog.text
    store = Store(uri)
    assert [int(r.data.tags["nas.trial"]) for r in store.runs("Tiny", "trial")] == [1, 2]
    monkeypatch.undo()
    tracker.finish(study)
    assert [int(r.data.tags["nas.trial"]) for r in store.runs("Tiny", "trial")] == [0, 1, 2]


def test_a_trial_that_cannot_be_brought_in_holds_up_no_other(uri, tmp_path):  # noqa: F811
    """The run that should be its parent is not there."""
    study, kept = ours(4), Spool(tmp_path / "kept")
    for number, parent in ((0, "f" * 32), (1, None), (2, "e" * 32), (3, None)):
        kept.put(a_record(study, number, uri=uri, parent=parent))
    for _ in range(2):
        found = sync(kept.root)
        assert sorted(number for _, number, _ in found.left) == [0, 2]
        assert all("f" * 32 in why or "e" * 32 in why for _, _, why in found.left)
    assert [int(r.data.tags["nas.trial"]) for r in Store(uri).runs("Tiny", "trial")] == [1, 3]
    done = python("-m", "nas_bo", "mlflow", "sync", cwd=tmp_path, env=ENV | {"NAS_BO_SPOOL": str(kept.root)})
    assert done.returncode == 1 and "left: 1 of 'ours' (0)" in done.stderr and "(2)" in done.stderr


def test_a_spool_that_cannot_be_written_is_said_and_trials_are_logged_all_the_same(uri, tmp_path, caplog):  # noqa: F811
    (tmp_path / "file").write_text("")
    study, tracker = ours(2), Tracker(uri=uri, spool=tmp_path / "file")
    for trial in study.trials:
        tracker.log(study, trial)
    assert tracker.flush() and len(Store(uri).runs("Tiny", "trial")) == 2
    assert caplog.text.count("cannot be kept") == 1


# ---- killed processes -----------------------------------------------------------------------------------------------

SEARCH = """
import sys, time, optuna
from nas_bo.mlflow import Tracker
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.load_study(study_name="killed", storage="sqlite:///study.db")
tracker = Tracker(uri=sys.argv[1])
tracker.warm().join()

def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    for step in range(5):
        trial.report(x + step, step)
    time.sleep(0.02)
    return x

print("ready", flush=True)
study.optimize(objective, n_trials=100, callbacks=[tracker])
"""


def killed(folder: Path, uri: str, study: optuna.Study, after: int, seconds: float) -> None:  # noqa: F811
    """Killed `seconds` after it has begun `after` trials more."""
    before = len(study.get_trials(deepcopy=False))
    search = Python("-c", SEARCH, uri, cwd=folder, stdout=subprocess.PIPE, env=ENV)
    assert search.stdout is not None and search.stdout.readline() == b"ready\n"
    until = time.monotonic() + 600
    while len(study.get_trials(deepcopy=False)) < before + after and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(seconds)
    search.send_signal(signal.SIGKILL)
    search.wait()


def test_a_search_killed_again_and_again_loses_no_trial_and_doubles_none(uri, tmp_path):  # noqa: F811
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="killed", storage=storage)
    rng = random.Random(0)
    for _ in range(3):
        killed(tmp_path, uri, study, rng.randint(4, 12), rng.uniform(0.0, 0.3))
    found = sync(tmp_path)  # who was killed while writing leaves an empty folder or a draft
    assert found.left == [] and Spool(tmp_path / spool.FOLDER).left() == []
    sync_study(Tracker(uri=uri), study)  # a trial whose process died between its end and the callback
    finished = [t for t in study.trials if t.state.name == "COMPLETE"]
    store = Store(uri)
    runs = store.runs("killed", "trial")
    assert Counter(int(r.data.tags["nas.trial"]) for r in runs) == Counter(t.number for t in finished)
    assert {r.info.status for r in runs} == {"FINISHED"} and len(finished) > 5
    for run, trial in zip(runs, finished, strict=True):
        assert run.data.metrics["obj/value"] == trial.value
        history = store.client.get_metric_history(run.info.run_id, "train/reported")
        assert sorted(m.step for m in history) == [0, 1, 2, 3, 4]


def test_runs_left_running_are_ended_if_their_process_is_dead(uri, tmp_path):  # noqa: F811
    study = ours(3)
    Tracker(uri=uri).log_study(study)
    store = Store(uri)
    (parent,), runs = store.runs("Tiny", "study"), store.runs("Tiny", "trial")
    gone = owner().rsplit(":", 1)[0] + ":1"
    for run, by in ((runs[0], gone), (runs[1], owner()), (parent, gone)):
        store.client.set_tag(run.info.run_id, "mlflow.nas.writer", by)
        store.client.update_run(run.info.run_id, status="RUNNING")
    store.client.set_tag(parent.info.run_id, "mlflow.nas.progress", json.dumps({"by": gone, "at": time.time()}))
    add(study, 9, 2.0)
    Spool(tmp_path / spool.FOLDER).put(a_record(study, 3, uri=uri))  # the spool has another trial of the study
    found = sync(tmp_path)
    assert found.logged == 1 and found.ended == [("ours", 0), ("ours", -1)]
    assert [(name, n) for name, n, _ in found.left] == [("ours", 1)] and "is being written" in found.left[0][2]
    runs = store.runs("Tiny", "trial")
    assert [r.info.status for r in runs] == ["FAILED", "RUNNING", "FINISHED", "FINISHED"]
    assert "was killed" in runs[0].data.tags["nas.error"] and store.runs("Tiny", "study")[0].info.status == "KILLED"


def test_the_next_search_takes_up_what_a_dead_one_left(uri, tmp_path):  # noqa: F811
    study = ours(3)
    path = Spool(tmp_path / spool.FOLDER).put(a_record(study, 0, uri=uri))
    path.write_text(path.read_text().replace(owner(), owner().rsplit(":", 1)[0] + ":1"))
    tracker = Tracker(uri=uri)
    tracker.log(study, study.trials[1])
    assert tracker.flush() and [r.data.tags["nas.trial"] for r in Store(uri).runs("Tiny", "trial")] == ["000", "001"]


def test_two_runs_of_one_trial_are_made_one(uri):  # noqa: F811
    study = ours(2)
    Tracker(uri=uri).log_study(study)
    store = Store(uri)
    first, _ = store.runs("Tiny", "trial")
    tags = {k: v for k, v in first.data.tags.items() if k.startswith(("nas.", "mlflow.nas.", "mlflow.parent"))}
    store.client.create_run(first.info.experiment_id, tags=tags)  # another machine, in the same moment
    assert Tracker(uri=uri).log_study(study) == 0
    runs = store.runs("Tiny", "trial")
    assert len(runs) == 2 and runs[0].info.run_id == first.info.run_id


TWO = """
import sys, threading, time, optuna
from nas_bo.mlflow import Tracker
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.load_study(study_name="shared", storage=sys.argv[2])
tracker = Tracker(uri=sys.argv[1])
study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=12, n_jobs=4, callbacks=[tracker])
sys.exit(not tracker.flush(600))
"""


def test_two_processes_of_four_threads_log_every_trial_once(uri, tmp_path):  # noqa: F811
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="shared", storage=storage)
    both = [Python("-c", TWO, uri, storage, env=ENV, cwd=tmp_path) for _ in range(2)]
    assert [p.wait(600) for p in both] == [0, 0]
    store = Store(uri)
    runs = store.runs("shared", "trial")
    assert [int(r.data.tags["nas.trial"]) for r in runs] == list(range(24)) and len(store.runs("shared", "study")) == 1
    assert [r.data.metrics["obj/value"] for r in runs] == [t.value for t in study.trials]
    assert len({r.data.tags["mlflow.nas.writer"] for r in runs}) == 2 and not (tmp_path / spool.FOLDER).exists()


# ---- other people's runs --------------------------------------------------------------------------------------------


def test_a_run_of_the_user_is_the_parent_and_stays_theirs(uri, tmp_path, monkeypatch):  # noqa: F811
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    store = Store(uri)
    experiment = store.client.create_experiment("mine", artifact_location=(tmp_path / "art").as_uri())
    mine = store.client.create_run(experiment, tags={"mlflow.runName": "my run", "mlflow.note.content": "my words"})
    tracker, study = Tracker(uri=uri, parent=mine.info.run_id), ours(2)
    for trial in study.trials:
        tracker.log(study, trial)
    tracker.finish(study)
    run = store.client.get_run(mine.info.run_id)
    assert run.info.status == "RUNNING" and run.info.run_name == "my run" and run.data.tags["nas.study"] == "ours"
    runs = store.runs("mine", "trial")
    assert len(runs) == 2 and {r.data.tags["mlflow.parentRunId"] for r in runs} == {mine.info.run_id}
    assert "report/pareto.png" in store.files(run, "report") and "study/hypervolume" in run.data.metrics
    assert run.data.tags["mlflow.note.content"] == "my words"
    assert mlflow.active_run() is None and not (tmp_path / "other.db").exists()
    assert Tracker(uri=uri, parent=mine.info.run_id).log_study(study) == 0
    other = Tracker(uri=uri, parent="f" * 32, spool=tmp_path / "kept")
    other.log(study, study.trials[0])
    assert not other.flush() and len(other.pending) == 1


def test_a_run_that_someone_else_ended_is_left_alone(uri):  # noqa: F811
    study = ours(2)
    Tracker(uri=uri).log_study(study)
    store = Store(uri)
    first, _ = store.runs("Tiny", "trial")
    store.client.set_terminated(first.info.run_id, status="KILLED")
    tracker = Tracker(uri=uri)
    tracker.log(study, study.trials[0])
    assert tracker.flush() and store.runs("Tiny", "trial")[0].info.status == "KILLED"


def test_a_parent_that_is_deleted_under_our_hands_is_made_again(uri, caplog):  # noqa: F811
    study, tracker = ours(2), Tracker(uri=uri)
    tracker.log(study, study.trials[0])
    assert tracker.flush()
    store = Store(uri)
    store.client.delete_run(store.runs("Tiny", "study")[0].info.run_id)
    tracker.finish(study)
    tracker.finish(study)
    assert len(store.runs("Tiny", "study")) == 1 and store.runs("Tiny", "study")[0].info.status == "FINISHED"


# ---- the front while it grows ---------------------------------------------------------------------------------------

VALUES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), min_size=1, max_size=25)


@given(VALUES, st.randoms(use_true_random=False))
def test_the_standing_is_the_front_in_whatever_order_trials_end(values, rng):
    columns = [ObjectiveSpec("a"), ObjectiveSpec("b", direction="maximize")]
    trials = [
        Trial(Architecture(Node({"i": i}), {"i": i}), {"a": a, "b": b}, {"c": float(bad)}, number=i)
        for i, (a, b, bad) in enumerate(values)
    ]
    standing, marked = Standing(columns), {}
    for t in rng.sample(trials, len(trials)):
        point = [t.values["a"], -t.values["b"]] if t.feasible else None
        before = standing.admits(point)
        standing.add(t.number, point)
        assert not before or t.number in standing.front
        if rng.random() < 0.3:
            marked |= standing.marks()
    marked |= standing.marks()
    assert set(standing.front) == {n for n, on in marked.items() if on} == {t.number for t in front(trials, columns)}
    steps = standing.steps(last=True)
    last = {name: value for name, value, _ in steps}
    best = [t for t in trials if t.feasible]
    assert ("study/best_a" in last) == bool(best)
    if best:
        assert last["study/best_a"] == min(t.values["a"] for t in best) and last["study/n_pareto"] == len(
            standing.front
        )
        assert last["study/best_b"] == max(t.values["b"] for t in best)
    for name in last:
        assert [n for m, _, n in steps if m == name] == sorted({n for m, _, n in steps if m == name})
    assert standing.steps(last=True) == []


def test_the_front_is_told_while_the_search_runs_by_one_process_only(uri, monkeypatch):  # noqa: F811
    monkeypatch.setattr(writing, "TELL_EVERY", 0.1)
    study, tracker, store = our_study(), Tracker(uri=uri), Store(uri)
    for i in range(12):
        add(study, i, 3.0 - 0.1 * i, latency=5.0 + i)
    for trial in study.trials:
        tracker.log(study, trial)
    assert tracker.flush()

    def told(best: float) -> bool:
        (parent,) = store.runs("Tiny", "study")
        return parent.data.metrics.get("study/best_val_loss") == pytest.approx(best)

    until = time.monotonic() + 600
    while not told(3.0 - 0.1 * 11) and time.monotonic() < until:
        time.sleep(0.2)
    (parent,) = store.runs("Tiny", "study")
    assert parent.info.status == "RUNNING" and "study/hypervolume" in parent.data.metrics
    assert json.loads(parent.data.tags["mlflow.nas.progress"])["by"] == owner()
    add(study, 50, 0.5, latency=1.0)  # better than all in everything but size
    calls = []
    monkeypatch.setattr(
        tracker._writer.connect(), "search_runs", _counted(calls, tracker._writer.connect().search_runs)
    )
    tracker.log(study, study.trials[-1])
    assert tracker.flush()
    assert len(calls) == 1 and "nas.trial" in calls[0]  # its own run is looked for; never all of them
    until = time.monotonic() + 600
    marks: list[str] = []
    while not (told(0.5) and marks and marks[:-1].count("true") < 12) and time.monotonic() < until:
        time.sleep(0.2)
        marks = [r.data.tags["nas.pareto"] for r in store.runs("Tiny", "trial")]  # rewritten after the metric
    assert marks[-1] == "true" and marks[:-1].count("true") < 12
    # while this process lives, another leaves the parent alone
    other = {"by": f"elsewhere:{os.getpid()}:1", "at": time.time(), "after": 12}
    store.client.set_tag(parent.info.run_id, "mlflow.nas.progress", json.dumps(other))
    add(study, 51, 0.4, latency=1.0)
    tracker.log(study, study.trials[-1])
    assert tracker.flush()
    time.sleep(1.5)
    assert told(0.5) and json.loads(store.runs("Tiny", "study")[0].data.tags["mlflow.nas.progress"]) == other
    tracker.finish(study)
    assert told(0.4)


def _counted(calls: list, real):
    def search(*args, **kwargs):
        calls.append(args[1])
        return real(*args, **kwargs)

    return search


def test_a_tracker_that_is_gone_leaves_no_thread(uri, monkeypatch):  # noqa: F811
    monkeypatch.setattr(writing, "IDLE", 0.1)
    monkeypatch.setattr(writing, "TELL_EVERY", 0.1)
    before = {t for t in threading.enumerate() if t.name == "nas_bo.mlflow"}
    study, tracker = ours(1), Tracker(uri=uri)
    tracker.log(study, study.trials[0])
    assert tracker.flush()
    until = time.monotonic() + 600
    while {t for t in threading.enumerate() if t.name == "nas_bo.mlflow"} - before and time.monotonic() < until:
        time.sleep(0.1)
    assert not {t for t in threading.enumerate() if t.name == "nas_bo.mlflow"} - before
    add(study, 5, 2.0)
    tracker.log(study, study.trials[-1])  # and one is there again
    assert tracker.flush() and len(Store(uri).runs("Tiny", "trial")) == 2
