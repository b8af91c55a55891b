"""Which architectures to measure: those that leave the least to be unsure of (active learning by Cohn, 1996, "Neural
network exploration using optimal experiment design", as greedy steps over a pool).

The learned model is a Gaussian process on operations, so before anything is measured it already knows how much every
measurement would tell about every other architecture. Each step takes the one after which the variance that is left,
summed over the pool and relative to each time, is smallest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import ProfileError
from nas_bo.hardware.latency.additive import PRIOR, Kernel, Models
from nas_bo.hardware.latency.learned import Base
from nas_bo.hardware.latency.parts_index import occurrences
from nas_bo.hardware.workload import Setting
from nas_bo.seeds import Seed, generator_of
from nas_bo.space.space import Space

POOL = 300
NOISE = 0.02  # standard deviation of a measurement, relative to it


def pool(space: type[Space], n: int = POOL, seed: Seed = 0) -> list[Architecture]:
    """Up to `n` different architectures drawn as `Space.sample` does; fewer in a small space."""
    rng = generator_of(seed, "pool", ProfileError)
    found: dict[str, Architecture] = {}
    for _ in range(20 * n):
        arch = space.sample(rng)
        found.setdefault(arch.id, arch)
        if len(found) == n:
            break
    return list(found.values())


def informative(archs: Sequence[Architecture], n: int, settings: Sequence[Setting], base: Base) -> list[Architecture]:
    """`n` of `archs` (all, if there are no more), most informative first."""
    left = [_covariance(archs, setting, base) for setting in settings]
    chosen: list[int] = []
    while len(chosen) < min(n, len(archs)):
        gain = np.zeros(len(archs))
        for covariance in left:
            known = np.diag(covariance) + NOISE**2
            gain += (covariance**2).sum(0) / known / np.trace(covariance).clip(1e-12)
        gain[chosen] = -1.0
        at = int(np.argmax(gain))
        chosen.append(at)
        for covariance in left:
            column = covariance[:, at].copy()
            covariance -= np.outer(column, column) / (column[at] + NOISE**2)
    return [archs[i] for i in chosen]


def _covariance(archs: Sequence[Architecture], setting: Setting, base: Base) -> np.ndarray:
    """(n, n) what the learned model believes of the times, relative to the base's, before anything is measured."""
    known, often = occurrences(archs, setting)
    times = base.operations_ms(known)
    return Kernel(tuple(PRIOR)).of_models(Models.of(known, often, times, often @ times))
