"""The history of a search that grows trial by trial is that which is read at once."""

from __future__ import annotations

import platform
import random

import optuna
import pytest

from nas_bo import optuna as door
from nas_bo import process, search
from nas_bo.architecture import Architecture, Node
from nas_bo.errors import HostError
from nas_bo.hardware.measuring.scale import fastest, noted, trials_on_scale
from nas_bo.objective import Value
from nas_bo.optuna import studies
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.strategies.strategy import Growing, seen_ids
from nas_bo.study import OWNER
from nas_bo.trial import ObjectiveSpec, State, Trial, front
from nas_bo.workflows import run_history
from nas_bo.workflows.run_history import GrowingFront, RunHistory
from tests.problems import Toy, cost, loss

COLUMNS = (ObjectiveSpec("a"), ObjectiveSpec("b", direction="maximize"), ObjectiveSpec("c"))


@pytest.mark.parametrize("seed", range(20))
def test_a_front_that_grows_is_the_front_of_all(seed):
    """With many equal values, in any order, with infeasible trials in between."""
    rng = random.Random(seed)
    columns = COLUMNS[: rng.randint(1, 3)]
    trials = []
    for k in range(rng.randint(1, 60)):
        values = {c.name: float(rng.randint(0, 4)) for c in columns}
        state = rng.choice([State.COMPLETE] * 4 + [State.INFEASIBLE])
        broken = {"x": 1.0} if rng.random() < 0.1 else {}
        trials.append(Trial(Architecture(Node({"k": k}), {"k": k}), values, broken, state, number=k))
    growing = GrowingFront(columns)
    for place in rng.sample(range(len(trials)), len(trials)):
        growing.add(place, trials[place])
    assert [t.number for t in growing.members] == [t.number for t in front(trials, columns)]
    again = GrowingFront(columns)
    again.renew(trials)
    assert [t.number for t in again.members] == [t.number for t in growing.members]


def test_what_runs_is_counted_and_what_runs_for_nobody(tmp_path):
    study = optuna.create_study()
    for _ in range(4):
        study.ask()
    dead = f"{platform.node()}:999999999:1"
    for trial, owner in zip(
        study.get_trials(deepcopy=True), (process.owner(), dead, dead, "elsewhere:5:1"), strict=True
    ):
        study._storage.set_trial_user_attr(trial._trial_id, OWNER, owner)
    study.enqueue_trial({"depth": 1})
    past = RunHistory(study, Problem(Toy, [loss]))
    past.look()
    assert past.counts() == {"ended": 0, "failed": 0, "running": 2, "waiting": 1, "lost": 2}


class Measured:
    """A latency on a scale of anchors that is found to be faster now and then, and once slower."""

    name, unit, direction, cost = "latency_ms", "ms", "minimize", "measured"

    def __init__(self):
        self.calls = 0

    def __call__(self, arch):
        self.calls += 1
        known = {1: (1.0, 0.8, 0.9)[self.calls % 3 if self.calls > 4 else 0] * 2.0, 2: 3.0 if self.calls % 2 else 2.9}
        ms = 1.0 + arch.width * arch.depth
        return Value(ms, low=ms * 0.9, high=ms * 1.1, anchors=[noted("this one", known, ms)])


def test_the_history_of_a_search_is_that_of_its_study_on_one_scale():
    seen = []

    def look(progress):
        past = runs[0]
        past.look()
        whole = door.history(study[0], Toy, problem.columns)
        whole = trials_on_scale(whole, fastest(info for t in whole for info in t.info.values()))[0]
        assert past.trials == whole
        assert [t.number for t in past.front] == [t.number for t in front(whole, problem.columns)]
        assert past.finished == len([t for t in whole if t.state is not State.RUNNING]) and past.count == len(whole)
        seen.append(progress)

    problem = Problem(Toy, [loss, Measured(), cost])
    result = search(Toy, [loss, Measured(), cost], trials=12, retrain=0, strategy=Random(seed=0))
    study, runs = [result.study], [RunHistory(result.study, problem)]
    look("whole")
    fresh = RunHistory(result.study, problem)
    assert fresh.trials == [] and fresh.count == 0
    more = search(Toy, [loss, Measured(), cost], trials=2, retrain=0, strategy=Random(seed=1), storage=None)
    study[0], runs[0] = more.study, RunHistory(more.study, problem)
    look("short")
    for trial in result.study.trials[2:]:
        more.study.add_trial(trial)
        look(trial.number)
    assert len(seen) == 12


def test_what_is_late_counts_as_running():
    result = search(Toy, [loss, cost], trials=8, retrain=0, strategy=Random(seed=0))
    past = RunHistory(result.study, Problem(Toy, [loss, cost]))
    past.look()
    known = past.before(6, window=4)
    assert [t.number for t in known] == list(range(6))
    assert [t.state for t in known] == [State.COMPLETE] * 3 + [State.RUNNING] * 3
    assert [t.state for t in past.before(6)] == [State.COMPLETE] * 6


def test_ids_that_were_seen_are_those_of_the_history_whatever_was_asked_before():
    rng = random.Random(0)
    archs = [Toy.sample(k) for k in range(40)]
    whole = [Trial(arch, {}, {}, rng.choice(list(State)), number=k) for k, arch in enumerate(archs)]
    other = [Trial(arch, {}, {}, State.COMPLETE, number=k) for k, arch in enumerate(archs[::-1])]
    for history in (whole[:5], whole[:20], whole, other, whole[:3], [], whole[:30], other[:7], iter(whole)):
        history = list(history)
        assert seen_ids(iter(history)) == {t.architecture.id for t in history}
        seen_ids(history).add("another")  # the set is the asker's own


class Suggested(optuna.Trial):
    """As Optuna's own: parameters one by one."""


@pytest.mark.parametrize("space", [Toy, TinyGPT])
@pytest.mark.parametrize("storage", [None, "sqlite:///:memory:"])
def test_parameters_written_at_once_are_those_that_are_suggested(space, storage):
    found = []
    for kind in (optuna.Trial, Suggested):
        study = optuna.create_study(storage=storage)
        for seed in range(5):
            arch = space.sample(seed)
            trial = studies.claim(study, arch)
            one = kind(study, trial._trial_id)
            assert door.suggest(one, space) == arch
            assert one.params == dict(arch.flat) and list(one.distributions) == list(arch.flat)
        found.append([(t.params, t.distributions, t.constraints) for t in study.trials])
    assert found[0] == found[1]


def test_a_parameter_that_was_another_one_is_refused_as_ever():
    study = optuna.create_study()
    study.ask().suggest_categorical("width", ["narrow", "wide"])
    arch = Toy.sample(0)
    with pytest.raises(HostError, match="earlier trials of the study"):
        door.suggest(studies.claim(study, arch), Toy)


def test_ids_of_a_growing_history_are_those_of_all_of_it():
    trials = [Trial(Toy.sample(seed), {"loss": 1.0}, number=seed) for seed in range(40)]
    origin = object()
    for n in (0, 1, 3, 3, 20, 7, 40):
        assert seen_ids(Growing(trials[:n], origin)) == {t.architecture.id for t in trials[:n]}
    other = trials[20:]
    assert seen_ids(Growing(other, object())) == {t.architecture.id for t in other}
    assert seen_ids(other[:5]) == {t.architecture.id for t in other[:5]}
    assert seen_ids(Growing(trials[:7], origin)) == {t.architecture.id for t in trials[:7]}


def test_a_trial_reads_the_study_twice_however_long_it_is(monkeypatch):
    """What a search does next to an evaluation does not grow: each trial is read once, and all of them twice a trial."""
    calls = {"all": 0, "read": 0}
    whole, one = optuna.storages.InMemoryStorage.get_all_trials, run_history.from_frozen

    def counted_all(self, *args, **more):
        calls["all"] += 1
        return whole(self, *args, **more)

    def counted_one(*args):
        calls["read"] += 1
        return one(*args)

    monkeypatch.setattr(optuna.storages.InMemoryStorage, "get_all_trials", counted_all)
    monkeypatch.setattr(run_history, "from_frozen", counted_one)
    search(Toy, [loss, cost], strategy=Random(), trials=10, retrain=0)
    ten = dict(calls)
    search(Toy, [loss, cost], strategy=Random(), trials=30, retrain=0)
    assert calls["all"] - 2 * ten["all"] <= 20 * 2, "two reads of the study for each of the 20 further trials"
    assert calls["read"] - 2 * ten["read"] <= 20 * 2, "each when it ends, and once while it runs"
