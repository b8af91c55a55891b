"""search() as a whole: determinism, resuming after a kill, workers, failures, limits, the result."""

from __future__ import annotations

import inspect
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from nas_bo import search
from nas_bo.errors import HostError, NasBoError, ObjectiveError, SearchError
from nas_bo.execution import InProcess
from nas_bo.objectives import Weighted
from nas_bo.problem import Function, as_objective
from nas_bo.space import require
from nas_bo.stopping import SuccessiveHalving
from nas_bo.strategies import NSGA2, Random
from nas_bo.trial import ObjectiveSpec, State
from tests import problems
from tests.problems import Few, Toy, cost, loss
from tests.processes import Python, python
from tests.stopping.staged import SlowStaged, Staged

optuna.logging.set_verbosity(optuna.logging.ERROR)


def default(**given):
    """With the strategy of a plain `search`."""
    return search(**{"space": Toy, "objectives": [loss, cost], "trials": 20, "retrain": 0, **given})


def run(**given):
    """With one that depends on the history as well, and costs a tenth."""
    return default(**{"strategy": NSGA2(startup=4), **given})


def flats(result) -> list[dict]:
    return [dict(t.architecture.flat) for t in result.trials]


def test_the_same_seed_gives_the_same_search_and_another_seed_another():
    first, second, other = default(seed=4), default(seed=4), default(seed=5, trials=6)
    assert flats(first) == flats(second) and [t.values for t in first.trials] == [t.values for t in second.trials]
    assert flats(first)[:6] != flats(other)
    assert len({t.architecture.id for t in first.trials}) == 20


def test_workers_do_not_change_the_search_whatever_order_they_end_in(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BO_TEST_LOG", str(tmp_path / "log"))
    objectives = [problems.slow_loss, cost]
    runs = [default(objectives=objectives, workers=2, trials=14) for _ in range(2)]
    assert flats(runs[0]) == flats(runs[1])


@pytest.mark.parametrize("storage", ["study.db", pytest.param("study.log", marks=pytest.mark.slow)])
def test_kill_9_then_the_same_call_completes_with_no_trial_twice_and_none_lost(storage, tmp_path, monkeypatch):
    """The killed and continued search is, trial by trial, the one that was never killed."""
    code = (
        "from nas_bo import search; from tests.problems import *; import sys\n"
        "if __name__ == '__main__':\n"
        "    search(Toy, [slow_loss, cost], trials=13, retrain=0, workers=int(sys.argv[2]), storage=sys.argv[1])\n"
    )
    for workers in ("1", "2"):
        log, path = tmp_path / f"log{workers}", tmp_path / f"{workers}{storage}"
        script = tmp_path / f"job{workers}.py"
        script.write_text(code)
        env = {**os.environ, "NAS_BO_TEST_LOG": str(log), "PYTHONPATH": os.getcwd()}
        command = [script, path, workers]
        for kill_after in (3, 9):
            process = Python(*command, env=env)
            deadline = time.time() + 300
            while (len(log.read_text().split()) if log.exists() else 0) < kill_after:
                assert time.time() < deadline and process.poll() is None
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        python(*command, env=env, check=True)
        name = (
            f"sqlite:///{path}"
            if storage.endswith(".db")
            else optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
        )
        study = optuna.load_study(study_name="Toy", storage=name)
        assert [t.number for t in study.trials] == list(range(13))
        assert {t.state.name for t in study.trials} == {"COMPLETE"}
        ids = [t.params for t in study.trials]
        assert len({json.dumps(p) for p in ids}) == 13
        monkeypatch.setenv("NAS_BO_TEST_LOG", str(tmp_path / "other"))
        whole = default(objectives=[problems.slow_loss, cost], trials=13, workers=int(workers))
        assert ids == flats(whole)


def test_ctrl_c_keeps_what_ended_and_returns_it(tmp_path):
    seen = []

    def stop(progress):
        seen.append(progress)
        if progress.trial is not None and progress.done == 5:
            raise KeyboardInterrupt

    path = str(tmp_path / "s.db")
    result = run(storage=path, on_progress=stop)
    assert result.interrupted and len(result.trials) == 5 and "interrupted" in result.notes[0]
    again = run(storage=path)
    assert len(again.trials) == 20 and flats(again)[:5] == flats(result)
    assert flats(again) == flats(run())


def test_more_trials_extend_a_finished_search(tmp_path):
    path = tmp_path / "s.db"
    run(storage=path, trials=8, strategy=Random(seed=0))
    assert len(run(storage=path, trials=8, strategy=Random(seed=0)).trials) == 8
    assert flats(run(storage=path, trials=12, strategy=Random(seed=0))) == flats(
        run(trials=12, strategy=Random(seed=0))
    )


def test_a_failing_trial_is_recorded_with_its_reason_and_the_search_goes_on():
    result = run(objectives=[problems.sometimes, cost])
    failed = [t for t in result.trials if t.state is State.FAILED]
    assert failed and all(t.reason == "sometimes: RuntimeError: no such width today" for t in failed)
    assert len(result.trials) == 20 and result.front
    assert any("trials failed" in note for note in result.notes)


def test_when_everything_fails_the_search_stops_early_and_says_why(tmp_path):
    with pytest.raises(SearchError, match="all of the first 5 trials failed.*not_a_number is nan"):
        run(objectives=[problems.not_a_number, cost], storage=str(tmp_path / "s.db"))


def test_a_process_that_dies_is_replaced_and_its_trial_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BO_TEST_LOG", str(tmp_path / "marker"))
    result = run(objectives=[problems.kills_its_process_once, cost], strategy=Random(seed=1), workers=2, trials=10)
    assert {t.state for t in result.trials} == {State.COMPLETE} and len(result.trials) == 10
    assert (tmp_path / "marker").exists()


def test_a_process_that_keeps_dying_fails_its_own_trials_and_no_others():
    asked = {"objectives": [problems.kills_its_process, cost], "strategy": Random(seed=1), "workers": 2, "trials": 10}
    result, again = run(**asked), run(**asked)
    assert len(result.trials) == 10 and flats(result) == flats(again)
    failed = [t for t in result.trials if t.state is State.FAILED]
    assert failed and all("process died twice" in t.reason for t in failed)
    assert {t.architecture.depth for t in failed} == {2}
    assert all(t.state is State.COMPLETE for t in result.trials if t.architecture.depth != 2)
    assert [t.state for t in again.trials] == [t.state for t in result.trials]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exit_in_an_objective_fails_its_trial_only(workers):
    result = run(objectives=[problems.leaves, cost], strategy=Random(seed=1), workers=workers, trials=8)
    assert len(result.trials) == 8 and any(t.state is State.COMPLETE for t in result.trials)
    failed = [t for t in result.trials if t.architecture.width == 16]
    assert failed and all(t.state is State.FAILED and t.reason == "SystemExit: out of licences" for t in failed)


def test_an_executor_of_ones_own(tmp_path):
    done = []

    class Watched(InProcess):
        def submit(self, key, problem, arch, judge=None):
            done.append(key)
            super().submit(key, problem, arch, judge)

    watched = Watched()
    assert flats(run(executor=watched, trials=6)) == flats(run(trials=6)) and done == list(range(6))
    run(executor=watched, trials=3)  # closed, and used again
    for given, why in (
        ({"executor": watched, "workers": 2}, "give one of them"),
        ({"executor": Watched}, r"it is an object with submit\(key, problem, arch, judge\), take\(\) and close\(\)"),
        ({"executor": 4}, "it is an object with submit"),
    ):
        with pytest.raises(SearchError, match=why):
            run(**given)


def test_limits_save_the_training(tmp_path, monkeypatch):
    trained = []

    def watched(arch):
        trained.append(arch)
        return float(loss(arch))

    measured = Function(lambda arch: float(arch.width), "width_cost", cost="measured", at_most=16)
    result = run(objectives=[watched, measured], limits=[Function(cost, "budget", cost="analytic", at_most=100)])
    assert all(cost(t.architecture) <= 100 for t in result.trials)  # never even proposed
    assert all(a.width <= 16 for a in trained)
    infeasible = [t for t in result.trials if t.state is State.INFEASIBLE]
    assert len(infeasible) + len(trained) == 20
    assert all(t.reason == "violates width_cost<=16" for t in infeasible)
    assert list(result.study.trials[0].constraints) == ["budget<=100", "width_cost<=16"]


def test_an_exhausted_space_ends_the_search_with_a_message():
    result = search(Few, [Function(lambda a: float(a.b), "b_value")], trials=10, retrain=0)
    assert len(result.trials) == 4 and any("exhausted" in note for note in result.notes)


def test_known_architectures_come_first():
    first = {"depth": 1, "width": 32, "layers.0.mixer": "skip"}
    result = run(enqueue=[first, Toy.sample(99)], trials=5)
    assert flats(result)[:2] == [first, dict(Toy.sample(99).flat)]


def test_the_front_is_retrained_and_the_agreement_reported(tmp_path):
    path = str(tmp_path / "s.db")
    result = run(objectives=[problems.Retrainable(), cost], retrain=2, storage=path)
    front = result.front
    best = {t.architecture.id for t in front}
    by_id = {r.id: r.values["loss"] for r in result.retrained}
    assert best <= set(by_id) and len(by_id) == len(best) + 2  # a tenth of the trials, from off the front
    assert result.trust is not None and result.trust.n == len(by_id) and "2 others" in result.trust.chosen
    assert all(by_id[t.architecture.id] == pytest.approx(t.values["loss"] / 2) for t in front)
    assert result.trust.proxies[0].tau.value == pytest.approx(1.0)
    with pytest.warns(DeprecationWarning, match=r"is nas_bo\.report\.trust"):
        assert result.agreement.tau == result.trust.proxies[0].tau.value
    calls = []
    run(objectives=[problems.Retrainable(), cost], retrain=2, storage=path, on_progress=calls.append)
    assert not [p for p in calls if p.trial is not None]  # nothing is evaluated again
    alone = run(objectives=[problems.Retrainable(), cost], retrain=2, retrain_others=0)
    assert {r.id for r in alone.retrained} == best and "among winners" in alone.trust.chosen


def test_the_result_tells_what_it_found(tmp_path):
    result = run()
    best, knee = result.best("loss"), result.knee()
    assert best.values["loss"] == min(t.values["loss"] for t in result.trials)
    assert result.best("cost").values["cost"] == min(t.values["cost"] for t in result.trials)
    assert knee in result.front and best.values in [t.values for t in result.front]
    for t in result.front:
        assert not any(
            o.values["loss"] <= t.values["loss"] and o.values["cost"] <= t.values["cost"] and o.values != t.values
            for o in result.trials
        )
    frame = result.frame()
    assert len(frame) == 20 and {"loss", "cost", "depth"} <= set(frame.columns)
    shown = result._repr_html_()
    assert shown.startswith("<svg") and shown.count("<circle") >= 20 and "<title>trial 0: " in shown
    names = {p.name for p in result.save(tmp_path / "out")}
    pictures = {"progress.png", "parallel.png", "importance.png", "knee.svg"}
    assert names == {"front.png", "front.html", "front.md", "trials.csv", "result.json"} | pictures
    assert json.loads((tmp_path / "out" / "result.json").read_text())["trials"] == 20
    assert result.study.best_trials
    with pytest.raises(SearchError, match="no objective 'speed'; there are: loss, cost"):
        result.best("speed")


def test_ctrl_c_inside_an_evaluation_is_continued_by_the_same_process_under_the_same_number(tmp_path):
    calls = []

    def interrupted(arch):
        calls.append(arch)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return float(loss(arch))

    path = str(tmp_path / "s.db")
    result = run(objectives=[Function(interrupted, "loss"), cost], storage=path, trials=8)
    assert result.interrupted and len(result.trials) == 3
    again = run(objectives=[Function(interrupted, "loss"), cost], storage=path, trials=8)
    assert [t.number for t in again.trials] == list(range(8)) and flats(again) == flats(run(trials=8))


def test_a_second_evaluation_of_a_trial_replaces_what_the_first_left():
    """Killed between recording and telling: constraints of the first evaluation stay in the host, ours do not."""
    from nas_bo import optuna as door
    from nas_bo.optuna import studies
    from nas_bo.problem import Problem

    study = optuna.create_study()
    limited = Function(lambda a: 0.0, "m", at_most=10)
    trial, arch = studies.ask(study, Problem(Toy, [limited]), Toy.sample(0))
    first = Problem(Toy, [Function(lambda a: 10.5, "m", at_most=10)]).evaluate(arch)
    door.record(trial, replace(first, info={"m": {"curve": list(range(2000))}}))
    studies.tell_outcome(study, trial, Problem(Toy, [Function(lambda a: 9.5, "m", at_most=10)]).evaluate(arch))
    (told,) = door.history(study, Toy, [ObjectiveSpec("m", at_most=10)])
    assert told.feasible and told.values == {"m": 9.5} and "curve" not in told.info["m"]


def test_an_enqueued_point_that_fits_nowhere_is_a_failed_trial(tmp_path):
    path = f"sqlite:///{tmp_path}/s.db"
    run(storage=path, trials=2)
    study = optuna.load_study(study_name="Toy", storage=path)
    study.enqueue_trial({"width": 999})
    result = run(storage=path, trials=6)
    assert len(result.study.trials) == 6 and sum(t.state.name == "FAIL" for t in result.study.trials) == 1


def test_a_rule_that_raises_rarely_makes_failed_trials():
    class Sometimes(Toy):
        @require
        def shallow(arch):
            return 1 / sum(layer.mixer.kind != "skip" or arch.depth == 1 for layer in arch.layers) > 0  # raises, rarely

    class Proposes:
        def suggest(self, problem, trials, n):
            depth, width = (1, 4)[len(trials) % 2], (8, 16, 32)[len(trials) // 2]
            return [
                Sometimes.architecture(
                    {"depth": depth, "width": width} | {f"layers.{i}.mixer": "skip" for i in range(depth)}
                )
            ]

    result = search(Sometimes, [Function(cost, "c")], strategy=Proposes(), trials=4, retrain=0)
    assert [t.state.name for t in result.study.trials] == ["COMPLETE", "FAIL", "COMPLETE", "FAIL"]


def test_rule_breaking_points_carry_every_constraint():
    class Ruled(Toy):
        @require
        def wide(arch):
            return arch.width > 8

    narrow = {"depth": 1, "width": 8, "layers.0.mixer": "skip"}
    result = search(Ruled, [loss, Function(cost, "c", at_most=1000)], trials=4, retrain=0, enqueue=[narrow])
    assert {tuple(t.constraints) for t in result.study.trials} == {("rule:wide", "c<=1000")}
    assert result.study.trials[0].state.name == "PRUNED"


def test_a_weighted_sum_is_steered_without_the_noise_of_its_measured_part():
    import random

    class Noisy:
        name, unit, direction, cost = "noisy", "", "minimize", "measured"
        limits = None

        def __call__(self, arch):
            return arch.width + random.SystemRandom().random() * 20

        def predict(self, arch):
            return float(arch.width)

    sums = [[Weighted([(10.0, as_objective(loss)), (0.1, Noisy())])] for _ in range(2)]
    assert flats(default(objectives=sums[0])) == flats(default(objectives=sums[1]))


def test_limits_of_parts_of_parts_count():
    inner = Weighted([(1.0, Function(cost, "budget", cost="analytic", at_most=50))], name="inner")
    for given in ({"objectives": [Weighted([(1.0, inner), (1.0, as_objective(loss))])]}, {"objectives": [inner]}):
        result = run(trials=6, **given)
        assert all(t.state is State.COMPLETE and cost(t.architecture) <= 50 for t in result.trials)
        assert all("budget<=50" in t.violations for t in result.trials)


def test_conditions_may_hold_tuples_and_numpy(tmp_path):
    class Conditioned(problems.Retrainable):
        def conditions(self):
            return {"layers": (1, 2), "n": np.int64(3)}

    path = str(tmp_path / "s.db")
    for trials in (2, 4):
        assert len(run(objectives=[Conditioned(), cost], storage=path, trials=trials).trials) == trials


def test_a_plain_function_as_objective_reaches_mlflow(tmp_path):
    """Its numbers do not say how they were obtained; that is no reason to lose them."""
    from mlflow.tracking import MlflowClient

    def plain_loss(arch):
        return float(loss(arch))

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run(objectives=[plain_loss, cost], trials=4, track=uri)
    client = MlflowClient(uri)
    runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    assert len(children) == 4 and {r.info.status for r in runs} == {"FINISHED"}
    assert all("obj/plain_loss" in r.data.metrics for r in children)


def test_a_script_without_main_guard_is_told_so(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from nas_bo import search; from tests.problems import *\n"
        "print(search(Toy, [loss, cost], trials=6, retrain=0, workers=2, storage='s.db').table())\n"
    )
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = python(script, cwd=tmp_path, env=env)
    assert done.returncode != 0 and "if __name__ == '__main__':" in done.stderr
    study = optuna.load_study(study_name="Toy", storage=f"sqlite:///{tmp_path}/s.db")
    assert len(study.trials) <= 9  # the children added none


def test_workers_end_with_their_driver(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        "from nas_bo import search; from tests.problems import *\nif __name__ == '__main__':\n"
        "    search(Toy, [slow_loss, cost], trials=500, retrain=0, workers=2)\n"
    )
    log = tmp_path / "log"
    env = {**os.environ, "PYTHONPATH": os.getcwd(), "NAS_BO_TEST_LOG": str(log)}
    process = Python(script, env=env)
    deadline = time.time() + 300
    while not log.exists() or len(log.read_text().split()) < 3:
        assert time.time() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    workers = {int(path.suffix[1:]) for path in tmp_path.glob("log.*")}
    assert len(workers) == 2
    while any(runs(worker) for worker in workers):
        assert time.time() < deadline
        time.sleep(0.05)


def runs(process: int) -> bool:
    """Not when it has ended and only its parent has not been told."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---- evaluations in stages, proxies --------------------------------------------------------------------------------------


def staged(**given):
    return run(**{"objectives": [Staged(), cost], "stopping": SuccessiveHalving(startup=2), **given})


def test_stopping_ends_trials_early_and_everything_is_kept(tmp_path):
    path = str(tmp_path / "s.db")
    result = staged(storage=path)
    stopped = [t for t in result.trials if t.state is State.STOPPED]
    assert 4 <= len(stopped) <= 14 and len(result.trials) == 20
    assert not any(t in result.front for t in stopped)
    assert all(t.rungs("loss") and set(t.values) == {"cost"} for t in stopped)
    assert all(t.rungs("loss") and "loss" in t.values for t in result.trials if t.state is State.COMPLETE)
    assert result.spent.begun == 20 and result.spent.stopped == len(stopped)
    assert result.spent.trainings == 20 - 0.75 * len(stopped) == result.spent.tokens / 1000
    assert any(f"{len(stopped)} of 20 trainings were stopped early" in note for note in result.notes)
    assert "stopped" in result.files()["front.html"].decode()
    for t in optuna.load_study(study_name="Toy", storage=f"sqlite:///{path}").trials:
        seen = result.trials[t.number]
        assert t.state.name == ("PRUNED" if seen in stopped else "COMPLETE")
        curve = {25: pytest.approx(seen.rungs("loss")[0.25])}
        assert t.intermediate_values == ({} if seen in stopped else curve)  # see the next test
    again = staged(storage=path)
    assert [t.state for t in again.trials] == [t.state for t in result.trials]
    assert [t.info for t in again.trials] == [t.info for t in result.trials]


def test_optuna_s_default_sampler_goes_on_where_trials_were_stopped(tmp_path):
    """It reads the intermediate values of pruned trials as if there were one objective, and raises."""
    path = f"sqlite:///{tmp_path}/s.db"
    assert any(t.state is State.STOPPED for t in staged(storage=path).trials)
    study = optuna.load_study(study_name="Toy", storage=path)
    study.ask().suggest_int("depth", 1, 4)


def test_a_search_that_is_continued_stops_the_same_trials(tmp_path):
    def stop(progress):
        if progress.trial is not None and progress.done == 9:
            raise KeyboardInterrupt

    path, whole = str(tmp_path / "s.db"), staged()
    assert staged(storage=path, on_progress=stop).interrupted
    continued = staged(storage=path)
    assert flats(continued) == flats(whole) and [t.state for t in continued.trials] == [t.state for t in whole.trials]


def test_workers_stop_the_same_trials_whatever_order_they_end_in(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BO_TEST_LOG", str(tmp_path / "log"))
    queue = [Toy.sample(i) for i in range(6)]
    given = {
        "objectives": [SlowStaged(), cost],
        "workers": 2,
        "trials": 18,
        "enqueue": queue,
        "strategy": Random(seed=0),
    }
    first, second = staged(**given), staged(**given)
    assert flats(first) == flats(second)
    assert [t.state for t in first.trials] == [t.state for t in second.trials]
    assert State.STOPPED in {t.state for t in first.trials}


def test_what_is_proposed_again_after_it_was_stopped_is_evaluated_to_the_end():
    class Insists:
        def suggest(self, problem, trials, n):
            again = [t.architecture for t in trials if t.state is State.STOPPED]
            return again[:1] if len(trials) == 11 else Random(seed=0).suggest(problem, trials, n)

    result = staged(strategy=Insists(), trials=12)
    (first,) = [t for t in result.trials[:11] if t.architecture == result.trials[11].architecture]
    assert first.state is State.STOPPED and result.trials[11].state is State.COMPLETE
    assert result.trials[11].rungs("loss") == first.rungs("loss")


def test_a_stopped_trial_is_told_from_a_failed_one_in_mlflow(tmp_path):
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    result = staged(trials=10, track=uri)
    client = MlflowClient(uri)
    runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]
    runs = {r.data.tags["nas.trial"]: r for r in runs if r.data.tags.get("nas.kind") == "trial"}
    for t in result.trials:
        told = runs[f"{t.number:03d}"]
        assert told.data.tags["nas.state"] == t.state.value
        assert told.data.metrics["train/reported"] == pytest.approx(t.rungs("loss")[0.25])
    assert State.STOPPED in {t.state for t in result.trials}


def test_proxies_are_in_every_trial_and_on_no_front(tmp_path):
    def width(arch):
        return float(arch.width)

    path = str(tmp_path / "s.db")
    result = run(proxies=[width], trials=12, storage=path)
    assert all(t.info["width"]["value"] == t.architecture.width for t in result.trials)
    assert [c.name for c in result.columns] == ["loss", "cost"]
    again = run(proxies=[width], trials=14, storage=path)
    assert flats(again) == flats(run(proxies=[width], trials=14))


# ---- what is refused before anything starts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"trials": 0}, SearchError, "at least 1"),
        ({"workers": 0}, SearchError, "at least 1"),
        ({"workers": True}, SearchError, "at least 1"),
        ({"retrain": -1}, SearchError, "multiple of the budget"),
        ({"objectives": []}, ObjectiveError, "at least one objective"),
        ({"objectives": [lambda a: 1.0]}, ObjectiveError, "needs a name"),
        ({"objectives": [loss, loss]}, ObjectiveError, "two objectives are named"),
        ({"objectives": loss}, ObjectiveError, "must be a list"),
        ({"objectives": [Function(loss, "x", direction="up")]}, ObjectiveError, "direction"),
        ({"objectives": [Function(loss, "x", at_most=float("nan"))]}, ObjectiveError, "not a finite number"),
        ({"limits": [cost], "objectives": [loss]}, ObjectiveError, "neither at_most nor at_least"),
        ({"space": 3}, NasBoError, "not a search space"),
        ({"strategy": object()}, SearchError, "suggest"),
        ({"stopping": SuccessiveHalving()}, SearchError, "none of the objectives .loss, cost. is evaluated in stages"),
        ({"stopping": SuccessiveHalving}, SearchError, "an object with judge"),
        ({"proxies": [loss]}, ObjectiveError, "two objectives are named 'loss'"),
        ({"storage": "/no/such/folder/s.db"}, HostError, "missing or read-only"),
        ({"storage": "study.txt"}, HostError, "neither a URL"),
        ({"storage": "sqlite:////no/such/folder/s.db"}, HostError, "cannot be opened"),
        (
            {"objectives": [loss, Function(cost, "c", cost="analytic", at_most=1)]},
            SearchError,
            "the nearest misses c<=1 by",
        ),
        ({"enqueue": [{"depth": 9}]}, NasBoError, "depth"),
    ],
)
def test_refusals(given, error, says):
    with pytest.raises(error, match=says):
        run(**given)


def test_a_storage_that_belongs_to_another_search_is_refused(tmp_path):
    path = str(tmp_path / "s.db")
    run(storage=path, trials=2, study_name="mine")
    with pytest.raises(HostError, match="belongs to the space 'Toy'"):
        small = Function(lambda arch: float(arch.b), "cost", "units", cost="analytic")  # `cost` itself is none for Few
        search(Few, [loss, small], storage=path, study_name="mine", retrain=0)
    with pytest.raises(HostError, match="begun with the objectives loss, cost, this search has cost, loss"):
        run(objectives=[cost, loss], storage=path, study_name="mine")
    with pytest.raises(HostError, match="rules and limits none, this search has"):
        run(limits=[Function(cost, "c", cost="analytic", at_most=100)], storage=path, study_name="mine")

    class Conditioned(problems.Retrainable):
        def __init__(self, tokens):
            super().__init__()
            self.tokens = tokens

        def conditions(self):
            return {"tokens": self.tokens}

    run(objectives=[Conditioned(5), cost], storage=path, study_name="other", trials=2)
    with pytest.raises(HostError, match="begun with loss: tokens = 5, now it is 6"):
        run(objectives=[Conditioned(6), cost], storage=path, study_name="other", trials=2)


def test_interactive_objectives_are_refused_for_workers_before_anything_starts():
    with pytest.raises(SearchError, match="top level of a module"):
        run(objectives=[Function(lambda a: 1.0, "local"), cost], workers=2)


def test_a_name_that_there_is_not_is_told_the_one_that_was_meant():
    with pytest.raises(
        TypeError, match=r"search\(\) got an unexpected keyword argument 'trails'; did you mean 'trials'"
    ):
        search(Toy, [cost], trails=3)
    shown = inspect.signature(search).parameters
    assert shown["trials"].default == 40 and shown["trials"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "options" not in shown and list(shown)[:2] == ["space", "objectives"]
