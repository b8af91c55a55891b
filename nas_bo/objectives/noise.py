"""How much one run's result depends on its seed: measured once, and given to whatever must not chase noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.objectives.validation_loss import ValidationLoss

LEVEL = 0.9


@dataclass(frozen=True)
class SeedNoise:
    """The noise of one run between seeds.

    Attributes:
        sd: standard deviation of one run, in the objective's unit, what all runs of a seed have in common left out: it
            moves every architecture alike and no ranking.
        low, high: 90 % interval of it.
        degrees: degrees of freedom, (architectures - 1) * (seeds - 1).
        values: the measurements, [architecture][seed].
    """

    sd: float
    low: float
    high: float
    degrees: int
    values: tuple[tuple[float, ...], ...]

    def __str__(self) -> str:
        return f"{self.sd:.3g} between seeds (90 % interval {self.low:.3g} to {self.high:.3g}; {counted(self.degrees, 'degree')} of freedom)"


def seed_noise(objective: ValidationLoss, archs: Sequence[Architecture], seeds: Sequence[int]) -> SeedNoise:
    """Evaluate each architecture with each seed: ``replace(objective, noise_sd=seed_noise(objective, archs, (0, 1)).sd)``.

    Costs len(archs) * len(seeds) evaluations; half a dozen architectures and two or three seeds are enough.

    Raises:
        ObjectiveError: fewer than two different architectures or seeds.
    """
    if len({arch.id for arch in archs}) < max(2, len(archs)) or len(set(seeds)) < max(2, len(seeds)):
        raise ObjectiveError(
            f"seed_noise got {counted(len(archs), 'architecture')} and seeds {list(seeds)!r}; it needs at least two of either, all different"
        )
    return noise_of([[float(replace(objective, seed=seed)(arch)) for seed in seeds] for arch in archs])


def noise_of(values: Sequence[Sequence[float]]) -> SeedNoise:
    """The same of measurements that are there already, [architecture][seed].

    Raises:
        ObjectiveError: no table of at least 2 x 2 finite numbers.
    """
    from scipy.stats import chi2

    widths = {len(row) for row in values}
    if len(values) < 2 or len(widths) != 1 or min(widths) < 2:
        raise ObjectiveError("the noise between seeds needs a full table of at least two architectures and two seeds")
    table = np.array(values, float)
    if not np.isfinite(table).all():
        raise ObjectiveError("the noise between seeds needs finite values; leave out runs that diverged")
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    degrees = (table.shape[0] - 1) * (table.shape[1] - 1)
    square = float((rest**2).sum())
    low, high = (math.sqrt(square / float(chi2.ppf(at, degrees))) for at in (0.5 + LEVEL / 2, 0.5 - LEVEL / 2))
    return SeedNoise(math.sqrt(square / degrees), low, high, degrees, tuple(tuple(row) for row in table.tolist()))
