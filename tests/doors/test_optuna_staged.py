"""Early stopping in studies of several objectives: the rule, any sampler, threads, processes, what strategies are told."""

from __future__ import annotations

import itertools
import math
import multiprocessing
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nas_bo.errors import HostError
from nas_bo.optuna import Sampler, StagedTrial, columns, history, staged, suggest
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.stopping import SuccessiveHalving
from nas_bo.strategies import NSGA2, Bayes, Random
from nas_bo.trial import State, non_dominated
from tests.processes import Python

from .test_optuna_sampler import Asked

optuna.logging.set_verbosity(optuna.logging.ERROR)

EPOCHS = 27
RULE = SuccessiveHalving(eta=3.0, startup=3, least=0.03)  # rungs at 1, 3 and 9 epochs


class Mixed(Space):
    depth = integer(1, 4)
    layers = repeat(depth, heads=choice(1, 2, 4, 8))


def final(depth: int, heads: list[int]) -> tuple[float, float]:
    """Loss and cost of a whole training: more is better and dearer, and there are bad ways of having much."""
    size = sum(heads)
    waste = sum(abs(a - b) for a, b in itertools.pairwise(heads))
    return 4.0 - math.log(1 + size) + 0.15 * waste, float(size + 2 * depth)


def objective(trial: optuna.Trial, spent: list[int] | None = None, **settings) -> tuple[float, float]:
    arch = suggest(trial, Mixed)
    loss, cost = final(arch.depth, [layer.heads for layer in arch.layers])
    trial = staged(trial, budget=EPOCHS, stopping=RULE, **settings)
    for epoch in range(1, EPOCHS + 1):
        if spent is not None:
            spent.append(trial.number)
        trial.report([loss + 2.0 / epoch - 2.0 / EPOCHS, cost], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return loss, cost


def study_of(sampler=None, storage=None, **settings) -> optuna.Study:
    return optuna.create_study(
        study_name="s",
        storage=storage,
        sampler=sampler,
        directions=["minimize", "minimize"],
        load_if_exists=True,
        **settings,
    )


def reached(trial) -> list[float]:
    from nas_bo.optuna.staged import rungs_of

    return [share for share, _ in rungs_of(trial)]


def test_core_still_refuses_what_this_is_for() -> None:
    trial = study_of().ask()
    with pytest.raises(NotImplementedError):
        trial.report(1.0, 1)
    assert isinstance(staged(trial, budget=3), optuna.Trial)


def test_it_saves_most_of_the_training_and_keeps_most_of_the_front() -> None:
    spent: list[int] = []
    study = study_of(optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: objective(trial, spent), n_trials=60)
    assert len(spent) < 0.5 * 60 * EPOCHS
    every = [(t.params["depth"], [v for k, v in t.params.items() if k != "depth"]) for t in study.trials]
    whole = np.array([final(*each) for each in every])
    best = whole[non_dominated(whole)]
    found = np.array([t.values for t in study.best_trials])

    def volume(points) -> float:
        import moocore

        return float(moocore.hypervolume(points, ref=whole.max(0) + 1))

    assert volume(found) > 0.97 * volume(best)
    assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_every_decision_is_the_rule_s(monkeypatch) -> None:
    """With one objective it is plain ASHA: replayed from what was reported."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))

    def one(trial: optuna.Trial) -> float:
        quality = trial.suggest_float("q", 0, 1)
        trial = staged(trial, budget=9, rungs=[3], stopping=SuccessiveHalving(eta=3, startup=2, least=0.1))
        for step in range(1, 10):
            trial.report(quality * step, step)
            if trial.should_prune():
                assert step == 3
                raise optuna.TrialPruned
        return 9 * quality

    study.optimize(one, n_trials=40)
    assert all(t.intermediate_values[1] == t.params["q"] for t in study.trials)  # curves for dashboards
    seen: list[float] = []
    for trial in study.trials:
        here = trial.params["q"]
        better = sum(q > here for q in seen)
        goes_on = len(seen) < 2 or better < math.ceil((len(seen) + 1) / 3)
        assert (trial.state is TrialState.COMPLETE) == goes_on, trial.number
        seen.append(here)


def test_the_front_at_a_rung_goes_on() -> None:
    study = study_of(optuna.samplers.RandomSampler(seed=2))
    study.optimize(objective, n_trials=40)
    from nas_bo.optuna.staged import rungs_of

    at: dict[float, list[tuple[float, float]]] = {}
    stopped = 0
    for trial in study.trials:
        for share, values in rungs_of(trial):
            points = at.setdefault(share, [])
            points.append(tuple(values.values()))
            rank = non_dominated(np.array(points))
            last = share == reached(trial)[-1] and trial.state is TrialState.PRUNED
            if last:
                stopped += 1
                assert not rank[-1] or rank.sum() > math.ceil(len(points) / 3)
    assert stopped > 15 and len(at) == 3


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize(
    "sampler",
    [
        lambda: optuna.samplers.TPESampler(seed=0, multivariate=True, group=True, warn_independent_sampling=False),
        lambda: optuna.samplers.NSGAIISampler(seed=0, population_size=6),
        lambda: Sampler(Mixed, NSGA2(population=6)),
        lambda: Sampler(strategy=Bayes(startup=4, candidates=40)),
    ],
    ids=["tpe", "nsga2", "ours", "ours, without a space"],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_any_sampler_and_threads(sampler, jobs, caplog) -> None:
    study = study_of(sampler())
    study.optimize(objective, n_trials=24, n_jobs=jobs)
    assert len(study.trials) == 24 and {t.state.name for t in study.trials} == {"COMPLETE", "PRUNED"}
    assert not [r for r in caplog.records if r.name.startswith("nas_bo")]
    assert all(reached(t) for t in study.trials)


@pytest.mark.parametrize("space", [Mixed, None])
def test_strategies_learn_from_what_was_stopped(space) -> None:
    asked = Asked(Random(seed=0))
    study = study_of(Sampler(space, asked))
    study.set_metric_names(["loss", "cost"])
    study.optimize(objective, n_trials=20)
    problem, told, _ = asked.calls[-1]
    states = {t.state for t in told}
    assert states == {State.COMPLETE, State.STOPPED}
    for ours, frozen in zip(told[-10:], study.trials[-11:], strict=False):
        assert list(ours.rungs("loss")) == reached(frozen) == list(ours.rungs("cost"))
        assert (ours.state is State.STOPPED) == (frozen.state is TrialState.PRUNED)
        assert bool(ours.reason) == (ours.state is State.STOPPED)
    assert [c.name for c in problem.columns] == ["loss", "cost"]


def test_one_that_was_stopped_and_is_proposed_again_goes_on_to_the_end() -> None:
    study = study_of(optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=20)
    lost = next(t for t in study.trials if t.state is TrialState.PRUNED)
    study.enqueue_trial(lost.params)
    study.optimize(objective, n_trials=1)
    assert study.trials[-1].state is TrialState.COMPLETE and study.trials[-1].params == lost.params
    ours = history(study, Mixed, columns(study))
    assert ours[-1].state is State.COMPLETE and ours[-1].reason == "" and ours[-1].rungs("value_0")


def test_a_mapping_missing_objectives_and_steps_beside_the_rungs() -> None:
    study = study_of()
    study.set_metric_names(["loss", "ms"])
    rule = SuccessiveHalving(eta=2, startup=1, least=0.2)
    numbers = []
    for loss, ms in ((1.0, 1.0), (2.0, 1.0), (0.5, 9.0), (3.0, 3.0)):
        trial = staged(study.ask(), budget=100, rungs=[30], stopping=rule)
        trial.report({"loss": loss}, 20)
        assert not trial.should_prune()
        trial.report({"loss": loss, "ms": ms} if loss != 0.5 else {"loss": loss}, 40)  # the first beyond the rung
        numbers.append(trial.should_prune())
        assert not trial.should_prune()  # asked twice, answered once
        trial.report({"loss": loss}, 45)
        assert not trial.should_prune()
    assert numbers == [False, True, False, True]
    assert [reached(t) for t in study.trials] == [[0.3]] * 4


def test_what_is_not_finite_ends_a_trial_and_is_no_half_trained_one() -> None:
    study = study_of(optuna.samplers.RandomSampler(seed=0))

    def diverges(trial: optuna.Trial):
        suggest(trial, Mixed)
        trial = staged(trial, budget=9)
        trial.report([2.0, 1.0], 3)
        assert not trial.should_prune()
        trial.report([math.nan, 1.0], 4)
        assert trial.should_prune()
        raise optuna.TrialPruned

    study.optimize(diverges, n_trials=1)
    (ours,) = history(study, Mixed, columns(study))
    assert ours.state is State.INFEASIBLE and ours.reason == "value_0 is nan at step 4"


def test_infeasible_and_failed_trials_stop_nobody() -> None:
    study = study_of()
    rule = SuccessiveHalving(eta=2, startup=1, least=0.2)
    for bad in ("constraint", "fail"):
        trial = staged(study.ask(), budget=2, rungs=[1], stopping=rule)
        trial.report([0.0, 0.0], 1)
        if bad == "constraint":
            trial.set_constraint("limit", 1.0)
            study.tell(trial, [0.0, 0.0])
        else:
            study.tell(trial, state=TrialState.FAIL)
    trial = staged(study.ask(), budget=2, rungs=[1], stopping=rule)
    trial.report([1.0, 1.0], 1)
    assert not trial.should_prune()


GO = """
import sys, optuna
sys.path.insert(0, sys.argv[2])
from tests.doors.test_optuna_staged import *
storage = JournalStorage(JournalFileBackend(sys.argv[1]))
study_of(optuna.samplers.RandomSampler(seed=int(sys.argv[3])), storage).optimize(objective, n_trials=15)
"""


def test_two_processes_stop_by_each_other_s_trials(tmp_path) -> None:
    root, path = str(Path(__file__).parents[2]), str(tmp_path / "s.log")
    study_of(storage=JournalStorage(JournalFileBackend(path)))
    running = [Python("-c", GO, path, root, seed) for seed in "01"]
    assert [p.wait(timeout=600) for p in running] == [0, 0]
    study = study_of(storage=JournalStorage(JournalFileBackend(path)))
    assert len(study.trials) == 30
    states = [t.state for t in study.trials]
    assert states.count(TrialState.PRUNED) >= 1 and states.count(TrialState.COMPLETE) >= 3
    # a process that has seen nothing itself stops what most of the others' are better than: alone it would let the first 3 through
    study.enqueue_trial({"depth": 4} | {f"layers.{i}.heads": heads for i, heads in enumerate((8, 1, 8, 1))})
    assert Python("-c", GO.replace("=15", "=1"), path, root, "2").wait(timeout=600) == 0
    assert study.trials[-1].state == TrialState.PRUNED and len(reached(study.trials[-1])) == 1
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"budget": 0}, "budget=0"),
        ({"budget": math.inf}, "budget=inf"),
        ({"budget": 9, "rungs": []}, "between 0 and the budget"),
        ({"budget": 9, "rungs": [9]}, "between 0 and the budget"),
        ({"budget": 9, "stopping": "asha"}, "pass a SuccessiveHalving"),
    ],
)
def test_settings_that_mean_nothing(settings, match) -> None:
    with pytest.raises(HostError, match=match):
        staged(study_of().ask(), **settings)


@pytest.mark.parametrize(
    ("value", "step", "match"),
    [
        ([1.0], 1, "wants 2 numbers, in the order value_0, value_1"),
        (1.0, 1, "wants 2 numbers"),
        ({"loss": 1.0}, 1, r"report\('loss'\): the study has value_0"),
        (["a", 1.0], 1, "not a number"),
        ([1.0, 2.0], -1, "step=-1"),
        ([1.0, 2.0], "x", "step='x'"),
    ],
)
def test_reports_that_mean_nothing(value, step, match) -> None:
    trial = staged(study_of().ask(), budget=9)
    assert isinstance(trial, StagedTrial)
    with pytest.raises(HostError, match=match):
        trial.report(value, step)
