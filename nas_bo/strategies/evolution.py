"""What the evolutionary methods share: the first trials, and the loop over children."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.space.neighbours import counted_lists, pattern
from nas_bo.strategies.filling_design import fill
from nas_bo.strategies.history import Past
from nas_bo.strategies.initial_design import spread
from nas_bo.strategies.number_variation import loosened
from nas_bo.strategies.screen import Screen
from nas_bo.strategies.strategy import admissible, draw, fresh
from nas_bo.strategies.variation import build, openings
from nas_bo.trial import Trial

TRIES = 50  # children that may be seen or forbidden, for each that is wanted
WILD = 5.0  # children drawn at random of those that are screened, divided by the number of trials so far
CORNERS = 2  # everything ordered at its lowest, and at its highest
DONORS = 100  # of the best trials, from which come the values below a decision that changes
NICHES = 0.15  # of the suggestions are bred within one value of a decision that opens others

Breed = Callable[[], Architecture | None]
Niche = Mapping[str, object]  # what parents have in common; empty for all


def first(
    problem: Problem, trials: Sequence[Trial], n: int, startup: int, seen: set[str], rng: random.Random
) -> list[Architecture]:
    """The suggestions that belong to the first `startup` trials, at most `n`: with several objectives two corners of the
    space, since the ends of a front lie near them; with one the first half fills the space and leaves out its corners, which are
    seldom good. The others are drawn at random."""
    known, half = len(seen), (startup + 1) // 2  # not the number of trials: the same one a thousand times is one
    several = len(problem.columns) > 1
    designed = min(n, (min(CORNERS, half) if several else half) - known)
    batch: list[Architecture] = []
    if designed > 0 and several:
        batch = _without_ends(problem, spread(problem, trials, designed, rng), seen, rng)
    elif designed > 0:
        batch = fill(problem, trials, designed, rng)
    seen |= {arch.id for arch in batch}
    while len(batch) < min(n, startup - known) and (arch := fresh(problem, seen, rng)) is not None:
        seen.add(arch.id)
        batch.append(arch)
    return batch


def _without_ends(
    problem: Problem, design: list[Architecture], seen: set[str], rng: random.Random
) -> list[Architecture]:
    """The design with its numbers of many values drawn at random, as far as that is admissible."""
    found: dict[str, Architecture] = {}
    counts = counted_lists(problem.space)
    for arch in design:
        flat = loosened(problem.space, arch, counts)
        made = arch if len(flat) == len(arch.flat) else build(problem.space, flat, rng)
        taken = made.id in found or made.id in seen or not admissible(problem, made)
        found[arch.id if taken else made.id] = arch if taken else made
    return list(found.values())


def evolve(
    problem: Problem,
    trials: Sequence[Trial],
    n: int,
    rng: random.Random,
    startup: int,
    screen: int,
    breeder: Callable[[Past, Niche], Breed | None],
) -> list[Architecture]:
    """Up to `n` suggestions: the first trials, then children.

    Args:
        startup: how many trials come first, see `first`.
        screen: how many children are bred for each suggestion; the most promising one is suggested.
        breeder: past and niche -> what makes a child, None where it finds none; None while there are no parents.
    """
    past = Past.of(problem, trials)
    seen = set(past.seen)
    batch = first(problem, trials, n, startup, seen, rng)
    if len(batch) == n:
        return batch
    everywhere = breeder(past, {})
    judge = Screen(problem, past) if screen > 1 and len(past.archs) > 1 else None
    looks = 1 if judge is None else judge.pressure(screen)
    while len(batch) < n:
        niche = _niche(problem, rng)
        breed = (breeder(past, niche) if niche else None) or everywhere
        wild = 0.0 if judge is None else min(WILD / (1 + len(seen)), 0.5)
        children = _children(problem, breed, seen, looks, wild, rng)
        if len(children) > 1 and judge is not None:
            arch: Architecture | None = judge.best(children, past.pending + batch, rng)
        else:
            arch = children[0] if children else fresh(problem, seen, rng)
        if arch is None:
            break
        seen.add(arch.id)
        batch.append(arch)
    return batch


def _niche(problem: Problem, rng: random.Random) -> Niche:
    """From time to time a value of a decision that opens others, such as a kind of model, to breed within: what looks worse
    because little was tried of it gets its trials, too. ~ uniform over these decisions, then over their values."""
    opening = _kinds(problem.space)
    if not opening or rng.random() >= NICHES:
        return {}
    path = rng.choice(opening)
    return {path: rng.choice(problem.space.decisions()[path].domain.values)}


_found: WeakKeyDictionary[type[Space], list[str]] = WeakKeyDictionary()


def _kinds(space: type[Space]) -> list[str]:
    """The unordered decisions outside of lists on which others depend."""
    if space not in _found:
        decisions, counts = space.decisions(), counted_lists(space)
        some = [p for p in openings(space) if p not in counts and not decisions[p].domain.ordered]
        _found[space] = [p for p in some if pattern(p) == p and decisions[p].domain.size != 1]
    return _found[space]


def _children(
    problem: Problem, breed: Breed | None, seen: set[str], number: int, wild: float, rng: random.Random
) -> list[Architecture]:
    """Up to `number` different admissible children that are not in `seen`; the share `wild` of them drawn at random."""
    found: dict[str, Architecture] = {}
    for _ in range(TRIES * number if breed is not None else 0):
        drawn = wild and rng.random() < wild
        arch = draw(problem.space, rng) if drawn else breed() if breed is not None else None
        if arch is None:
            break
        if arch.id not in seen and arch.id not in found and admissible(problem, arch):
            found[arch.id] = arch
            if len(found) == number:
                break
    return list(found.values())
