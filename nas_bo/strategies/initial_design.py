"""A start-up design by farthest points (after Kennard and Stone, 1969, "Computer aided design of experiments",
Technometrics 11): the first trials span the space, its corners and its known objectives."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.cheap_objectives import Known, known_of
from nas_bo.strategies.strategy import fresh, seen_ids
from nas_bo.surrogate.features import features_of, varying
from nas_bo.trial import Trial

POOL = 400  # architectures that the design chooses from
FEW = 4  # times as many given architectures as are wanted are looked at
COST = 2.0  # weight of a known objective's range; that of a summary is 1


def spread(
    problem: Problem,
    trials: Sequence[Trial],
    n: int,
    rng: random.Random,
    among: Sequence[Architecture] | None = None,
    known: Known | None = None,
) -> list[Architecture]:
    """Up to `n` unseen admissible architectures, each as far as possible from all before it and from the history.

    The first two of all trials are corners of the space: everything ordered at its lowest, and at its highest. The distance is Euclidean
    over the summaries of an architecture and the logarithms of its known objectives, each scaled to the range in the
    pool: `POOL` architectures, most of them tilted towards low or high values as a whole, since independent draws of many
    layers all have average layers. Fewer than `n` are returned when there are no more. With `among` the pool is these architectures, and
    the first one that which lies farthest from their middle.
    """
    if not problem.space.decisions():
        arch = fresh(problem, seen_ids(trials), rng)
        return [arch] if arch is not None and n else []
    features = features_of(problem.space)
    known = known or known_of(problem)
    draws, seen = np.random.default_rng(rng.getrandbits(63)), seen_ids(trials)
    genomes = features.genomes
    if among is not None:
        some = rng.sample(list(among), min(len(among), FEW * max(n, 1)))  # ~ uniform: extremes of a large table are odd
        pool = genomes.encode(some)
    else:
        parts = [genomes.corners(draws), genomes.tilted(3 * POOL // 4, draws), genomes.random(POOL // 4, draws)]
        pool = np.concatenate(parts)
    pool = pool[np.sort(np.unique(pool, axis=0, return_index=True)[1])]
    history = genomes.encode([t.architecture for t in trials])
    places = _places(np.concatenate([pool, history]), problem, known)
    size = len(pool)

    def distances(i: int) -> np.ndarray:
        return np.asarray(((places[:size] - places[i]) ** 2).sum(-1))

    first = list(range(min(2, size)))
    if among is not None:
        first = [int(((places[:size] - places[:size].mean(0)) ** 2).sum(-1).argmax())]
    chosen = farthest(problem, known, pool, len(history), distances, n, seen, first[len(trials) :])
    return chosen if among is not None else filled_up(problem, chosen, n, seen, rng)


def farthest(
    problem: Problem,
    known: Known,
    pool: np.ndarray,
    history: int,
    distances: Callable[[int], np.ndarray],
    n: int,
    seen: set[str],
    first: Sequence[int] = (),
) -> list[Architecture]:
    """Up to `n` unseen admissible architectures of a pool, each as far as possible from all before it.

    Args:
        pool: genomes (k, genes).
        history: how many others there are, at places k and following.
        distances: the place of one -> how far all of the pool are from it (k,).
        seen: ids; those of what is chosen are added.
        first: places in the pool that go before the farthest.
    """
    genomes = features_of(problem.space).genomes
    nearest = np.full(len(pool), np.inf)
    for place in range(len(pool), len(pool) + history):
        nearest = np.minimum(nearest, distances(place))
    chosen: list[Architecture] = []
    before = list(first)
    while len(chosen) < n and (nearest >= 0).any():
        at = before.pop(0) if before else int(np.argmax(nearest))
        arch = genomes.decode(pool[at])
        nearest[at] = -1.0
        if arch.id in seen or not known.exact(problem, arch)[1]:
            continue
        seen.add(arch.id)
        chosen.append(arch)
        nearest = np.minimum(nearest, distances(at))
    return chosen


def filled_up(
    problem: Problem, chosen: list[Architecture], n: int, seen: set[str], rng: random.Random
) -> list[Architecture]:
    """`chosen` with random architectures up to `n`, as far as there are any."""
    while len(chosen) < n and (last := fresh(problem, seen, rng)) is not None:
        seen.add(last.id)
        chosen.append(last)
    return chosen


def _places(genomes: np.ndarray, problem: Problem, known: Known) -> np.ndarray:
    """(n, columns): summaries and known objectives, each that varies scaled to its range."""
    features = features_of(problem.space)
    summaries = features.of(genomes)
    columns = np.concatenate([summaries[:, : features.width], known.approximate(summaries)], axis=1)
    weight = np.array([1.0] * features.width + [COST] * len(known.positions))
    keep = varying(columns)
    found = columns[:, keep] - columns[:, keep].min(0)
    return np.asarray(weight[keep] * found / np.where(np.ptp(found, axis=0) > 0, np.ptp(found, axis=0), 1.0))
