"""A family of invented problems with conditions and mixed types: three boosters with parameters of their own.

The space is that of the tuning of gradient boosting (as in YAHPO Gym, Pfisterer et al., 2022, "YAHPO Gym: an efficient
multi-objective multi-fidelity benchmark for hyperparameter optimization", AutoML): a choice among three boosters, most
parameters below one of them, many on logarithmic scales. Every instance draws a law of its own, so nothing is tuned
to one of them: which booster is best and by how much, where the best value of every parameter lies (anywhere,
ends included), how much each matters (few matter much), pairs that matter together, ripples, a loss that
saturates far from the best values, and an unordered choice. The least loss is known exactly.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import cache

from nas_bo.architecture import Architecture
from nas_bo.space import Space, choice, integer, option, real

TREE = {
    "eta": real(1e-4, 1.0, log=True),
    "gamma": real(1e-4, 7.0, log=True),
    "max_depth": integer(1, 15),
    "min_child_weight": real(2.7, 150.0, log=True),
    "by_tree": real(0.01, 1.0),
    "by_level": real(0.01, 1.0),
}


class Boosters(Space):
    """Three boosters: 6, 11 and 14 parameters beside the choice."""

    booster = choice(
        option("linear", shrink=real(1e-3, 1e3, log=True)),
        option("tree", **TREE),
        option("dropout", **TREE, rate_drop=real(0.0, 1.0), skip_drop=real(0.0, 1.0)),
    )
    rounds = integer(7, 2981, log=True)
    alpha = real(1e-3, 1e3, log=True)
    strength = real(1e-3, 1e3, log=True)
    subsample = real(0.1, 1.0)
    impute = choice("mean", "median", "histogram")


Law = Callable[[Architecture], float]


class Booster:
    """The law of one booster: its least loss, and where and how steeply it rises."""

    def __init__(self, rng: random.Random, names: list[str], best: float) -> None:
        self.best = best
        self.place = {name: min(1.0, max(0.0, rng.uniform(-0.15, 1.15))) for name in names}
        weights = {name: rng.lognormvariate(0.0, 1.5) for name in names}  # ~ few matter much
        total = sum(weights.values())
        self.weight = {name: 12.0 * w / total for name, w in weights.items()}
        self.skew = {name: rng.lognormvariate(0.0, 0.4) for name in names}  # steeper on one side
        heavy = sorted(names, key=lambda name: -self.weight[name])[:5]
        self.pairs = [(*rng.sample(heavy, 2), rng.uniform(-0.9, 0.9)) for _ in range(3)]
        self.ripple = {name: rng.uniform(0.0, 0.06) for name in names}
        self.waves = {name: rng.uniform(2.0, 5.0) for name in names}
        self.impute = dict(zip(["mean", "median", "histogram"], rng.sample([0.0, 0.02, 0.05], 3), strict=True))

    def __call__(self, at: dict[str, float], impute: str) -> float:
        away = {n: (at[n] - p) * (self.skew[n] if at[n] > p else 1.0 / self.skew[n]) for n, p in self.place.items()}
        bowl = sum(self.weight[n] * d * d for n, d in away.items())
        for a, b, much in self.pairs:  # |much| < 1 and a third of each: the bowl stays above 0
            bowl += 2 / 3 * much * math.sqrt(self.weight[a] * self.weight[b]) * away[a] * away[b]
        ripples = sum(self.ripple[n] * math.sin(math.pi * self.waves[n] * d) ** 2 for n, d in away.items())
        return self.best + 0.6 * (1.0 - math.exp(-bowl)) + 0.15 * ripples + self.impute[impute] + 0.05 * bowl


@cache
def law(instance: int) -> Law:
    """The loss of instance 0, 1, ..., to be minimised."""
    rng = random.Random(f"boosters/{instance}")
    names, best = parameters(), rng.sample([0.0, rng.uniform(0.01, 0.08), rng.uniform(0.03, 0.25)], 3)
    made = {kind: Booster(rng, names[kind], least) for kind, least in zip(names, best, strict=True)}
    domains = Boosters.domains()

    def loss(arch: Architecture) -> float:
        kind = str(arch.flat["booster"])
        at = {name.rsplit(".", 1)[-1]: domains[name].position(value) for name, value in arch.flat.items()}
        return 1.0 + made[kind](at, str(arch.flat["impute"]))

    return loss


def parameters() -> dict[str, list[str]]:
    """The numbers that each booster has."""
    paths = [path for path, domain in Boosters.domains().items() if domain.ordered]
    common = [path for path in paths if "." not in path]
    kinds = ("linear", "tree", "dropout")
    below = {kind: [p.rsplit(".", 1)[-1] for p in paths if p.startswith(f"booster.{kind}.")] for kind in kinds}
    return {kind: [*common, *below[kind]] for kind in kinds}


LEAST = 1.0  # the loss of the best architecture of every instance
