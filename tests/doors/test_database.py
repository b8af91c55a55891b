"""Our statements on Optuna's tables: the same contents, few statements, and none that takes longer as the study grows."""

from __future__ import annotations

import random
import shutil
from datetime import timedelta

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState

from nas_bo import search
from nas_bo.optuna import patient, storages, studies
from nas_bo.optuna.changes import Changes
from nas_bo.problem import Problem
from nas_bo.strategies import Random
from tests.doors import postgres
from tests.doors.postgres import database, server  # noqa: F401
from tests.problems import Toy, cost, loss

WIDTH = IntDistribution(1, 8)


def of_file(path):
    return patient.storage(storages.backend(str(path)), "study.db", 1)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A file with Optuna's tables, which tests copy."""
    path = tmp_path_factory.mktemp("tables") / "study.db"
    of_file(path).remove_session()
    return path


class TestConformance(StorageTestCase):
    """Optuna's own suite for storages."""

    @pytest.fixture
    def storage(self, tables, tmp_path):
        shutil.copy(tables, tmp_path / "study.db")
        return of_file(tmp_path / "study.db")


def of_server(url):
    return patient.storage(storages.backend(url), "postgresql", 1)


@pytest.fixture(scope="module")
def template(server):  # noqa: F811
    """The name of a database with Optuna's tables, which the server copies."""
    made = of_server(postgres.made(server, "tables"))
    made.remove_session()
    made.inner._backend.engine.dispose()
    return "tables"


class TestConformanceOnPostgreSQL(StorageTestCase):
    @pytest.fixture
    def storage(self, server, template):  # noqa: F811
        yield (made := of_server(postgres.made(server, f"s{random.randrange(10**9)}", template)))
        made.remove_session()
        made.inner._backend.engine.dispose()


def filled(storage):
    """A study with a trial of every kind, by whatever storage."""
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE] * 2, "s")
    dists = {
        "width": WIDTH,
        "kind": CategoricalDistribution(("a", None, 2.5)),
        "lr": FloatDistribution(1e-3, 1, log=True),
    }
    for values, state in (
        ([1.0, float("inf")], TrialState.COMPLETE),
        (None, TrialState.FAIL),
        (None, TrialState.RUNNING),
    ):
        trial = storage.create_new_trial(study)
        for name, value in (("width", 3), ("kind", None), ("lr", 0.123456789012345)):
            storage.set_trial_param(trial, name, dists[name].to_internal_repr(value), dists[name])
        for key in ("b", "a"):
            storage.set_trial_user_attr(trial, key, {"of": [1, "é", None]})
            storage.set_trial_system_attr(trial, key, 1.5)
        storage.set_trial_user_attr(trial, "b", "again")
        for step, value in ((2, float("nan")), (1, float("-inf")), (3, 0.25)):
            storage.set_trial_intermediate_value(trial, step, value)
        if state is not TrialState.RUNNING:
            storage.set_trial_state_values(trial, state, values)
    template = optuna.trial.create_trial(
        values=[0.5, -1.0], params={"width": 2}, distributions={"width": WIDTH}, user_attrs={"u": 1}, system_attrs={"s": None},
        intermediate_values={1: 2.0},
    )  # fmt: skip
    storage.create_new_trial(study, template)
    storage.create_new_trial(
        study, optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"width": 1}})
    )
    return study


def plain(trials):
    """Trials as they compare: NaN equal to itself, attributes in no order, without the times, which are of the moment."""
    found = []
    for t in trials:
        attributes = sorted(t.user_attrs.items()), sorted(t.system_attrs.items()), sorted(t.intermediate_values.items())
        found.append(repr((t.number, t.state, t.values, t.params, t.distributions, *attributes)))
    return found


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_it_writes_and_reads_what_optunas_own_storage_does(tmp_path, request, kind):
    url = f"sqlite:///{tmp_path}/ours.db" if kind == "sqlite" else request.getfixturevalue("database")
    ours = patient.storage(storages.backend(url), "x", 1)
    own = RDBStorage(f"sqlite:///{tmp_path}/own.db")
    study, other = filled(ours), filled(own)
    read_by_optuna = RDBStorage(storages.backend(url).url)
    wanted = own.get_all_trials(other)
    for found in (
        ours.get_all_trials(study),
        read_by_optuna.get_all_trials(study),
        [ours.get_trial(t._trial_id) for t in wanted],
    ):
        assert plain(found) == plain(wanted)
        for t, w in zip(found, wanted, strict=True):
            for mine, theirs in ((t.datetime_start, w.datetime_start), (t.datetime_complete, w.datetime_complete)):
                assert (mine is None) == (theirs is None)
                assert mine is None or abs(mine - theirs) < timedelta(minutes=2)
    # and ours reads what Optuna wrote
    assert plain(of_file(tmp_path / "own.db").get_all_trials(other)) == plain(wanted)


def test_running_and_waiting_trials_are_given_without_the_others(tmp_path):
    storage = of_file(tmp_path / "study.db")
    study = filled(storage)
    for states in (
        (TrialState.RUNNING,),
        (TrialState.WAITING,),
        (TrialState.RUNNING, TrialState.WAITING),
        (TrialState.FAIL,),
    ):
        found = storage.get_all_trials(study, deepcopy=False, states=states)
        assert [t.number for t in found] == [t.number for t in storage.get_all_trials(study) if t.state in states]


def test_several_changes_are_there_together_or_not_at_all(tmp_path):
    storage = of_file(tmp_path / "study.db")
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    first, second = storage.create_new_trial(study), storage.create_new_trial(study)
    storage.write_changes(
        first,
        Changes(params={"width": (3.0, WIDTH)}, user_attrs={"a": 1}, system_attrs={"b": 2}, intermediate={1: 0.5}),
    )
    read = storage.get_trial(first)
    assert (read.params, read.user_attrs, read.system_attrs, read.intermediate_values) == (
        {"width": 3},
        {"a": 1},
        {"b": 2},
        {1: 0.5},
    )
    other = FloatDistribution(0, 1)
    for refused in ({"width": (0.5, other)}, {"depth": (1.0, WIDTH), "width": (0.5, other)}):
        with pytest.raises(ValueError, match="different distribution kind"):
            storage.write_changes(second, Changes(params=refused, user_attrs={"a": 1}))
        assert storage.get_trial(second).params == storage.get_trial(second).user_attrs == {}
    storage.set_trial_state_values(first, TrialState.COMPLETE, [1.0])
    with pytest.raises(UpdateFinishedTrialError):
        storage.write_changes(first, Changes(user_attrs={"late": 1}))
    with pytest.raises(KeyError):
        storage.write_changes(10**6, Changes(user_attrs={"a": 1}))


def test_what_is_refused_leaves_what_is_written_with_it(tmp_path):
    """A parameter that is another one than in earlier trials is reported, and the rest of the write stands."""
    storage = of_file(tmp_path / "study.db")
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    storage.write_changes(storage.create_new_trial(study), Changes(params={"width": (3.0, WIDTH)}))

    def work():
        trial = storage.create_new_trial(study)
        with pytest.raises(ValueError):
            storage.set_trial_param(trial, "width", 0.5, FloatDistribution(0, 1))
        storage.set_trial_state_values(trial, TrialState.FAIL)
        return trial

    assert storage.get_trial(storage.run_together(work)).state is TrialState.FAIL


def test_a_write_that_fails_as_a_whole_leaves_no_trial_in_memory(tmp_path):
    storage = of_file(tmp_path / "study.db")
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    storage.create_new_trial(study)

    def work():
        storage.create_new_trial(study)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        storage.run_together(work)
    assert [t.number for t in storage.get_all_trials(study, deepcopy=False)] == [0]
    storage.create_new_trial(study)
    assert [t.number for t in storage.get_all_trials(study, deepcopy=False)] == [0, 1]


def test_a_claim_that_worked_without_saying_so_is_there_once(tmp_path):
    """The connection fails after the commit: the trial is found by its token, begun and not made again."""
    study = studies.open_study(str(tmp_path / "study.db"), "s", PROBLEM.columns, STATED, None, Toy)
    inner, failures = study._storage.inner, [1]
    ended = inner._database.scoped_session.session_factory.class_.end

    def lost(session):
        ended(session)
        if failures and not session.broken:
            failures.pop()
            raise OSError("the connection is gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inner._database.scoped_session.session_factory.class_, "end", lost)
        trial, pair = studies.claim_as(study, PROBLEM, Toy.sample(3), 0)
    assert not failures and trial.number == 0 and pair is not None and pair[1] == Toy.sample(3)
    assert [(t.number, t.state.name, len(t.params) > 0) for t in study.trials] == [(0, "RUNNING", True)]


PROBLEM = Problem(Toy, [loss, cost])
STATED = {
    "fingerprint": Toy.fingerprint(),
    "space": {"title": "Toy"},
    "columns": [],
    "constraints": [],
    "conditions": {},
}


class Counted:
    """How much a database does: statements, commits, and the steps of SQLite's machine (in hundreds)."""

    def __init__(self):
        self.statements = self.commits = self.steps = 0

    def step(self):
        self.steps += 1
        return 0

    def taken(self):
        found = self.statements, self.commits, self.steps
        self.statements = self.commits = self.steps = 0
        return found


def test_a_trial_costs_the_same_after_many(tmp_path):
    path = str(tmp_path / "study.db")
    study = search(Toy, [loss, cost], strategy=Random(seed=0), trials=4, storage=path, retrain=0).study
    made = search(Toy, [loss, cost], strategy=Random(seed=1), trials=500, retrain=0).study.trials
    engine = study._storage.inner._database.engine
    counts = Counted()
    seen = []

    def connected(connection, *_):
        connection.set_progress_handler(counts.step, 10)

    def executed(*_):
        counts.statements += 1

    def committed(*_):
        counts.commits += 1

    def progress(told):
        if told.phase == "search" and told.trial is not None:
            seen.append(counts.taken())
        elif told.phase == "search":
            counts.taken()

    listeners = (("connect", connected), ("before_cursor_execute", executed), ("commit", committed))
    for event, listen in listeners:
        sqlalchemy.event.listen(sqlalchemy.engine.Engine, event, listen)
    try:
        engine.dispose()
        search(Toy, [loss, cost], strategy=Random(seed=0), trials=10, storage=path, retrain=0, on_progress=progress)
        early, seen[:] = seen[1:], []
        with study._storage.inner.together():
            for trial in made[10:]:
                study.add_trial(trial)
        search(Toy, [loss, cost], strategy=Random(seed=2), trials=506, storage=path, retrain=0, on_progress=progress)
    finally:
        for event, listen in listeners:
            sqlalchemy.event.remove(sqlalchemy.engine.Engine, event, listen)
    late = seen[1:]
    assert len(late) == len(early) == 5
    for before, after in zip(map(sorted, zip(*early, strict=True)), map(sorted, zip(*late, strict=True)), strict=True):
        assert after[2] <= 1.3 * before[2] + 1, (early, late)
    statements, commits, _ = sorted(early)[2]
    assert statements <= 30 and commits <= 8, early  # of which two are writes
