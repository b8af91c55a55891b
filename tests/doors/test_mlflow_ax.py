"""Ax experiments in MLflow: while they run, after they ran, and those that never heard of nas_bo."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest

pytest.importorskip("ax")

from ax.api.client import Client
from ax.api.configs import RangeParameterConfig
from ax.api.protocols.metric import IMetric
from ax.api.protocols.runner import IRunner
from ax.core.trial_status import TrialStatus

from nas_bo import ax as nas_ax
from nas_bo.mlflow import Tracker
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.strategies import Random
from nas_bo.trial import State, Trial
from tests.doors.test_mlflow import Store, empty_store, uri  # noqa: F401

logging.getLogger("ax").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


def a_client(objective: str = "-loss, speed", outcome: tuple[str, ...] = ("mem <= 3", "loss <= 2")) -> Client:
    client = Client(random_seed=0)
    parameters = [RangeParameterConfig("x", (0.0, 1.0), "float"), RangeParameterConfig("n", (1, 5), "int")]
    client.configure_experiment(name="an experiment", parameters=parameters)
    client.configure_optimization(objective=objective, outcome_constraints=list(outcome))
    return client


def one_of_each(client: Client) -> None:
    """Trials 0 and 4 complete (4 breaks a constraint), 1 failed, 2 stopped early, 3 abandoned, 5 still running."""
    points = [(0.1, 1), (0.2, 2), (0.3, 3), (0.4, 4), (0.05, 5), (0.6, 2)]
    for x, n in points:
        index = client.attach_trial({"x": x, "n": n})
        if index == 1:
            client.mark_trial_failed(index, failed_reason="CUDA out of memory")
        elif index in (2, 3):
            for step in (1, 5):
                client.attach_data(index, {"loss": 1.0 / step}, progression=step)
            (client.mark_trial_early_stopped if index == 2 else client.mark_trial_abandoned)(index)
        elif index != 5:
            for step in range(3):
                client.attach_data(index, {"loss": 3.0 - step}, progression=10 * step)
            client.complete_trial(index, {"loss": (x, 0.01), "speed": 2.0, "mem": n})


def check(store: Store) -> None:
    (parent,), runs = store.runs("an experiment", "study"), store.runs("an experiment", "trial")
    assert [r.data.tags["nas.trial"] for r in runs] == ["000", "001", "002", "003", "004"]
    assert [r.info.status for r in runs] == ["FINISHED", "FAILED", "KILLED", "KILLED", "FINISHED"]
    assert [r.data.tags["nas.state"] for r in runs] == ["complete", "oom", "stopped", "abandoned", "infeasible"]
    first, last = runs[0].data, runs[4].data
    assert first.params == {"x": "0.1", "n": "1"}
    assert (first.metrics["obj/loss"], first.metrics["obj/speed"], first.metrics["sem/loss"]) == (0.1, 2.0, 0.01)
    assert first.metrics["metric/mem"] == 1 and first.metrics["constraint/mem at most 3"] == 0
    assert last.metrics["constraint/mem at most 3"] == 2 and last.metrics["constraint/violated"] == 1
    history = store.client.get_metric_history(runs[0].info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(0, 3.0), (10, 2.0), (20, 1.0)]
    assert runs[0].info.end_time >= runs[0].info.start_time > 0 and "cost/seconds" in first.metrics
    assert runs[1].data.tags["nas.error"] == "CUDA out of memory"
    assert [r.data.tags["nas.pareto"] for r in runs] == ["true", "false", "false", "false", "false"]
    assert (
        parent.data.params["objective/loss"] == "minimize <= 2" and parent.data.params["objective/speed"] == "maximize"
    )


def test_an_experiment_that_never_heard_of_nas_bo_is_brought_in(uri):  # noqa: F811
    client = a_client()
    one_of_each(client)
    tracker = Tracker(uri=uri)
    assert tracker.log_study(client, finish=True) == 5 and tracker.log_study(client._experiment) == 0
    check(Store(uri))
    (parent,) = Store(uri).runs("an experiment", "study")
    assert parent.info.status == "FINISHED" and "1 Pareto point of 5 trials" in parent.data.tags["mlflow.note.content"]
    assert "report/pareto.png" in Store(uri).files(parent, "report")


def test_a_loop_is_watched_and_the_client_is_the_same_afterwards(uri, tmp_path):  # noqa: F811
    client, tracker = a_client(), Tracker(uri=uri)
    before = set(vars(client))
    with tracker.watch(client):
        one_of_each(client)
        assert tracker.flush() and len(Store(uri).runs("an experiment", "trial")) == 5  # while it lasts
        client.save_to_json_file(str(tmp_path / "client.json"))
    assert set(vars(client)) == before
    assert tracker.log_study(client) == 0
    tracker.finish(client)
    check(Store(uri))
    again = Client.load_from_json_file(str(tmp_path / "client.json"))  # another process goes on
    with Tracker(uri=uri).watch(again):
        again.complete_trial(5, {"loss": 0.01, "speed": 9.0, "mem": 1})
    Tracker(uri=uri).log_study(again, finish=True)
    runs = Store(uri).runs("an experiment", "trial")
    assert len(runs) == 6 and [r.data.tags["nas.pareto"] for r in runs] == ["false"] * 5 + ["true"]


def test_a_client_without_a_name_is_an_experiment_too(uri):  # noqa: F811
    client = Client(random_seed=0)
    client.configure_experiment(parameters=[RangeParameterConfig("x", (0.0, 1.0), "float")])
    client.configure_optimization(objective="-loss")
    client.complete_trial(client.attach_trial({"x": 0.5}), {"loss": 2.0})
    tracker = Tracker(uri=uri, experiment="nameless")
    assert tracker.log_study(client) == 1
    with tracker.watch(client):
        client.complete_trial(client.attach_trial({"x": 0.25}), {"loss": 1.0})
    tracker.finish(client)
    runs = Store(uri).runs("nameless", "trial")
    assert [r.data.metrics["obj/loss"] for r in runs] == [2.0, 1.0] and runs[0].data.tags["nas.study"] == "ax"
    assert [r.info.run_name for r in Store(uri).runs("nameless", "study")] == ["ax"]


class Runner(IRunner):
    def run_trial(self, trial_index: int, parameterization: Any) -> dict[str, Any]:
        return {"x": parameterization["x"]}

    def poll_trial(self, trial_index: int, trial_metadata: Any) -> TrialStatus:
        return TrialStatus.COMPLETED


class Loss(IMetric):
    def fetch(self, trial_index: int, trial_metadata: Any) -> tuple[int, float]:
        return 0, (float(trial_metadata["x"]) - 0.3) ** 2


def test_run_trials_is_watched(uri):  # noqa: F811
    client, tracker = a_client("-loss", ()), Tracker(uri=uri, tags={"team": "red"})
    client.configure_generation_strategy(method="random_search")
    client.configure_runner(Runner())
    client.configure_metrics([Loss("loss")])
    with tracker.watch(client, every=0.2):
        client.run_trials(max_trials=3, initial_seconds_between_polls=0.05)
    assert tracker.flush()
    runs = Store(uri).runs("an experiment", "trial")
    assert len(runs) == 3 and all(r.data.metrics["obj/loss"] >= 0 and r.info.status == "FINISHED" for r in runs)
    assert all(r.data.tags["ax.generator"] and r.data.tags["team"] == "red" for r in runs)
    assert [r.data.metrics["obj/loss"] for r in runs] == [
        (t.arm.parameters["x"] - 0.3) ** 2 for t in client._experiment.trials.values()
    ]


class Small(Space):
    width = choice(1, 2, 4)
    act = choice("a", "b")


def test_what_nas_bo_told_ax_is_in_the_run(uri):  # noqa: F811
    client = Client(random_seed=0)
    client.configure_experiment(name="ours", parameters=nas_ax.parameters(Small))
    client.configure_optimization(objective="-loss")
    arch = Small.sample(0)
    index = client.attach_trial(nas_ax.params(Small, arch))
    info = {"loss": {"how": "trained", "curve": [[0, 5.0], [10, 4.0]], "seconds": 1.5}}
    nas_ax.tell(client, index, Trial(arch, {"loss": 4.0}, {}, State.COMPLETE, info=info, seconds=2.0))
    assert Tracker(uri=uri).log_study(client) == 1
    (run,) = Store(uri).runs("ours", "trial")
    assert run.data.tags["nas.arch"] == arch.id and run.data.tags["nas.how.loss"] == "trained"
    assert run.data.metrics["cost/seconds"] == 2.0 and run.data.metrics["train/loss"] == 4.0
    assert run.data.params == {"width": str(arch.width), "act": arch.act}


def test_an_experiment_that_was_stored_is_tracked_when_it_goes_on_and_its_runs_have_short_names(tmp_path, uri):  # noqa: F811
    """What Ax reads back from its storage has objectives of another class."""
    storage = nas_ax.storage(tmp_path / "ax.db")
    nas_ax.client(Deep, ["val_loss", "size"], strategy=Random(), storage=storage, name="stored")
    for _ in range(2):
        client = Client.load_from_database("stored", storage_config=storage)
        tracker = Tracker(uri=uri)
        with tracker.watch(client):
            for index in client.get_next_trials(2):
                client.complete_trial(index, {"val_loss": 3.0 - index, "size": float(index)})
        assert tracker.flush() and tracker.behind() is None, tracker.behind()
    runs = Store(uri).runs("stored", "trial")
    assert [r.data.metrics["obj/val_loss"] for r in runs] == [3.0, 2.0, 1.0, 0.0]
    names = [r.info.run_name for r in runs]
    assert all("above" not in name for name in names) and names[0].startswith("000 depth="), names


class Deep(Space):
    depth = integer(1, 3)
    layers = repeat(depth, size=choice(1, 2))
