"""The sampler with pruners, several threads, and both: what it proposes, and what the strategy is told of pruned trials."""

from __future__ import annotations

import logging

import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, _filter_study
from optuna.trial import TrialState

from nas_bo.optuna import Sampler, suggest
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution, Reinforce, Successive
from nas_bo.trial import State

from .test_optuna_sampler import Asked

optuna.logging.set_verbosity(optuna.logging.ERROR)

STEPS = 9


class Mixed(Space):
    depth = integer(1, 3)
    layers = repeat(depth, heads=choice(1, 2, 3))


def layered(trial: optuna.Trial) -> float:
    depth = trial.suggest_int("n_layer", 1, 4)
    value = sum(trial.suggest_categorical(f"heads_{i}", [2, 4, 8]) for i in range(depth)) / depth
    return value + abs(trial.suggest_float("lr", 0.0, 1.0) - 0.3)


def trained(trial: optuna.Trial) -> float:
    """An objective that reports a falling loss at every step and may be pruned."""
    final = layered(trial)
    for step in range(STEPS):
        trial.report(final * (2 - step / STEPS), step)
        if trial.should_prune() or (trial.number % 5 == 4 and step == 2):
            raise optuna.TrialPruned
    return final


def hyperband() -> HyperbandPruner:
    return HyperbandPruner(min_resource=1, max_resource=STEPS, reduction_factor=3)


def test_under_hyperband_a_layer_that_no_trial_had_is_proposed_like_the_others() -> None:
    """Hyperband shows the sampler another object instead of the study, a new one at every call."""
    asked = Asked(NSGA2(seed=0, population=3, startup=0))
    study = optuna.create_study(study_name="a", sampler=Sampler(strategy=asked), pruner=hyperband())
    for depth in (1, 2, 3):
        study.enqueue_trial({"n_layer": depth})
    study.optimize(layered, n_trials=3)
    for _ in range(6):
        study.enqueue_trial({"n_layer": 4})
    late = [study.ask() for _ in range(6)]
    for trial in late:
        before = len(asked.calls)
        layered(trial)
        proposal = asked.inner.suggest(*asked.calls[before])[-1]
        assert sorted(trial.params.values()) == sorted(proposal.flat.values())


@pytest.mark.parametrize("space", [None, Mixed])
def test_under_hyperband_the_history_is_that_of_the_bracket_and_the_structure_that_of_the_study(space) -> None:
    def objective(trial):
        if space is not None:
            suggest(trial, space)
        return trained(trial)

    asked = Asked(NSGA2(seed=0, population=3, startup=2))
    study = optuna.create_study(study_name="a", sampler=Sampler(space, asked), pruner=hyperband())
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["loss"])
    study.optimize(objective, n_trials=40)
    pruner, brackets = study.pruner, set()
    assert len(asked.calls) >= 39
    for trial in study.trials[-20:]:
        problem, history, _ = asked.calls[trial.number - len(study.trials)]
        bracket = pruner._get_bracket_id(study, trial)
        brackets.add(bracket)
        same = [t.number for t in study.trials[: trial.number] if pruner._get_bracket_id(study, t) == bracket]
        known = {t.number for t in history}
        assert known <= set(same)
        assert [c.name for c in problem.columns] == ["loss"]
        complete = {n for n in same if study.trials[n].state is TrialState.COMPLETE}
        assert complete <= known
    assert len(brackets) > 1
    assert len({id(problem.space) for problem, _, _ in asked.calls[-10:]}) == 1
    assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}


STRATEGIES = [
    Random(seed=0),
    NSGA2(seed=0, population=5, startup=3),
    RegularizedEvolution(seed=0, population=5, sample=2, startup=3),
    LocalSearch(seed=0, startup=3),
    Reinforce(seed=0),
    Bayes(seed=0, startup=3, candidates=50),
    Successive((Random(seed=0), 4), Bayes(seed=0, startup=2, candidates=50)),
]


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("pruner", [hyperband, lambda: MedianPruner(n_startup_trials=3)], ids=["hyperband", "median"])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_nothing_raises_and_pruned_trials_are_told(strategy, pruner, jobs, caplog) -> None:
    asked = Asked(strategy)
    study = optuna.create_study(
        study_name="a", sampler=Sampler(strategy=asked), pruner=pruner()
    )  # it decides on brackets
    with caplog.at_level(logging.WARNING):
        study.optimize(trained, n_trials=24, n_jobs=jobs)
    said = [r.message for r in caplog.records if r.name.startswith("nas_bo")]
    assert not [message for message in said if "could not" in message or "no proposal" in message]
    assert len(study.trials) == 24
    assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    layered(study.ask())
    same = _filter_study(study, study.trials[-1]).get_trials(deepcopy=False)[:-1]
    told = {t.number: t.state for t in asked.calls[-1][1]}
    assert {t.number for t in same if t.state is TrialState.PRUNED} == {n for n in told if told[n] is State.INFEASIBLE}
    assert {t.number for t in same if t.state is TrialState.COMPLETE} == {n for n in told if told[n] is State.COMPLETE}
    assert State.INFEASIBLE in told.values()
