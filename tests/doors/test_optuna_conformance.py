"""Optuna's own suite for samplers (126 cases), on spaces that nobody named, for every strategy: every day for one that learns
from the history, every night for the others, which reach the door by the same way."""

from __future__ import annotations

import optuna
import pytest
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase

from nas_bo import strategies
from nas_bo.optuna import Sampler
from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution, Reinforce, Successive

optuna.logging.set_verbosity(optuna.logging.ERROR)

# Few random trials and few candidates: the suite makes at most twenty trials, and they shall be proposals.
STRATEGIES = {
    "Random": lambda: Random(seed=0),
    "NSGA2": lambda: NSGA2(seed=0, population=4, startup=0),
    "RegularizedEvolution": lambda: RegularizedEvolution(seed=0, population=4, sample=2, startup=0),
    "LocalSearch": lambda: LocalSearch(seed=0, startup=0),
    "Reinforce": lambda: Reinforce(seed=0),
    "Bayes": lambda: Bayes(seed=0, startup=2, candidates=50),
    "Successive": lambda: Successive((Random(seed=0), 2), NSGA2(seed=0, population=4, startup=0)),
}


DAILY = ("NSGA2",)

TRAINING = {
    "Darts",
    "GDAS",
    "ProxylessNAS",
}  # learn from the weights of a model of the space, which these studies have not


def test_every_strategy_is_here():
    ours = {name for name in strategies.__all__ if hasattr(getattr(strategies, name), "suggest")}
    passing_on = {"Auto", "Among"}  # what they suggest is that of others
    assert (
        set(STRATEGIES) == ours - {"Strategy"} - TRAINING - {"Knapsack"} - passing_on
    )  # Knapsack is for parts of trained models


@pytest.fixture(autouse=True)
def nothing_fails_silently(caplog):
    """The sampler never raises, so the suite would pass with a strategy that always does: what it logs counts."""
    yield
    said = [r.message for r in caplog.get_records("call") if r.name.startswith("nas_bo.optuna")]
    assert not [message for message in said if "could not" in message or "no proposal" in message]


class TestConformance(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture(
        params=[name if name in DAILY else pytest.param(name, marks=pytest.mark.slow) for name in STRATEGIES]
    )
    def sampler(self, request):
        return lambda: Sampler(strategy=STRATEGIES[request.param]())
