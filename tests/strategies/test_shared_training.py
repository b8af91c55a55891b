"""Trainings and settings: what a setting costs is learned as a sum, trainings are compared at one setting, and the search ends when
neither is worth anything."""

from __future__ import annotations

import hashlib
import math
import random

import moocore
import numpy as np
import pytest

from nas_bo.objective import Value
from nas_bo.objectives import WeightBytes
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT, with_bits
from nas_bo.strategies import Bayes
from nas_bo.strategies.shared_training import SharedTrainings, uniform_settings
from nas_bo.trial import front

Bits = with_bits(TinyGPT, kv_bits=(), title="Bits")
Plain = with_bits(TinyGPT, (32,), kv_bits=(), around=32, title="Plain")
ROUNDED = [with_bits(TinyGPT, (bits,), kv_bits=(), title=f"Bits{bits}") for bits in (8, 4)]
COST = {32: 0.0, 8: 0.0002, 4: 0.002, 3: 0.008, 2: 0.045}


class Loss:
    """Of a training, plus what the bits of each layer cost: layers differ by a factor of ten, and a sum is not all of it."""

    name, unit, direction, cost = "loss", "bits/byte", "minimize", "trained"

    def __init__(self, exact=True):
        self.exact = exact

    def __call__(self, arch):
        work = sum(1 + 2 * ("heads" in layer.mixer) + layer.mlp.get("ratio", 0) for layer in arch.layers)
        trained = 2.6 + 3 / math.log(4 + work * arch.width)
        parts = [COST[layer.bits] * weight for layer, weight in zip(arch.layers, self.weights(arch), strict=True)]
        gap = sum(parts) if self.exact else sum(parts) * (1 + 0.2 * sum(parts) / 0.05)
        return Value(trained + gap, trained=trained, gap=gap, gap_sd=0.0)

    def weights(self, arch):
        digest = hashlib.sha256(arch.training_id.encode()).digest()
        each = [10 ** (digest[i] / 255) for i in range(len(arch.layers))]
        return [one / sum(each) for one in each]


def deep():
    arch = next(one for one in map(Bits.sample, range(100)) if len(one.layers) >= 4)
    return arch, [path for path in arch.flat if path.endswith(".bits")]


def setting(arch, bits):
    return Bits.architecture({**arch.flat, **bits})


def test_what_a_mixture_costs_is_learned_from_few_others():
    problem = Problem(Bits, [Loss(), WeightBytes()])
    arch, paths = deep()
    looked = [setting(arch, at) for at in uniform_settings(problem, paths)]
    looked += [setting(arch, {**dict.fromkeys(paths, 3), path: 2}) for path in paths]
    shared = SharedTrainings(problem, [problem.evaluate(one) for one in looked])
    rng = random.Random(0)
    unseen = [setting(arch, {path: rng.choice((3, 2)) for path in paths}) for _ in range(6)]
    mean, sd, usable = shared.predict(unseen)
    exact = np.array([float(Loss()(one)) for one in unseen])
    assert (
        usable.all() and np.abs(mean[:, 0] - exact).max() < 1e-3 and (sd[:, 0] < 5e-3).all() and (sd[:, 1] == 0).all()
    )
    before = SharedTrainings(problem, [problem.evaluate(looked[0])]).predict(unseen)
    assert (before[1][:, 0] > sd[:, 0]).all()


def test_settings_reach_the_front_of_all_mixtures():
    """Of one training: a dozen looks, against all mixtures of its layers at 4, 3 and 2 bits."""
    problem = Problem(Bits, [Loss(), WeightBytes()])
    arch, paths = deep()
    trials = [problem.evaluate(setting(arch, dict.fromkeys(paths, 3)))]
    while len(trials) < 12:
        made = SharedTrainings(problem, trials).best_setting({t.architecture.id for t in trials}, 0)
        if made is None:  # nothing is worth a look any more
            break
        assert made.training_id == arch.training_id
        trials.append(problem.evaluate(made))
    rng = random.Random(0)
    drawn = [problem.evaluate(setting(arch, {path: rng.choice((8, 4, 3, 2)) for path in paths})) for _ in range(12)]
    assert len(trials) >= 6
    volumes = hypervolumes(trials, drawn)
    assert volumes[0] > volumes[1]
    sensitive = paths[int(np.argmax(Loss().weights(arch)))]
    mixed = [t for t in front(trials, problem.columns) if len({t.architecture.flat[path] for path in paths}) > 1]
    assert mixed and all(t.architecture.flat[sensitive] >= min(t.architecture.flat[p] for p in paths) for t in mixed)


def points(trials):
    return np.array([[t.values["loss"], math.log(t.values["weight_bytes"])] for t in trials])


def hypervolumes(*arms):
    reference = np.concatenate([points(arm) for arm in arms]).max(0)
    return [float(moocore.hypervolume(points(arm), ref=reference)) for arm in arms]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_joint_search_beats_rounding_the_front_of_a_plain_one(seed):
    loss = Loss(exact=False)
    problem, plain = Problem(Bits, [loss, WeightBytes()]), Problem(Plain, [loss, WeightBytes()])
    strategy, joint = Bayes(seed, startup=4, candidates=200, trainings=8, settings=5), []
    while archs := strategy.suggest(problem, joint, 1):
        joint.append(problem.evaluate(archs[0]))
    trainings = [trial.architecture.training_id for trial in joint]
    assert len(set(trainings)) == 8 and len(set(trainings[:4])) == 4 and 16 <= len(joint) <= 40
    assert len({trial.architecture.id for trial in joint}) == len(joint)
    then: list = []
    while len(then) < 8:
        then.append(plain.evaluate(Bayes(seed, startup=4, candidates=200).suggest(plain, then, 1)[0]))
    best = front(then, plain.columns)
    rounded = [
        Problem(one, plain.objectives).evaluate(one.architecture(t.architecture)) for t in best for one in ROUNDED
    ]
    far = np.array([8.0, math.log(400_000)])  # not the worst of all trials: one odd architecture would decide
    volumes = [moocore.hypervolume(points(arm), ref=far) for arm in (joint, [*then, *rounded])]
    assert volumes[0] > 1.01 * volumes[1]


def test_a_training_is_first_looked_at_as_all_are_compared():
    """What looks the cheapest first (8 bits everywhere) cost looks later, and the search was worse than rounding its front."""
    problem = Problem(Bits, [Loss(), WeightBytes()])
    strategy, trials, seen = Bayes(0, startup=3, candidates=100, trainings=7, settings=4), [], set()
    others = 0
    while archs := strategy.suggest(problem, trials, 1):
        (arch,) = archs
        if len(seen) >= 3 and arch.training_id not in seen:
            at = SharedTrainings(problem, trials).pinned().at
            assert {path: arch.flat[path] for path in at if path in arch.flat} == {
                p: at[p] for p in at if p in arch.flat
            }
            others += any(value < 8 for value in at.values())
        seen.add(arch.training_id)
        trials.append(problem.evaluate(arch))
    assert others


def test_limits_and_a_single_objective():
    """The least loss within so many bytes: settings that fit are found, and none that do not."""
    problem = Problem(Bits, [Loss()], [WeightBytes(at_most=40_000)])
    strategy, trials = Bayes(0, startup=3, candidates=200, trainings=6, settings=4), []
    while archs := strategy.suggest(problem, trials, 2):
        trials += [problem.evaluate(arch) for arch in archs]
    assert len({trial.architecture.training_id for trial in trials}) >= 6 and all(trial.feasible for trial in trials)
    assert len(trials) > 6
