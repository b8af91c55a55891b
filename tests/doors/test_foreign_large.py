"""Whole numbers beyond what floats tell apart, in a study that nas_bo did not make."""

import optuna

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
