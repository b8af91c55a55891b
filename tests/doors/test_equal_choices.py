"""Choices that Python calls equal are one value: no point is proposed twice until there is no other."""

import math

import optuna
import pytest

from nas_bo.optuna import Sampler
from nas_bo.optuna.coding import coding, first_equal
from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution, Reinforce

NAN = float("nan")
CHOICES = {
    "none, one, true": ([None, 1, True], 2),
    "zero, false": ([0, False], 1),
    "one, 1.0": ([1, 1.0], 1),
    "written twice": (["a", "b", "a"], 2),
    "beyond floats": ([2**53, 2**53 + 1, float(2**53)], 2),
    "nan": ([NAN, 1.0, float("nan")], 2),
    "signed zeros": ([0.0, -0.0, 1.0], 2),
    "tuples": ([(1, 2), (1.0, 2), (True, 2), (3,)], 2),
    "everything": ([1, "1", True, 1.0, "true", None, 0, False], 5),
}
STRATEGIES = [
    Bayes(startup=2, candidates=50),
    NSGA2(startup=2, population=4),
    Random(),
    RegularizedEvolution(),
    LocalSearch(startup=2),
    Reinforce(),
]


def place(choices, value):
    return first_equal(choices)[next(i for i, v in enumerate(choices) if v is value or v == value)]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")
def test_every_strategy_proposes_distinct_points_until_none_is_left(name, strategy):
    choices, distinct = CHOICES[name]
    seen = []

    def objective(trial):
        value, number = trial.suggest_categorical("c", choices), trial.suggest_int("k", 0, 3)
        seen.append((place(choices, value), number))
        return number

    study = optuna.create_study(sampler=Sampler(strategy=strategy))
    study.optimize(objective, n_trials=4 * distinct if distinct > 1 else 4)
    assert len(set(seen)) == len(seen)
    assert {t.state.name for t in study.trials} == {"COMPLETE"}


def test_what_was_stored_is_read_back_as_the_same_point(tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    choices = [None, 1, True, NAN]
    study = optuna.create_study(storage=storage, sampler=Sampler(strategy=Random()))
    study.optimize(
        lambda trial: trial.suggest_int("k", 0, 1) + bool(trial.suggest_categorical("c", choices)), n_trials=3
    )
    again = optuna.load_study(study_name=study.study_name, storage=storage, sampler=Sampler(strategy=Random()))
    again.optimize(
        lambda trial: trial.suggest_int("k", 0, 1) + bool(trial.suggest_categorical("c", choices)), n_trials=3
    )
    points = {(t.params["k"], repr(t.params["c"]).replace("True", "1")) for t in again.trials}
    assert len(points) == 6


def test_numbers_stay_ordered_and_the_first_of_equal_ones_stands_for_all():
    code = coding(optuna.distributions.CategoricalDistribution([4, 1, 1.0, True, 2]))
    assert code.domain.ordered and code.domain.values == (1, 2, 4) and not code.by_index
    assert code.encode(1.0) is code.domain.canonical(1) and code.decode(1) == 1
    assert code.positions.tolist() == [2, 0, 0, 0, 1]
    assert coding(optuna.distributions.CategoricalDistribution([math.nan, NAN])) is None


def test_whole_numbers_that_are_equal_as_floats_of_ax():
    pytest.importorskip("ax")
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    from nas_bo import ax as nas_ax

    client = Client()
    odd = ChoiceParameterConfig(name="c", values=[2.0**53, 2**53 + 1, 3], parameter_type="float")
    client.configure_experiment(parameters=[odd, RangeParameterConfig(name="k", bounds=(0, 2), parameter_type="int")])
    client.configure_optimization(objective="-o")
    client.set_generation_strategy(nas_ax.generation(None, Random()))
    seen = []
    for _ in range(6):
        for index, parameters in client.get_next_trials(max_trials=1).items():
            seen.append((parameters["c"], parameters["k"]))
            client.complete_trial(index, raw_data={"o": 1.0 * parameters["k"]})
    assert len(set(seen)) == 6
