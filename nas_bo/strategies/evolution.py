"""What the evolutionary methods share: the first trials, and the loop over children."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.history import Past
from nas_bo.strategies.initial_design import spread
from nas_bo.strategies.screen import Screen
from nas_bo.strategies.strategy import admissible, fresh
from nas_bo.trial import Trial

TRIES = 50  # children that may be seen or forbidden, for each that is wanted

Breed = Callable[[], Architecture | None]


def first(
    problem: Problem, trials: Sequence[Trial], n: int, startup: int, seen: set[str], rng: random.Random
) -> list[Architecture]:
    """The suggestions that belong to the first `startup` trials, at most `n`: half a design that spans the space, half
    drawn at random (corners are seldom good, and a model needs the middle as well)."""
    spanning = min(n, (startup + 1) // 2 - len(trials))
    batch = spread(problem, trials, spanning, rng) if spanning > 0 else []
    seen |= {arch.id for arch in batch}
    while len(batch) < min(n, startup - len(trials)) and (arch := fresh(problem, seen, rng)) is not None:
        seen.add(arch.id)
        batch.append(arch)
    return batch


def evolve(
    problem: Problem,
    trials: Sequence[Trial],
    n: int,
    rng: random.Random,
    startup: int,
    screen: int,
    breeder: Callable[[Past], Breed | None],
) -> list[Architecture]:
    """Up to `n` suggestions: the first trials, then children.

    Args:
        startup: how many trials come first, see `first`.
        screen: how many children are bred for each suggestion; the most promising one is suggested.
        breeder: past -> what makes a child, None where it finds none; None while there are no parents.
    """
    past = Past.of(problem, trials)
    seen = set(past.seen)
    batch = first(problem, trials, n, startup, seen, rng)
    if len(batch) == n:
        return batch
    breed = breeder(past)
    judge = Screen(problem, past) if screen > 1 and len(past.archs) > 1 else None
    while len(batch) < n:
        children = _children(problem, breed, seen, 1 if judge is None else screen)
        if len(children) > 1 and judge is not None:
            arch: Architecture | None = judge.best(children, past.pending + batch, rng)
        else:
            arch = children[0] if children else fresh(problem, seen, rng)
        if arch is None:
            break
        seen.add(arch.id)
        batch.append(arch)
    return batch


def _children(problem: Problem, breed: Breed | None, seen: set[str], number: int) -> list[Architecture]:
    """Up to `number` different admissible children that are not in `seen`."""
    found: dict[str, Architecture] = {}
    for _ in range(TRIES * number if breed is not None else 0):
        arch = breed() if breed is not None else None
        if arch is None:
            break
        if arch.id not in seen and arch.id not in found and admissible(problem, arch):
            found[arch.id] = arch
            if len(found) == number:
                break
    return list(found.values())
