"""All strategies on all spaces and histories; purity, pickling, freshness, exhaustion."""

from __future__ import annotations

import logging
import math
import os
import pickle
import random
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from nas_bo.errors import SearchError
from nas_bo.problem import Function, Problem
from nas_bo.space import Space, choice
from nas_bo.strategies import (
    GDAS,
    NSGA2,
    Bayes,
    Darts,
    LocalSearch,
    ProxylessNAS,
    Random,
    RegularizedEvolution,
    Reinforce,
    Strategy,
    Successive,
)
from nas_bo.strategies.strategy import WALKED, fresh, generator
from nas_bo.trial import State, Trial
from tests.strategies import cases
from tests.strategies.cases import STRATEGIES

ROOT = Path(__file__).parents[2]


def ids(strategy, problem, trials, n):
    return [arch.id for arch in strategy.suggest(problem, trials, n)]


# Every history on one large space, every space after one odd history; all of both at night.
EVERY_HISTORY, EVERY_SPACE = (cases.Nested,), ("strange",)
SITUATIONS = [
    pytest.param(history, space, id=f"{name}-{space.__name__}",
                 marks=[] if space in EVERY_HISTORY or name in EVERY_SPACE else pytest.mark.slow)
    for history, name in zip(cases.HISTORIES, cases.HISTORY_NAMES, strict=True)
    for space in cases.SPACES
]  # fmt: skip


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(("history", "space"), SITUATIONS)
def test_suggestions_are_valid_fresh_and_repeatable(strategy, space, history):
    dear = isinstance(strategy, Bayes) and space is not cases.Nested  # qLogNEHVI takes seconds
    for objectives in (cases.one, cases.two) if dear else (cases.one, cases.two, cases.three):
        problem = objectives(space)
        trials = history(problem)
        found = strategy.suggest(problem, trials, 2)
        left = space.size() - len({t.architecture.id for t in trials}) if space.is_finite() else 2
        if space in (cases.Constant, cases.Tiny):
            assert len(found) == min(2, left)
        else:
            assert len(found) == 2
        for arch in found:
            assert space.contains(arch), space.contains(arch).reason
            assert problem.admissible(arch)
        all_ids = [*{t.architecture.id for t in trials}, *(arch.id for arch in found)]
        assert len(set(all_ids)) == len(all_ids)
        if objectives is not cases.two and history is not cases.running:
            continue
        copy = pickle.loads(pickle.dumps(strategy))
        assert ids(copy, objectives.__wrapped__(space), list(trials), 2) == [arch.id for arch in found]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_is_a_frozen_strategy(strategy):
    assert isinstance(strategy, Strategy)
    assert pickle.loads(pickle.dumps(strategy)) == strategy
    with pytest.raises(FrozenInstanceError):
        setattr(strategy, "seed", 1)  # noqa: B010


def test_fresh_ends_where_nothing_is_allowed():
    class Forbidden(Space):
        a, b, c, d, e = (choice(*range(1, 11)) for _ in range(5))

    problem = Problem(Forbidden, [Function(lambda arch: float(arch.a), "w", cost="analytic", at_most=0.0)])
    assert Forbidden.size() > WALKED
    assert fresh(problem, set(), random.Random(0)) is None
    assert Random().suggest(problem, [], 2) == []


def test_an_objective_that_raises_is_left_to_the_evaluation():
    def broken(arch):
        raise RuntimeError("no such device")

    for function in (
        Function(broken, "broken", cost="analytic", at_most=1.0),
        Function(broken, "broken", cost="analytic"),
    ):
        problem = Problem(cases.Nested, [cases.loss, function])
        for strategy in STRATEGIES:
            trials = []
            for _ in range(6):
                trials.append(problem.evaluate(strategy.suggest(problem, trials, 1)[0]))
            assert all(t.state is State.FAILED and "no such device" in t.reason for t in trials)


@pytest.mark.parametrize("kind", [Random, NSGA2, RegularizedEvolution, LocalSearch, Bayes])
def test_seeds_and_history_lengths_matter(kind):
    problem = cases.two(cases.Nested)
    assert ids(kind(seed=0), problem, [], 2) != ids(kind(seed=1), problem, [], 2)
    trials = cases.evaluated(problem, 3)
    assert ids(kind(seed=0), problem, trials, 2) != ids(kind(seed=0), problem, trials[:2], 2)
    assert generator("a", 1).random() == generator("a", 1).random() != generator("a", 2).random()


def test_torch_is_left_as_it_was_and_not_loaded_early():
    import torch

    problem = cases.two(cases.Nested)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    Bayes(startup=2, candidates=30).suggest(problem, cases.evaluated(problem, 6), 2)
    assert torch.equal(state, torch.get_rng_state()) and threads == torch.get_num_threads()
    code = """
import sys
from nas_bo.strategies import NSGA2, Bayes, Random
Bayes(), NSGA2()
assert not {"torch", "botorch", "optuna", "ax", "scipy"} & set(sys.modules)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=ROOT)


@pytest.mark.parametrize("make", [
    lambda: Random(seed=0.5), lambda: NSGA2(population=1), lambda: NSGA2(startup=-1), lambda: NSGA2(crossover=1.5),
    lambda: NSGA2(mutation="often"), lambda: Bayes(startup=-1), lambda: Bayes(candidates=3), lambda: Bayes(seed=True),
    lambda: NSGA2(screen=0), lambda: RegularizedEvolution(sample=0), lambda: RegularizedEvolution(population=1.5),
    lambda: LocalSearch(startup=-1), lambda: LocalSearch(screen=True), lambda: Successive((Random(), 0), NSGA2()),
    lambda: Successive(Random(), NSGA2()), lambda: Successive((Random, 5), NSGA2()), lambda: Successive(),
    lambda: Successive((NSGA2(), 5)), lambda: Reinforce(ridge=0), lambda: Reinforce(entropy=math.inf),
    lambda: Reinforce(seed=0.5), lambda: Reinforce(startup=-1), lambda: Reinforce(replayed=1), lambda: Reinforce(entropy=0),
    lambda: Reinforce(entropy="much"), lambda: Reinforce(ridge=-1.0), lambda: Reinforce(ridge=math.inf), lambda: Reinforce(entropy=True),
    lambda: Darts(samples=1), lambda: Darts(tokens=0), lambda: Darts(held_out=0), lambda: GDAS(tokens="many"),
    lambda: GDAS(updates=0), lambda: ProxylessNAS(explore=2), lambda: ProxylessNAS(rate=0), lambda: GDAS(seed=0.5),
])  # fmt: skip
def test_wrong_settings_are_refused(make):
    with pytest.raises(SearchError, match=r"must be|probability"):
        make()


def test_running_trials_change_what_is_suggested():
    problem = cases.two(cases.Nested)
    trials, strategy = cases.evaluated(problem, 12), Bayes(startup=2, candidates=100)
    batch = strategy.suggest(problem, trials, 4)
    assert len({arch.id for arch in batch}) == 4
    pending = [*trials, *(Trial(arch, state=State.RUNNING) for arch in batch)]
    assert not {arch.id for arch in batch} & set(ids(strategy, problem, pending, 2))


def test_infeasible_parents_are_ranked_by_violation_below_feasible_ones():
    from nas_bo.strategies.nsga2 import best_trials

    problem = cases.two(cases.Nested)
    good, *rest = cases.evaluated(problem, 4)
    broken = [Trial(t.architecture, {}, {"x": v}, State.INFEASIBLE) for t, v in zip(rest, (3.0, 1.0, 2.0), strict=True)]
    assert [a.id for a in best_trials(problem, [*broken, good], 3)] == [
        good.architecture.id, broken[1].architecture.id, broken[2].architecture.id,
    ]  # fmt: skip


def test_a_fit_that_fails_is_logged_and_survived(monkeypatch, caplog):
    def explode(*_args):
        raise RuntimeError("not positive definite")

    monkeypatch.setattr("nas_bo.surrogate.process._fit", explode)
    problem = cases.two(cases.Nested)
    with caplog.at_level(logging.WARNING):
        assert len(Bayes(startup=2).suggest(problem, cases.evaluated(problem, 8), 2)) == 2
    assert "not positive definite" in caplog.text


def test_bayes_does_not_fall_back_on_healthy_histories(caplog):
    for objectives in (cases.one, cases.two, cases.three):
        problem = objectives(cases.Nested)
        with caplog.at_level(logging.WARNING):
            Bayes(startup=2, candidates=40).suggest(problem, cases.evaluated(problem, 8), 1)
    assert not caplog.records


@pytest.mark.parametrize("analytic", [0, 1, 2, 5])
def test_bayes_takes_five_objectives_known_or_not(analytic, caplog):
    def make(j):
        return Function(
            lambda a: cases.size(a) * (j + 1) + cases.loss(a) ** j,
            f"f{j}",
            cost="analytic" if j < analytic else "trained",
        )

    for m in (3, 5):
        problem = Problem(cases.Nested, [make(j) for j in range(m)])
        with caplog.at_level(logging.WARNING):
            assert len(Bayes(startup=2, candidates=40).suggest(problem, cases.evaluated(problem, 8), 2)) == 2
    assert not [r for r in caplog.records if r.name.startswith("nas_bo")]  # others may still write in a thread
