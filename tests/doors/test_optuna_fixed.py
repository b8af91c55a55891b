"""Parameters that the user fixes in advance: the rest is searched given them."""

from __future__ import annotations

import logging
import warnings

import optuna
import pytest

from nas_bo.optuna import Sampler, suggest
from nas_bo.space import Space, choice, integer, repeat, require
from nas_bo.strategies import NSGA2, Bayes, Random

from .test_optuna_sampler import Asked, layered

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Small(Space):
    depth = integer(1, 4)
    width = choice(8, 16, 24)
    layers = repeat(depth, heads=choice(1, 2, 3))

    @require
    def heads_divide_width(arch):
        return all(arch.width % layer.heads == 0 for layer in arch.layers)


def small(trial: optuna.Trial) -> float:
    arch = suggest(trial, Small)
    return arch.width - sum(layer.heads for layer in arch.layers) + trial.suggest_float("lr", 0, 1)


def check_proposals(trials, asked: Asked, before: int) -> None:
    for trial, call in zip(trials, asked.calls[before:], strict=True):
        proposal = asked.inner.suggest(*call)[-1]
        assert (trial.params["n_layer"], trial.params["optimizer"]) == (5, "sgd")
        assert sorted(trial.params.values(), key=str) == sorted(proposal.flat.values(), key=str)


@pytest.mark.parametrize("strategy", [Random(seed=0), NSGA2(seed=0, population=4, startup=2)])
def test_the_strategy_is_asked_for_the_rest_of_an_enqueued_trial(strategy) -> None:
    asked = Asked(strategy)
    study = optuna.create_study(sampler=Sampler(strategy=asked))
    study.optimize(layered, n_trials=20)
    for _ in range(5):
        study.enqueue_trial({"n_layer": 5, "optimizer": "sgd"})
    before = len(asked.calls)
    study.optimize(layered, n_trials=5)
    check_proposals(study.trials[-5:], asked, before)
    assert len({id(call[0]) for call in asked.calls[before:]}) == 1, "strategies remember by problem"
    study.optimize(layered, n_trials=1)
    assert asked.calls[-1][0].space is not asked.calls[-2][0].space, "what is free again is searched again"


def test_rules_hold_beside_what_is_fixed() -> None:
    study = optuna.create_study(sampler=Sampler(Small, NSGA2(seed=0, population=4, startup=2)))
    for heads in (3, 3, 3, 2, 2):
        study.enqueue_trial({"depth": 3, "layers.1.heads": heads})
    study.optimize(small, n_trials=5)
    assert all(t.state is optuna.trial.TrialState.COMPLETE for t in study.trials)
    assert [t.params["width"] for t in study.trials[:3]] == [24] * 3, "no other width is divided by three heads"
    assert [t.params["layers.1.heads"] for t in study.trials] == [3, 3, 3, 2, 2]


def test_optunas_own_wrapper_fixes_them_for_the_strategy_as_well() -> None:
    asked = Asked(NSGA2(seed=0, population=4, startup=2))
    study = optuna.create_study(sampler=Sampler(strategy=asked))
    study.optimize(layered, n_trials=20)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        inner = optuna.samplers.PartialFixedSampler({"n_layer": 5, "optimizer": "adam"}, study.sampler)
        study.sampler = optuna.samplers.PartialFixedSampler({"optimizer": "sgd"}, inner)  # the outer one decides
    study.enqueue_trial({"my lr!": 0.01})
    before = len(asked.calls)
    study.optimize(layered, n_trials=4)
    check_proposals(study.trials[-4:], asked, before)
    assert study.trials[20].params["my lr!"] == 0.01


@pytest.mark.parametrize(
    "values", [{"depth": 99}, {"width": "wide"}, {"width": [8]}, {"layers.3.heads": 2, "depth": 1}, {"nobody": 1}]
)
def test_what_does_not_fit_is_passed_over(values, caplog) -> None:
    study = optuna.create_study(sampler=Sampler(Small, NSGA2(seed=0, population=4, startup=2)))
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.enqueue_trial(values)
        frozen = study.ask()
    proposal = study.sampler.sample_relative(
        study, study.trials[-1], study.sampler.infer_relative_search_space(study, study.trials[-1])
    )
    assert Small.contains(Small.architecture(proposal, strict=False))
    assert frozen.number == 0
    assert not [r for r in caplog.records if r.name.startswith("nas_bo")]


def test_what_no_architecture_satisfies_is_drawn_and_said(caplog) -> None:
    class Strict(Space):
        width = choice(8, 16)
        heads = choice(1, 3)

        @require
        def divides(arch):
            return arch.width % arch.heads == 0

    study = optuna.create_study(sampler=Sampler(Strict, NSGA2(seed=0, population=4, startup=0)))
    study.enqueue_trial({"heads": 3})
    with caplog.at_level(logging.WARNING):
        study.optimize(lambda trial: suggest(trial, Strict).width, n_trials=2)
    assert [t.state.name for t in study.trials] == ["PRUNED", "COMPLETE"]
    assert "every architecture" in caplog.text


def test_the_same_trials_give_the_same_proposals_with_fixed_parameters() -> None:
    def params(breaks: int) -> list[dict]:
        study = optuna.create_study(sampler=Sampler(Small, Bayes(seed=0, startup=3, candidates=60)))
        for depth in (2, 4, 2, 4, 2, 4):
            study.enqueue_trial({"depth": depth})
        study.optimize(small, n_trials=breaks)
        study.sampler = Sampler(Small, Bayes(seed=0, startup=3, candidates=60))
        study.optimize(small, n_trials=8 - breaks)
        return [t.params for t in study.trials]

    assert params(8) == params(5)
