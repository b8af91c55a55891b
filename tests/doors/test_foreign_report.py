"""A report of any study of Optuna: plain, steered by us, of one or several objectives, with or without names and constraints."""

import json
import math

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from typer.testing import CliRunner

from nas_bo import search
from nas_bo.cli.app import app
from nas_bo.errors import HostError
from nas_bo.objectives import Flops, Parameters
from nas_bo.optuna import Sampler, suggest
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.trial import State
from nas_bo.workflows.search import load_result
from tests.problems import Toy


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def conditional(trial):
    kind = trial.suggest_categorical("model", ["tree", "net"])
    if trial.number == 4:
        raise RuntimeError("no memory")
    if trial.number == 5:
        raise optuna.TrialPruned
    if trial.number == 6:
        return math.nan, 1.0
    trial.set_constraint("memory", 1.0 if trial.number == 7 else -1.0)
    if kind == "tree":
        return trial.suggest_int("tree.depth", 1, 9), 2.0
    lr = trial.suggest_float("net.lr", 1e-4, 1e-1, log=True)
    return lr, 1.0 + trial.suggest_int("net.layers", 1, 4)


def made(kind, url):
    def new(**more):
        return optuna.create_study(study_name="gpt", storage=url, sampler=optuna.samplers.RandomSampler(seed=1), **more)

    if kind == "conditional":
        study = new(directions=["minimize", "maximize"])
        study.set_metric_names(["error", "speed"])
        study.optimize(conditional, n_trials=12, catch=RuntimeError)
    elif kind == "single":
        study = new(direction="maximize")
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=5)
    elif kind == "three":
        study = new(directions=["minimize"] * 3)
        study.optimize(lambda t: [t.suggest_float(n, 0, 1) for n in "abc"], n_trials=8)
    elif kind == "one":
        study = new()
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=1)
    elif kind == "none finished":
        study = new(directions=["minimize"] * 2)
        study.ask()
        study.enqueue_trial({"x": 1})
    elif kind == "empty":
        study = new()
    elif kind == "all failed":
        study = new()
        study.optimize(lambda t: t.suggest_float("x", 0, 1) / 0, n_trials=2, catch=ZeroDivisionError)
    elif kind == "no parameters":
        study = new()
        study.optimize(lambda t: float(t.number), n_trials=3)
    elif kind == "twice the same name":
        study = new(directions=["minimize"] * 2)
        study.set_metric_names(["loss", "loss"])
        study.optimize(lambda t: [t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1)], n_trials=4)
    elif kind == "infinite":
        study = new()
        study.add_trials([create_trial(value=v, params={}, distributions={}) for v in (math.inf, 1.0, -math.inf)])
    elif kind == "suggest":
        study = new(directions=["minimize"] * 2)
        study.sampler = Sampler(TinyGPT, Random(seed=0))
        study.optimize(with_ours, n_trials=6)
    elif kind == "texts":
        study = new()
        study.optimize(lambda t: len(t.suggest_categorical("prompt", ["a\nb <b>&</b>" * 30, "", "|"])), n_trials=4)
    elif kind == "old constraints":
        study = new()
        for k in range(3):
            study.add_trial(create_trial(value=float(k), system_attrs={"constraints": [1.0 - k, -1.0]}))
    return study


def with_ours(trial):
    arch = suggest(trial, TinyGPT)
    return Flops()(arch) + trial.suggest_float("lr", 0, 1), Parameters()(arch)


KINDS = {
    "conditional": 11, "single": 5, "three": 8, "one": 1, "none finished": 0, "empty": 0, "all failed": 2, "no parameters": 3,
    "twice the same name": 4, "infinite": 3, "suggest": 6, "texts": 4, "old constraints": 3,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_table_picture_and_page_of_a_study_that_nas_bo_did_not_make(kind, tmp_path):
    study = made(kind, f"sqlite:///{tmp_path}/my.db")
    before = (tmp_path / "my.db").read_bytes()
    done = CliRunner().invoke(
        app, ["report", str(tmp_path / "my.db"), "--study", "gpt", "--out", str(tmp_path / "out")]
    )
    good = load_result(study)
    assert done.exit_code == (0 if good.front else 1 if kind == "all failed" else 3), done.output
    for name in ("front.png", "front.html", "front.md", "trials.csv", "result.json"):
        assert (tmp_path / "out" / "gpt" / name).stat().st_size > 0
    assert len(good.trials) == KINDS[kind] + (kind == "conditional")
    assert (tmp_path / "my.db").read_bytes() == before
    told = json.loads((tmp_path / "out" / "gpt" / "result.json").read_text())
    assert [len(row["values"]) for row in told["front"]] == [len(study.directions)] * len(told["front"])


def test_what_became_of_the_trials_is_read_as_it_is(tmp_path):
    result = load_result(made("conditional", None))
    states = {t.number: t.state for t in result.trials}
    assert [states[n] for n in (4, 5, 6)] == [State.FAILED, State.STOPPED, State.FAILED]
    assert [c.name for c in result.columns] == ["error", "speed"]
    assert [c.direction for c in result.columns] == ["minimize", "maximize"]
    seventh = next(t for t in result.trials if t.number == 7)
    assert seventh.violations == {"memory": 1.0} and not seventh.feasible
    best = {t.number for t in result.study.best_trials}
    assert {t.number for t in result.front} == best
    assert [t.state for t in load_result(made("infinite", None)).trials] == [State.FAILED, State.COMPLETE, State.FAILED]
    old = load_result(made("old constraints", None))
    assert [t.feasible for t in old.trials] == [False, True, True]
    assert [c.name for c in load_result(made("single", None)).columns] == ["value"]
    assert [c.name for c in load_result(made("twice the same name", None)).columns] == ["loss", "loss (1)"]


def test_labels_show_the_fields_that_differ():
    study = optuna.create_study()
    for lr, depth in ((0.001, 2), (0.01, 2), (0.01, 4)):
        study.enqueue_trial({"seed": 7, "lr": lr, "depth": depth})
    study.optimize(
        lambda t: t.suggest_int("seed", 7, 9) + t.suggest_float("lr", 0, 1) + t.suggest_int("depth", 1, 8), n_trials=3
    )
    result = load_result(study)
    shown = [result.label(t) for t in result.trials]
    assert len(set(shown)) == 3 and all("seed" not in label and "lr=" in label for label in shown)
    texts = load_result(made("texts", None))
    assert all("\n" not in texts.label(t) for t in texts.trials)
    for other in (result, texts):
        assert all(t.architecture.id[:8] not in other.label(t) for t in other.trials)


def test_a_space_gives_its_labels_and_drawings(tmp_path):
    study = made("suggest", f"sqlite:///{tmp_path}/my.db")
    result = load_result(str(tmp_path / "my.db"), TinyGPT, study_name="gpt")
    assert len(result.trials) == 6 and all(result.label(t).startswith("d") for t in result.trials)
    study.optimize(lambda t: [t.suggest_float("x", 0, 1), 1.0], n_trials=2)
    both = load_result(study, TinyGPT)
    assert len(both.trials) == 6 and "2 of 8 trials are not architectures of TinyGPT" in str(both)
    words = ["report", str(tmp_path / "my.db"), "--study", "gpt", "--out", str(tmp_path), "--space"]
    assert CliRunner().invoke(app, [*words, "tiny_gpt"]).exit_code == 0
    other = CliRunner().invoke(app, [*words, "tests.problems:Toy"])
    assert other.exit_code == 2 and "none of the 8 trials" in other.stderr and "'gpt'" in other.stderr


def test_a_study_of_ours_says_its_space_itself(tmp_path):
    search(Toy, [depth], strategy=Random(seed=0), trials=2, storage=tmp_path / "s.db", retrain=0)
    assert len(load_result(tmp_path / "s.db").trials) == 2
    with pytest.raises(HostError, match="is of the space 'Toy'"):
        load_result(tmp_path / "s.db", TinyGPT)


def depth(arch):
    return float(arch.depth)


def test_thousands_of_trials(tmp_path):
    study = optuna.create_study(directions=["minimize"] * 2)
    space = {"x": optuna.distributions.FloatDistribution(0, 1), "k": optuna.distributions.IntDistribution(0, 9)}
    study.add_trials(
        create_trial(
            values=[(i * 7919 % 3001) / 3001, (i * 104729 % 2999) / 2999],
            params={"x": i / 3000, "k": i % 10},
            distributions=space,
            state=TrialState.COMPLETE,
        )
        for i in range(3000)
    )
    result = load_result(study)
    result.save(tmp_path)
    assert len(result.trials) == 3000 and result.front
