"""Whether limits leave anything of a space, said before the first trial, with what comes nearest."""

from __future__ import annotations

import random

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.problem import Problem
from nas_bo.report.digits import figure
from nas_bo.strategies.towards_limits import nearer, violations
from nas_bo.wording import counted

DRAWS = 300


def check_reachable(problem: Problem) -> None:
    """See that rules and limits on analytic objectives leave something of the space: random architectures first, and where none of them is
    within the limits, steps from the nearest ones towards them.

    Raises:
        SearchError: nothing was found; the message names the nearest that was.
    """
    rng = random.Random(0)
    drawn: list[Architecture] = []
    for _ in range(DRAWS):
        arch = problem.space.sample(rng)
        if problem.admissible(arch):
            return
        drawn.append(arch)
    arch = nearer(problem, drawn, rng)
    if problem.admissible(arch):
        return
    misses = "; ".join(
        f"{_limit(problem, name)} by {figure(amount)}"
        for name, amount in violations(problem, arch).items()
        if amount > 0
    )
    has = ", ".join(f"{name} {figure(value)}" for name, value in problem.analytic(arch).items())
    raise SearchError(
        f"none of {counted(DRAWS, 'random architecture')} of {problem.space.title} is within the limits, and none that was found step by step from the "
        f"best of them; the nearest misses {misses} (it has {has}). Loosen the limit, or choose a space with such architectures"
    )


def _limit(problem: Problem, name: str) -> str:
    bounds = problem.bounds()
    return f"{name} ({figure(bounds[name][2])})" if name in bounds and "=" not in name else name
