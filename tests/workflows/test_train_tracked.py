"""Trainings to the end in MLflow: a run next to the trial, with its curve, and what becomes of it when the training or the store fails."""

from __future__ import annotations

import json
import shutil

import pytest

from nas_bo import search
from nas_bo.errors import HostError
from nas_bo.mlflow import TrainingRun
from nas_bo.objectives import Parameters, ValidationLoss
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from tests.cli.test_command import nas_bo
from tests.doors.test_mlflow import Store, empty_store  # noqa: F401 (a fixture)

TOKENS = 6_144


@pytest.fixture(scope="module")
def place(empty_store, tmp_path_factory):  # noqa: F811
    """A folder with a tracked study of two architectures."""
    folder = tmp_path_factory.mktemp("tracked")
    (folder / "corpus.txt").write_text("".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(2000)))
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def found(place):
    objectives = [ValidationLoss(tokens=1500, data=str(place / "corpus.txt")), Parameters()]
    return search(
        TinyGPT, objectives, trials=2, strategy=Random(seed=1), retrain=0, workers=1,
        storage=str(place / "study.db"), track=place / "mlflow.db",
    )  # fmt: skip


@pytest.fixture
def store(place):
    return Store(f"sqlite:///{place}/mlflow.db")


def steps(store, run):
    return [one.step for one in store.client.get_metric_history(run.info.run_id, "train/bits_per_token")]


def test_a_training_is_a_run_next_to_its_trial_once(place, found, store, tmp_path):
    tracked = TrainingRun(place / "mlflow.db")
    made = found.train(tmp_path / "out", "best:bits_per_byte", TOKENS, progress=tracked)
    run = store.client.get_run(tracked.run_id)
    trial = store.client.get_run(tracked.of)
    assert run.info.status == "FINISHED" and run.data.tags["nas.kind"] == "training"
    assert run.data.tags["nas.arch"] == trial.data.tags["nas.arch"] == made.about["architecture"]
    assert run.data.tags["mlflow.parentRunId"] == trial.data.tags["mlflow.parentRunId"]
    assert run.data.tags["nas.of"] == trial.info.run_id and trial.data.tags["nas.training"] == run.info.run_id
    assert f"runs/{run.info.run_id}" in trial.data.tags["mlflow.note.content"]
    assert run.data.metrics["obj/bits_per_byte"] == pytest.approx(made.about["values"]["bits_per_byte"])
    assert run.data.params["train/lr"] == str(made.about["settings"]["lr"]) and run.data.params["train/seed"] == "1"
    assert steps(store, run) == sorted(set(steps(store, run))) and len(steps(store, run)) > 1
    assert {"README.md", "arch.json"} <= store.files(run)

    again = TrainingRun(place / "mlflow.db")
    assert found.train(tmp_path / "out", "best:bits_per_byte", TOKENS, progress=again).resumed
    assert again.run_id == tracked.run_id and steps(store, run) == steps(store, store.client.get_run(again.run_id))


def test_one_that_was_killed_goes_on_in_its_run(place, found, store, tmp_path, monkeypatch):
    import nas_bo.model.run as run

    monkeypatch.setattr(run, "SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(run, "PROGRESS_EVERY_S", -1.0)

    def killed(step, steps, nats):
        if step > 5:
            raise KeyboardInterrupt

    first = TrainingRun(place / "mlflow.db", then=killed)
    with pytest.raises(KeyboardInterrupt):
        found.train(tmp_path / "out", "best:bits_per_byte", TOKENS, seed=5, progress=first)
    assert store.client.get_run(first.run_id).info.status == "KILLED"
    before = steps(store, store.client.get_run(first.run_id))
    second = TrainingRun(place / "mlflow.db")
    found.train(tmp_path / "out", "best:bits_per_byte", TOKENS, seed=5, progress=second)
    made = store.client.get_run(second.run_id)
    assert second.run_id == first.run_id and made.info.status == "FINISHED"
    assert steps(store, made)[: len(before)] == before and steps(store, made) == sorted(set(steps(store, made)))


def test_a_store_that_fails_costs_no_training(place, found, empty_store, tmp_path):  # noqa: F811
    shutil.copy(empty_store, tmp_path / "m.db")
    tracked = TrainingRun(tmp_path / "m.db")
    (tmp_path / "m.db").write_bytes(b"this is not a database" * 400)
    with pytest.warns(UserWarning, match="does not take the training") as said:
        made = found.train(tmp_path / "out", "best:bits_per_byte", TOKENS, seed=3, progress=tracked)
    assert len(said) == 1 and (made.folder / "model.safetensors").is_file() and tracked.run_id is None


def test_a_store_that_cannot_be_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "m.db").write_text("no database at all " * 100)
    with pytest.raises(HostError):
        TrainingRun(tmp_path / "m.db")


def test_the_command_says_where_the_run_is(place, found, store, tmp_path):
    done = nas_bo("train", "study.db", "--pick", "0", "--tokens", str(TOKENS), "--to", str(tmp_path / "out"), "--mlflow", "mlflow.db", "--json", cwd=place)  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["mlflow"]
    assert store.client.get_run(said["run_id"]).data.tags["nas.of"] == said["of"] is not None


@pytest.mark.parametrize("word, named", [(None, None), ("none", None), ("None", None), ("m.db", "m.db")])
def test_none_is_no_store_for_any_command(word, named):
    from nas_bo.cli.tracking import store as named_by

    assert named_by(word) == named
