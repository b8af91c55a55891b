"""The Optuna door against real studies, real storages and Optuna's own conformance suite."""

from __future__ import annotations

import warnings

import optuna
import pytest
from hypothesis import given, settings
from optuna.trial import TrialState

from nas_bo import optuna as door
from nas_bo.errors import HostError
from nas_bo.objectives import Parameters
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, choice, integer, real, repeat, require
from nas_bo.strategies import NSGA2, Random
from tests.generated_spaces import seeds, spaces

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Ruled(Space):
    depth = integer(1, 3)
    width = choice(8, 16, 24)
    rate = real(1e-4, 1e-2, log=True)
    layers = repeat(depth, heads=choice(1, 2, 3))

    @require
    def heads_divide_width(arch):
        return all(arch.width % layer.heads == 0 for layer in arch.layers)

    @require
    def a_second_rule(arch):
        return arch.width < 24 or arch.depth < 3


def quality(arch) -> float:
    """Stands for training; smaller is better."""
    return 1 / arch.width + sum(1 / layer.heads for layer in arch.layers) + abs(arch.rate - 1e-3)


def size(arch) -> float:
    return float(arch.width * arch.depth)


size.cost = "analytic"


# ---- round trips -------------------------------------------------------------------------------------------------------


@given(spaces(), seeds)
def test_round_trip_through_a_real_trial(space, seed):
    arch = space.sample(seed)
    study = optuna.create_study()
    study.enqueue_trial(dict(arch.flat))
    trial = study.ask()
    assert door.suggest(trial, space) == arch
    study.tell(trial, 0.0)
    kept = study.trials[0].params
    assert door.architecture(space, kept) == arch
    assert kept == dict(arch.flat)
    assert [type(v) for v in kept.values()] == [type(v) for v in arch.flat.values()]


@given(spaces(), seeds)
@settings(max_examples=25)
def test_distributions_serve_fixed_distributions_and_hold_every_sample(space, seed):
    dists = door.distributions(space)
    for path, value in space.sample(seed).flat.items():
        assert dists[path]._contains(dists[path].to_internal_repr(value))
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed % 1000)).ask(dists)
    assert space.contains(space.architecture(trial.params, strict=False))


@pytest.mark.parametrize("storage", ["memory", "sqlite", "journal"])
def test_round_trip_through_storages(storage, tmp_path):
    backend = {
        "memory": None,
        "sqlite": f"sqlite:///{tmp_path}/s.db",
        "journal": optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "j.log"))),
    }[storage]
    study = optuna.create_study(storage=backend, sampler=door.Sampler(TinyGPT, Random(seed=1)))
    archs = []
    study.optimize(lambda t: archs.append(door.suggest(t, TinyGPT)) or 0.0, n_trials=4)
    assert [door.architecture(TinyGPT, t.params) for t in study.trials] == archs
    assert [t.architecture for t in door.history(study, TinyGPT, door.columns(study))] == archs


# ---- infeasible points ---------------------------------------------------------------------------------------------------


def test_rules_are_constraints_in_a_fixed_order_and_infeasible_points_are_pruned():
    study = optuna.create_study(directions=["minimize"] * 2, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: (quality(a := door.suggest(t, Ruled)), size(a)), n_trials=60)
    pruned = [t for t in study.trials if t.state is TrialState.PRUNED]
    assert pruned and any(t.state is TrialState.COMPLETE for t in study.trials)
    for t in study.trials:
        assert list(t.constraints) == ["rule:a_second_rule", "rule:heads_divide_width"]
        broken = Ruled.violations(door.architecture(Ruled, t.params))
        assert (t.state is TrialState.PRUNED) == bool(broken)
        assert {n for n, v in t.constraints.items() if v > 0} == {f"rule:{n}" for n in broken}


def test_limits_reach_the_study_and_optunas_gp_accepts_them():
    limited = Parameters(at_most=60_000)
    problem = Problem(TinyGPT, [limited], limits=[])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    study.optimize(door.objective(problem), n_trials=20, catch=door.EvaluationFailed)
    assert {tuple(t.constraints) for t in study.trials} == {("parameters<=60000",)}
    feasible = [t for t in study.trials if t.constraints["parameters<=60000"] <= 0]
    assert 0 < len(feasible) < 20
    assert study.best_trial.value <= 60_000
    study.sampler = optuna.samplers.GPSampler(seed=0)
    study.optimize(door.objective(problem), n_trials=1)


def test_our_sampler_never_proposes_an_infeasible_point():
    study = optuna.create_study(directions=["minimize"] * 2, sampler=door.Sampler(Ruled, NSGA2(seed=0, population=8)))
    study.optimize(lambda t: (quality(a := door.suggest(t, Ruled)), size(a)), n_trials=40)
    assert all(t.state is TrialState.COMPLETE for t in study.trials)
    ids = [door.architecture(Ruled, t.params).id for t in study.trials]
    assert len(set(ids)) == 40


def test_a_failed_evaluation_is_a_failed_trial_with_its_reason():
    def explodes(arch):
        raise ValueError("out of memory")

    study = optuna.create_study(sampler=door.Sampler(TinyGPT, Random()))
    study.optimize(door.objective(Problem(TinyGPT, [explodes])), n_trials=2, catch=door.EvaluationFailed)
    assert {t.state for t in study.trials} == {TrialState.FAIL}
    (first, _) = door.history(study, TinyGPT, door.columns(study))
    assert first.reason == "explodes: ValueError: out of memory"


# ---- the sampler ---------------------------------------------------------------------------------------------------------


def test_a_study_that_already_exists_is_continued_beside_the_users_own_parameters(tmp_path):
    url = f"sqlite:///{tmp_path}/old.db"
    optuna.create_study(study_name="gpt", storage=url, directions=["minimize"] * 2)

    def objective(trial):
        rate = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
        arch = door.suggest(trial, Ruled)
        return quality(arch) + rate, size(arch)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optuna.load_study(study_name="gpt", storage=url, sampler=optuna.samplers.TPESampler(seed=0)).optimize(
            objective, n_trials=10
        )
        study = optuna.load_study(
            study_name="gpt", storage=url, sampler=door.Sampler(Ruled, NSGA2(seed=0, population=6))
        )
        study.optimize(objective, n_trials=15)
    assert len(study.trials) == 25 and all("lr" in t.params for t in study.trials)
    assert all(t.state is TrialState.COMPLETE for t in study.trials[10:])


def test_an_exhausted_space_repeats_instead_of_raising():
    class Two(Space):
        a = choice("x", "y")

    study = optuna.create_study(sampler=door.Sampler(Two, Random()))
    study.optimize(lambda t: float(door.suggest(t, Two).a == "x"), n_trials=4)
    assert {t.params["a"] for t in study.trials[:2]} == {"x", "y"} and len(study.trials) == 4


def test_a_strategy_that_is_none_is_refused():
    with pytest.raises(HostError, match="suggest"):
        door.Sampler(TinyGPT, object())
    with pytest.raises(HostError, match="derives from"):
        door.Sampler(3)  # type: ignore[arg-type]


def test_an_enqueued_point_of_another_space_is_named():
    study = optuna.create_study()
    study.enqueue_trial({"depth": 77})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trial = study.ask()
        with pytest.raises(HostError, match="depth"):
            door.suggest(trial, TinyGPT)
