"""A branch whose optimum is known to many digits does not keep `Bayes` from branches that it hardly knows."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from nas_bo.problem import Function, Problem
from nas_bo.space import Space, choice, integer, option, real
from nas_bo.strategies import Bayes
from nas_bo.strategies.objective_models import Belief
from nas_bo.trial import Trial


class Models(Space):
    model = choice(
        option("near", k=integer(1, 100, log=True), power=real(1.0, 3.0)),
        option(
            "net",
            rate=real(1e-5, 1.0, log=True),
            decay=real(1e-6, 1e-1, log=True),
            drop=real(0.0, 0.8),
            width=integer(8, 512, log=True),
            depth=integer(1, 6),
        ),
    )


def error(arch):
    """0.2 at the best of the nearest neighbours, which is soon found, 0.1 at the best of the networks, most of which are worse."""
    model = arch.model
    if model.kind == "near":
        return 0.2 + 0.03 * math.log(model.k / 9.0) ** 2 + 0.02 * (model.power - 2.0) ** 2
    worse = 0.06 * min(4.0, (math.log10(model.rate) + 2.6) ** 2) + 0.01 * (math.log10(model.decay) + 4.0) ** 2
    return 0.1 + worse + 0.3 * (model.drop - 0.2) ** 2 + 0.01 * (math.log2(model.width) - 7.0) ** 2 + 0.01 * model.depth


PROBLEM = Problem(Models, [Function(error, "error", cost="trained")])


def made(kind, **values):
    return Models.architecture({"model": kind} | {f"model.{kind}.{name}": value for name, value in values.items()})


def polished(digits, seed=0):
    """Trials: nine neighbours and five networks ~ at random, then `digits` neighbours ever closer to the best."""
    rng, found = random.Random(seed), dict[str, Trial]()
    wanted = {"near": 9, "net": 5}
    while any(wanted.values()):
        arch = Models.sample(rng)
        if wanted[arch.model.kind] and arch.id not in found:
            wanted[arch.model.kind] -= 1
            found[arch.id] = PROBLEM.evaluate(arch)
    for i in range(digits):
        arch = made("near", k=9, power=2.0 + 0.1 / (i + 1))
        found[arch.id] = PROBLEM.evaluate(arch)
    return list(found.values())


def networks(belief, number=200):
    """The mean and the standard deviation that are stated for random networks, and their errors, on the scale of the belief."""
    rng = random.Random(7)
    archs = [arch for arch in (Models.sample(rng) for _ in range(3 * number)) if arch.model.kind == "net"][:number]
    mean, sd = belief.predict(belief.inputs(belief.genomes(archs)), np.zeros((len(archs), 0)))
    return mean[:, 0], sd[:, 0], np.array([belief.bent(0, error(arch)) for arch in archs])


def test_what_few_trials_say_of_a_branch_is_not_taken_for_certain():
    off = []
    for seed in range(6):
        mean, sd, truth = networks(Belief(PROBLEM, polished(10, seed)))
        off.append(np.sqrt(np.mean((truth - mean) ** 2)) / np.median(sd))
    assert np.median(off) < 4


def test_when_most_trials_are_variations_of_one_the_others_keep_their_differences():
    points = Belief(PROBLEM, polished(40)).points()[:14, 0]
    assert np.ptp(points) > 0.5 * np.ptp([trial.values["error"] for trial in polished(0)])


def test_what_a_suggestion_must_improve_once_the_search_stalls():
    assert Belief(PROBLEM, polished(0)).demanded() == 0  # too few trials to say
    trials = polished(40)
    demanded = Belief(PROBLEM, trials).demanded()
    usual = np.median([trial.values["error"] for trial in trials[:16]]) - 0.2
    assert demanded == pytest.approx(0.05 * usual, rel=0.3)
    better = PROBLEM.evaluate(made("net", rate=10**-2.6, decay=1e-4, drop=0.2, width=128, depth=1))
    assert Belief(PROBLEM, [*trials, better]).demanded() == 0
    both = Problem(
        Models, [Function(error, "error", cost="trained"), Function(lambda a: -error(a), "gain", cost="trained")]
    )
    assert Belief(both, [both.evaluate(trial.architecture) for trial in trials]).demanded() == 0


def test_the_other_branch_is_suggested_once_one_is_polished():
    trials = polished(30)
    kinds = [Bayes(seed=seed, candidates=600).suggest(PROBLEM, trials, 1)[0].model.kind for seed in range(4)]
    assert kinds.count("net") >= 2
