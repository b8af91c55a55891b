"""A ladder of sizes on a real study: what it trains, that it continues after kill -9, what is logged, and what is refused before anything."""

from __future__ import annotations

import json
import math
import signal

import optuna
import pytest

from nas_bo import search
from nas_bo.errors import EverythingFailed, ModelError, SearchError
from nas_bo.execution import Processes
from nas_bo.objectives import Parameters, ValidationLoss
from nas_bo.optuna import studies
from nas_bo.report.ladder import Ladder
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, choice, integer, option, repeat, require
from nas_bo.strategies import Random
from nas_bo.workflows.ladder import ladder, plan_ladder
from nas_bo.workflows.stored_result import load_result
from tests.problems import Toy, cost, loss
from tests.processes import python

HOW = {"rungs": [1, 1.8, 3.2], "tokens_per_parameter": 0.06, "architectures": 5, "seeds": 2}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("".join(f"def f{i}(x):\n    return x + {i * 7919 % 1000}\n" for i in range(1500)))
    return path


@pytest.fixture(scope="module")
def storage(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "study.db"
    objectives = [ValidationLoss(tokens=1100, data=str(text), batch_size=8, sequence=32), Parameters(at_most=40_000)]
    search(TinyGPT, objectives, trials=12, strategy=Random(seed=3), retrain=0, storage=str(path), workers=1)
    return path


@pytest.fixture(scope="module")
def keep(tmp_path_factory):
    return tmp_path_factory.mktemp("kept") / "ladder.jsonl"


@pytest.fixture(scope="module")
def made(storage, keep):
    return ladder(load_result(storage), keep=keep, **HOW)


def test_every_architecture_is_trained_on_every_rung_with_every_seed(made, storage):
    assert (
        len(made.rungs) == 3 and 4 <= len(made.climbers) <= 5 and {c.kind for c in made.climbers} >= {"front", "plain"}
    )
    for c in made.climbers:
        assert len(c.losses) == 3 and all(len(row) == 2 and all(map(math.isfinite, row)) for row in c.losses)
        assert c.losses[0][0] != c.losses[0][1]
        assert c.sizes[1] == pytest.approx(1.8 * c.sizes[0], rel=0.12) and c.sizes[2] == pytest.approx(
            3.2 * c.sizes[0], rel=0.12
        )
    for rung in made.rungs:
        assert rung.tokens == int(0.06 * rung.middle) and rung.how == "spent" and rung.seconds > 0
    assert made.decisions[0].overall.pairs > 5 and made.decisions[0].equal.pairs >= 2
    assert 3 <= len(made.promoted) <= 5 and made.control is not None and made.control.kind == "plain"
    by_number = {t.number: t.architecture.id for t in load_result(storage).trials}
    assert all(by_number[c.trial] == c.id for c in made.climbers if c.trial is not None)


def test_the_first_rung_is_the_run_of_the_search_at_its_budget(made, storage, text):
    """With CompleteP, whose base is the searched size, bit for bit what the objective gives."""
    c = next(c for c in made.climbers if c.trial is not None)
    objective = ValidationLoss(
        tokens=made.rungs[0].tokens, data=str(text), batch_size=8, sequence=32, seed=made.recipe["first_seed"]
    )
    trial = next(t for t in load_result(storage).trials if t.number == c.trial)
    assert float(objective(trial.architecture)) == c.losses[0][0]


def test_the_same_call_trains_nothing_again_and_gives_the_same(made, storage, keep):
    before = keep.read_text().count('"key": "ladder:')
    seen = []
    again = ladder(load_result(storage), keep=keep, on_progress=seen.append, **HOW)
    assert [(p.done, p.total) for p in seen] == [(before, before)] and again.to_dict() == made.to_dict()
    rows = [json.loads(line) for line in keep.read_text().splitlines()]
    assert Ladder.from_dict([row["data"] for row in rows if row["key"] == "ladder"][-1]).first_line == made.first_line


KILLED = """
import os, signal, sys
import nas_bo.model.run as run
from nas_bo.workflows.ladder import ladder
from nas_bo.workflows.stored_result import load_result
run.SAVE_EVERY_S = -1.0  # at every look
looks, look = [0], run.Run.look
def counting(self, losses):
    looks[0] += 1
    if looks[0] == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return look(self, losses)
run.Run.look = counting
ladder(load_result(sys.argv[1]), keep=sys.argv[2], checkpoints=sys.argv[3], **eval(sys.argv[5]))
"""


def test_a_ladder_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(made, storage, tmp_path):
    keep, folder = tmp_path / "kept.jsonl", tmp_path / "folder"
    there = []
    for looks in (50, 110):
        done = python("-c", KILLED, storage, keep, folder, looks, HOW)
        assert done.returncode == -signal.SIGKILL, done.stderr
        there.append([json.loads(line) for line in keep.read_text().splitlines() if '"key": "ladder:' in line])
        assert list((folder / "ladder").glob("*.pt"))
    assert 0 < len(there[0]) < len(there[1]) and there[1][: len(there[0])] == there[0]
    seen = []
    found = ladder(load_result(storage), keep=keep, checkpoints=folder, on_progress=seen.append, **HOW)
    assert seen[0].done == len(there[1]) and not (folder / "ladder").exists()
    assert [c.losses for c in found.climbers] == [c.losses for c in made.climbers]
    assert [c.id for c in found.promoted] == [c.id for c in made.promoted]


def test_workers_give_the_same_and_the_study_keeps_it(made, storage):
    result = load_result(studies.load(str(storage), None))
    found = ladder(result, executor=Processes(2), **HOW)
    assert [c.losses for c in found.climbers] == [c.losses for c in made.climbers]
    seen = []
    again = ladder(str(storage), on_progress=seen.append, **HOW)
    assert seen[0].done == seen[0].total and again.first_line == made.first_line
    assert again.recipe == made.recipe


def test_a_dry_run_says_sizes_tokens_time_and_memory_and_keeps_nothing(storage, tmp_path):
    result, keep = load_result(storage), tmp_path / "nothing.jsonl"
    plan = plan_ladder(result, keep=keep, **HOW)
    assert not keep.exists() and 0 < plan.hours < 1 and plan.trainings == 3 * len(plan.members) * 2
    for rung in plan.rungs:
        assert rung.how in ("measured", "extrapolated") and rung.seconds > 0 and rung.bytes > 12 * rung.most
    text = str(plan)
    assert "reads the text" in text and "GiB" in text and "min" in text
    told = plan.to_dict()
    assert json.loads(json.dumps(told)) == told and len(told["architectures"]) == len(plan.members)


def test_every_training_is_a_run_in_mlflow_linked_with_its_trial(storage, made, keep, tmp_path):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for _ in range(2):  # nothing is logged twice
        ladder(str(storage), track=uri, keep=keep, **HOW)
    client = MlflowClient(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "TinyGPT"]
    runs = list(client.search_runs([experiment.experiment_id], "tags.`nas.kind` = 'ladder'", max_results=1000))
    assert len(runs) == 3 * len(made.climbers) * 2
    trials = {
        r.info.run_id: r
        for r in client.search_runs([experiment.experiment_id], "tags.`nas.kind` = 'trial'", max_results=1000)
    }
    linked = [run for run in runs if run.data.tags.get("nas.of")]
    assert linked and all(run.data.tags["nas.of"] in trials for run in linked)
    last = next(run for run in linked if run.data.tags["nas.rung"] == "3")
    trial = trials[last.data.tags["nas.of"]]
    assert last.info.run_id in trial.data.tags.values() and "Rung 3" in trial.data.tags["mlflow.note.content"]
    c = next(c for c in made.climbers if c.id == last.data.tags["nas.base"])
    assert last.data.metrics["obj/bits_per_byte"] in c.losses[2]
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`nas.kind` = 'study'")
    assert parent.data.tags["nas.ladder"] == made.first_line and "ladder/overall.rung1" in parent.data.metrics
    assert "report/ladder.png" in {file.path for file in client.list_artifacts(parent.info.run_id, "report")}


# ---- bad input: one paragraph, before the first training --------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rungs": 2}, r"rungs must be a number of rungs from 3 to 12, .*a rung that does not grow decides nothing"),
        ({"rungs": [1, 4, 4]}, "each at least 1 and larger than the one before"),
        ({"rungs": [1, 1.05, 4]}, "a rung must be at least 1.2 times as large as the one before"),
        ({"factor": 1.0}, "factor must be a number from 1.2 to 1000"),
        ({"tokens_per_parameter": 0.001}, "would train on .* tokens, and 1,000 are the least"),
        ({"tokens_per_parameter": 20}, r"each would be read \d+.\d times, and at most 4 are allowed .*more text, fewer tokens per parameter"),
        ({"tokens_per_parameter": math.nan}, "tokens_per_parameter must be a number above 0"),
        ({"rungs": [1, 100, 3e6], "most_repeats": 1e12}, "GiB, and this machine has"),
        ({"seeds": 0}, "seeds must be an integer of at least 1"),
        ({"architectures": 2}, "architectures must be an integer of at least 3"),
        ({"baseline": "largest one"}, "it is an architecture, its flat values, or one of the words"),
        ({"baseline": {"depth": 9, "width": 32}}, "baseline"),
        ({"grow": lambda arch, size: arch}, "cannot grow: the growth rule .* it must come near them"),
        ({"track": 7}, "it is the tracking URI of MLflow"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_the_first_training(storage, changed, says, monkeypatch):
    monkeypatch.setattr(ValidationLoss, "__call__", None)  # nobody trains
    with pytest.raises(SearchError, match=says) as raised:
        ladder(load_result(storage), **{**HOW, **changed})
    assert len(str(raised.value).splitlines()) == 1


def test_a_parametrization_that_there_is_not(storage):
    with pytest.raises(ModelError, match=r"ladder\(parametrization='mup'\): there is no parametrization of that name"):
        ladder(load_result(storage), **{**HOW, "parametrization": "mup"})


class Wide(TinyGPT):
    @require
    def wide_only(arch):
        return arch.width >= 48


def test_a_baseline_outside_of_the_space_is_refused(text, tmp_path):
    objectives = [ValidationLoss(tokens=1100, data=str(text), batch_size=8, sequence=32), Parameters(at_most=80_000)]
    found = search(
        Wide, objectives, trials=6, strategy=Random(seed=1), retrain=0, storage=str(tmp_path / "s.db"), workers=1
    )
    narrow = next(a for a in map(TinyGPT.sample, range(99)) if a.width == 32)
    with pytest.raises(SearchError, match="with schema .*give the space of the study"):
        ladder(found, Apart, **HOW)
    with pytest.raises(SearchError, match="is outside of the space Wide: breaks the rule wide_only"):
        ladder(found, Wide, **{**HOW, "baseline": narrow})


class Apart(Space):
    depth = 1
    width = choice(8, 16, 32)
    layers = repeat(depth, mixer=option("attention", heads=2), mlp=option("skip"))


def test_sizes_that_are_all_far_apart_are_refused(text, tmp_path):
    objectives = [ValidationLoss(tokens=1100, data=str(text), batch_size=8, sequence=32), Parameters()]
    found = search(
        Apart, objectives, trials=3, strategy=Random(seed=1), retrain=0, storage=str(tmp_path / "s.db"), workers=1
    )
    with pytest.raises(
        SearchError,
        match=r"there are 0 pairs of about equal size \(within 10 %\) among 3 architectures, and 2 are the least",
    ):
        ladder(found, **{**HOW, "tokens_per_parameter": 0.5})


class Unknown(Space):
    depth = integer(1, 2)
    width = choice(8, 16)
    routes = choice(1, 2)
    layers = repeat(depth, mixer=option("attention", heads=2), mlp=option("skip"))


def test_a_space_whose_growth_is_not_known_is_refused_with_the_field(text, tmp_path):
    objective = ValidationLoss(tokens=1100, data=str(text), batch_size=8, sequence=32)
    with pytest.raises(ModelError):
        search(Unknown, [objective], trials=2, retrain=0, workers=1)  # the decoder does not know it either
    loose = ValidationLoss(tokens=1100, data=str(text), batch_size=8, sequence=32, ignore=("routes",))
    found = search(
        Unknown, [loose], trials=4, strategy=Random(seed=1), retrain=0, storage=str(tmp_path / "s.db"), workers=1
    )
    assert found.front  # what the objective ignores stays as it is when it grows
    plan = plan_ladder(found, **{**HOW, "architectures": 4, "rungs": [1, 3, 9], "tokens_per_parameter": 0.5})
    assert all(m.rungs[2].get("routes") == m.architecture.get("routes") for m in plan.members)


def test_studies_without_a_loss_that_can_be_trained_again_are_refused(text, tmp_path):
    toy = search(Toy, [loss, cost], trials=4, retrain=0, storage=str(tmp_path / "toy.db"), workers=1)
    with pytest.raises(SearchError, match="no objective that can be trained again"):
        ladder(toy, **HOW)
    foreign = optuna.create_study(storage=f"sqlite:///{tmp_path}/foreign.db", direction="minimize")
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    with pytest.raises(SearchError, match="was not made by nas_bo"):
        ladder(foreign, **HOW)
    counted = search(TinyGPT, [Parameters()], trials=4, retrain=0, storage=str(tmp_path / "counted.db"), workers=1)
    with pytest.raises(SearchError, match="no objective that can be trained again"):
        plan_ladder(counted, **HOW)


class Failing(TinyGPT):
    @staticmethod
    def grow(arch, size):
        """Larger, with a rate at which nothing learns."""
        from nas_bo.model.larger import larger

        made = larger(arch, size)
        return {**made.tree, "lr": 1e6}


def test_a_rung_on_which_nothing_ends_well_ends_the_ladder_and_keeps_what_was_trained(storage, tmp_path):
    keep = tmp_path / "kept.jsonl"
    with pytest.raises(EverythingFailed, match="no training of rung 2 .*What was trained is kept"):
        ladder(load_result(storage), keep=keep, grow=Failing.grow, **HOW)
    values = [json.loads(line)["data"]["value"] for line in keep.read_text().splitlines() if '"key": "ladder:' in line]
    assert any(v is not None for v in values) and any(v is None for v in values)
