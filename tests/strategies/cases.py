"""Spaces, problems and histories that every strategy has to live with."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import cache

from nas_bo.architecture import Architecture
from nas_bo.problem import Function, Problem
from nas_bo.space import Space, choice, integer, option, real, repeat, require
from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution, Reinforce, Successive
from nas_bo.trial import State, Trial


class Nested(Space):
    depth = integer(1, 4)
    width = choice(64, 128, 192, 256)
    layers = repeat(
        depth,
        mixer=choice(option("attention", heads=choice(2, 4, 8)), option("conv", kernel=choice(3, 7)), "skip"),
        ratio=choice(1, 2, 3, 4),
    )


class Repeats(Space):
    stages = repeat(integer(1, 3), width=choice(8, 16, 32), blocks=repeat(integer(0, 3), op=choice("a", "b", "c")))
    tail = repeat(2, size=choice(1, 2, 3))


class Reals(Space):
    lr = real(1e-4, 1e-1, log=True)
    mix = real(0.0, 1.0)
    norm = choice("layer", "rms", "none")


class Constant(Space):
    family = "gpt"
    only = choice(3)


class Tiny(Space):
    a = choice(1, 2, 3)
    b = choice(True, False)


class Ruled(Space):
    depth = integer(1, 4)
    width = integer(1, 12)
    layers = repeat(depth, heads=integer(1, 4))

    @require
    def heads_divide_width(arch):
        return all(arch.width % layer.heads == 0 for layer in arch.layers)


SPACES = (Nested, Repeats, Reals, Constant, Tiny, Ruled)
STRATEGIES = (  # that need no training
    Random(),
    NSGA2(population=4),
    RegularizedEvolution(population=6, sample=2, startup=4),
    LocalSearch(startup=4),
    Successive((Random(), 3), NSGA2(startup=0, screen=1)),
    Reinforce(startup=4),
    Bayes(startup=4, candidates=20),
)


def numbers(arch: Architecture) -> list[float]:
    """Any architecture as numbers, the same in every process."""
    return [float(v) if isinstance(v, (int, float)) else float(len(str(v))) for v in arch.flat.values()]


def loss(arch: Architecture) -> float:
    found = numbers(arch)
    return 5.0 - sum(math.log1p(abs(v)) for v in found) / (1 + len(found)) + 0.3 * math.sin(sum(found))


def size(arch: Architecture) -> float:
    return 1.0 + sum(abs(v) for v in numbers(arch))


def speed(arch: Architecture) -> float:
    return 100.0 / (1.0 + len(numbers(arch)) + 0.1 * numbers(arch)[-1])


# One problem of each kind for all tests: what a problem tells for nothing is learned once. `PROBLEM.__wrapped__(space)` makes another.
@cache
def one(space: type[Space]) -> Problem:
    return Problem(space, [loss])


@cache
def two(space: type[Space]) -> Problem:
    return Problem(space, [loss, Function(size, "size", cost="analytic")])


@cache
def three(space: type[Space]) -> Problem:
    """Two unknown objectives, one of them maximised and limited, beside a known one."""
    fast = Function(speed, "speed", direction="maximize", cost="measured", at_least=1.0)
    return Problem(space, [loss, Function(size, "size", cost="analytic"), fast])


def evaluated(problem: Problem, number: int, seed: int = 1) -> list[Trial]:
    return list(_evaluated(problem, number, seed))


@cache
def _evaluated(problem: Problem, number: int, seed: int) -> list[Trial]:
    rng, found = random.Random(seed), {}
    for _ in range(20 * number):
        arch = problem.space.sample(rng)
        if len(found) < number:
            found.setdefault(arch.id, arch)
    return [problem.evaluate(arch) for arch in found.values()]


def changed(trials: Sequence[Trial], every: int, change: Callable[[Trial], Trial]) -> list[Trial]:
    return [change(trial) if i % every == 1 else trial for i, trial in enumerate(trials)]


def running(problem: Problem) -> list[Trial]:
    return changed(evaluated(problem, 12), 4, lambda t: Trial(t.architecture, state=State.RUNNING))


def failed(problem: Problem) -> list[Trial]:
    return changed(evaluated(problem, 12), 3, lambda t: Trial(t.architecture, state=State.FAILED, reason="diverged"))


def infeasible(problem: Problem) -> list[Trial]:
    def break_it(t: Trial) -> Trial:
        values = {k: v for k, v in t.values.items() if k != "loss"}
        return Trial(t.architecture, values, {"memory": 2.0}, State.INFEASIBLE)

    return changed(evaluated(problem, 12), 2, break_it)


def constant(problem: Problem) -> list[Trial]:
    return [Trial(t.architecture, dict.fromkeys(t.values, 1.0)) for t in evaluated(problem, 12)]


def strange(problem: Problem) -> list[Trial]:
    """NaN, infinite, huge and missing values in trials that claim to be complete."""
    bad = ({"loss": math.nan}, {"loss": math.inf}, {"loss": 1e12}, {"loss": -1e12})
    done = evaluated(problem, 12)
    odd = [Trial(t.architecture, {**t.values, **bad[i % 4]}) for i, t in enumerate(done[:4])]
    return [*odd, *(Trial(t.architecture, {}) for t in done[4:5]), *done[5:]]


def nothing_works(problem: Problem) -> list[Trial]:
    return [Trial(t.architecture, state=State.FAILED, reason="out of memory") for t in evaluated(problem, 12)]


HISTORIES: tuple[Callable[[Problem], list[Trial]], ...] = (
    lambda _problem: [],
    lambda problem: evaluated(problem, 12),
    running,
    failed,
    infeasible,
    constant,
    strange,
    nothing_works,
)
HISTORY_NAMES = ("empty", "complete", "running", "failed", "infeasible", "constant", "strange", "nothing_works")
