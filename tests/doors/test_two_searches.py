"""Several processes that search one study: none proposes what another one evaluates, and all of them can make it."""

import multiprocessing

import optuna
import pytest

from nas_bo import search
from nas_bo.objectives import Flops, Parameters
from nas_bo.optuna import columns, history, studies
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.strategies.random import Random as Drawn
from nas_bo.trial import State
from tests.doors.postgres import database, server  # noqa: F401
from tests.doors.search_process import search_at_once

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def at_once(storage, processes=3, trials=9):
    barrier = SPAWN.Barrier(processes)
    started = [SPAWN.Process(target=search_at_once, args=(storage, trials, barrier)) for _ in range(processes)]
    for process in started:
        process.start()
    try:
        for process in started:
            process.join(300)
        assert [process.exitcode for process in started] == [0] * processes
    finally:
        for process in started:
            process.kill()
    study = studies.load(storage)
    states = [t.state.name for t in study.trials]
    assert states.count("COMPLETE") == trials and set(states) <= {"COMPLETE", "PRUNED"}
    assert {t.number for t in study.trials if t.state.name == "PRUNED"} <= set(range(trials, len(states)))
    ids = [t.architecture.id for t in history(study, TinyGPT, columns(study)) if t.state is State.COMPLETE]
    assert len(set(ids)) == len(ids) == trials
    owners = {t.user_attrs["nas_bo:owner"] for t in study.trials}
    assert len(owners) == processes
    assert study.metric_names == ["parameters", "met"] and studies.kept(study, "study")["seed"] == 0


@pytest.mark.parametrize(("name", "processes"), [("new.db", 6), ("new.log", 3)])
def test_a_new_study_of_several_processes_has_no_point_twice(name, processes, tmp_path):
    at_once(str(tmp_path / name), processes, max(9, processes))


def test_a_new_study_on_a_new_database_server_has_no_point_twice(database):  # noqa: F811
    at_once(database)


@pytest.mark.parametrize("name", ["s.db", "s.log"])
def test_a_trial_that_begins_in_between_is_seen_and_another_point_proposed(name, tmp_path, monkeypatch):
    """What another process does between proposing and beginning, made certain: both proposed the same for number 0."""
    wanted = {"strategy": Random(seed=0), "retrain": 0}
    first = search(TinyGPT, [Flops(), Parameters()], trials=1, **wanted).trials[0].architecture
    seen = []

    def suggest(self, problem, trials, n):
        seen.append([(t.number, t.state, t.architecture.id) for t in trials])
        if len(seen) == 1:  # the other process is faster
            other = studies.load(str(tmp_path / name))
            assert studies.begin(other, problem, studies.claim(other, first), first)[0].number == 0
            return [first]
        return Drawn(seed=0).suggest(problem, trials, n)

    strategy = type("Slow", (), {"suggest": suggest, "seed": 0})()
    result = search(TinyGPT, [Flops(), Parameters()], trials=2, strategy=strategy, storage=tmp_path / name, retrain=0)
    assert seen[1] == [(0, State.RUNNING, first.id)]
    assert [t.number for t in result.trials] == [1] and result.trials[0].architecture.id != first.id


def test_the_last_trial_is_evaluated_by_one_of_two_searches(tmp_path):
    """What another process does between proposing and beginning, made certain: both want the last trial."""
    asked = {"retrain": 0, "storage": tmp_path / "s.db"}
    search(TinyGPT, [Parameters()], trials=1, strategy=Random(seed=0), **asked)

    def suggest(self, problem, trials, n):
        other = studies.load(str(tmp_path / "s.db"))
        studies.begin(other, problem, studies.claim(other, TinyGPT.sample(5)), TinyGPT.sample(5))
        return [TinyGPT.sample(6)]

    strategy = type("Slow", (), {"suggest": suggest, "seed": 0})()
    found = search(TinyGPT, [Parameters()], trials=2, strategy=strategy, **asked)
    assert [t.state.name for t in found.study.trials] == ["COMPLETE", "RUNNING", "PRUNED"]
    assert len(found.trials) == 1 and "another process began the last of 2 trials" in str(
        found.study.trials[2].user_attrs
    )


def test_a_claim_that_its_process_did_not_begin_is_taken_up_with_its_point(tmp_path):
    wanted = {"strategy": Random(seed=0), "retrain": 0, "storage": str(tmp_path / "s.db")}
    before = search(TinyGPT, [Flops(), Parameters()], trials=1, **wanted)
    trial = studies.claim(before.study, TinyGPT.sample(5))
    studies.release(trial)
    after = search(TinyGPT, [Flops(), Parameters()], trials=2, **wanted)
    assert after.trials[1].architecture.id == TinyGPT.sample(5).id and after.trials[1].number == trial.number
