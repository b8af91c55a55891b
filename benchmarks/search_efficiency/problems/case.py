"""`Case`: one search problem as every arm of the benchmark sees it, ours and the peers alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.pareto import hypervolume
from nas_bo.problem import Function, Problem
from nas_bo.space import Space
from nas_bo.space.domain import Real


@dataclass(frozen=True)
class Case:
    """A space, what is minimised in it, and the front that a searcher could reach.

    Attributes:
        functions: name -> the true value of an architecture, to be minimised or limited.
        objectives: the names that are minimised, in the order of `point`.
        point: the reference point of the hypervolume, (objectives,); peers that take thresholds are given it.
        hv: the hypervolume of the reference front; NaN where it was not computed yet.
        known: names of functions that can be computed without spending an evaluation.
        limits: name -> the largest value allowed. Points beyond it count nothing.
        noise: name -> standard deviation of what an arm is told; regret is always that of the true values.
        best: n -> regret of the best n points of the reference front, which nobody can beat.
        among: the architectures to choose from, each once; none for the whole space.
        flat: whether Ax is given every parameter as always active, instead of the conditional tree.
    """

    name: str
    space: type[Space]
    functions: Mapping[str, Callable[[Architecture], float]]
    objectives: tuple[str, ...]
    point: tuple[float, ...]
    hv: float = float("nan")
    known: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    best: Mapping[int, float] = field(default_factory=dict)
    flat: bool = False
    among: tuple[Architecture, ...] = field(default=(), repr=False)

    def described(self) -> list[list[Any]]:
        """Every decision of the space as plain data; unlike `Space.fingerprint` it outlives the schema of spaces."""
        found = []
        for path, domain in self.space.domains().items():
            values = [domain.low, domain.high, domain.log] if isinstance(domain, Real) else list(domain.values)
            found.append([path, domain.ordered, *values])
        return found

    def values(self, arch: Architecture) -> dict[str, float]:
        """The true value of every function."""
        return {name: float(function(arch)) for name, function in self.functions.items()}

    def observed(self, name: str, arch: Architecture, seed: int) -> float:
        """What an arm is told of one function: the same for the same seed and architecture."""
        value = float(self.functions[name](arch))
        if name in self.noise:  # ~ normal
            value += self.noise[name] * random.Random(f"{seed}/{arch.id}/{name}").gauss(0.0, 1.0)
        return value

    def told(self, arch: Architecture, seed: int) -> dict[str, float]:
        return {name: self.observed(name, arch, seed) for name in self.functions}

    def row(self, arch: Architecture) -> list[float] | None:
        """The true objective values (objectives,); None where a limit is violated."""
        values = self.values(arch)
        if any(values[name] > bound for name, bound in self.limits.items()):
            return None
        return [values[name] for name in self.objectives]

    def volume(self, rows: list[list[float]]) -> float:
        return hypervolume(np.array(rows).reshape(-1, len(self.point)), np.array(self.point))

    def problem(self, seed: int, known: bool = True) -> Problem:
        """The problem that our strategies get.

        Args:
            known: whether they may compute what can be computed; otherwise everything is a black box to them.
        """

        def function(name: str) -> Function:
            cost: Literal["analytic", "measured", "trained"] = "measured"
            if known and name in self.known:
                cost = "analytic"
            elif name == self.objectives[0]:
                cost = "trained"
            told = partial(self.observed, name, seed=seed)
            return Function(told, name, cost=cost, at_most=self.limits.get(name))

        beside = [name for name in self.functions if name not in self.objectives]
        return Problem(self.space, [function(n) for n in self.objectives], [function(n) for n in beside])
