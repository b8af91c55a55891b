"""The invented family of conditional problems: its least loss is what it says, and evolution beats random draws on it."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.conditional_spaces.boosters import LEAST, Boosters, law
from benchmarks.conditional_spaces.run import regrets
from nas_bo.space.domain import Integer
from nas_bo.strategies.number_variation import SMALLEST, blend, is_long, loosened, shift_many, shifted
from nas_bo.strategies.variation import mutate, openings


@pytest.mark.parametrize("instance", range(6))
def test_nothing_is_below_the_least_loss(instance):
    rng = random.Random(instance)
    losses = [law(instance)(Boosters.sample(rng)) for _ in range(200)]
    assert min(losses) > LEAST and np.ptp(losses) > 0.2


def test_numbers_move_by_steps_of_all_sizes_and_stay_inside():
    rounds, rng = Boosters.domains()["rounds"], random.Random(0)
    assert isinstance(rounds, Integer) and is_long(rounds)
    moves = [abs(rounds.position(shifted(rounds, 150, rng)) - rounds.position(150)) for _ in range(400)]
    assert min(moves) > 0 and np.mean(np.array(moves) < SMALLEST) > 0.1 and np.mean(np.array(moves) > 0.2) > 0.05
    first, second = Boosters.sample(1), Boosters.sample(2)
    for _ in range(50):
        flat = dict(first.flat)
        blend(Boosters, flat, first.flat, second.flat, rng)
        shift_many(Boosters, flat, rng)
        assert Boosters.architecture(flat).flat == flat
    kept = loosened(Boosters, first, {"rounds": ()})
    assert {"booster", "impute", "rounds"} <= set(kept) and "alpha" not in kept


def test_a_changed_choice_takes_what_lies_below_from_a_donor_or_from_fields_of_the_same_names():
    rng = random.Random(3)
    tree = next(a for a in (Boosters.sample(i) for i in range(50)) if a.flat["booster"] == "tree")
    donor = next(a for a in (Boosters.sample(i) for i in range(50)) if a.flat["booster"] == "dropout")
    assert "booster.dropout.eta" in openings(Boosters)["booster"]
    moved = [a for a in (mutate(Boosters, tree, rng, 1, [donor]) for _ in range(600)) if a.flat["booster"] == "dropout"]
    assert moved
    for arch in moved:
        assert arch.flat["booster.dropout.eta"] in (tree.flat["booster.tree.eta"], donor.flat["booster.dropout.eta"])


def test_evolution_beats_random_draws():
    found = {arm: [regrets(arm, i, 0, 50)[50] for i in range(6)] for arm in ("Random", "NSGA2")}
    assert np.mean(found["NSGA2"]) < np.mean(found["Random"])
