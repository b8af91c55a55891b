"""What a strategy must do, as tests to inherit from."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys

import numpy as np

from nas_bo.problem import Problem
from nas_bo.strategies.strategy import Strategy
from nas_bo.testing.evaluations import Small, size
from nas_bo.testing.histories import HISTORIES, Ruled, Six, evaluated, limited, one, two
from nas_bo.trial import Trial
from nas_bo.wording import counted


class StrategyTests:
    """All that a strategy must do. Give it in `strategy`; its module must be importable.

    class TestMine(StrategyTests):
        strategy = Mine(seed=0)
    """

    strategy: Strategy

    def ids(self, problem: Problem, trials: list[Trial], n: int = 2) -> list[str]:
        return [arch.id for arch in self.strategy.suggest(problem, trials, n)]

    # ---- what is tested -------------------------------------------------------------------------------------------

    def test_it_is_a_strategy(self) -> None:
        assert isinstance(self.strategy, Strategy) and not isinstance(self.strategy, type)
        assert repr(self.strategy) == repr(pickle.loads(pickle.dumps(self.strategy))), (
            "it is kept with the study as its repr"
        )

    def test_suggestions_are_admissible_new_and_different_whatever_the_history(self) -> None:
        for problem in (one(Small), two(Ruled)):
            for name, history in HISTORIES.items():
                trials = history(problem)
                found = self.strategy.suggest(problem, trials, 2)
                assert len(found) == 2, f"{name}: {counted(len(found), 'suggestion')} where 2 were asked for"
                for arch in found:
                    assert problem.space.contains(arch), f"{name}: {problem.space.contains(arch).reason}"
                    assert problem.admissible(arch), f"{name}: it breaks a rule or a limit on an analytic objective"
                seen = {t.architecture.id for t in trials}
                assert len({a.id for a in found} - seen) == 2, f"{name}: an architecture is suggested twice"

    def test_it_is_a_function_of_the_history(self) -> None:
        """Nothing is kept between calls, so a search continues after a kill as if nothing had happened."""
        problem = two(Ruled)
        trials = evaluated(problem)
        first = self.ids(problem, trials)
        self.ids(problem, trials[:3])
        assert self.ids(two(Ruled), list(trials)) == first
        self.strategy, kept = pickle.loads(pickle.dumps(self.strategy)), self.strategy
        try:
            assert self.ids(problem, trials) == first, "a copy suggests something else"
        finally:
            self.strategy = kept

    def test_other_processes_suggest_the_same(self) -> None:
        code = (
            "import sys, json, pickle; sys.path[:], strategy = pickle.load(sys.stdin.buffer); strategy = pickle.loads(strategy)\n"
            "from nas_bo.testing.histories import Ruled, evaluated, two\n"
            "problem = two(Ruled); print(json.dumps([a.id for a in strategy.suggest(problem, evaluated(problem), 2)]))"
        )
        problem = two(Ruled)
        said = subprocess.run(
            [sys.executable, "-c", code],
            input=pickle.dumps((sys.path, pickle.dumps(self.strategy))),
            env={"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=True,
        )
        assert json.loads(said.stdout.splitlines()[-1]) == self.ids(problem, evaluated(problem))

    def test_it_draws_from_nobody_elses_generator(self) -> None:
        before, of_numpy = random.getstate(), np.random.get_state(legacy=True)
        problem = two(Ruled)
        self.strategy.suggest(problem, evaluated(problem), 2)
        assert random.getstate() == before and str(np.random.get_state(legacy=True)) == str(of_numpy)

    def test_limits_on_analytic_objectives_cost_no_trial(self) -> None:
        problem, trials = limited(), list[Trial]()
        for _ in range(6):
            (arch,) = self.strategy.suggest(problem, trials, 1)
            assert size(arch) <= 16
            trials.append(problem.evaluate(arch))

    def test_a_space_is_exhausted_exactly(self) -> None:
        problem, trials = one(Six), list[Trial]()
        while found := self.strategy.suggest(problem, trials, 1):
            trials += [problem.evaluate(arch) for arch in found]
            assert len(trials) <= 6, "an architecture is suggested twice"
        assert len(trials) == 6, f"it ended after {len(trials)} of 6 architectures"
        assert len(self.strategy.suggest(problem, [], 50)) == 6
