"""A teacher in the programs that people run: a search, and the training of its winner."""

from __future__ import annotations

import json

import pytest

from nas_bo import search
from nas_bo.errors import ExportError, HostError, ModelError, SearchError
from nas_bo.export import folder as files
from nas_bo.model import Distillation
from nas_bo.objectives import Parameters, ValidationLoss
from nas_bo.optuna import studies
from nas_bo.search_spaces import TinyGPT
from nas_bo.workflows.search import load_result
from tests.command import nas_bo

TOKENS = 8_192


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a text, and a teacher that was trained on it."""
    folder = tmp_path_factory.mktemp("taught")
    (folder / "corpus.txt").write_text("".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(3000)))
    found = search(TinyGPT, [loss_on(folder), Parameters()], trials=2, retrain=0)
    found.train(folder / "teacher", "best:bits_per_byte", TOKENS)
    return folder


def loss_on(folder, **more):
    return ValidationLoss(tokens=2000, data=str(folder / "corpus.txt"), evaluation_tokens=2048, **more)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "teachers"


def test_a_search_learns_from_it_and_says_so(place, tmp_path, cache):
    taught = loss_on(place, teacher=place / "teacher")
    storage = tmp_path / "study.db"
    found = search(TinyGPT, [taught, Parameters()], trials=3, retrain=0, storage=str(storage))
    (lessons,) = cache.glob("*.lessons")  # one for all architectures
    assert lessons.stat().st_size == 3 * 8 * 64 * 2 * 256
    alone = loss_on(place)(found.trials[0].architecture)
    assert float(alone) != found.trials[0].values["bits_per_byte"]
    about = taught.conditions()["teacher"]
    assert about["loss"] == "mixed" and len(about["teacher"][0]) == 16 and "teacher" not in repr(taught)
    with pytest.raises(HostError, match="teacher = .*now it is None"):  # another study
        search(TinyGPT, [loss_on(place), Parameters()], trials=4, retrain=0, storage=str(storage))
    again = load_result(studies.load(str(storage), None, reading=True)).train(tmp_path / "out", tokens=TOKENS)
    assert again.about["teacher"]["folders"] == [str(place / "teacher")]  # that of the search
    assert len(list(cache.glob("*.lessons"))) == 1  # for one student nothing is kept


def test_a_winner_learns_from_it(place, tmp_path, cache):
    found = search(TinyGPT, [loss_on(place), Parameters()], trials=2, retrain=0)
    alone = found.train(tmp_path / "alone", tokens=TOKENS)
    taught = found.train(tmp_path / "taught", tokens=TOKENS, teacher=Distillation(place / "teacher", temperature=2.0))
    assert taught.about["values"] != alone.about["values"] and "teacher" not in alone.about
    assert taught.about["teacher"]["temperature"] == 2.0
    with pytest.raises(ExportError, match="holds another model already"):
        found.train(tmp_path / "taught", tokens=TOKENS)
    with pytest.raises(SearchError, match="is a module in memory"):
        found.train(tmp_path / "other", tokens=TOKENS, teacher=files.load(place / "teacher").model)
    with pytest.raises(ModelError, match="is not there"):
        found.train(tmp_path / "other", tokens=TOKENS, teacher=tmp_path / "nobody")
    assert not (tmp_path / "other").exists()


def test_on_the_command_line(place, tmp_path, cache):
    options = ["--trials", "2", "--budget", "2000", "--mlflow", "none", "--workers", "1", "--retrain", "0", "--json"]
    text = ["--data", str(place / "corpus.txt"), "--objective", "bits_per_byte", "--objective", "weight_bytes"]
    done = nas_bo("search", *options, *text, "--teacher", str(place / "teacher"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {one["name"] for one in json.loads(done.stdout)["objectives"]} == {"bits_per_byte", "weight_bytes"}
    train = ("train", "nas-bo.db", "--tokens", "2048", "--to", "out", "--json")
    done = nas_bo(*train, "--teacher", str(place / "teacher"), "--teacher", str(place / "teacher"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["teacher"]["folders"] == [str(place / "teacher")] * 2
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "config.json").write_text('{"vocab_size": 50257}')
    for command in (["search", *options, *text], list(train)):
        done = nas_bo(*command, "--teacher", "strange", cwd=tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "vocabulary of 50257 token ids and the corpus 'corpus.txt' one of 256" in done.stderr.replace("\n", " ")
