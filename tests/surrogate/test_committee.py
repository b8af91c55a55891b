"""Where in depth a layer is, trees in numpy, and the committee that is the default of predictors."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata

from nas_bo import Space, Trial, choice, integer, option, repeat
from nas_bo.errors import ObjectiveError
from nas_bo.objectives import Predicted
from nas_bo.objectives.predicted_fit import FitSettings, build
from nas_bo.surrogate import GP, Committee, RandomTrees
from nas_bo.surrogate.profile import Profile, profile_of
from nas_bo.trial import ObjectiveSpec


class Decoder(Space):
    width = choice(64, 128, 256)
    layers = repeat(
        integer(2, 12),
        mixer=choice(option("none"), option("attention", heads=choice(1, 2, 4, 8), value=choice(32, 64, 128))),
        mlp=integer(0, 1024, step=256),
    )


class Fields(Space):
    one = choice("a", "b", "c")
    two = choice("a", "b", "c")


class Short(Space):
    layers = repeat(2, kernel=choice(3, 5))


def drawn(n, space=Decoder, seed=0):
    rng = random.Random(seed)
    return list({a.id: a for a in (space.sample(rng) for _ in range(2 * n))}.values())[:n]


def loss(arch):
    """What the first layer is decides, with a heavy tail; a little of depth."""
    first = arch.layers[0].mixer
    bad = 3.0 if first.kind == "none" else 0.2 / (first.heads * first.value / 256)
    return 2.5 + bad + 0.3 / len(arch.layers)


def test_places_in_depth_are_columns():
    profile = profile_of(Decoder)
    archs = drawn(40)
    found = profile(archs)
    assert found.shape == (40, len(profile.names)) and np.isfinite(found).all()
    assert profile.ends[-1] == len(profile.names) and list(profile.ends) == sorted(profile.ends)
    product = found[:, profile.names.index("layers.0.mixer.attention.heads * value at 0")]
    for arch, value in zip(archs, product, strict=True):
        first = arch.layers[0].mixer
        if first.kind == "attention":
            assert value == pytest.approx(np.log(first.heads * first.value))
        else:
            assert value < np.log(32)
    last = found[:, profile.names.index("layers.0.mlp at -1")]
    empty = np.array([arch.layers[-1].mlp == 0 for arch in archs])
    assert (last[empty] < np.log(256)).all() and (last[~empty] >= np.log(256)).all()
    assert found[:, profile.names.index("width")] == pytest.approx([np.log(arch.width) for arch in archs])


def test_columns_of_one_architecture_do_not_depend_on_the_others():
    archs = drawn(20)
    together = Profile(Decoder)(archs)
    for arch, row in zip(archs, together, strict=True):
        assert profile_of(Decoder)([arch])[0] == pytest.approx(row, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("space", [Fields, Short])
def test_spaces_without_depth_have_columns_too(space):
    found = profile_of(space)(drawn(4, space))
    assert found.shape[1] == len(profile_of(space).names) > 0 and np.isfinite(found).all()


def test_trees_are_as_good_as_those_of_scikit_learn():
    from sklearn.ensemble import ExtraTreesRegressor

    archs = drawn(360)
    inputs, values = profile_of(Decoder)(archs), np.array([loss(a) for a in archs])
    mine = RandomTrees().fit(inputs[:60], values[:60], ()).predict(inputs[60:])[0]
    theirs = ExtraTreesRegressor(100, min_samples_leaf=2, max_features=0.4, random_state=0)
    other = theirs.fit(inputs[:60], values[:60]).predict(inputs[60:])
    assert kendalltau(mine, values[60:])[0] > kendalltau(other, values[60:])[0] - 0.06


def test_what_trees_leave_out_is_not_what_they_saw():
    rng = np.random.default_rng(0)
    inputs, noise = rng.normal(size=(80, 5)), rng.normal(size=80)
    fitted = RandomTrees(leaf=1).fit(inputs, noise, ())
    assert np.corrcoef(fitted.predict(inputs)[0], noise)[0, 1] > 0.8
    assert np.corrcoef(fitted.left_out, noise)[0, 1] < 0.3


def test_the_committee_orders_heavy_tails_better_than_a_process():
    archs = drawn(360)
    inputs, values = profile_of(Decoder)(archs), np.array([loss(a) for a in archs])
    taus = {}
    for model in (Committee(), GP()):
        found = model.fit(inputs[:60], values[:60], profile_of(Decoder).ends).predict(inputs[60:])[0]
        taus[type(model).__name__] = kendalltau(found, values[60:])[0]
    assert taus["Committee"] > taus["GP"] and taus["Committee"] > 0.6


def test_the_process_alone_decides_where_an_objective_is_smooth():
    rng = np.random.default_rng(1)
    inputs = rng.uniform(size=(70, 4))
    values = inputs @ [1.0, 2.0, 0.5, 0.2] + 0.3 * np.sin(3 * inputs[:, 0])
    fitted = Committee().fit(inputs[:50], values[:50], (0, 2, 4))
    assert fitted.share > 0.5 and not fitted.ranks
    assert np.abs(fitted.predict(inputs[50:])[0] - values[50:]).max() < 0.1


def test_ranks_return_as_values_in_the_same_order():
    values = np.concatenate([np.linspace(2.6, 2.8, 30), np.linspace(3.0, 50.0, 10)])
    inputs = np.column_stack([rankdata(values), np.zeros(40)])
    fitted = Committee().fit(inputs, values, (2,))
    found, sd = fitted.predict(inputs)
    assert fitted.ranks and (sd > 0).all() and kendalltau(found, values)[0] > 0.95
    assert 2.0 < found.min() < 3.0 and 20.0 < found.max() < 60.0


@pytest.mark.parametrize("wrong", [{"trees": 1}, {"leaf": 0}, {"columns": 0.0}, {"share": 1.5}])
def test_settings_of_trees_are_checked(wrong):
    with pytest.raises(ObjectiveError):
        RandomTrees(**wrong)


def test_files_hold_the_committee_and_those_of_before_have_no_places(tmp_path):
    archs = drawn(14)
    found = Predicted.fit([Trial(a, {"loss": loss(a)}) for a in archs], "loss", space=Decoder)
    assert "Committee" in found.card.model and any(name.endswith("at 0") for name in found.card.columns)
    assert Predicted.load(found.save(tmp_path / "new.json"), Decoder)(archs[0]) == found(archs[0])
    target = ObjectiveSpec("loss")
    old = replace(found.base_card, columns=("mean of layers.0.mlp",))
    before = build(found.examples, target, Decoder, FitSettings(GP()), None, cards={"base": old, "full": old})
    assert not before.base.inputs.profile and not any(name.endswith("at 0") for name in before.base.inputs.names)
