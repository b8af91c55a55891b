"""The sampler on define-by-run studies: what it learns of their structure, and that nothing in a study stops it."""

from __future__ import annotations

import logging
import pickle
import subprocess

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from nas_bo import optuna as door
from nas_bo.objectives import Parameters
from nas_bo.optuna import Sampler
from nas_bo.optuna.inferred.study_space import Evidence
from nas_bo.problem import Value
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, choice, integer, repeat, require
from nas_bo.strategies import NSGA2, Bayes, Random, Reinforce
from nas_bo.trial import State
from tests.processes import Python, python

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Asked:
    """A strategy that keeps what it was asked."""

    def __init__(self, inner=None):
        self.inner, self.calls = inner or Random(seed=0), []

    def suggest(self, problem, trials, n):
        self.calls.append((problem, list(trials), n))
        return self.inner.suggest(problem, trials, n)


def layered(trial: optuna.Trial) -> float:
    """Lists in two ways of naming, one of them conditional inside, and a branch at the top."""
    depth = trial.suggest_int("n_layer", 1, 5)
    total = 0.0
    for i in range(depth):
        total += trial.suggest_categorical(f"heads_{i}", [2, 4, 8])
        if trial.suggest_categorical(f"layers.{i}.mixer", ["attention", "conv", "pool"]) != "pool":
            total += trial.suggest_float(f"layers.{i}.dropout", 0.0, 0.5)
    if trial.suggest_categorical("optimizer", ["adam", "sgd"]) == "sgd":
        total += trial.suggest_float("momentum", 0.0, 0.9)
    return total + trial.suggest_float("my lr!", 1e-4, 1e-1, log=True)


def run(objective, n, strategy=None, directions=("minimize",), **kwargs) -> optuna.Study:
    study = optuna.create_study(directions=directions, sampler=Sampler(strategy=strategy or Random(seed=0)), **kwargs)
    study.optimize(objective, n_trials=n)
    return study


def learned(objective, n=40) -> tuple[type[Space], optuna.Study]:
    asked = Asked()
    study = run(objective, n, asked)
    return asked.calls[-1][0].space, study


# ---- what exists when ----------------------------------------------------------------------------------------------------


def test_lists_and_branches_are_learned():
    space, _ = learned(layered)
    assert space.describe().split("\n", 1)[1].split("\n") == [
        "  n_layer      a whole number from 1 to 5",
        "  per_n_layer  list of n_layer records, each with",
        "      heads         one of 2, 4, 8",
        "      layers_mixer  one of attention, conv, pool (unordered)",
        "      while layers_mixer is one of attention, conv:",
        "          layers_dropout  a real number from 0 to 0.5",
        "  optimizer    one of adam, sgd (unordered)",
        "      sgd:",
        "          momentum  a real number from 0 to 0.9",
        "  my_lr        a real number from 0.0001 to 0.1 (log)",
    ]


def test_a_proposal_is_what_the_trial_asks_for_no_more_and_no_less():
    """Once the structure is known, nothing is drawn outside of the proposal and nothing in it is unused."""
    asked = Asked(NSGA2(seed=0, population=5, startup=0))
    study = run(layered, 60, asked)
    _, history, _ = asked.calls[-1]
    for trial, ours in zip(study.trials[:59], history, strict=True):
        assert sorted(trial.params.values(), key=str) == sorted(ours.architecture.flat.values(), key=str)
    proposed = [asked.inner.suggest(*call)[0] for call in asked.calls[20:]]
    for arch, trial in zip(proposed, study.trials[-len(proposed) :], strict=True):
        assert sorted(trial.params.values(), key=str) == sorted(arch.flat.values(), key=str)


def test_a_layer_that_no_trial_had_is_proposed_like_the_others():
    asked = Asked(NSGA2(seed=0, population=3, startup=0))
    study = optuna.create_study(sampler=Sampler(strategy=asked))
    for depth in (1, 2, 3):
        study.enqueue_trial({"n_layer": depth})
    study.optimize(layered, n_trials=3)
    study.enqueue_trial({"n_layer": 5})
    study.optimize(layered, n_trials=1)
    last = study.trials[-1]
    assert {"heads_4", "layers.4.mixer"} <= set(last.params)
    space = asked.calls[-1][0].space
    assert "per_n_layer.4.heads" in space.domains()


def test_lists_in_lists():
    def objective(trial):
        total = 0
        for s in range(trial.suggest_int("n_stages", 1, 3)):
            for b in range(trial.suggest_int(f"stage{s}_n", 1, 3)):
                total += trial.suggest_int(f"stage{s}_block{b}_width", 1, 8)
        return total

    space, _ = learned(objective, 60)
    assert space.size() == sum(sum(8**n for n in (1, 2, 3)) ** s for s in (1, 2, 3))
    assert "stage.2.stage_block.1.stage_block_width" in space.domains()


def test_a_list_of_constant_length_and_names_that_only_look_like_one():
    def objective(trial):
        total = sum(trial.suggest_int(f"x{i}", 0, 9) for i in range(6))
        total += trial.suggest_float("conv3x3", 0, 1) + trial.suggest_float("conv5x5", 0, 1)
        return total + trial.suggest_categorical("fp16", [True, False])

    space, _ = learned(objective, 5)
    assert "x.5.x" in space.domains() and {"conv3x3", "conv5x5", "fp16"} <= set(space.domains())


def test_values_in_between_are_guessed_from_their_neighbours():
    dists = {"depth": IntDistribution(1, 9), "deep": FloatDistribution(0, 1)}
    asked = Asked()
    study = optuna.create_study(sampler=Sampler(strategy=asked))
    for depth, deep in ((1, False), (3, False), (7, True), (8, True)):
        params = {"depth": depth, **({"deep": 0.5} if deep else {})}
        study.add_trial(create_trial(params=params, distributions={k: dists[k] for k in params}, value=1.0))
    study.ask(dists)
    assert "while depth is one of 5, 6, 7, 8, 9:" in asked.calls[-1][0].space.describe()


def test_what_nothing_explains_is_still_proposed_unless_it_is_rare():
    def objective(trial):
        total = trial.suggest_float("a", 0, 1)
        if total > 0.5:
            total += trial.suggest_float("b", 0, 1)
        return total + trial.suggest_float(f"of trial {trial.number}", 0, 1)

    space, study = learned(objective, 30)
    assert set(space.domains()) == {"a", "b"}
    assert all(t.state is TrialState.COMPLETE for t in study.trials)


def test_the_structure_does_not_depend_on_the_order_of_completion():
    study = run(layered, 12)
    spaces = []
    for order in (range(12), [5, 3, 11, 0, 1, 2, 4, 6, 7, 8, 9, 10]):
        asked = Asked()
        other = optuna.create_study(sampler=Sampler(strategy=asked))
        for t in study.trials:
            other.add_trial(t)
        sampler, trials = other.sampler, other.trials
        for i in order:
            sampler._known(other).view([trials[i]])
        spaces.append(sampler._known(other).view([]).space)
    assert spaces[0] is spaces[1]


def test_the_same_parameters_give_the_same_space_object():
    asked = Asked()
    study = run(layered, 40, asked)
    assert len({id(c[0]) for c in asked.calls[-10:]}) == 1
    again = Asked()
    study.sampler = Sampler(strategy=again)
    study.optimize(layered, n_trials=1)
    assert again.calls[0][0].space is asked.calls[-1][0].space


@pytest.mark.parametrize(
    "choices", [[1, True, 2], [None, "a", 3, 0.5], ["", "1", "a.b"], [float("nan"), 1.0], [128, 256, 64]]
)
def test_odd_choices_come_back_as_they_are(choices):
    def objective(trial):
        value = trial.suggest_categorical("odd", choices)
        assert any(value is c or value == c for c in choices)
        return trial.suggest_float("step", 0.0, 1.0, step=0.25) + trial.suggest_int("even", 2, 8, step=2)

    study = run(objective, 12, NSGA2(seed=0, population=3, startup=0), directions=["minimize"])
    assert all(t.state is TrialState.COMPLETE for t in study.trials)
    assert {type(t.params["odd"]) for t in study.trials} <= {type(c) for c in choices}
    assert {t.params["step"] for t in study.trials} <= {0.0, 0.25, 0.5, 0.75, 1.0}


# ---- parameters of the user's own beside a space ---------------------------------------------------------------------------


class Small(Space):
    depth = integer(1, 3)
    width = choice(8, 16, 24)
    layers = repeat(depth, heads=choice(1, 2, 3))

    @require
    def exactly_its_own_parameters(arch):
        assert set(arch.tree) == {"depth", "width", "layers"}, "a rule sees architectures of its own space"
        return all(arch.width % layer.heads == 0 for layer in arch.layers)

    @require
    def nothing_foreign_in_the_flat_view(arch):
        return all(path in Small.domains() for path in arch.flat)


def own(trial: optuna.Trial) -> tuple[float, float]:
    arch = door.suggest(trial, Small)
    rate = trial.suggest_float("my lr!", 1e-4, 1e-1, log=True)
    size = trial.suggest_int("size", 1, 4)  # a word of the language
    if arch.depth == 3:
        rate += trial.suggest_float("layers.warmup", 0, 1)
    return rate + 1 / arch.width, float(size * arch.depth)


def test_parameters_beside_a_space_are_proposed_with_it():
    asked = Asked(NSGA2(seed=0, population=5, startup=0))
    study = optuna.create_study(directions=["minimize"] * 2, sampler=Sampler(Small, asked))
    study.optimize(own, n_trials=40)
    problem, history, _ = asked.calls[-1]
    assert set(problem.space.domains()) == {*Small.domains(), "my_lr", "size_2", "layers_warmup"}
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 40
    arch = history[-1].architecture
    assert arch.flat["my_lr"] == study.trials[38].params["my lr!"]
    assert ("layers_warmup" in arch.flat) == (arch.depth == 3)
    assert len({t.params["my lr!"] for t in study.trials}) < 40, "learning rates are inherited"
    assert asked.calls[0][0].space is Small  # nothing else was known then


def test_objectives_are_asked_about_architectures_of_the_users_space():
    seen = []

    class Known:
        name, unit, direction, cost = "known", "", "minimize", "analytic"

        def __call__(self, arch):
            seen.append(arch)
            return Value(arch.width * arch.depth, how="counted")

    asked = Asked(NSGA2(seed=0, population=5, startup=0))
    sampler = Sampler(Small, asked, objectives=[lambda_named("loss"), Known()])
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    study.optimize(own, n_trials=25)
    assert asked.calls[-1][0].space is not Small
    assert seen and all(Small.contains(arch) for arch in seen)
    values = asked.calls[-1][0].guide(asked.calls[-1][1][-1])
    last = door.architecture(Small, study.trials[-2].params)
    assert values[1] == last.width * last.depth


def lambda_named(name):
    def loss(arch):
        raise AssertionError("the study reports it")

    loss.__name__ = name
    return loss


def test_objectives_of_the_package_work_beside_parameters_of_the_users_own():
    def objective(trial):
        arch = door.suggest(trial, TinyGPT)
        return trial.suggest_float("lr", 0, 1), float(Parameters()(arch))

    sampler = Sampler(TinyGPT, NSGA2(seed=0, population=4), objectives=[lambda_named("loss"), Parameters()])
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    study.optimize(objective, n_trials=12)
    assert all(t.state is TrialState.COMPLETE for t in study.trials)


@pytest.mark.parametrize("more", [False, True])
def test_a_weighted_sum_of_which_the_study_has_the_value_only(more):
    """Its parts are not in the study, so what the user's objective returned is what the search is steered by."""
    from nas_bo.objectives import Flops, Weighted

    def objective(trial):
        arch = door.suggest(trial, TinyGPT)
        return float(Parameters()(arch)) + (trial.suggest_float("lr", 0, 1) if more else 0.0)

    score = Weighted([(1.0, lambda_named("loss")), (1e-3, Flops(at_most=20))], name="score")
    asked = Asked(NSGA2(seed=0, population=4, startup=3))
    study = optuna.create_study(sampler=Sampler(TinyGPT, asked, objectives=[score]))
    study.optimize(objective, n_trials=8)
    problem, history, _ = asked.calls[-1]
    assert len(history) == 7
    for trial in history:
        assert problem.guide(trial) == pytest.approx([study.trials[trial.number].value])
        assert Flops()(door.architecture(TinyGPT, study.trials[trial.number].params)) <= 20


# ---- studies as they are -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_a_study_begun_by_another_sampler_in_a_real_storage(storage, tmp_path):
    def backend():
        if storage == "sqlite":
            return f"sqlite:///{tmp_path}/s.db"
        return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "j.log")))

    study = optuna.create_study(study_name="s", storage=backend(), sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(layered, n_trials=8)
    asked = Asked(NSGA2(seed=0, population=4, startup=0))
    study = optuna.load_study(study_name="s", storage=backend(), sampler=Sampler(strategy=asked))
    study.optimize(layered, n_trials=6)
    assert [len(c[1]) for c in asked.calls] == list(range(8, 14))
    assert all(t.state is TrialState.COMPLETE for t in study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=1)
    study.optimize(layered, n_trials=2)
    study.sampler = Sampler(strategy=asked)
    study.optimize(layered, n_trials=1)
    assert len(asked.calls[-1][1]) == 16


WORKER = """
import sys, optuna
from nas_bo.optuna import Sampler
from nas_bo.strategies import NSGA2
from tests.doors.test_optuna_sampler import layered
optuna.logging.set_verbosity(optuna.logging.ERROR)
backend = optuna.storages.journal.JournalFileBackend(sys.argv[1])
study = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend),
                          sampler=Sampler(strategy=NSGA2(seed=0, population=4)))
study.optimize(layered, n_trials=8)
"""


def test_several_processes_on_one_study(tmp_path):
    path = str(tmp_path / "j.log")
    backend = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
    study = optuna.create_study(study_name="s", storage=backend)
    workers = [Python("-c", WORKER, path, stderr=subprocess.PIPE) for _ in range(3)]
    errors = [worker.communicate()[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], errors
    assert not any("could not" in text or "no proposal" in text for text in errors), errors
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 24
    # Two that ask in the same moment may breed the same child: neither is recorded yet.
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) >= 22


def _trials(upto: int, n: int = 24) -> list[dict]:
    study = optuna.create_study(sampler=Sampler(strategy=NSGA2(seed=1, population=5), seed=4))
    study.optimize(layered, n_trials=upto)
    study.sampler = Sampler(strategy=NSGA2(seed=1, population=5), seed=4)  # a fresh one: nothing was in the old one
    study.optimize(layered, n_trials=n - upto)
    return [t.params for t in study.trials]


def test_same_seed_same_trials_after_a_resume_and_in_another_process():
    whole = _trials(24)
    assert _trials(9) == whole
    code = "from tests.doors.test_optuna_sampler import _trials; print(_trials(13))"
    out = python("-c", code)
    assert out.stdout.strip() == str(whole), out.stderr


def test_another_seed_other_trials_and_none_is_another_one_every_time():
    def first(seed):
        study = optuna.create_study(sampler=Sampler(seed=seed))
        study.optimize(layered, n_trials=1)
        return study.trials[0].params

    assert first(1) == first(1) != first(2)
    assert Sampler(seed=None).seed != Sampler(seed=None).seed


def test_threads_get_different_proposals():
    study = optuna.create_study(sampler=Sampler(strategy=NSGA2(seed=0, population=4, startup=0)))
    study.optimize(layered, n_trials=40, n_jobs=4)
    assert all(t.state is TrialState.COMPLETE for t in study.trials)
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) >= 38


def test_trials_in_every_state_and_the_users_constraints_reach_the_strategy():
    def objective(trial):
        value = layered(trial)
        trial.set_constraint("mine", value - 15)
        if trial.number == 5:
            raise optuna.TrialPruned
        if trial.number == 6:
            raise ValueError("out of memory")
        return float("nan") if trial.number == 7 else value

    asked = Asked(NSGA2(seed=0, population=4, startup=0))
    study = optuna.create_study(sampler=Sampler(strategy=asked))
    study.enqueue_trial({"n_layer": 2})
    study.optimize(objective, n_trials=10, catch=ValueError)
    running = study.ask()
    layered(running)
    study.enqueue_trial({"n_layer": 3})
    study.optimize(objective, n_trials=1)
    history = {t.number: t for t in asked.calls[-1][1]}
    assert history[5].state is State.INFEASIBLE
    assert history[6].state is history[7].state is State.FAILED
    assert history[10].state is State.RUNNING and asked.calls[-1][2] == 1
    for number in (3, 4, 5, 8):
        assert history[number].violations == study.trials[number].constraints
    assert study.trials[-1].params["n_layer"] == 3


def test_a_partly_enqueued_trial_gets_a_proposal_for_what_goes_with_it():
    """With n_layer fixed to 5 in advance, all five layers come from the proposal, whatever it had for n_layer."""
    study = run(layered, 30)
    study.enqueue_trial({"n_layer": 5, "optimizer": "sgd"})
    trial = study.ask()
    frozen = study.trials[-1]
    offered = study.sampler.infer_relative_search_space(study, frozen)
    proposal = study.sampler.sample_relative(study, frozen, offered)
    assert {f"heads_{i}" for i in range(5)} | {"momentum"} <= set(proposal)
    layered(trial)
    assert {name: trial.params[name] for name in proposal if name in trial.params} == {
        **{name: value for name, value in proposal.items() if name in trial.params},
        "n_layer": 5,
        "optimizer": "sgd",
    }


def test_a_trial_that_is_only_starting_takes_the_proposal_before():
    asked = Asked()
    study = run(layered, 5, asked)
    study.ask()  # asks for nothing yet
    late = study.ask()
    layered(late)
    assert asked.calls[-1][2] == 2


class Broken:
    def suggest(self, problem, trials, n):
        raise ZeroDivisionError("by zero")


class Wrong:
    def suggest(self, problem, trials, n):
        return ["an architecture"]


@pytest.mark.parametrize("strategy", [Broken(), Wrong()], ids=["raises", "wrong type"])
@pytest.mark.parametrize("space", [None, Small])
def test_a_strategy_that_fails_is_logged_once_and_stops_nothing(strategy, space, caplog):
    study = optuna.create_study(directions=["minimize"] * 2, sampler=Sampler(space, strategy))
    with caplog.at_level(logging.WARNING):
        study.optimize(own, n_trials=8)
    said = [r.message for r in caplog.records if r.name == "nas_bo.optuna.sampler"]
    assert len(said) == 1 and ("ZeroDivisionError: by zero" in said[0] or "not 'an architecture'" in said[0])
    states = {t.state for t in study.trials}  # random draws may break a rule where the sampler does not know the space
    assert len(study.trials) == 8 and states <= {TrialState.COMPLETE, *([TrialState.PRUNED] if space is None else [])}


def test_many_objectives():
    study = run(lambda t: [layered(t)] * 6, 12, NSGA2(seed=0, population=4), directions=["minimize", "maximize"] * 3)
    assert all(t.state is TrialState.COMPLETE for t in study.trials)


def test_the_wrong_number_of_objectives_is_said(caplog):
    sampler = Sampler(Small, objectives=[lambda_named("a"), lambda_named("b"), lambda_named("c")])
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    study.optimize(own, n_trials=2)
    assert "3 objectives, but the study has 2" in caplog.text
    with pytest.raises(ValueError, match="name their space"):
        Sampler(objectives=[lambda_named("a")])


class Odd(CategoricalDistribution):
    """A kind of distribution that nobody knows."""


def test_unknown_kinds_of_distributions_are_left_to_chance():
    dists = {"x": FloatDistribution(0, 1), "odd": Odd(["a", "b"])}
    sampler = Sampler(strategy=Random(seed=0))
    study = optuna.create_study(sampler=sampler)
    for _ in range(3):
        study.tell(study.ask(dists), 1.0)
    assert {t.params["odd"] for t in study.trials} <= {"a", "b"}


def test_a_pruner_that_shows_the_sampler_less_than_a_study():
    def objective(trial):
        for step in range(4):
            trial.report(trial.suggest_float("x", 0, 1), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return trial.suggest_float("x", 0, 1)

    asked = Asked()
    pruner = optuna.pruners.HyperbandPruner(max_resource=4)
    study = optuna.create_study(sampler=Sampler(strategy=asked), pruner=pruner)
    study.optimize(objective, n_trials=20)
    assert asked.calls and len(study.trials) == 20


def test_a_parameter_fixed_by_optunas_own_wrapper():
    study = run(layered, 10)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.sampler = optuna.samplers.PartialFixedSampler({"n_layer": 5}, study.sampler)
    study.optimize(layered, n_trials=3)
    assert [t.params["n_layer"] for t in study.trials[-3:]] == [5, 5, 5]


def test_ranges_that_move_are_covered():
    def objective(trial):
        low = 10 * (trial.number % 3)
        return trial.suggest_float("x", low, low + 15) + trial.suggest_int(
            "y", low, low + 14, step=1 + trial.number % 2
        )

    asked = Asked(NSGA2(seed=0, population=4, startup=0))
    study = run(objective, 20, asked)
    assert len(asked.calls[-1][1]) == 19 and len(study.trials) == 20


def test_a_sampler_can_be_pickled_with_its_study():
    study = run(layered, 5)
    again = pickle.loads(pickle.dumps(study))
    study.optimize(layered, n_trials=3)
    again.optimize(layered, n_trials=3)
    assert [t.params for t in again.trials] == [t.params for t in study.trials]


def test_a_proposed_none_is_a_proposal() -> None:
    """A parameter that no trial had so far, for which the strategy chose None among the values."""

    def objective(trial):
        depth = trial.suggest_int("n_layer", 1, 4)
        for i in range(depth):
            trial.suggest_categorical(f"norm_{i}", [None, "layer", "rms", "batch"])
        return float(depth)

    asked = Asked(NSGA2(seed=0, population=3, startup=0))
    study = optuna.create_study(sampler=Sampler(strategy=asked))
    for depth in (1, 2, 3):
        study.enqueue_trial({"n_layer": depth})
    study.optimize(objective, n_trials=3)
    proposed = []
    for _ in range(12):
        study.enqueue_trial({"n_layer": 4})
        before = len(asked.calls)
        trial = study.ask()
        objective(trial)
        architecture = asked.inner.suggest(*asked.calls[before])[-1]
        proposed.append(architecture.flat["norm.3.norm"])
        assert trial.params["norm_3"] == proposed[-1]
    assert None in proposed


def test_objectives_that_are_renamed_in_the_middle_of_a_study() -> None:
    asked = Asked(NSGA2(seed=0, population=4, startup=0))
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=Sampler(strategy=asked))
    study.optimize(lambda t: (layered(t), 1.0), n_trials=8)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["loss", "speed"])
    study.optimize(lambda t: (layered(t), 1.0), n_trials=2)
    for problem, history, _ in asked.calls[8:]:
        assert [c.name for c in problem.columns] == ["loss", "speed"]
        assert all(set(t.values) == {"loss", "speed"} for t in history)
        assert all(problem.guide(t) is not None for t in history)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["speed", "loss"])
    study.optimize(lambda t: (layered(t), 1.0), n_trials=1)
    assert all(t.values["speed"] == study.trials[t.number].values[0] for t in asked.calls[-1][1])


@pytest.mark.parametrize("strategy", [NSGA2(seed=0, population=4), Bayes(seed=0, startup=3), Reinforce(seed=0)])
def test_whole_numbers_of_huge_ranges(strategy, caplog) -> None:
    def objective(trial):
        a = trial.suggest_int("a", 0, 2**64)
        b = trial.suggest_int("b", 1, 2**70, log=True)
        c = trial.suggest_int("c", -(2**60), 2**60, step=3)
        return abs(a / 2**64 - 0.5) + b / 2**70 + abs(c) / 2**60

    asked = Asked(strategy)
    with caplog.at_level(logging.WARNING):
        study = run(objective, 12, asked)
    assert not [r.message for r in caplog.records if r.name.startswith("nas_bo")]
    assert all(t.state is TrialState.COMPLETE for t in study.trials)
    assert len(asked.calls[-1][1]) == 11, "no trial is lost"
    assert set(asked.calls[-1][0].space.domains()) == {"a", "b", "c"}


def test_what_is_kept_of_trials_does_not_grow_with_them():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(layered, n_trials=100)
    many = [
        create_trial(params=t.params, distributions=t.distributions, value=t.value)
        for _ in range(5)
        for t in study.trials
    ]
    for number, trial in enumerate(many):
        trial.number = number
    few, all_of_them = Evidence(None), Evidence(None)
    assert few.view(many[:100]).space is all_of_them.view(many).space
    assert len(pickle.dumps(few._tally)) == pytest.approx(len(pickle.dumps(all_of_them._tally)), rel=0.02)
