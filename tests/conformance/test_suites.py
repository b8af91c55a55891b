"""The shipped suites find what is wrong: each of these parts breaks one promise."""

from __future__ import annotations

import random

import pytest

from nas_bo.execution import InProcess
from nas_bo.problem import Value
from nas_bo.space import Space, choice, require
from nas_bo.strategies import Random
from nas_bo.testing import ExecutorTests, ObjectiveTests, SpaceTests, StrategyTests
from nas_bo.testing.evaluations import Small, Staged, loss


class Remembers:
    """A strategy that keeps something between calls."""

    def __init__(self):
        self.calls = 0

    def suggest(self, problem, trials, n):
        self.calls += 1
        return Random(seed=self.calls).suggest(problem, trials, n)


class Repeats:
    def suggest(self, problem, trials, n):
        return [problem.space.sample(seed) for seed in range(n)]


class Draws:
    def suggest(self, problem, trials, n):
        return [problem.space.sample(random.randrange(1000)) for _ in range(n)]


class Impatient(InProcess):
    """An executor that ends when an objective does."""

    def take(self):
        key, problem, arch, judge = self._waiting.popleft()
        return key, problem.evaluate(arch, judge)


class Forgets(InProcess):
    def submit(self, key, problem, arch, judge=None):
        super().submit(str(key), problem, arch)


class Falling(Staged):
    """Ends somewhere else when it is looked at on the way."""

    def __call__(self, arch):
        return loss(arch) + 1


class Unkept(Staged):
    def __call__(self, arch):
        return Value(1.0, of=object())


class Unstable(Staged):
    def __call__(self, arch):
        return random.random()


def broken(arch):
    return arch.nothing > 1


class Broken(Space):
    a = choice(1, 2)
    rule = require(broken)


def of(suite, **given):
    return type("One", (suite,), {**given})()


@pytest.mark.parametrize(
    ("suite", "test"),
    [
        (of(StrategyTests, strategy=Remembers()), "it_is_a_function_of_the_history"),
        (of(StrategyTests, strategy=Repeats()), "a_space_is_exhausted_exactly"),
        (of(StrategyTests, strategy=Draws()), "it_draws_from_nobody_elses_generator"),
        (of(ExecutorTests, executor=lambda _: Impatient()), "what_goes_wrong_is_a_failed_trial_with_its_reason"),
        (of(ExecutorTests, executor=lambda _: Forgets()), "problems_and_judges_may_differ"),
        (of(ObjectiveTests, objective=Falling(), space=Small), "stages_end_where_the_evaluation_ends"),
        (of(ObjectiveTests, objective=Unkept(), space=Small), "values_are_finite_and_say_how_they_were_obtained"),
        (of(ObjectiveTests, objective=Unstable(), space=Small), "copies_in_other_processes_give_the_same"),
        (of(SpaceTests, space=Broken), "rules_answer_for_every_architecture"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_part_that_breaks_a_promise_fails_the_test_of_it(suite, test):
    with pytest.raises((Exception, SystemExit)):
        getattr(suite, f"test_{test}")()
