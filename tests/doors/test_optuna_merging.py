"""Studies of several teams as one, and a study of somebody else that gets an architecture later."""

import contextlib
import multiprocessing
import os
import signal
import sqlite3
import time

import optuna
import pytest
from typer.testing import CliRunner

from nas_bo import AskTell, search
from nas_bo.cli.app import app
from nas_bo.errors import HostError
from nas_bo.objectives import Flops, Parameters
from nas_bo.optuna import Sampler, columns, history, merge, origin, studies, suggest
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import require
from nas_bo.strategies import NSGA2, Random
from tests.doors.merging_process import merge_into


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


class Other(TinyGPT):
    @require
    def slim(arch):
        return arch.width < 96


def told(path, seed, trials=5, objectives=None, space=TinyGPT, limits=()):
    objectives = objectives or ["loss", Parameters()]
    opt = AskTell(
        space, objectives, limits=limits, strategy=Random(seed=seed), storage=str(path), study_name=f"t{seed}"
    )
    for i in range(trials):
        asked = opt.ask()
        if i == 2:
            opt.tell(asked.number, failed="out of memory")
        else:
            opt.tell(asked.number, {"loss": 1.0 + seed + i / 10})
    return opt


def listed(study):
    return [(t.params, t.values, t.state, t.datetime_start, t.constraints) for t in study.get_trials(deepcopy=False)]


def test_everything_of_both_is_there_once_with_where_it_is_from(tmp_path):
    one, two = told(tmp_path / "a.db", 1), told(tmp_path / "b.log", 2)
    open_ = two.ask()
    made = merge([one.study, two.study], str(tmp_path / "both.db"), "both")
    assert (made.added, made.known, made.left) == (10, 0, 1)
    assert listed(made.study) == listed(one.study) + listed(two.study)[:5]
    where = [(origin(t)["study"], origin(t)["number"]) for t in made.study.trials]
    assert where == [("t1", i) for i in range(5)] + [("t2", i) for i in range(5)]
    assert all(origin(t) is None for t in one.study.trials)
    failed = [t for t in history(made.study, TinyGPT, columns(made.study)) if t.state.value == "failed"]
    assert [t.reason for t in failed] == ["out of memory"] * 2

    two.tell(open_.number, {"loss": 0.5})  # it goes on, and so does the merging
    again = merge([one.study, two.study], str(tmp_path / "both.db"), "both")
    assert (again.added, again.known, again.left) == (1, 10, 0) and len(again.study.trials) == 11
    back = merge([again.study], str(tmp_path / "a.db"), "t1")  # one's own come back as what they are
    assert (back.added, back.known) == (6, 5)
    assert {origin(t)["study"] for t in back.study.trials[5:]} == {"t2"}


def test_a_search_goes_on_with_what_both_teams_know(tmp_path):
    wanted = [Flops(), Parameters(at_most=150_000)]
    found = [
        search(
            TinyGPT,
            wanted,
            strategy=NSGA2(seed=s, population=4),
            trials=4,
            storage=str(tmp_path / f"{s}.db"),
            retrain=0,
        )
        for s in (0, 1)
    ]
    both = str(tmp_path / "both.db")
    merge([r.study for r in found], both, "both")
    result = search(TinyGPT, wanted, strategy=NSGA2(seed=2), trials=11, storage=both, study_name="both", retrain=0)
    ids = [t.architecture.id for t in result.trials]
    assert len(ids) == 11 and not {*ids[8:]} & {*ids[:8]}
    assert ids[:8] == [t.architecture.id for r in found for t in r.trials]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"space": Other}, "belongs to the space"),
        (
            {"objectives": ["loss", Parameters(at_most=1e5)]},
            "begun with the objectives loss, parameters, the study 't2'",
        ),
        ({"objectives": [Parameters(), "loss"]}, "begun with the objectives"),
        ({"limits": [Flops(at_most=1e3)]}, "rules and limits"),
        ({"objectives": ["loss", Parameters(vocab_size=99)]}, "values measured under different conditions"),
    ],
)
def test_what_does_not_compare_is_refused(tmp_path, other, message):
    one, two = told(tmp_path / "a.db", 1, trials=1), told(tmp_path / "b.db", 2, trials=1, **other)
    with pytest.raises(HostError, match=message):
        merge([one.study, two.study], str(tmp_path / "both.db"))
    assert not (tmp_path / "both.db").exists()
    with pytest.raises(HostError, match=message):  # nor into one that is there
        merge([two.study], str(tmp_path / "a.db"), "t1")
    assert len(one.study.trials) == 1


def test_a_study_of_somebody_else_is_refused():
    with pytest.raises(HostError, match="not made by nas_bo"):
        merge([optuna.create_study()])


def test_a_killed_merge_is_finished_by_the_next(tmp_path):
    sources, both = [str(tmp_path / f"{s}.db") for s in (1, 2)], str(tmp_path / "both.db")
    for seed, source in enumerate(sources, 1):
        study = told(source, seed, trials=3).study
        for _ in range(27):  # many, quickly
            study.add_trial(study.get_trials()[0])
    optuna.create_study(storage=f"sqlite:///{both}", study_name="another")  # so that the tables are there
    process = multiprocessing.get_context("spawn").Process(target=merge_into, args=(sources, both))
    process.start()
    try:
        until = time.monotonic() + 600
        with contextlib.closing(sqlite3.connect(both, timeout=600)) as database:
            while database.execute("select count(*) from trials").fetchone()[0] < 10:
                assert process.is_alive() and time.monotonic() < until
                time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.join()
    there = len(studies.load(both, "both").trials)
    assert 10 <= there < 60  # it was killed in the middle
    merge_into(sources, both)
    after = [(t.params, t.values) for t in studies.load(both, "both").trials]
    assert (
        after == [(t.params, t.values) for source in sources for t in studies.load(source).trials] and len(after) == 60
    )
    merge_into(sources, both)
    assert len(studies.load(both, "both").trials) == 60


def test_command(tmp_path):
    told(tmp_path / "a.db", 1)
    told(tmp_path / "a.db", 2)
    told(tmp_path / "b.db", 3, objectives=[Parameters(), "loss"])
    a, both = str(tmp_path / "a.db"), str(tmp_path / "both.db")
    done = CliRunner().invoke(app, ["merge", f"{a}::t1", f"{a}::t2", "--into", both, "--study", "both"])
    assert done.exit_code == 0 and "'both'" in done.output and "10 trials added, 0 known" in done.output
    refused = CliRunner().invoke(app, ["merge", f"{a}::t1", str(tmp_path / "b.db"), "--into", both])
    assert refused.exit_code == 2 and "begun with the objectives" in refused.output
    unclear = CliRunner().invoke(app, ["merge", a, "--into", both])
    assert unclear.exit_code == 2 and "holds 2 studies" in unclear.output


def plain(trial):
    lr, layers = trial.suggest_float("lr", 1e-4, 1e-2, log=True), trial.suggest_int("n_layers", 1, 4)
    return lr + layers, float(layers)


def with_architecture(trial):
    arch = suggest(trial, TinyGPT)
    lr = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    return Flops()(arch) + lr, Parameters()(arch)


@pytest.mark.parametrize("sampler", [None, Sampler(TinyGPT, NSGA2(seed=0, population=4))], ids=["optuna", "ours"])
def test_a_plain_study_gets_an_architecture_later(sampler, tmp_path, caplog):
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/s.db", directions=["minimize"] * 2)
    study.optimize(plain, n_trials=4)
    study.sampler = sampler or optuna.samplers.TPESampler(seed=0, n_startup_trials=2)
    study.optimize(with_architecture, n_trials=7)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 11
    ours = history(study, TinyGPT, columns(study))
    assert [t.number for t in ours] == list(range(4, 11)) and len({t.architecture.id for t in ours}) == 7
    assert "could not" not in caplog.text and "no proposal" not in caplog.text


@pytest.mark.parametrize("storage", [None, "s.db"])
def test_a_parameter_of_the_same_name_is_said_to_be_in_the_way(storage, tmp_path):
    url = storage and f"sqlite:///{tmp_path}/{storage}"
    study = optuna.create_study(study_name="mine", storage=url, directions=["minimize"] * 2)
    study.optimize(lambda t: (t.suggest_categorical("width", [32, 7]), 1.0), n_trials=1)
    study.sampler = Sampler(TinyGPT, NSGA2(seed=0))
    with pytest.raises(HostError, match="'mine' have a parameter 'width' with other values.*Rename that field"):
        study.optimize(with_architecture, n_trials=1)
