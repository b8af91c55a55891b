"""What an objective must do, as tests to inherit from."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator

from nas_bo.architecture import Architecture
from nas_bo.problem import ORDER, LimitViolated, Objective, Problem, Value, as_objective, column
from nas_bo.space import Space
from nas_bo.study import attributes
from nas_bo.trial import State


class ObjectiveTests:
    """All that an objective must do. Give it in `objective`, and a space whose architectures it takes.

        class TestMine(ObjectiveTests):
            objective = Mine()
            space = TinyGPT

    Attributes:
        repeatable: the same architecture gives the same number again; a measurement does not.
        architectures: how many are evaluated by each test.
    """

    objective: Objective
    space: type[Space]
    repeatable: bool = True
    architectures: int = 2

    def archs(self) -> Iterator[Architecture]:
        for seed in range(self.architectures):
            yield self.space.sample(seed)

    # ---- what is tested -------------------------------------------------------------------------------------------

    def test_it_is_an_objective(self) -> None:
        assert isinstance(self.objective, Objective) and not isinstance(self.objective, type)
        assert as_objective(self.objective) is self.objective
        assert (
            self.objective.name
            and self.objective.direction in ("minimize", "maximize")
            and self.objective.cost in ORDER
        )
        assert isinstance(self.objective.unit, str)
        column(self.objective).limits()
        Problem(self.space, [self.objective])

    def test_values_are_finite_and_say_how_they_were_obtained(self) -> None:
        for arch in self.archs():
            try:
                value = self.objective(arch)
            except LimitViolated:
                continue
            assert math.isfinite(float(value)), f"{value} for {dict(arch.flat)}"
            if isinstance(value, Value):
                assert json.loads(json.dumps(value.info)) is not None, "info must be JSON-safe"

    def test_copies_in_other_processes_give_the_same(self) -> None:
        copy = pickle.loads(pickle.dumps(self.objective))
        for arch in self.archs() if self.repeatable else ():
            assert float(copy(arch)) == float(self.objective(arch))

    def test_a_problem_evaluates_it(self) -> None:
        for arch in self.archs():
            trial = Problem(self.space, [self.objective]).evaluate(arch)
            assert trial.state in (State.COMPLETE, State.INFEASIBLE), trial.reason
            json.dumps(attributes(trial))

    def test_what_must_not_change_is_plain_data(self) -> None:
        problem = Problem(self.space, [self.objective])
        assert json.loads(json.dumps(problem.conditions())) == json.loads(json.dumps(problem.conditions()))
        json.dumps(problem.remarks())
        again = Problem(self.space, [pickle.loads(pickle.dumps(self.objective))])
        assert again.conditions() == problem.conditions(), "a copy has other conditions, so no study could continue"

    def test_what_is_known_beforehand_is_exact_and_repeats(self) -> None:
        problem, again = (
            Problem(self.space, [one]) for one in (self.objective, pickle.loads(pickle.dumps(self.objective)))
        )
        for arch in self.archs():
            known = problem.known(arch)
            assert all(math.isfinite(v) for v in known.values()) and known == again.known(arch)
            if self.objective.cost == "analytic":
                assert known == {self.objective.name: float(self.objective(arch))}

    def test_stages_end_where_the_evaluation_ends(self) -> None:
        whole = Problem(self.space, [self.objective], staged=True)
        for arch in self.archs():
            trial = whole.evaluate(arch)
            shares = [share for share, _ in trial.rungs(self.objective.name).items()]
            assert shares == sorted(set(shares)) and all(0 < share < 1 for share in shares)
            if shares:
                stopped = whole.evaluate(arch, _never)
                assert stopped.state is State.STOPPED and list(stopped.rungs(self.objective.name)) == shares[:1]
                if self.repeatable:
                    plain = Problem(self.space, [self.objective]).evaluate(arch)
                    assert trial.values == plain.values, "looking on the way changes the value"


def _never(name: str, share: float, values: object) -> bool:
    return False
