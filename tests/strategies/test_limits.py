"""Limits on what is measured and is no objective: learned as numbers, through every way in which they are told."""

import math

import numpy as np
import optuna
import pytest

from nas_bo.optuna import Sampler
from nas_bo.problem import Function, Problem, Reported
from nas_bo.space import Space, choice, integer, real
from nas_bo.stopping import Reservation
from nas_bo.strategies import Bayes
from nas_bo.strategies.limits import MOST, amounts_of
from nas_bo.strategies.objective_models import Belief
from nas_bo.study import from_attributes
from nas_bo.surrogate.censored import Amounts, Censored
from nas_bo.trial import State, Trial
from nas_bo.workflows.ask_tell import AskTell


class Square(Space):
    x = real(0.0, 1.0)
    y = real(0.0, 1.0)


class Mixed(Space):
    a = real(0.0, 1.0)
    b = real(0.0, 1.0)
    c = real(0.0, 1.0)
    depth = integer(1, 12)
    family = choice("p", "q", "r")
    width = choice(16, 32, 64, 128)


def at(x, y):
    return Square.architecture({"x": float(x), "y": float(y)})


def total(arch):
    return arch.x + arch.y


def area(arch):
    return 0.1 - arch.x * arch.y


def bounded(function, name, bound, cost="measured"):
    return Function(function, name, cost=cost, at_most=bound)


def searched(problem, count, strategy=None):
    trials = []
    for _ in range(count):
        trials.append(problem.evaluate((strategy or Bayes(candidates=1000)).suggest(problem, trials, 1)[0]))
    return trials


# ---- through every host -----------------------------------------------------------------------------------------


def ended(study):
    told = [all(amount <= 0 for amount in trial.constraints.values()) for trial in study.trials]
    return sum(told[-20:]), min(t.value for t, ok in zip(study.trials, told, strict=True) if ok)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_optuna_told_by_set_constraint(seed):
    study = optuna.create_study(sampler=Sampler(seed=seed))

    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("c", 0.1 - x * y)
        return x + y

    study.optimize(objective, n_trials=30)
    feasible, best = ended(study)
    assert feasible >= 12 and best <= 0.65


def test_optuna_told_by_constraints_func():
    def amounts(trial):
        return (0.1 - trial.params["x"] * trial.params["y"],)

    study = optuna.create_study(sampler=Sampler(seed=0, constraints_func=amounts))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1), n_trials=30)
    feasible, best = ended(study)
    assert feasible >= 12 and best <= 0.65


@pytest.mark.parametrize("cost", ["measured", "trained"])  # before the objective, which is then missing, or after it
def test_limits_of_a_problem(cost):
    problem = Problem(Square, [Function(total, "total")], [bounded(area, "area", 0.0, cost)])
    trials = searched(problem, 25)
    assert sum(t.feasible for t in trials[-15:]) >= 8
    assert min(t.values["total"] for t in trials if t.feasible) <= 0.66


def test_ask_tell():
    opt = AskTell(Square, ["total"], limits=[Reported("area", at_most=0.0)], strategy=Bayes(candidates=1000))
    for _ in range(22):
        asked = opt.ask()
        amount = area(asked.architecture)  # above the limit the total is never computed
        opt.tell(asked.number, {"area": amount} | ({"total": total(asked.architecture)} if amount <= 0 else {}))
    trials = opt.result().trials
    assert sum(t.feasible for t in trials[-12:]) >= 6
    assert min(t.values["total"] for t in trials if t.feasible) <= 0.68


def test_ax_outcome_constraints():
    pytest.importorskip("ax")
    from ax.api.client import Client

    from nas_bo import ax as nas_ax

    client = Client(random_seed=0)
    client.configure_experiment(parameters=nas_ax.parameters(Square))
    client.configure_optimization(objective="-total", outcome_constraints=["area <= 0"])
    client.set_generation_strategy(nas_ax.generation(Square, Bayes(candidates=1000)))
    found = []
    for _ in range(22):
        for index, parameters in client.get_next_trials(max_trials=1).items():
            arch = nas_ax.architecture(Square, parameters)
            client.complete_trial(index, raw_data={"total": total(arch), "area": area(arch)})
            found.append(arch)
    assert sum(area(a) <= 0 for a in found[-12:]) >= 6
    assert min(total(a) for a in found if area(a) <= 0) <= 0.68


def test_reservation_counts_the_limits():
    problem = Problem(Square, [Function(total, "total")], [bounded(area, "area", 0.0)])
    trials = searched(problem, 12)
    rungs = {"rungs": [[0.5, 1.0]]}
    history = [
        Trial(t.architecture, t.values, t.violations, t.state, info={**t.info, "total": {"rungs": [[0.5, total(t.architecture) + 0.1]]}})
        if t.values else t
        for t in trials
    ]  # fmt: skip
    history.append(Trial(at(x=0.9, y=0.8), state=State.STOPPED, info={"total": rungs}))
    judge = Reservation(startup=2).judge(problem, history, at(x=0.32, y=0.33))
    assert judge("total", 0.5, {"total": 0.7}) and isinstance(judge("total", 0.5, {"total": 3.0}), bool)
    assert Belief(problem, history, all_rungs=True).limits.models


# ---- kinds of limits --------------------------------------------------------------------------------------------


def memory(arch):
    return math.exp(3 * arch.a + 2 * arch.b) * 1e6 * arch.width / 16


def delay(arch):
    return 3.0 * arch.depth * (arch.width / 16) ** 0.8 * (1.5 if arch.family == "q" else 1.0)


def quality(arch):
    worse = (
        (arch.a - 0.3) ** 2
        + (arch.b - 0.7) ** 2
        + 0.3 * abs(arch.c - 0.5)
        + {"p": 0.3, "q": 0.0, "r": 0.1}[arch.family]
    )
    return worse - 0.05 * arch.depth - 0.1 * math.log2(arch.width / 16)


def test_two_limits_of_very_different_scales():
    limits = [bounded(delay, "delay", 40.0), bounded(memory, "memory", 1e8)]
    trials = searched(Problem(Mixed, [Function(quality, "quality")], limits), 35)
    assert sum(t.feasible for t in trials[-20:]) >= 12
    assert min(t.values["quality"] for t in trials if t.feasible) <= -0.3


def test_what_hardly_anything_satisfies_is_found_without_a_single_objective_value(caplog):
    def far(arch):  # 0.7 % of the square
        return math.hypot(arch.x - 0.21, arch.y - 0.83)

    trials = searched(Problem(Square, [Function(total, "total")], [bounded(far, "far", 0.05)]), 25)
    assert sum(t.feasible for t in trials) >= 5
    assert "no surrogate" not in caplog.text


def test_a_limit_that_is_never_met_ends_in_nothing_worse_than_trying(caplog):
    trials = searched(Problem(Square, [Function(total, "total")], [bounded(area, "area", -2.0)]), 14)
    assert len({t.architecture.id for t in trials}) == 14 and "no surrogate" not in caplog.text


def test_a_limit_that_was_never_violated_changes_no_proposal():
    def same(limits):
        problem = Problem(Square, [Function(total, "total")], limits)
        return [t.architecture.id for t in searched(problem, 12)]

    assert same([]) == same([bounded(area, "area", 5.0)])


ABSURD = [1e308, math.inf, -math.inf, None, math.nan, 5e-324]


@pytest.mark.parametrize("amount", ABSURD)
def test_one_absurd_amount_spoils_nothing(amount, caplog):
    problem = Problem(Square, [Reported("total")])
    rng, trials = np.random.default_rng(0), []
    for x, y in rng.random((20, 2)):
        trials.append(Trial(at(x=x, y=y), {"total": x + y}, {"c": 0.1 - x * y}))
    trials[7] = Trial(trials[7].architecture, trials[7].values, {"c": amount})
    assert len(Bayes(candidates=300).suggest(problem, trials, 1)) == 1
    belief = Belief(problem, trials)
    inputs = belief.inputs(belief.genomes([at(0.03, 0.1), at(0.9, 0.95)]))
    worse, better = sum(np.exp(model.log_chance(inputs)) for model in belief.limits.models)
    assert worse < 0.5 < better
    assert "no surrogate" not in caplog.text


def test_more_limits_than_are_modelled_one_by_one():
    problem = Problem(Square, [Reported("total")])
    points = np.random.default_rng(0).random((20, 2))
    trials = [
        Trial(at(x=x, y=y), {"total": x + y}, {f"c{i}": 0.1 - x * y + i / 1000 for i in range(MOST + 5)})
        for x, y in points
    ]
    assert len(Belief(problem, trials).limits.models) == MOST + 1
    assert len(Bayes(candidates=300).suggest(problem, trials, 2)) == 2


# ---- what is read from a history --------------------------------------------------------------------------------


def told(*violations, state=State.COMPLETE, info=None):
    return [
        Trial(at(x=i / 100, y=0.5), {"total": 1.0} if state is State.COMPLETE else {}, v, state, info=info or {})
        for i, v in enumerate(violations)
    ]


def read(trials, problem=None):
    return amounts_of(problem or Problem(Square, [Reported("total")]), trials)


def test_signed_amounts_count_as_they_are():
    found = read(told({"c": -2.0}, {"c": 0.0}, {"c": 3.0}, {}))["c"]
    assert found.values[:3].tolist() == [-2.0, 0.0, 3.0] and np.isnan(found.values[3]) and found.signs[3] == 0


def test_of_amounts_cut_at_zero_only_the_sign_of_what_is_satisfied_is_known():
    trials = told({"c": 0.0}, {"c": 2.5}) + told({"c": 0.0}, state=State.INFEASIBLE)
    found = read(trials)["c"]
    assert np.isnan(found.values[[0, 2]]).all() and found.values[1] == 2.5
    assert found.signs[[0, 2]].tolist() == [-1.0, 0.0]  # what was not evaluated says 0 as well


def test_true_and_false_are_signs():
    found = read(told({"c": 1.0}, {"c": 0.0}, {"c": 1.0}))["c"]
    assert np.isnan(found.values).all() and found.signs.tolist() == [1.0, -1.0, 1.0]


def test_the_number_itself_counts_where_the_trial_has_it():
    trials = told({"delay<=6": 0.0}, info={"delay": {"value": 2.0}}) + told({"delay<=6": 1.0}, info={})
    assert read(trials)["delay<=6"].values.tolist() == [-4.0, 1.0]
    problem = Problem(Square, [Reported("total")], [Reported("delay", at_most=6.0000001)])  # named "delay<=6"
    assert read(trials, problem)["delay<=6"].values[0] == pytest.approx(2.0 - 6.0000001)
    parts = told({"delay<=6": 0.0}, info={"sum": {"parts": {"delay": 5.0}}})
    assert read(parts)["delay<=6"].values.tolist() == [-1.0]


def test_what_is_measured_before_it_is_violated_is_kept_by_every_storage(tmp_path):
    opt = AskTell(Square, ["total"], limits=[Reported("area", at_most=0.0)], storage=str(tmp_path / "s.db"))
    asked = opt.ask()
    opt.tell(asked.number, {"area": 0.5})
    kept = from_attributes(opt.study.get_trials()[0].user_attrs)
    assert kept["info"]["area"]["value"] == 0.5


def test_the_chance_grows_with_the_distance_from_what_is_violated():
    points = np.linspace(0, 1, 12)[:, None]
    exact = Amounts(points[:, 0] - 0.5, np.zeros(12))
    signs = Amounts(np.full(12, np.nan), np.sign(points[:, 0] - 0.5))
    for amounts in (exact, signs, Amounts(np.where(points[:, 0] > 0.5, exact.values, np.nan), signs.signs)):
        chance = np.exp(Censored(points, amounts, 1).log_chance(np.array([[0.1], [0.9]])))
        assert chance[0] > 0.9 and chance[1] < 0.1
