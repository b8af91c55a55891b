"""The first trials fill the space: branches and options in turn, numbers inside of their range as well as at its ends."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np

from nas_bo.problem import Function, Problem
from nas_bo.space import Space, choice, integer, option, real
from nas_bo.strategies import Bayes
from nas_bo.strategies.filling_design import fill
from nas_bo.trial import Trial
from tests.strategies import cases


class Branches(Space):
    norm = choice("layer", "rms", "none")
    model = choice(
        option("trees", number=integer(10, 1000, log=True), depth=integer(1, 12)),
        option("net", rate=real(1e-4, 1.0, log=True), width=choice(32, 64, 128, 256), drop=real(0.0, 0.5)),
        "nearest",
    )


def one_at_a_time(problem, n, seed):
    """As a search asks for them."""
    trials: list[Trial] = []
    while len(trials) < n:
        found = Bayes(seed=seed, startup=n).suggest(problem, trials, 1)
        trials.append(problem.evaluate(found[0]))
    return [trial.architecture for trial in trials]


def test_branches_and_unordered_options_have_their_turn():
    for seed in range(3):
        archs = one_at_a_time(Problem(Branches, [cases.loss]), 9, seed)
        for name in ("model", "norm"):
            counts = Counter(arch.flat[name] for arch in archs)
            assert len(counts) == 3 and max(counts.values()) <= 5, counts


def test_numbers_are_not_kept_at_their_ends():
    class Square(Space):
        x = real(0.0, 1.0)
        y = real(0.0, 1.0)
        z = real(0.0, 1.0)

    for seed in range(3):
        places = np.array([list(arch.flat.values()) for arch in one_at_a_time(Problem(Square, [cases.loss]), 8, seed)])
        inside = ((places > 0.2) & (places < 0.8)).mean()
        assert 0.3 < inside < 0.9  # 0.6 of uniform draws
        assert (np.ptp(places, axis=0) > 0.5).all()
        gaps = np.abs(places[:, None] - places[None])
        gaps = np.sqrt((np.minimum(gaps, 1 - gaps) ** 2).sum(-1))
        assert gaps[np.triu_indices(8, 1)].min() > 0.25  # of eight random ones .12


def test_what_is_there_already_is_kept_away_from_and_known_objectives_are_spanned():
    problem = Problem(Branches, [cases.loss, Function(lambda arch: len(arch.flat), "fields", cost="analytic")])
    there = [Trial(Branches.sample(i)) for i in range(60)]
    nets = [trial for trial in there if trial.architecture.flat["model"] == "net"]
    found = fill(problem, nets, 4, random.Random(0))
    assert {arch.flat["model"] for arch in found[:2]} == {"trees", "nearest"}
    kinds = {len(arch.flat) for arch in fill(problem, [], 4, random.Random(0))}
    assert {2, 5} <= kinds
