"""Spaces, problems and histories that every strategy has to live with."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from nas_bo.problem import Function, Problem
from nas_bo.space import Space, choice, integer, real, repeat, require
from nas_bo.testing.evaluations import Small, loss, size
from nas_bo.trial import State, Trial


class Ruled(Space):
    depth = integer(1, 3)
    width = integer(1, 12)
    rate = real(1e-4, 1e-1, log=True)
    layers = repeat(depth, heads=integer(1, 4))

    heads_divide_width = require(lambda arch: all(arch.width % layer.heads == 0 for layer in arch.layers))


class Six(Space):
    a = choice(1, 2, 3)
    b = choice(True, False)


def one(space: type[Space]) -> Problem:
    return Problem(space, [loss])


def two(space: type[Space]) -> Problem:
    return Problem(space, [loss, Function(_known, "known", cost="analytic")])


def limited() -> Problem:
    return Problem(Small, [loss, Function(size, "size", cost="analytic", at_most=16.0)])


def _known(arch: object) -> float:
    return float(len(str(arch)))


def evaluated(problem: Problem, number: int = 9) -> list[Trial]:
    rng = random.Random(1)
    found = {arch.id: arch for arch in (problem.space.sample(rng) for _ in range(20 * number))}
    return [problem.evaluate(arch) for arch in list(found.values())[:number]]


def _with(change: Callable[[Trial], Trial], every: int) -> Callable[[Problem], list[Trial]]:
    return lambda problem: [change(t) if i % every == 1 else t for i, t in enumerate(evaluated(problem))]


HISTORIES: dict[str, Callable[[Problem], list[Trial]]] = {
    "nothing": lambda problem: [],
    "complete": evaluated,
    "running": _with(lambda t: Trial(t.architecture, state=State.RUNNING), 3),
    "failed": _with(lambda t: Trial(t.architecture, state=State.FAILED, reason="diverged"), 3),
    "everything failed": _with(lambda t: Trial(t.architecture, state=State.FAILED, reason="out of memory"), 1),
    "infeasible": _with(lambda t: Trial(t.architecture, {}, {"memory": 2.0}, State.INFEASIBLE), 2),
    "all alike": lambda problem: [Trial(t.architecture, dict.fromkeys(t.values, 1.0)) for t in evaluated(problem)],
    "no number": _with(lambda t: Trial(t.architecture, {**t.values, "loss": math.nan}), 2),
    "huge": _with(lambda t: Trial(t.architecture, {**t.values, "loss": 1e12}), 3),
    "a value is missing": _with(lambda t: Trial(t.architecture, {}), 4),
}
