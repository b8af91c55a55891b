"""Choosing among given architectures, and objectives with a heavy tail that only the place of a layer explains."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nas_bo import Problem, Space, Trial, choice, integer, option, repeat
from nas_bo.errors import SearchError
from nas_bo.problem import Function
from nas_bo.strategies import NSGA2, Among, Bayes, Random, RegularizedEvolution
from nas_bo.strategies.objective_models import Belief
from nas_bo.surrogate.committee import RankProcess
from nas_bo.trial import State


class Decoder(Space):
    layers = repeat(
        integer(2, 10),
        mixer=choice(option("none"), option("attention", heads=choice(1, 2, 4, 8), value=choice(32, 64, 128))),
        mlp=choice(256, 512, 1024),
    )


def loss(arch):
    """The first layer that has attention decides, with a heavy tail where it comes late; sizes say little."""
    first, second = (layer.mixer for layer in arch.layers[:2])
    found = first if first.kind != "none" else second
    bad = 9.0 if found.kind == "none" else 30.0 / (found.heads * found.value)
    return 2.5 + bad + 0.1 * (first.kind == "none") + 0.02 * sum(layer.mlp == 256 for layer in arch.layers[:3])


def params(arch):
    return float(sum(layer.mlp for layer in arch.layers))


@pytest.fixture(scope="module")
def table():
    rng = random.Random(0)
    return list({a.id: a for a in (Decoder.sample(rng) for _ in range(200))}.values())


def problem(known=False):
    more = [Function(params, "params", cost="analytic")] if known else []
    return Problem(Decoder, [Function(loss, "loss", cost="trained"), *more])


def searched(strategy, task, number):
    trials = []
    while len(trials) < number and (found := strategy.suggest(task, trials, 1)):
        trials.append(task.evaluate(found[0]))
    return trials


@pytest.mark.parametrize("inner", [Random(), Bayes(startup=4), NSGA2(population=8), RegularizedEvolution(population=8)])
def test_only_given_architectures_each_once_and_all_in_the_end(inner, table):
    few, task = table[:14], problem(known=True)
    strategy = Among([*few, few[0]], inner)
    assert len(strategy.architectures) == 14
    trials = searched(strategy, task, 20)
    assert sorted(t.architecture.id for t in trials) == sorted(a.id for a in few)
    assert strategy.suggest(task, trials, 1) == []
    again = strategy.suggest(task, trials[:6], 1)
    assert again == strategy.suggest(task, trials[:6], 1) and again[0] in few


def test_a_batch_is_distinct_and_leaves_pending_ones_out(table):
    task = problem()
    trials = searched(Among(table), task, 10)
    running = Trial(table[0], state=State.RUNNING)
    batch = Among(table).suggest(task, [*trials, running], 4)
    ids = {arch.id for arch in batch}
    assert len(ids) == 4 and not ids & {running.architecture.id, *(t.architecture.id for t in trials)}


def test_bayes_needs_fewer_looks_than_chance(table):
    task = problem()
    best = {}
    for strategy in (Bayes(seed=1), Random(seed=1)):
        best[type(strategy).__name__] = min(t.values["loss"] for t in searched(Among(table, strategy), task, 28))
    places = np.sort([loss(arch) for arch in table])
    assert best["Bayes"] <= places[3] and best["Bayes"] <= best["Random"]


def test_what_a_table_holds_is_known_although_the_space_is_larger(table):
    """The columns of a table are asked for at its rows only, and no model can guess these numbers."""
    deep = [arch for arch in table if len(arch.layers) > 4]  # random draws do not hit these
    sizes = {arch.id: float(at) for at, arch in enumerate(random.Random(1).sample(deep, len(deep)))}
    size = Function(lambda arch: sizes[arch.id], "size", cost="analytic")
    task = Problem(Decoder, [Function(loss, "loss", cost="trained"), size])
    trials = searched(Among(deep, Bayes(startup=4)), task, 12)
    assert min(t.values["size"] for t in trials) == 0
    assert sum(t.values["size"] < len(deep) / 4 for t in trials[4:]) >= 6


def test_a_heavy_tail_that_places_explain_is_modelled_by_ranks(table):
    task = problem()
    trials = [task.evaluate(arch) for arch in table[:60]]
    belief = Belief(task, trials, ranked=True)
    assert isinstance(belief.processes[0], RankProcess)
    inputs = belief.inputs(belief.genomes(table[60:]))
    mean, sd = belief.predict(inputs, np.zeros((len(inputs), 0)))
    truth = np.array([loss(arch) for arch in table[60:]])
    assert np.corrcoef(np.argsort(np.argsort(mean[:, 0])), np.argsort(np.argsort(truth)))[0, 1] > 0.7
    assert (sd > 0).all()
    belief.believe(table[60:62])


def test_nothing_to_choose_from_is_refused():
    with pytest.raises(SearchError, match="at least one"):
        Among([])
