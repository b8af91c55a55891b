"""Variation stays inside the space, reaches all of it, and does what its moves say."""

from __future__ import annotations

import itertools
import math
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_bo.objectives import Parameters
from nas_bo.problem import Function, Problem
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.space.neighbours import lists_of
from nas_bo.strategies import variation
from nas_bo.strategies.initial_design import spread
from nas_bo.strategies.variation import crossover, mutate
from nas_bo.surrogate.features import features_of, varying
from tests.strategies import cases


class Deep(Space):
    """A list whose count jumps, two lists of one count, lists inside lists and inside options."""

    depth = choice(0, 2, 4, 8)
    first = repeat(depth, a=choice(1, 2, 3))
    second = repeat(
        depth, b=choice("x", "y", "z"), inner=repeat(integer(0, 2), c=integer(1, 3), d=repeat(2, e=choice(5, 6)))
    )
    empty = repeat(integer(0, 3), fixed=7)


SPACES = (*cases.SPACES, Deep)


def inside(space, arch):
    """Structure only: rules are for the caller to check."""
    assert space.architecture(dict(arch.flat)).id == arch.id


@given(st.sampled_from(SPACES), st.integers(0, 10**6), st.integers(1, 4))
def test_children_have_the_structure_of_the_space(space, seed, moves):
    rng = random.Random(seed)
    a, b = (space.decide(lambda _p, d: d.sample(rng)) for _ in range(2))
    inside(space, mutate(space, a, rng, moves))
    child = crossover(space, a, b, rng)
    inside(space, child)
    heads = {path[: m.start()] for path in a.flat for m in re.finditer(r"\.\d+\.", path)}
    assert {
        head: len({path[len(head) + 1 :].split(".")[0] for path in a.flat if path.startswith(head + ".")})
        for head in heads
    } == lists_of(a.flat)
    for path, value in child.flat.items():  # every value comes from one of the parents, maybe from another record
        kind = variation.pattern(path)
        assert value in [v for p in (a, b) for q, v in p.flat.items() if variation.pattern(q) == kind]


@given(st.integers(0, 10**6))
def test_the_length_of_a_child_is_one_parents(seed):
    rng = random.Random(seed)
    a, b = (Deep.sample(rng) for _ in range(2))
    child = crossover(Deep, a, b, rng)
    assert len(child.first) == len(child.second) in (len(a.first), len(b.first))


def test_the_same_seed_gives_the_same_child():
    a, b = cases.Nested.sample(1), cases.Nested.sample(2)

    def make(seed):
        first = mutate(cases.Nested, a, random.Random(seed), 3)
        return first.id, crossover(cases.Nested, a, b, random.Random(seed)).id

    assert make(4) == make(4)
    assert len({make(s) for s in range(30)}) > 10


def test_moves_do_what_they_say():
    flat = (
        {"depth": 4, "width": 64}
        | {f"layers.{i}.mixer": "skip" for i in range(4)}
        | {f"layers.{i}.ratio": i + 1 for i in range(4)}
    )

    def ratios(found):
        return [found[k] for k in sorted(found) if k.endswith("ratio")]

    for seed in range(20):
        rng = random.Random(seed)
        assert sorted(ratios(variation._swap(cases.Nested, flat, rng))) == [1, 2, 3, 4]
        copied = ratios(variation._copy(cases.Nested, flat, rng))
        assert len(set(copied)) == 3
        dropped = variation._drop(cases.Nested, flat, rng)
        assert dropped["depth"] == 3 == len(ratios(dropped)) and ratios(dropped) == sorted(ratios(dropped))
        assert variation._insert(cases.Nested, flat, rng) is None  # as deep as it gets
        grown = mutate(cases.Nested, cases.Nested.architecture(dropped), rng)
        assert abs(len(grown.layers) - 3) <= 1


@pytest.mark.parametrize("space", [cases.Nested, cases.Repeats, cases.Tiny], ids=lambda s: s.__name__)
def test_mutation_reaches_every_value(space):
    rng, arch = random.Random(0), space.sample(0)
    reached = set()
    for _ in range(4000):
        arch = mutate(space, arch, rng)
        reached |= {(variation.pattern(p), v) for p, v in arch.flat.items()}
    assert reached == {(variation.pattern(p), v) for p, d in space.domains().items() for v in d.values}


def test_features_are_bounded_and_blind_to_what_is_inactive():
    rng = random.Random(0)
    for space in SPACES:
        archs = [space.decide(lambda _p, d: d.sample(rng)) for _ in range(20)]
        found = features_of(space)(archs)
        assert found.shape == (20, len(features_of(space).names))
        assert (abs(found) <= 2).all()
        if found.size:
            assert varying(found).shape == (found.shape[1],)
    shallow = cases.Nested.architecture({"depth": 1, "width": 64, "layers.0.mixer": "skip", "layers.0.ratio": 2})
    features = features_of(cases.Nested)
    columns = dict(zip(features.names, features([shallow])[0], strict=True))
    assert columns["layers.3.ratio"] == columns["layers.0.mixer.attention.heads"] == 0
    assert columns["mean of layers.*.ratio"] == pytest.approx(-1 / 3) and columns["share of layers.*.ratio"] == 0.25


def test_the_design_spans_the_known_objective():
    problem = cases.two(cases.Nested)
    sizes = sorted(cases.size(a) for a in spread(problem, [], 6, random.Random(0)))
    drawn = sorted(cases.size(cases.Nested.sample(i)) for i in range(200))
    assert sizes[0] < drawn[20] and sizes[-1] > drawn[-20]


def test_the_start_up_design_spans_the_space_also_one_by_one():
    problem = Problem(TinyGPT, [Function(lambda arch: 1.0, "loss"), Parameters()])
    trials = []
    for _ in range(8):
        (arch,) = spread(problem, trials, 1, random.Random(len(trials)))
        trials.append(problem.evaluate(arch))
    sizes = sorted(t.values["parameters"] for t in trials)
    assert sizes[-1] > 10 * sizes[0]
    gaps = [math.log(b / a) for a, b in itertools.pairwise(sizes)]
    assert max(gaps) < 0.6 * math.log(sizes[-1] / sizes[0])
    assert len({t.architecture.depth for t in trials}) >= 3
