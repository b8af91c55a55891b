"""pymoo's NSGA-II for mixed variables, population 20, on the flat space: every parameter is always there.

Ordered choices and integers are pymoo's integers (positions among the values), unordered ones its choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.search_efficiency.arms.session import Arm
from benchmarks.search_efficiency.problems import Case
from nas_bo.architecture import Architecture
from nas_bo.space.domain import Domain
from nas_bo.space.domain import Real as RealDomain

POPULATION = 20
Told = dict[str, float]


class Pymoo:
    def __init__(self, case: Case, seed: int) -> None:
        from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
        from pymoo.core.mixed import MixedVariableDuplicateElimination, MixedVariableMating, MixedVariableSampling
        from pymoo.core.problem import Problem
        from pymoo.operators.selection.tournament import TournamentSelection

        self.case, self.seed = case, seed
        problem = Problem(
            vars={path: _variable(domain) for path, domain in case.space.domains().items()},
            n_obj=len(case.objectives),
            n_ieq_constr=len(case.limits),
        )
        alike = MixedVariableDuplicateElimination()
        mating = MixedVariableMating(
            selection=TournamentSelection(func_comp=binary_tournament), eliminate_duplicates=alike
        )
        self.algorithm = NSGA2(
            pop_size=POPULATION, sampling=MixedVariableSampling(), mating=mating, eliminate_duplicates=alike
        )
        self.algorithm.setup(problem, termination=("n_gen", 10**9), seed=seed)
        self.waiting: Any = []
        self.at = 0
        self.rows: list[Told] = []

    def ask(self) -> Architecture | None:
        if self.at == len(self.waiting):
            self.waiting, self.at, self.rows = self.algorithm.ask(), 0, []
            if self.waiting is None or not len(self.waiting):
                return None
        values = self.waiting[self.at].X
        self.at += 1
        return self.case.space.decide(lambda path, domain: _value(domain, values[path]))

    def evaluate(self, arch: Architecture) -> Told:
        return self.case.told(arch, self.seed)

    def tell(self, arch: Architecture, outcome: Told) -> None:
        from pymoo.core.evaluator import Evaluator
        from pymoo.problems.static import StaticProblem

        self.rows.append(outcome)
        if len(self.rows) == len(self.waiting):
            found = {"F": np.array([[row[name] for name in self.case.objectives] for row in self.rows])}
            if self.case.limits:
                limits = sorted(self.case.limits.items())
                found["G"] = np.array([[row[name] - bound for name, bound in limits] for row in self.rows])
            Evaluator().eval(StaticProblem(self.algorithm.problem, **found), self.waiting)
            self.algorithm.tell(infills=self.waiting)

    def load(self, archs: Sequence[Architecture]) -> None:
        """Its cost does not depend on the history, and a foreign one cannot be given: as many evaluations of its own."""
        for _ in archs:
            arch = self.ask()
            if arch is not None:
                self.tell(arch, self.evaluate(arch))


def _variable(domain: Domain) -> Any:
    from pymoo.core.variable import Choice, Integer, Real

    if isinstance(domain, RealDomain):
        return Real(bounds=(0.0, 1.0))
    if domain.ordered:
        return Integer(bounds=(0, len(domain.values) - 1))
    return Choice(options=list(domain.values))


def _value(domain: Domain, value: Any) -> Any:
    if isinstance(domain, RealDomain):
        return domain.at(float(value))
    return domain.values[int(value)] if domain.ordered else value


def arms() -> list[Arm]:
    settings = {"population": POPULATION, "operators": "pymoo's defaults for mixed variables"}
    return [Arm("pymoo-nsga2", Pymoo, settings, False, ("pymoo",))]
