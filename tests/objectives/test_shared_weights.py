"""Scores from shared weights: trained once for everyone, refused where they do not fit."""

from __future__ import annotations

import pickle
import random
import subprocess

import pytest

from nas_bo import elsewhere
from nas_bo.errors import CheckpointError, DataError, ModelError, ObjectiveError
from nas_bo.objectives import text
from nas_bo.objectives.shared_weights import SharedWeightLoss
from nas_bo.objectives.validation_loss import ValidationLoss
from nas_bo.problem import Problem
from nas_bo.search_spaces import Llama, TinyGPT
from nas_bo.space import real
from tests.processes import Python

ARCH = TinyGPT.sample(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    words = ["let", "the", "quick", "brown", "fox", "jump", "over", "a", "lazy", "dog"]
    rng = random.Random(0)
    (folder / "text.txt").write_text("\n".join(" ".join(rng.choices(words, k=8)) for _ in range(2_000)))
    return folder


@pytest.fixture(scope="module")
def objective(folder):
    return SharedWeightLoss(
        TinyGPT, tokens=20_000, checkpoint=str(folder / "net.pt"), data=str(folder / "text.txt"), held_out_tokens=2_048
    )


def test_it_trains_once_and_scores(objective, folder):
    before = set(folder.iterdir())
    value = objective(ARCH)
    assert {path.name for path in set(folder.iterdir()) - before} == {"net.pt", "net.pt.lock"}
    stamp = (folder / "net.pt").stat().st_mtime_ns
    assert objective(ARCH) == value and 0 < value < 8 and value.info["how"] == "inherited"
    assert objective(TinyGPT.sample(2)) != value
    assert (folder / "net.pt").stat().st_mtime_ns == stamp
    read = SharedWeightLoss(TinyGPT, checkpoint=objective.checkpoint, data=objective.data, held_out_tokens=2_048)
    assert read(ARCH) == value
    assert objective.supernet() is objective.supernet()


def test_a_machine_that_has_neither_the_text_nor_the_supernet_is_given_both(folder, objective, monkeypatch):
    value, sent = objective(ARCH), pickle.dumps([(name, what) for name, what in objective.carried().items()])
    places = [folder / "text.txt", folder / "net.pt"]
    hidden = [place.rename(place.with_suffix(".hidden")) for place in places]
    monkeypatch.setattr(elsewhere, "_given", {})
    text._corpus.cache_clear()
    try:
        read = SharedWeightLoss(TinyGPT, checkpoint=objective.checkpoint, data=objective.data, held_out_tokens=2_048)
        with pytest.raises(DataError):
            read.conditions()
        for name, what in pickle.loads(sent):
            elsewhere.give(name, what)
        assert read(ARCH) == value and read.conditions()["sha256"] == objective.conditions()["sha256"]
    finally:
        for place, kept in zip(places, hidden, strict=True):
            kept.rename(place)
        text._corpus.cache_clear()
    assert read(ARCH) == value
    monkeypatch.setattr(elsewhere, "MOST_CARRIED", 1000)
    assert objective.carried() == {}, "what is large stays where it lies"


def test_a_fine_tune_helps_and_leaves_the_supernet_alone(objective):
    inherited = objective(ARCH)
    tuned = SharedWeightLoss(
        **{**_fields(objective), "fine_tune": 0.1, "reference_tokens": 100_000}
    )  # fmt: skip
    assert tuned(ARCH) < inherited - 0.1
    assert tuned(ARCH) == tuned(ARCH) and tuned(ARCH).info["tokens"] == 10_000
    assert objective(ARCH) == inherited
    assert tuned.conditions() != objective.conditions()


def _fields(objective):
    return {name: getattr(objective, name) for name in objective.__dataclass_fields__}


def test_workers_train_it_once(folder):
    code = (
        "import sys; from nas_bo.objectives.shared_weights import SharedWeightLoss; "
        "from nas_bo.supernet import training as t; from nas_bo.search_spaces import TinyGPT; "
        "one = t._Run._one; steps = []; t._Run._one = lambda *a: (steps.append(1), one(*a))[1]; "
        f"loss = SharedWeightLoss(TinyGPT, tokens=20_000, checkpoint={str(folder / 'both.pt')!r}, "
        f"data={str(folder / 'text.txt')!r}, held_out_tokens=2_048); "
        "print(len(steps), repr(float(loss(TinyGPT.sample(1)))), len(steps))"
    )
    running = [Python("-c", code, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0].split() for process in running]
    assert sorted(int(one[2]) for one in said) == [0, 39]
    assert said[0][1] == said[1][1]


def test_it_is_an_objective_of_a_problem(objective):
    trial = Problem(TinyGPT, [objective]).evaluate(ARCH)
    assert trial.values["shared_loss"] == objective(ARCH)
    assert pickle.loads(pickle.dumps(objective)) == objective
    assert objective.unit == "bits/byte" and objective.direction == "minimize" and objective.cost == "trained"
    conditions = objective.conditions()
    assert conditions["supernet_tokens"] == 20_000 and conditions["space"] == TinyGPT.fingerprint()


def test_winners_are_trained_alone():
    loss = SharedWeightLoss(TinyGPT, tokens=1e6, reference_tokens=50_000)
    assert loss.larger(2) == ValidationLoss(tokens=100_000, seed=1, name="shared_loss")


def test_files_without_a_name_are_named_after_what_they_hold():
    paths = {
        SharedWeightLoss(TinyGPT, tokens=tokens, seed=seed, data=data).path()
        for tokens in (1e4, 1e5)
        for seed in (0, 1)
        for data in (None, "other.txt")
    }
    assert len(paths) == 8 and all(path.name.startswith("nas-bo-supernet-tinygpt-") for path in paths)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "neither tokens nor checkpoint"),
        ({"tokens": 0}, "tokens"),
        ({"tokens": 1e5, "fine_tune": -0.1}, "fine_tune=-0.1"),
        ({"tokens": 1e5, "held_out_tokens": 0}, "held_out_tokens"),
        ({"tokens": 1e5, "space": "tiny_gpt"}, "must be a search space"),
    ],
)
def test_wrong_arguments_are_refused(given, message):
    with pytest.raises(ObjectiveError, match=message):
        SharedWeightLoss(**{"space": TinyGPT, **given})


def test_what_does_not_fit_is_said_before_the_search_starts(objective, folder):
    objective(ARCH)
    other = folder / "other.txt"
    other.write_text((folder / "text.txt").read_text() + "one more line")
    with pytest.raises(CheckpointError, match="trained on the corpus"):
        SharedWeightLoss(TinyGPT, checkpoint=objective.checkpoint, data=str(other)).conditions()
    with pytest.raises(CheckpointError, match="another space"):
        SharedWeightLoss(Llama, checkpoint=objective.checkpoint, data=objective.data).conditions()
    with pytest.raises(CheckpointError, match="there is no supernet"):
        SharedWeightLoss(TinyGPT, checkpoint=str(folder / "nothing.pt"), data=objective.data).conditions()

    class Rated(TinyGPT):
        lr = real(1e-4, 1e-2)

    with pytest.raises(ModelError, match="'lr' is about training"):
        SharedWeightLoss(Rated, tokens=1e5, data=objective.data).conditions()
