"""One record of a study: what a trial that was evaluated twice is, for everybody who reads it; and what a record holds."""

from __future__ import annotations

import warnings
from datetime import datetime

import optuna
import pytest

from nas_bo import AskTell
from nas_bo import optuna as door
from nas_bo.errors import HostError
from nas_bo.mlflow import content, records
from nas_bo.optuna import reading, studies, writing
from nas_bo.optuna.inferred.study_space import Evidence
from nas_bo.problem import Problem
from nas_bo.study import (
    BASELINES,
    RETRAINED,
    StudyRecord,
    TrialRecord,
    baseline,
    evaluation,
    retrained,
    source,
    stored,
    understood,
    write_attributes,
)
from nas_bo.trial import ObjectiveSpec, State, Trial
from nas_bo.workflows.search import load_result
from tests.problems import Toy, cost, loss

LIMIT = "m<=10"


def evaluated_twice(first: float, then: float, state: State = State.COMPLETE, keep_host: bool = True) -> AskTell:
    """A search whose only trial broke the limit by `first`, lost its process, and was evaluated again, then by `then`."""
    opt = AskTell(Toy, ["m"])
    asked = opt.ask()
    frozen = opt.study.trials[0]
    trial = optuna.Trial(opt.study, frozen._trial_id)
    before = Trial(asked.architecture, {"m": 10 + first}, {LIMIT: first}, State.INFEASIBLE, "first")
    door.record(trial, before)
    stale = dict(trial.storage.get_trial_system_attrs(trial._trial_id))
    after = Trial(
        asked.architecture, {"m": 10 + then}, {LIMIT: then}, state, "" if state is State.COMPLETE else "second"
    )
    door.record(trial, after)
    if keep_host:  # as hosts had it before constraints were replaced
        trial.storage.set_trial_system_attr(trial._trial_id, f"constraints:{LIMIT}", stale[f"constraints:{LIMIT}"])
    if state is State.COMPLETE:
        writing.tell(opt.study, trial, "complete", "", [10 + then])
    else:
        writing.tell(opt.study, trial, "pruned", "second")
    return opt


def read_by_everybody(opt: AskTell) -> dict[str, tuple[State, float]]:
    """Consumer -> state and violation of the only trial."""
    study, cols = opt.study, opt.problem.columns
    (frozen,) = study.trials
    foreign = optuna.create_study(directions=["minimize"])  # the same trial, where nas_bo knows nothing of the study
    foreign.add_trial(frozen)
    head = reading.head(study)
    run = content.of_trial(head, source(study).trial(frozen))
    merged = door.merge([study], None, "both").study
    found = {
        "resume": door.history(study, Toy, cols)[0],
        "ask and tell": opt._read(frozen),
        "report": load_result(study).trials[0],
        "report of a foreign study": load_result(foreign).trials[0],
        "summary for MLflow": records.summary(head, source(study).ended(), "").trials[0],
        "merged": door.history(merged, Toy, cols)[0],
        "sampler of a space": Evidence(Toy).view(study.trials).trial(frozen, cols, {}),
        "sampler without a space": Evidence(None).view([*study.trials, *study.trials]).trial(frozen, cols, {}),
    }
    seen = {who: (t.state, t.violations.get(LIMIT, 0.0)) for who, t in found.items() if t is not None}
    states = {
        "complete": State.COMPLETE,
        "infeasible": State.COMPLETE,
        "stopped": State.STOPPED,
        "pruned": State.INFEASIBLE,
    }
    broken = {name: value for name, value, _ in run.metrics if name == "constraint/m at most 10"}
    violation = broken.get("constraint/m at most 10", 0.0)
    seen["run in MLflow"] = states[run.tags["nas.state"]], violation
    return seen


@pytest.mark.parametrize(("first", "then"), [(2.0, 0.0), (0.0, 3.0), (1.0, 2.0)])
def test_the_last_evaluation_of_a_trial_counts_for_every_reader(first, then):
    seen = read_by_everybody(evaluated_twice(first, then))
    assert len(seen) >= 8 and set(seen.values()) == {(State.COMPLETE, then)}, seen


def test_a_trial_that_was_stopped_the_second_time_was_stopped_for_every_reader():
    seen = read_by_everybody(evaluated_twice(2.0, 0.0, State.STOPPED))
    assert set(seen.values()) == {(State.STOPPED, 0.0)}, seen


def test_the_host_has_the_constraints_of_the_last_evaluation():
    """Its own samplers, best trials and dashboards read them."""
    (frozen,) = evaluated_twice(2.0, 0.0, keep_host=False).study.trials
    assert frozen.constraints == {LIMIT: 0.0}


def test_constraints_of_the_user_beside_ours_are_kept():
    one = TrialRecord(0, violations={"mine": 1.0, LIMIT: 2.0})
    noted = Trial(Toy.sample(0), {"m": 9.0}, {LIMIT: 0.0})
    from nas_bo.study import attributes

    made = understood(one, attributes(noted), [ObjectiveSpec("m")])
    assert made.violations == {"mine": 1.0, LIMIT: 0.0} and made.arch_id == noted.architecture.id


def test_all_that_a_study_keeps_is_in_its_record():
    study = studies.open_study(None, "all", [ObjectiveSpec("loss")], {"space": Toy.to_dict(), "fingerprint": "f", "columns": [
        {"name": "loss", "later versions": "know more"}], "conditions": {"loss": {"tokens": 1}}, "started": "2026-11-23T10:00:00"})  # fmt: skip
    studies.keep(study, BASELINES, {"largest": "a1", "not yet": "b2"})
    studies.keep(study, baseline("a1"), {"id": "a1", "values": {"loss": 1.0}})
    studies.keep(study, RETRAINED, 2.5)
    for key, text in (("c3", "short"), ("d4", "x" * 5000)):  # the second in several parts
        studies.keep(study, retrained(2.5, key), {"values": {"loss": 0.5}, "reason": text})
    studies.keep(study, retrained(2, "e5"), {"values": {}})  # of another multiple
    studies.keep(study, evaluation("loss:1a2b:x"), {"value": 3.0, "long": "y" * 4100})
    study.set_user_attr("team", "blue")
    record = reading.read(study)
    assert record.columns == (ObjectiveSpec("loss"),) and record.space.fingerprint() == Toy.fingerprint()
    assert record.asked_baselines == {"largest": "a1", "not yet": "b2"}
    assert [(b["label"], b["id"]) for b in record.baselines] == [("largest", "a1")]
    assert (
        record.factor == 2.5 and set(record.retrained) == {"c3", "d4"} and len(record.retrained["d4"]["reason"]) == 5000
    )
    assert set(record.evaluations) == {"loss:1a2b:x"} and record.attributes == {"team": "blue"}
    assert record.conditions == {"loss": {"tokens": 1}} and record.key == reading.head(study).key != ""
    assert stored({}) == {"about": {}, "asked_baselines": {}, "baselines": (), "factor": None, "retrained": {},
                          "remeasured": {}, "validated": None, "evaluations": {}, "attributes": {}}  # fmt: skip


def test_a_text_that_was_cut_short_is_not_there():
    parts = write_attributes("nas_bo:validate:k", {"long": "z" * 5000})
    parts.pop("nas_bo:validate:k.1")
    assert stored(parts)["evaluations"] == {}


def test_counts_and_ended_trials():
    study = optuna.create_study(study_name="mixed")
    for value in (1.0, float("inf")):
        study.tell(study.ask(), value)
    study.tell(study.ask(), state=optuna.trial.TrialState.PRUNED)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    study.ask()
    study.enqueue_trial({"x": 1})
    record = reading.read(study)
    assert record.counts() == {"finished": 1, "pruned": 1, "failed": 2, "running": 1, "waiting": 1}
    assert [t.number for t in record.ended] == [0, 1, 2, 3] == [t.number for t in source(study).ended()]
    assert [t.number for t in source(study).ended({0, 2})] == [1, 3] and source(study).running() == 1
    assert source(study).trial(4) is None and source(study).trial(0).values == {"value": 1.0}
    assert record.trials[1].reason == "value is inf, not a finite number" and record.trials[0].started < datetime.now()


def test_what_is_no_study_is_refused_in_one_sentence():
    for strange in (None, 3, "s.db", object()):
        with pytest.raises(HostError, match="is not a study: give an Optuna study, an Ax client or an Ax experiment"):
            source(strange)
    with pytest.raises(HostError, match=r"is not watched; pass the tracker as a callback"):
        source(optuna.create_study()).follow(lambda: None, 1.0)


def test_a_foreign_trial_that_failed_says_why_in_every_reader():
    study = optuna.create_study()
    told = {"fail_reason": "out of paint\nand more"}  # where Optuna kept it before version 5
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, system_attrs=told))
    run = content.of_trial(reading.head(study), source(study).trial(0))
    said = {load_result(study).trials[0].reason, source(study).ended()[0].reason, run.tags["nas.error"]}
    assert len(said) == 1 and said.pop() == "out of paint"


def test_a_problem_of_the_user_reads_its_own_trials_like_a_search():
    problem = Problem(Toy, [loss, cost])
    study = optuna.create_study(directions=["minimize", "minimize"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([c.name for c in problem.columns])
    study.optimize(door.objective(problem), n_trials=3, catch=door.EvaluationFailed)
    own = door.history(study, Toy, problem.columns)
    told = load_result(study, Toy).trials
    assert [(t.values, t.state, t.info) for t in own] == [(t.values, t.state, t.info) for t in told]
    assert isinstance(load_result(study).record, StudyRecord)
