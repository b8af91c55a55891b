"""A start-up design by farthest points (after Kennard and Stone, 1969, "Computer aided design of experiments",
Technometrics 11): the first trials span the space, its corners and its known objectives."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from nas_bo.architecture import Architecture, Primitive
from nas_bo.problem import Problem
from nas_bo.space.domain import Domain
from nas_bo.strategies.features import features_of, varying
from nas_bo.strategies.strategy import admissible, draw, fresh, seen_ids
from nas_bo.trial import Trial

POOL = 100  # random architectures that the design chooses from


def spread(problem: Problem, trials: Sequence[Trial], n: int, rng: random.Random) -> list[Architecture]:
    """Up to `n` unseen admissible architectures, each as far as possible from all before it and from the history.

    The distance is Euclidean over the summaries of an architecture and the logarithms of its known objectives, each
    scaled to the range in the pool: `POOL` random architectures and the corners of the space. Fewer than `n` are
    returned when there are no more.
    """
    seen = seen_ids(trials)
    pool = {a.id: a for a in corners(problem, rng) if a.id not in seen and admissible(problem, a)}
    for _ in range(4 * (POOL + n)):
        arch = draw(problem.space, rng)
        if len(pool) >= POOL + n:
            break
        if arch.id not in seen and arch.id not in pool and admissible(problem, arch):
            pool[arch.id] = arch
    while len(pool) < n and (last := fresh(problem, seen | set(pool), rng)) is not None:
        pool[last.id] = last
    archs = list(pool.values())
    chosen: list[Architecture] = []
    if not archs:
        return chosen
    places = _places(problem, archs + [t.architecture for t in trials])
    history = places[len(archs) :]
    nearest = np.full(len(archs), np.inf)
    for place in history:
        nearest = np.minimum(nearest, ((places[: len(archs)] - place) ** 2).sum(-1))
    while len(chosen) < min(n, len(archs)):
        at = int(np.argmax(nearest))
        chosen.append(archs[at])
        nearest = np.minimum(nearest, ((places[: len(archs)] - places[at]) ** 2).sum(-1))
        nearest[at] = -1.0
    return chosen


def corners(problem: Problem, rng: random.Random) -> Iterator[Architecture]:
    """All ordered decisions at their lowest, and all at their highest; what is unordered ~ uniform."""

    def low(_path: str, domain: Domain) -> Primitive:
        return _end(domain, 0, rng)

    def high(_path: str, domain: Domain) -> Primitive:
        return _end(domain, -1, rng)

    for pick in (low, high):
        yield problem.space.decide(pick)


def _end(domain: Domain, at: int, rng: random.Random) -> Primitive:
    if not domain.ordered:
        return domain.sample(rng)
    return domain.values[at] if domain.size is not None else domain.at(float(at != 0))


def _places(problem: Problem, archs: Sequence[Architecture]) -> np.ndarray:
    """(n, columns): summaries and known objectives, each that varies scaled to [0, 1]."""
    features = features_of(problem.space)
    known = []
    for arch in archs:
        try:
            values = problem.known(arch)
        except Exception:
            values = {}
        known.append([values.get(c.name, 0.0) for c in problem.columns])
    numbers = np.nan_to_num(np.array(known, dtype=float), nan=0.0, posinf=0.0, neginf=0.0)
    columns = np.concatenate([features(archs)[:, : features.width], np.log(np.maximum(np.abs(numbers), 1e-12))], axis=1)
    keep = varying(columns)
    found = columns[:, keep] - columns[:, keep].min(0)
    return np.asarray(found / np.where(np.ptp(found, axis=0) > 0, np.ptp(found, axis=0), 1.0))
