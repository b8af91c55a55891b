"""Our strategies in Ax's own benchmark suite, on three of Ax's own problems."""

from __future__ import annotations

import logging
import warnings
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("ax")

from ax.benchmark.benchmark import benchmark_replication
from ax.benchmark.benchmark_method import BenchmarkMethod
from ax.benchmark.problems.registry import get_benchmark_problem

from nas_bo import ax as nas_ax
from nas_bo.strategies import NSGA2, Bayes, Random, Successive

TRIALS = 24


@pytest.mark.parametrize(
    ("name", "strategy", "goal"),
    [
        pytest.param(
            "branin_currin", Bayes(seed=0, startup=8, candidates=200), 30.0, marks=pytest.mark.slow
        ),  # two objectives; hypervolume of at most 59
        ("hartmann6", NSGA2(seed=0, population=8), -0.3),  # six reals, minimised; the best is -3.3
        ("jenatton", Successive((Random(seed=0), 8), Bayes(seed=0, candidates=200)), 0.4),  # hierarchical; at best 0.1
    ],
)
def test_ax_benchmark_problems(name: str, strategy: Any, goal: float) -> None:
    logging.getLogger("ax").setLevel(logging.ERROR)
    problem = get_benchmark_problem(name, num_trials=TRIALS)
    method = BenchmarkMethod(name="nas_bo", generation_strategy=nas_ax.generation(None, strategy))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = benchmark_replication(problem, method, seed=0)
    assert result.experiment is not None
    trials = result.experiment.trials.values()
    assert [trial.status.name for trial in trials] == ["COMPLETED"] * TRIALS
    assert {run._generator_key for trial in trials for run in trial.generator_runs} == {"nas_bo"}  # no Fallback_Sobol
    sign = 1 if name == "branin_currin" else -1
    trace = [sign * value for value in result.optimization_trace]
    assert len(trace) == TRIALS and all(b >= a for a, b in pairwise(trace))
    assert trace[-1] > trace[0] and trace[-1] >= sign * goal
