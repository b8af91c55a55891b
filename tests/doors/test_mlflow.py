"""Studies logged into real SQLite stores."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest

from nas_bo import search
from nas_bo.architecture import Architecture
from nas_bo.mlflow import Tracker, parent, presentation
from nas_bo.optuna.reading import read
from nas_bo.report import Proxy, Summary, agreement, trust
from nas_bo.strategies import Random
from nas_bo.trial import State
from tests.doors.test_mlflow_content import TINY, add, our_study
from tests.problems import Toy
from tests.processes import Python

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before mlflow is imported


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A database as `Tracker` makes it; tests copy it, since making one takes three seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Tracker(uri=path).warm().join()
    assert path.exists() and sorted(p.name for p in path.parent.iterdir()) == ["mlflow.db"]  # nothing half-made is left
    return path


@pytest.fixture
def uri(empty_store, tmp_path):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


class Store:
    """What is in a store, read with MLflow's own client."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)

    def experiment(self, name: str):
        return self.client.get_experiment_by_name(name)

    def runs(self, name: str, kind: str) -> list:
        runs = self.client.search_runs([self.experiment(name).experiment_id], f"tags.`nas.kind` = '{kind}'")
        return sorted(runs, key=lambda r: r.data.tags.get("nas.trial", ""))

    def files(self, run, folder: str | None = None) -> set[str]:
        return {f.path for f in self.client.list_artifacts(run.info.run_id, folder)}

    def text(self, run, path: str) -> str:
        with open(self.client.download_artifacts(run.info.run_id, path), encoding="utf-8") as file:
            return file.read()


def ours(n: int = 5) -> optuna.Study:
    study = our_study()
    for i in range(n):
        add(study, i, 3.0 - 0.1 * i, latency=5.0 + 3 * i)
    return study


def test_a_study_of_ours_from_first_trial_to_report(uri, tmp_path):
    study = ours(5)
    add(study, 5, None)  # failed
    add(study, 6, 1.0, latency=40.0)  # infeasible, and better than all
    tracker = Tracker(uri=uri, tags={"team": "blue"})
    tracker.check()
    for trial in study.trials:
        tracker.log(study, trial)
    assert tracker.flush()
    store = Store(uri)
    (parent,) = store.runs("Tiny", "study")
    assert parent.info.status == "RUNNING" and parent.data.params["study/seed"] == "0"
    assert parent.data.params["objective/latency_ms"] == "minimize ms <= 25"
    assert json.loads(store.text(parent, "study.json"))["strategy"] == "NSGA2()"

    retrained = [{"id": t.user_attrs["nas_bo:trial"][7:23], "values": {"val_loss": 2.0}} for t in study.trials[:2]]
    tracker.finish(study, {"extra.txt": "mine", "own/data.bin": b"\x00"})
    parent, children = store.runs("Tiny", "study")[0], store.runs("Tiny", "trial")
    assert parent.info.status == "FINISHED" and len(children) == 7 and tracker.pending == [] and retrained
    assert [c.data.tags["nas.pareto"] for c in children] == ["true"] * 5 + ["false"] * 2
    assert [c.data.tags["nas.state"] for c in children][4:] == ["complete", "fail", "infeasible"]
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert children[3].data.tags["mlflow.nas.uid"] == "ours/3" and children[3].data.tags["team"] == "blue"
    arch = Architecture.from_json(store.text(children[0], "arch.json"))
    assert arch == TINY.sample(0) and children[0].data.tags["nas.arch"] == arch.id
    history = store.client.get_metric_history(children[0].info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history][:2] == [(0, 5.0), (1000, 4.9)] and len(history) == 30
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith("**5 Pareto points of 7 trials; knee = trial") and f"/runs/{children[0].info.run_id}" in note
    names = {"pareto.png", "pareto.html", "pareto_table.json", "trials.csv", "README.md", "pareto.txt", "extra.txt"}
    assert store.files(parent, "report") == {f"report/{n}" for n in names} and store.files(parent, "own") == {
        "own/data.bin"
    }
    assert (tmp_path / "mlflow_artifacts" / "Tiny").is_dir()
    steps = store.client.get_metric_history(parent.info.run_id, "study/hypervolume")
    assert [m.step for m in steps] == [0, 1, 2, 3, 4]
    tags = store.experiment("Tiny").tags
    state = json.loads(tags["mlflow.sharedViewState." + tags["nas.front"]])
    axes = [chart["xaxis"]["key"] for chart in state["compareRunCharts"][:2]]
    assert axes == ["log10/latency_ms", "obj/latency_ms"]  # latencies span much here, so the logarithm comes first
    assert f"viewStateShareKey={tags['nas.front']}" in tracker.url(study, "http://127.0.0.1:1234/")


def fails_where_wide(arch) -> float:
    if arch.width > 8:
        raise RuntimeError("too wide")
    return float(arch.depth)


def test_a_search_shows_how_many_trials_ended_run_and_failed(uri):
    result = search(
        Toy, [fails_where_wide], strategy=Random(seed=2), trials=12, retrain=0, track=uri, study_name="counted"
    )
    store = Store(uri)
    (parent,) = store.runs(Toy.title, "study")
    failed = sum(t.state is State.FAILED for t in result.trials)
    counts = {
        name: parent.data.metrics[f"system/trials_{name}"]
        for name in ("ended", "failed", "running", "queued", "waiting", "lost")
    }
    assert (
        counts == {"ended": 12, "failed": failed, "running": 0, "queued": 0, "waiting": 0, "lost": 0}
        and 0 < failed < 12
    )


def test_a_summary_of_the_caller_is_reported(uri):
    study = ours(3)
    tracker = Tracker("Named", uri=uri, experiment="Elsewhere")
    tracker.log_study(study)
    from nas_bo.optuna import reading

    cols = reading.objectives(study)
    trials = [reading.trial_record(t, cols).of(TINY) for t in study.trials]
    with pytest.warns(DeprecationWarning, match=r"is nas_bo\.report\.(trust|Summary)"):  # as in version 0.1
        summary = Summary("Mine", cols, trials, agreement=agreement([1, 2, 3], [1, 2, 3]), notes=["A note."])
    tracker.finish(study, summary=summary)
    (parent,) = Store(uri).runs("Elsewhere", "study")
    assert parent.info.run_name == "Named" and "anecdote" in parent.data.tags["mlflow.note.content"]
    assert "A note." in parent.data.tags["mlflow.note.content"]


def test_trust_reports_are_metrics_and_files_of_the_parent(uri):
    study = ours(3)
    tracker = Tracker(uri=uri)
    tracker.log_study(study)
    from nas_bo.optuna import reading

    cols = reading.objectives(study)
    trials = [reading.trial_record(t, cols).of(TINY) for t in study.trials]
    values = [3.0, 2.5, 2.7, 2.1, 2.0, 1.8]
    report = trust([Proxy("val_loss@25%", values, share=0.25)], [[v, v + 0.1] for v in values], [1, 2, 3, 4, 5, 6])
    for _ in range(2):  # a second report adds no second point to a chart
        tracker.finish(study, summary=Summary("Mine", cols, trials, trust=report))
    store = Store(uri)
    (parent,) = store.runs("Tiny", "study")
    metrics = parent.data.metrics
    assert (
        metrics["trust/val_loss at 25 percent.tau"] == 1 and metrics["trust/val_loss at 25 percent.cost_share"] == 0.25
    )
    assert metrics["trust/parameters.tau"] == pytest.approx(report.parameters.tau.value)
    assert metrics["trust/noise_sd"] == pytest.approx(report.noise) and metrics["trust/architectures"] == 6
    assert len(store.client.get_metric_history(parent.info.run_id, "trust/parameters.tau")) == 1
    assert {"report/trust.png", "report/trust.json", "report/trust.txt"} <= store.files(parent, "report")
    assert json.loads(store.text(parent, "report/trust.json"))["first_line"] == parent.data.tags["nas.trust"]
    assert report.first_line in parent.data.tags["mlflow.note.content"]


def test_nothing_is_logged_twice_and_a_restart_goes_on(uri):
    study = ours(4)
    first = Tracker(uri=uri)
    assert first.log_study(study) == 4 and first.log_study(study) == 0
    first(study, study.trials[0])
    again = pickle.loads(pickle.dumps(first))
    again.log(study, study.trials[1])
    assert again.flush()
    add(study, 9, 1.5)
    assert again.log_study(study) == 1
    store = Store(uri)
    assert len(store.runs("Tiny", "trial")) == 5 and len(store.runs("Tiny", "study")) == 1
    again.finish(study)
    again.finish(study)
    parent = store.runs("Tiny", "study")[0]
    steps = store.client.get_metric_history(parent.info.run_id, "study/n_pareto")
    assert [m.step for m in steps] == [0, 1, 2, 3, 4]
    add(study, 10, 1.4)
    later = Tracker(uri=uri)
    later.log(study, study.trials[-1])  # the search goes on after its report
    assert later.flush()
    assert store.runs("Tiny", "study")[0].info.status == "RUNNING"


def test_runs_that_a_killed_process_left_are_repaired(uri):
    study = ours(3)
    Tracker(uri=uri).log_study(study)
    store = Store(uri)
    half, bare, _ = store.runs("Tiny", "trial")
    store.client.update_run(half.info.run_id, status="RUNNING")  # died before the end
    store.client.delete_run(bare.info.run_id)
    tags = {k: v for k, v in bare.data.tags.items() if k.startswith(("nas.", "mlflow.nas.", "mlflow.parent"))}
    fresh = store.client.create_run(
        bare.info.experiment_id, tags=tags | {"nas.trial": "003", "mlflow.nas.uid": "ours/3"}
    )
    add(study, 3, 2.0)  # died right after create_run
    assert Tracker(uri=uri).log_study(study) == 2
    runs = {r.info.run_id: r for r in store.runs("Tiny", "trial")}
    assert runs[half.info.run_id].info.status == "FINISHED" and runs[fresh.info.run_id].info.status == "FINISHED"
    assert runs[fresh.info.run_id].data.metrics["obj/val_loss"] == 2.0
    assert len(store.client.get_metric_history(half.info.run_id, "train/loss")) == 30  # not doubled
    assert bare.info.run_id not in runs  # deleted by the user, and not brought back


def test_who_opens_a_reported_study_leaves_its_view_as_it_is(uri):
    study = ours(3)
    Tracker("x", uri=uri).log_study(study, finish=True)

    def views() -> dict[str, str]:
        return {k: v for k, v in Store(uri).experiment("Tiny").tags.items() if k.startswith(presentation.VIEW)}

    before = views()
    assert "latency_ms.spread" in str(before)
    Tracker("x", uri=uri).url(study)
    assert views() == before


def test_two_studies_of_one_name_are_two(uri):
    tracker = Tracker(uri=uri)
    for started in ("2026-01-01T00:00:00", "2026-01-02T00:00:00"):
        study = our_study(started=started)
        add(study, 1, 2.0)
        tracker.log_study(study, finish=True)
    assert len(Store(uri).runs("Tiny", "study")) == 2 and len(Store(uri).runs("Tiny", "trial")) == 2


def test_a_foreign_study_with_threads_as_a_callback(uri):
    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        trial.suggest_categorical("act", ["relu", None, True])
        trial.set_constraint("size <= 3 & more", lr - 0.05)
        trial.set_user_attr("who", {"a": [1, 2]})
        for step in range(3):
            trial.report(lr + step, step)
        if trial.number == 2:
            raise optuna.TrialPruned
        if trial.number == 3:
            raise ValueError("broke")
        return lr

    study = optuna.create_study(study_name='it\'s "quoted"/100%', direction="maximize")
    tracker = Tracker(uri=uri)
    study.optimize(objective, n_trials=8, n_jobs=2, callbacks=[tracker], catch=(ValueError,))
    tracker.finish(study)
    store = Store(uri)
    name = study.study_name
    (parent,), children = store.runs(name, "study"), store.runs(name, "trial")
    assert [c.data.tags["nas.trial"] for c in children] == [f"{i:03d}" for i in range(8)]
    assert (children[2].info.status, children[3].info.status) == ("KILLED", "FAILED")
    one = children[0]
    assert (
        one.data.metrics["obj/value"] == study.trials[0].value and "lr" in one.data.params and "act" in one.data.params
    )
    assert json.loads(one.data.tags["who"]) == {"a": [1, 2]}
    assert any(m.startswith("constraint/size") for m in one.data.metrics)
    assert len(store.client.get_metric_history(one.info.run_id, "train/reported")) == 3
    assert store.files(one) == set() and "best = trial" in parent.data.tags["mlflow.note.content"]
    assert sum(c.data.tags["nas.pareto"] == "true" for c in children) == 1


def test_the_fluent_api_stays_the_users(uri, tmp_path):
    import mlflow

    before = mlflow.get_tracking_uri()
    Tracker(uri=uri).log_study(ours(1), finish=True)
    assert mlflow.get_tracking_uri() == before and mlflow.active_run() is None


@pytest.fixture
def naps(monkeypatch):
    """For how long anybody meant to sleep; nobody does for more than a moment."""
    found, sleep = [], time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (found.append(seconds), sleep(min(seconds, 0.01))))
    return found


def test_a_dead_server_costs_seconds_and_one_warning(tmp_path, caplog, naps):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tracker = Tracker(uri=f"http://127.0.0.1:{port}", spool=tmp_path / "spool")
    study = our_study()
    with caplog.at_level(logging.WARNING, "nas_bo.mlflow"):
        for i in range(5):
            add(study, i, 2.0 + i)
            tracker(study, study.trials[-1])
        tracker.finish(study)
        assert tracker.log_study(study) == -1 and tracker.url(study) == tracker.uri
    assert sum(naps) < 60  # by default one call sleeps for 240 seconds
    assert tracker.pending == [("ours", i) for i in range(5)]
    said = [r.message for r in caplog.records if r.name == "nas_bo.mlflow"]
    assert len(said) == 2 and "the search continues" in said[0] and "log_study" in said[1]


def test_a_folder_that_cannot_be_written_does_not_stop_a_study(tmp_path, caplog, naps):
    (tmp_path / "file").write_text("")
    tracker = Tracker(uri=tmp_path / "file" / "mlflow.db")
    study = ours(1)
    tracker(study, study.trials[0])
    assert not tracker.flush()
    assert sum(naps) < 60 and tracker.pending == [("ours", 0)]
    assert "choose a folder" in caplog.text


def test_a_deleted_experiment_is_said_and_trials_wait(uri, caplog):
    study = ours(2)
    first = Tracker(uri=uri)
    first.log(study, study.trials[0])
    assert first.flush()
    store = Store(uri)
    store.client.delete_experiment(store.experiment("Tiny").experiment_id)
    tracker = Tracker(uri=uri)
    tracker.log(study, study.trials[1])
    assert not tracker.flush()
    assert "experiments restore" in caplog.text and tracker.pending == [("ours", 1)]
    store.client.restore_experiment(store.experiment("Tiny").experiment_id)
    tracker.finish(study)  # and what waited is there
    assert tracker.pending == [] and len(store.runs("Tiny", "trial")) == 2


def test_what_mlflow_refuses_blocks_nothing_else(uri, caplog, monkeypatch):
    from nas_bo.mlflow import content

    study = ours(3)
    tracker = Tracker(uri=uri)
    real = content.clean
    monkeypatch.setattr(content, "clean", lambda name: "a//../b" if "at most" in real(name) else real(name))
    add(study, 7, 2.0, latency=40.0)  # the only one that logs how far a limit is violated
    for trial in (study.trials[3], *study.trials[:3]):
        tracker.log(study, trial)
    assert not tracker.flush()
    assert tracker.pending == [("ours", 3)] and caplog.text.count("refuses trial 3") == 1
    monkeypatch.undo()
    tracker.finish(study)
    assert tracker.pending == [] and len(Store(uri).runs("Tiny", "trial")) == 4


def test_unfinished_trials_and_empty_studies_are_left_alone(uri):
    study = optuna.create_study()
    tracker = Tracker(uri=uri)
    tracker.finish(study)
    running = study.ask()
    tracker.log(study, study.trials[0])
    tracker(study, running)  # type: ignore[arg-type]
    assert tracker.pending == [] and tracker.log_study(study) == 0


def test_threads_share_a_tracker(uri):
    study = ours(12)
    tracker = Tracker(uri=uri)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda t: tracker.log(study, t), study.trials * 2))
    tracker.finish(study)
    assert len(Store(uri).runs("Tiny", "trial")) == 12


def test_two_processes_make_one_database_and_one_parent(tmp_path):
    code = """
import sys
from nas_bo.mlflow import Tracker
from tests.doors.test_mlflow import ours
study = ours(4)
tracker = Tracker(uri=sys.argv[1])
for trial in study.trials[int(sys.argv[2]) :: 2]:
    tracker.log(study, trial)
tracker.flush(600)
sys.exit(len(tracker.pending))
"""
    path = str(tmp_path / "mlflow.db")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    both = [Python("-c", code, path, i, env=env) for i in (0, 1)]
    assert [p.wait(600) for p in both] == [0, 0]
    store = Store(f"sqlite:///{path}")
    assert len(store.runs("Tiny", "study")) == 1
    assert [c.data.tags["nas.trial"] for c in store.runs("Tiny", "trial")] == ["000", "001", "002", "003"]


@pytest.mark.parametrize("later", [(-1000,), (-1000, 1000)], ids=["two", "three"])
def test_of_parents_that_look_past_each_other_the_one_that_looked_first_is_left(later, uri, monkeypatch):
    """The second one begins earlier by its clock, but is there later: the first has looked already, and stays. The first by
    order yields to one that stays; a third one must not have settled on it."""
    monkeypatch.setattr(parent, "YIELDS_S", 1.0 if len(later) > 1 else 0.3)
    tracker = Tracker(uri=uri)
    study = ours(1)
    tracker.log(study, study.trials[0])
    tracker.flush()
    client = Store(uri).client
    (there,) = Store(uri).runs("Tiny", "study")
    experiment, begun = there.info.experiment_id, there.info.start_time
    late = [client.create_run(experiment, start_time=begun + at, tags=dict(there.data.tags)) for at in later]
    with ThreadPoolExecutor(2) as both:
        left = list(both.map(lambda run: parent._one_parent(client, experiment, read(study), run.info.run_id), late))
    assert [[run.info.run_id for run in one] for one in left] == [[there.info.run_id]] * len(later)
    assert [run.info.run_id for run in Store(uri).runs("Tiny", "study")] == [there.info.run_id]
