"""`mixed`: a synthetic stand-in for the tuning of boosted trees: three kinds of boosters with parameters of their own,
real, whole and unordered, of which most matter little, and a loss with a heavy tail.

Shaped after `rbv2_xgboost` of YAHPO Gym (Pfisterer et al., 2022, AutoML Conference), with none of its data. The least loss, 0.2, is
reached by the kind "dart" and almost by "tree".
"""

from __future__ import annotations

import math

from nas_bo.architecture import Architecture
from nas_bo.space import Space, choice, integer, option, real

LEAST = 0.2
POINT = 1.2

TREE = {
    "eta": real(1e-4, 1.0, log=True),
    "max_depth": integer(1, 15),
    "min_child_weight": real(1e-2, 150.0, log=True),
    "colsample": real(0.01, 1.0),
    "gamma": real(1e-4, 8.0, log=True),
}


class Boosters(Space):
    impute = choice("mean", "median", "histogram")
    rounds = integer(7, 2980, log=True)
    subsample = real(0.1, 1.0)
    alpha = real(1e-4, 1e3, log=True)
    weight = real(1e-4, 1e3, log=True)
    booster = choice(
        option("linear"),
        option("tree", **TREE),
        option("dart", **TREE, rate_drop=real(0.0, 1.0), skip_drop=real(0.0, 1.0)),
    )


def loss(arch: Architecture) -> float:
    """A validation loss; `LEAST` at the best, about 1 for much of the space, at most 4."""
    booster = arch.booster
    worse = {"mean": 0.0, "median": 0.004, "histogram": 0.02}[arch.impute]
    worse += 0.02 * max(0.0, math.log10(arch.alpha) + 1.5) ** 2 + 0.006 * max(0.0, math.log10(arch.weight) - 0.5) ** 2
    worse += 0.25 * (arch.subsample - 0.75) ** 2
    if booster.kind == "linear":
        return min(4.0, LEAST + 0.35 + worse + 0.05 * abs(math.log10(arch.rounds / 300.0)))
    work = math.log10(arch.rounds * booster.eta)  # what both do together
    deep = booster.max_depth - 7.0 - 2.0 * (1.0 - booster.colsample)
    worse += 0.11 * min(2.5, abs(work - 1.1)) ** 1.7
    worse += 0.004 * deep * deep * (1.0 if deep < 0 else 0.35)
    worse += 0.03 * max(0.0, math.log10(booster.min_child_weight) - 0.4) ** 2
    worse += 0.5 * max(0.0, 0.55 - booster.colsample) ** 2 + 0.01 * max(0.0, math.log10(booster.gamma)) ** 2
    worse += 0.8 * max(0.0, math.log10(booster.eta) + 0.4) ** 2  # it diverges
    if booster.kind == "dart":
        worse += 0.6 * booster.rate_drop * (1.0 - booster.skip_drop) + 0.05 * (booster.skip_drop - 0.6) ** 2
    else:
        worse += 0.015
    return min(4.0, LEAST + worse)
