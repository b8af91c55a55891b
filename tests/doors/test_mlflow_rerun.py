"""Evaluated again, registered, loaded: a real small search with real training, all from what MLflow has."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
from typer.testing import CliRunner

from nas_bo import search
from nas_bo.architecture import Architecture
from nas_bo.cli.app import app
from nas_bo.errors import HostError, SearchError
from nas_bo.mlflow import load_model
from nas_bo.mlflow.registry import load_folder
from nas_bo.model import evaluate
from nas_bo.objectives import Latency, Parameters, ValidationLoss
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.workflows.rerun import rerun
from tests.doors.test_mlflow import Store, empty_store  # noqa: F401 (a fixture)
from tests.problems import Toy, cost, loss

# of a short text, whose held-out part is soon read: a re-training is evaluated on all of it
QUALITY = ValidationLoss(tokens=2_000, evaluation_tokens=4_096, data=argparse.__file__)


@pytest.fixture(scope="module")
def uri(empty_store, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("again")
    shutil.copy(empty_store, folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture(scope="module")
def result(uri, tmp_path_factory):
    storage = str(tmp_path_factory.mktemp("study") / "s.db")
    objectives = [QUALITY, Latency(max_seconds=0.2), Parameters()]
    return search(
        TinyGPT,
        objectives,
        trials=3,
        strategy=Random(),
        storage=storage,
        track=uri,
        retrain=1.5,
        retrain_others=0,
        baseline=None,
    )


def run_of(store: Store, number: int):
    return next(r for r in store.runs("TinyGPT", "trial") if r.data.tags["nas.trial"] == f"{number:03d}")


def test_a_trial_is_evaluated_again_to_the_same_bits_and_linked(result, uri):
    store = Store(uri)
    trial = run_of(store, result.front[0].number)
    made = rerun(trial.info.run_id, track=uri)
    by_name = {c.name: c for c in made.compared}
    assert (
        by_name["bits_per_byte"].agrees is True
        and by_name["bits_per_byte"].now == result.front[0].values["bits_per_byte"]
    )
    assert by_name["parameters"].agrees is True and by_name["parameters"].words == "the same bit for bit"
    assert "interval" in by_name["latency_ms"].words and made.changed == {}
    assert "bits_per_byte [bits/byte]" in str(made)
    (again,) = store.runs("TinyGPT", "rerun")
    assert again.info.run_id == made.logged and again.data.tags["nas.of"] == trial.info.run_id
    trial = store.client.get_run(trial.info.run_id)
    assert (
        trial.data.tags["nas.rerun"] == made.logged and f"runs/{made.logged}" in trial.data.tags["mlflow.note.content"]
    )
    assert json.loads(store.text(again, "rerun.json"))["objectives"][0]["agrees"] is True


def test_a_retraining_and_a_study_are_evaluated_again_too(result, uri):
    store = Store(uri)
    again = store.runs("TinyGPT", "retrain")[0]
    made = rerun(again.info.run_id, track=uri, log=False)
    assert [(c.name, c.agrees) for c in made.compared] == [("bits_per_byte", True)] and made.logged is None
    twice = rerun(rerun(again.info.run_id, track=uri).logged, track=uri, log=False)  # at the budget of the re-training
    assert [(c.name, c.agrees) for c in twice.compared] == [("bits_per_byte", True)]
    parent = store.runs("TinyGPT", "study")[0]
    made = rerun(parent.info.run_id, track=uri, log=False)
    assert made.name.startswith(f"{result.knee().number:03d} ")


def test_a_figure_that_was_another_is_said(result, uri):
    store = Store(uri)
    trial = run_of(store, result.trials[1].number)
    store.client.log_metric(trial.info.run_id, "obj/bits_per_byte", 1.0, step=1)
    made = rerun(trial.info.run_id, track=uri, log=False)
    assert made.agrees is False and "with the same versions, device and corpus" in made.compared[0].words
    done = CliRunner().invoke(app, ["rerun", trial.info.run_id, "--mlflow", uri, "--no-log", "--json"])
    assert done.exit_code == 1, done.output
    assert json.loads(done.stdout)["objectives"][0]["agrees"] is False
    assert done.stderr.startswith(f"evaluating {trial.info.run_name} again\n")  # it may take minutes


def test_what_cannot_be_evaluated_again_is_said(uri, tmp_path):
    found = search(Toy, [loss, cost], trials=2, strategy=Random(), track=uri, retrain=0)
    store = Store(uri)
    trial = store.runs("Toy", "trial")[0]
    made = rerun(trial.info.run_id, track=uri, log=False)
    assert made.agrees is None and all("--allow tests" in c.words for c in made.compared)
    made = rerun(trial.info.run_id, track=uri, log=False, allow=["tests"])
    assert made.agrees is True and made.compared[0].now == found.trials[0].values["loss"]
    with pytest.raises(HostError, match="there is no run"):
        rerun("0" * 32, track=uri)
    run = store.client.create_run(store.experiment("Toy").experiment_id)
    with pytest.raises(SearchError, match="not a trial of a search of nas_bo"):
        rerun(run.info.run_id, track=uri)


def test_the_chosen_are_registered_and_load_in_three_lines_with_the_same_loss(result, uri, tmp_path):
    said = []
    made = result.register(
        "tiny", track=uri, picks=["knee", "fastest", "best_quality"], say=lambda *words: said.append(words)
    )
    assert len(said) == len(made) and said[0][0].startswith(f"training {result.label(result.knee())} for knee")
    assert {a for one in made for a in one.aliases} == {"knee", "fastest", "best_quality"}
    for one in made:
        model = load_model(one.uri, tracking_uri=uri)
        again = next(r for r in result.retrained if r.id == result.trials[one.trial].architecture.id)
        assert one.values["bits_per_byte"] == again.values["bits_per_byte"]  # to the bit, as the search re-trained it
        assert evaluate(model, QUALITY.corpus()) == again.values["bits_per_byte"]
    store = Store(uri)
    version = store.client.get_model_version_by_alias("tiny", "knee")
    run = store.client.get_run(version.run_id)
    trial = store.client.get_run(run.data.tags["nas.of"])
    assert run.data.tags["nas.kind"] == "model" and trial.data.tags["nas.model"] == f"tiny/{version.version}"
    assert f"runs/{version.run_id}" in trial.data.tags["mlflow.note.content"]
    files = store.files(run, "model")
    assert files == {"model/arch.json", "model/model.json", "model/model.safetensors"}
    assert load_model(f"runs:/{version.run_id}", tracking_uri=uri).spec == load_model("models:/tiny@knee", tracking_uri=uri).spec  # fmt: skip
    about = json.loads(store.text(run, "model/model.json"))
    assert about["re-trained in the search"]["same"] is True and about["vocab_size"] == 256

    folder = Path(store.client.download_artifacts(version.run_id, "model", str(tmp_path)))
    other = TinyGPT.sample(99)
    assert other.id != Architecture.from_json((folder / "arch.json").read_text()).id
    (folder / "arch.json").write_text(other.to_json())
    with pytest.raises(HostError, match="do not fit together"):
        load_folder(folder)
    torch.save({}, folder / "model.safetensors")  # a pickle under this name is not read as one
    with pytest.raises(HostError, match="do not fit together"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("name", "says"),
    [("tiny@knee", "is not named right"), ("models:/tiny@nothing", "is not in"), ("models:/no_such@knee", "is not in")],
)
def test_models_that_are_not_there(result, uri, name, says):
    with pytest.raises(HostError, match=says):
        load_model(name, tracking_uri=uri)


def test_picks_that_are_none_and_studies_without_weights(result, uri):
    with pytest.raises(SearchError, match="there is no pick 'best'"):
        result.register("tiny", track=uri, picks=["best"])
    found = search(Toy, [loss, cost], trials=2, strategy=Random(), retrain=0)
    with pytest.raises(SearchError, match="no objective that can be trained again: tests.problems:loss is not part"):
        found.register("toy", track=uri)
    with pytest.raises(SearchError, match="no objective that can be trained"):
        replace(result, study=None).register("tiny", track=uri)


def test_a_run_of_a_stranger_opens_nothing_and_trains_no_more_than_is_allowed(result, uri):
    store = Store(uri)
    trial, parent = run_of(store, result.trials[0].number), store.runs("TinyGPT", "study")[0]
    kept = Path(unquote(urlsplit(parent.info.artifact_uri).path)) / "study.json"
    honest = kept.read_text()
    before = len(store.runs("TinyGPT", "rerun"))
    try:
        for fields, why in (
            ({"data": "/dev/zero"}, "--allow-path"),
            ({"checkpoints": "../elsewhere"}, "--allow-path"),
            ({"tokens": 1e18}, "--budget-limit"),
            ({"tokens": "many"}, None),
        ):
            about = json.loads(honest)
            about["recipe"]["objectives"][0]["fields"] |= fields
            kept.write_text(json.dumps(about))
            if why is None:
                made = rerun(trial.info.run_id, track=uri, log=False)
                assert made.compared[0].agrees is None and "tokens" in made.compared[0].words
                continue
            with pytest.raises(SearchError, match=why):
                rerun(trial.info.run_id, track=uri)
        kept.write_text("[" * 100_000)
        with pytest.raises(SearchError, match="keeps in MLflow about itself"):
            rerun(trial.info.run_id, track=uri)
    finally:
        kept.write_text(honest)
    assert len(store.runs("TinyGPT", "rerun")) == before
