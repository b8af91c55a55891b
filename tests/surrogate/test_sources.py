"""A dear quantity learned with cheap ones beside it: signs, useless sources, chains, single architectures."""

from __future__ import annotations

import numpy as np
import pytest

from nas_bo.surrogate.process import GaussianProcess
from nas_bo.surrogate.sources import CoKriging, Observed, bent, settled


def truth(x):
    return np.sin(5 * x[:, 0]) + x[:, 1] * x[:, 2] - 0.5 * x[:, 3]


def history(n=70, dear=12, d=6, seed=0):
    """Inputs, their true values, and those of the first `dear` rows alone."""
    x = np.random.default_rng(seed).random((n, d))
    y = truth(x)
    return x, y, np.where(np.arange(n) < dear, y, np.nan)


def new(d=6, n=200):
    x = np.random.default_rng(99).random((n, d))
    return np.column_stack([x, np.full(n, -1.0)]), truth(x)


def error(process, places, values):
    return float(np.sqrt(np.mean((process.predict(places)[0] - values) ** 2)))


@pytest.mark.parametrize(("sign", "guess"), [(1.0, 0.7), (1.0, 0.0), (-1.0, 0.0)])
def test_many_cheap_values_teach_the_dear_one_whatever_their_sign(sign, guess):
    x, y, dear = history()
    noise = np.random.default_rng(1).normal(0, 0.03, len(x))
    source = CoKriging(x, Observed(10.0 + sign * 0.5 * y + 0.2 * x[:, 4] + noise, guess), [], own=4)
    joint, alone = CoKriging(x, Observed(dear), [source], own=4), CoKriging(x, Observed(dear), [], own=4)
    places, values = new()
    assert error(joint, places, values) < 0.6 * error(alone, places, values)
    spread = joint.predict(places)[1]
    assert 0.4 < np.sqrt(np.mean(((joint.predict(places)[0] - values) / spread) ** 2)) < 2.5
    assert np.sign(joint.shared(places, source).mean()) == sign


def test_a_useless_source_loses_little():
    x, _, dear = history(dear=30)
    source = CoKriging(x, Observed(np.random.default_rng(2).normal(size=len(x))), [], own=4)
    joint, alone = CoKriging(x, Observed(dear), [source], own=4), CoKriging(x, Observed(dear), [], own=4)
    places, values = new()
    assert error(joint, places, values) < 1.15 * error(alone, places, values)
    total = joint.predict(places)[1] ** 2
    told = joint.shared(places, source) ** 2 / (source.predict(places)[1] ** 2 + source.noise**2)
    assert (told < 0.3 * total).mean() > 0.8


def test_without_sources_it_is_the_process_alone_to_the_bit():
    x, _, dear = history(dear=25)
    places, _ = new()
    joint = CoKriging(x, Observed(dear), [], own=3).predict(places)
    alone = GaussianProcess(x[:25], dear[:25], 3, settled(25)).predict(places[:, :-1])
    assert np.array_equal(joint[0], alone[0]) and np.array_equal(joint[1], alone[1])


def test_what_no_input_explains_is_learned_of_the_architectures_that_were_seen():
    """A stopped architecture with a surprising cheap value is expected to surprise in the end."""
    x, y, _ = history(n=60)
    own = np.random.default_rng(3).normal(0, 0.5, 60)
    dear = np.where(np.arange(60) < 40, y + own, np.nan)
    source = CoKriging(x, Observed(y + own, 0.7), [], own=4)
    joint = CoKriging(x, Observed(dear), [source], own=4)
    seen = np.column_stack([x[40:], np.arange(40.0, 60.0)])
    unseen = np.column_stack([x[40:], np.full(20, -1.0)])
    assert error(joint, seen, (y + own)[40:]) < 0.6 * error(joint, unseen, (y + own)[40:])
    assert joint.unexpected() > 0


def test_a_chain_of_rungs():
    x, y, dear = history(dear=8)
    rng = np.random.default_rng(4)
    low = CoKriging(x, Observed(y + 0.3 * x[:, 4] + rng.normal(0, 0.05, len(x)), 0.7), [], own=4)
    middle = CoKriging(x, Observed(np.where(np.arange(70) < 20, y + 0.1 * x[:, 4], np.nan), 0.7), [low], own=4)
    joint, alone = CoKriging(x, Observed(dear), [middle], own=4), CoKriging(x, Observed(dear), [], own=4)
    places, values = new()
    assert error(joint, places, values) < 0.6 * error(alone, places, values)
    assert (joint.shared(places, low) > 0).mean() > 0.9
    assert not joint.shared(places, CoKriging(x, Observed(y), [], own=4)).any()


def test_what_is_believed_is_no_longer_uncertain():
    x, y, dear = history()
    source = CoKriging(x, Observed(y, 0.7), [], own=4)
    joint = CoKriging(x, Observed(dear), [source], own=4)
    places = new(n=3)[0]
    before, wide = joint.predict(places)
    joint.believe(places)
    after, narrow = joint.predict(places)
    assert after == pytest.approx(before, abs=0.05) and (narrow < wide).all()


def test_measured_noise_centres_the_noise_of_the_process():
    rng = np.random.default_rng(5)
    x = rng.random((8, 5))
    y = truth(x) + rng.normal(0, 0.3, 8)
    told = GaussianProcess(x, y, own=3, noise_sd=0.3)
    surer = GaussianProcess(x, y, own=3, noise_sd=0.003)
    assert 0.15 < told.noise < 0.6 and surer.noise < 0.05


def test_odd_sources_are_survived():
    x, _, dear = history()
    few = Observed(np.where(np.arange(70) < 3, 1.0, np.nan))
    assert not few.usable() and not Observed(np.ones(70)).usable()
    diverged = np.where(np.arange(70) == 5, 1e12, truth(x))
    joint = CoKriging(x, Observed(dear), [CoKriging(x, Observed(diverged, 0.7), [], own=4)], own=4)
    places, values = new()
    assert error(joint, places, values) < 1.0
    assert bent(np.array([1e-3, 1.0, np.nan]))[0] == pytest.approx(np.log(1e-3))
    assert list(bent(np.array([-1.0, 100.0]))) == [-1.0, 100.0]
