"""Whole numbers beyond what floats tell apart: in a study that nas_bo did not make, from its sampler, in a space."""

import optuna
import pytest

from nas_bo import search
from nas_bo.errors import HostError
from nas_bo.optuna import Sampler, suggest
from nas_bo.space import Space, integer
from nas_bo.workflows.search import load_result


def noted(tmp_path, low, high):
    storage = f"sqlite:///{tmp_path}/{high}.db"
    study = optuna.create_study(storage=storage, study_name="s")
    study.optimize(lambda t: t.suggest_int("seed", low, high) % 7, n_trials=2)
    return str(load_result(storage))


def test_the_report_says_that_the_last_digits_are_lost(tmp_path):
    assert "beyond 2**53 the last digits of seed may differ" in noted(tmp_path, 2**60, 2**60 + 9)
    assert "beyond 2**53 the last digits of seed may differ" in noted(tmp_path, -(2**62), 5)
    assert "2**53" not in noted(tmp_path, 0, 2**53)


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [
        (0, 2**60, 1),
        (1, 2**60 + 1, 3),
        (2**53, 2**53 + 10, 1),
        (-(2**62), 2**62, 2**40 + 1),
        (6, 2**55, 10),
        (0, 2**62, 7 * 2**9),
    ],
)
def test_the_sampler_proposes_whole_numbers_that_are_kept_to_the_last_digit(low, high, step):
    seen = []

    def objective(trial):
        seen.append(trial.suggest_int("x", low, high, step=step))
        trial.suggest_float("y", 0, 1)
        return float(seen[-1] % 1000)

    study = optuna.create_study(sampler=Sampler(seed=1))
    study.optimize(objective, 12)
    assert seen == [t.params["x"] for t in study.trials]
    assert all(low <= x <= high and (x - low) % step == 0 for x in seen) and len(set(seen)) > 2


def test_what_floats_cannot_hold_is_refused_in_a_study():
    study = optuna.create_study(sampler=Sampler(seed=1))
    with pytest.raises(
        HostError, match=r"'x' from 9,007,199,254,740,993 to .* in steps of 2: .* multiples of 2 for the lowest"
    ):
        study.optimize(lambda trial: float(trial.suggest_int("x", 2**53 + 1, 2**53 + 9, step=2)), 3)


def test_a_space_with_numbers_that_optuna_would_change_is_refused_before_anything_is_begun():
    class Large(Space):
        x = integer(1, 2**60 + 1, step=3)

    class Steps(Space):
        x = integer(0, 2**60, step=2**10)

    evaluated = []

    def score(arch):
        evaluated.append(arch.x)
        return float(arch.x % 7)

    with pytest.raises(HostError, match="from 1 to 1,152,921,504,606,846,976 in steps of 3"):
        search(Large, [score], trials=3)
    with pytest.raises(HostError, match="steps of 3"):
        suggest(optuna.create_study().ask(), Large)
    assert not evaluated
    result = search(Steps, [score], trials=4, retrain=0)
    assert [t.architecture.x for t in result.trials] == evaluated[-4:] and len(set(evaluated)) == 4
