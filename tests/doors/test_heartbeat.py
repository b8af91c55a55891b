"""Signs of life of processes, in storages that have none of their own: trials of dead processes of other machines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import optuna
import pytest

from nas_bo import search
from nas_bo.execution import InProcess
from nas_bo.optuna import heartbeat, studies
from nas_bo.problem import Problem
from nas_bo.process import Place
from nas_bo.strategies import Random
from nas_bo.study import ALIVE, OWNER, PLACE, SINCE
from nas_bo.trial import State
from tests.problems import Few, Toy, cost

FAR = "another-machine:4711:99"


def written(study, trial: optuna.Trial, ago_s: float | None, since_s: float = 5000.0) -> None:
    """As a process of another machine leaves a trial: it began, and gave its last sign, so many seconds ago."""
    trial.set_user_attr(OWNER, FAR)
    now = datetime.now(UTC)
    trial.set_user_attr(SINCE, (now - timedelta(seconds=since_s)).isoformat(timespec="seconds"))
    if ago_s is not None:
        trial.set_user_attr(ALIVE, (now - timedelta(seconds=ago_s)).isoformat(timespec="seconds"))


@pytest.mark.parametrize("kind", ["s.db", "s.log"])
@pytest.mark.parametrize(("ago_s", "again"), [(4000.0, True), (60.0, False), (None, False)])
def test_trials_of_a_silent_process_of_another_machine_are_evaluated_again(tmp_path, kind, ago_s, again, monkeypatch):
    waited = []
    monkeypatch.setattr(heartbeat, "pause", waited.append)
    asked = {"strategy": Random(seed=0), "retrain": 0, "storage": str(tmp_path / kind)}
    study = search(Toy, [cost], trials=1, **asked).study
    trial = studies.ask(study, Problem(Toy, [cost]), Toy.sample(5))[0]
    written(study, trial, ago_s)
    found = search(Toy, [cost], trials=3, **asked)
    assert [t.number for t in found.trials if t.state is State.COMPLETE] == ([0, 1, 2] if again else [0, 2])
    assert sum(waited) == (heartbeat.WATCH_S if again else 0)
    if again:
        assert studies.deaths(study.trials[1]) == 1 and study.trials[1].user_attrs[OWNER] != FAR


def test_a_process_whose_clock_is_behind_keeps_its_trials_when_it_gives_a_sign(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "_behind", {})
    asked = {"strategy": Random(seed=0), "retrain": 0, "storage": str(tmp_path / "s.db")}
    study = search(Toy, [cost], trials=1, **asked).study
    trial = studies.ask(study, Problem(Toy, [cost]), Toy.sample(5))[0]
    written(study, trial, 4000.0)
    behind_s = [3970.0]  # its next sign, by its own clock
    monkeypatch.setattr(heartbeat, "pause", lambda _: written(study, trial, behind_s[0]))
    found = search(Toy, [cost], trials=3, **asked)
    assert [t.number for t in found.trials if t.state is State.COMPLETE] == [0, 2]
    assert "another-machine" in caplog.text and "behind" in caplog.text
    monkeypatch.setattr(heartbeat, "pause", lambda _: pytest.fail("its clock is known now"))
    search(Toy, [cost], trials=4, **asked)
    running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    assert heartbeat.silent(running, datetime.now(UTC) + timedelta(seconds=700)) == {FAR}, "it has died since"


@dataclass(frozen=True)
class Waits:
    """Comes to its end when its trial has a sign of life."""

    storage: str
    name: str = "loss"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "trained"

    def __call__(self, arch):
        from nas_bo.optuna.studies import load

        study = load(self.storage, "Few")
        while not any(ALIVE in t.user_attrs for t in study.get_trials(states=(optuna.trial.TrialState.RUNNING,))):
            pass
        return 1.0


def test_a_process_gives_signs_with_what_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)
    storage = str(tmp_path / "s.db")
    found = search(Few, [Waits(storage)], trials=1, retrain=0, storage=storage, strategy=Random(seed=0))
    assert found.trials[0].state is State.COMPLETE


class Elsewhere(InProcess):
    """On two nodes of a cluster, one after the other."""

    def __init__(self, folder):
        super().__init__()
        self.storage = folder

    def places(self):
        seen = [t.user_attrs.get(PLACE) for t in studies.load(self.storage, "Few").trials]
        return {0: Place("first" if seen == [None] else "second", "host", "10.0.0.1", 7)}


@dataclass(frozen=True)
class Moves(Waits):
    """Comes to its end when its trial has been on the second node."""

    def __call__(self, arch):
        while not any(
            (t.user_attrs.get(PLACE) or [""])[0] == "second" for t in studies.load(self.storage, "Few").trials
        ):
            pass
        return 1.0


def test_where_it_runs_is_noted_with_the_sign_and_again_where_that_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)
    storage = str(tmp_path / "s.db")
    found = search(
        Few, [Moves(storage)], trials=1, retrain=0, storage=storage, strategy=Random(seed=0), executor=Elsewhere(storage)
    )  # fmt: skip
    (trial,) = found.study.trials
    assert trial.state.name == "COMPLETE" and trial.user_attrs[PLACE] == ["second", "host", "10.0.0.1", 7]


def test_a_process_that_took_a_trial_over_is_not_silent_for_what_the_one_before_noted():
    trial = optuna.trial.create_trial(value=1.0)
    now = datetime.now(UTC)
    for key, value in {OWNER: "me", ALIVE: now - timedelta(seconds=9000), SINCE: now - timedelta(seconds=5)}.items():
        trial.set_user_attr(key, value if isinstance(value, str) else value.isoformat())
    assert heartbeat.silent([trial]) == frozenset()
    assert heartbeat.silent([trial], now + timedelta(seconds=9000)) == {"me"}
