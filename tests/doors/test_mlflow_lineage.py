"""Baselines and re-trainings as runs: beside the trials, linked both ways, once."""

from __future__ import annotations

import json
import platform
import shutil

import pytest

from nas_bo import search
from nas_bo.mlflow import Tracker
from nas_bo.strategies import Random
from tests import problems
from tests.doors.test_mlflow import Store, empty_store  # noqa: F401 (a fixture)
from tests.problems import Toy, cost
from tests.processes import Python

BASE = {"plain": Toy.sample(5)}


@pytest.fixture(scope="module")
def uri(empty_store, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("lineage")
    shutil.copy(empty_store, folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture(scope="module")
def found(uri, tmp_path_factory):
    return search(
        Toy, [problems.Retrainable(), cost], trials=8, strategy=Random(), track=uri, storage=str(tmp_path_factory.mktemp("study") / "s.db"),
        baseline=BASE, retrain=2, retrain_others=0,
    )  # fmt: skip


def test_relatives_are_runs_linked_both_ways_and_made_once(found, uri):
    store = Store(uri)
    (parent,) = store.runs("Toy", "study")
    (base,) = store.runs("Toy", "baseline")
    again, trials = store.runs("Toy", "retrain"), store.runs("Toy", "trial")
    assert len(trials) == 8 and len(again) == len(found.front)
    assert {r.data.tags["mlflow.parentRunId"] for r in [base, *again]} == {parent.info.run_id}
    assert base.info.run_name == "baseline plain" and base.data.metrics["obj/cost"] == cost(BASE["plain"])
    assert store.files(base) >= {"arch.json", "arch.svg"}
    by_run = {r.info.run_id: r for r in trials}
    for one in again:
        trial = by_run[one.data.tags["nas.of"]]
        assert trial.data.tags["nas.retrained"] == one.info.run_id
        assert f"runs/{one.info.run_id}" in trial.data.tags["mlflow.note.content"]
        assert f"runs/{trial.info.run_id}" in one.data.tags["mlflow.note.content"]
        assert one.data.metrics["obj/loss"] == pytest.approx(trial.data.metrics["obj/loss"] / 2)
        assert one.data.tags["nas.arch"] == trial.data.tags["nas.arch"]
    assert "Baseline plain" in parent.data.tags["mlflow.note.content"]

    Tracker(uri=uri).log_study(found.study, finish=True)  # by someone who has the study alone
    assert len(store.runs("Toy", "baseline")) == 1 and len(store.runs("Toy", "retrain")) == len(again)
    assert len(store.runs("Toy", "trial")) == 8


def test_a_relative_that_a_killed_process_left_half_written_is_made_anew(found, uri):
    store = Store(uri)
    (base,) = store.runs("Toy", "baseline")
    ended = Python("-c", "")
    ended.wait()
    gone = f"{platform.node()}:{ended.pid}:1"
    tags = {k: v for k, v in base.data.tags.items() if k.startswith(("nas.", "mlflow.nas."))} | {
        "mlflow.nas.writer": gone
    }
    store.client.delete_run(base.info.run_id)
    half = store.client.create_run(base.info.experiment_id, tags=tags)
    Tracker(uri=uri).log_study(found.study, finish=True)
    (again,) = store.runs("Toy", "baseline")
    assert again.info.run_id != half.info.run_id and again.info.status == "FINISHED"
    assert again.data.metrics["obj/cost"] == base.data.metrics["obj/cost"]


def test_the_parent_has_what_is_needed_to_run_it_again(found, uri):
    store = Store(uri)
    (parent,) = store.runs("Toy", "study")
    about = json.loads(store.text(parent, "study.json"))
    assert about["recipe"]["objectives"][1]["fields"]["function"] == {"name": "tests.problems:cost"}
    assert {"versions", "device", "git", "seed", "space", "started"} <= set(about)
    assert parent.data.params["version/torch"] and parent.data.tags["nas.hw"]
    assert len(about["git"].get("commit", "x" * 40)) == 40
    pictures = store.files(parent, "pictures")
    assert {"pictures/progress.png", "pictures/parallel.png", "pictures/knee.svg"} <= pictures


def test_the_view_has_trials_and_baselines_only(found, uri):
    store = Store(uri)
    tags = store.experiment("Toy").tags
    state = json.loads(tags["mlflow.sharedViewState." + tags["nas.front"]])
    runs = store.client.search_runs([store.experiment("Toy").experiment_id], state["searchFilter"])
    kinds = [r.data.tags["nas.kind"] for r in runs]
    assert sorted(kinds) == ["baseline"] + ["trial"] * 8
    assert "tags.`nas.kind`" in state["selectedColumns"] and "metrics.`cost/seconds`" in state["selectedColumns"]
