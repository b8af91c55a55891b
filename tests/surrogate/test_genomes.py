"""Genomes against the spaces that they stand for: whatever is done to them, they stay architectures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings

from nas_bo.errors import SpaceError
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, choice, integer, real, repeat, steer, tree
from nas_bo.strategies.breeding import cross, mutate
from nas_bo.surrogate.features import features_of
from nas_bo.surrogate.genomes import OFF, genomes_of
from tests.generated_spaces import seeds, spaces
from tests.strategies import cases


class Layers(Space):
    depth = integer(2, 8)
    width = choice(64, 128, 256)
    layers = repeat(depth, op=choice("a", "b", "c"), ratio=choice(1, 2, 3, 4))


def canonical(space, genomes):
    """Whether every row is the genome of the architecture that it decodes to."""
    made = genomes_of(space)
    return np.allclose(made.encode([made.decode(row) for row in genomes]), genomes)


@given(spaces(), seeds)
@settings(max_examples=40, deadline=None)
def test_genomes_and_architectures_are_one_to_one_and_closed_under_variation(space, seed):
    if not space.decisions():
        with pytest.raises(SpaceError, match="nothing to decide"):
            genomes_of(space)
        return
    made, rng = genomes_of(space), np.random.default_rng(seed)
    archs = [space.sample(seed + i) for i in range(5)]
    genomes = made.encode(archs)
    assert [dict(made.decode(row).flat) for row in genomes] == [pytest.approx(dict(a.flat)) for a in archs]
    for more in (made.random(10, rng), made.tilted(10, rng), made.corners(rng), mutate(made, genomes, rng),
                 cross(made, genomes, genomes[::-1], rng)):  # fmt: skip
        assert canonical(space, more)
        positions = made.positions(more)[more != OFF]
        assert ((positions >= -1e-9) & (positions <= 1 + 1e-9)).all()
    assert np.isfinite(features_of(space).of(genomes)).all()


def test_random_genomes_are_distributed_like_draws_of_the_domains():
    class Log(Space):
        n = integer(1, 64, log=True)
        x = real(1e-4, 1e-1, log=True)
        op = choice("a", "b", "c")

    made = genomes_of(Log)
    mine = made.random(4000, np.random.default_rng(0))
    theirs = made.encode([Log.sample(i) for i in range(4000)])
    for gene in range(3):
        for q in (0.1, 0.25, 0.5, 0.75, 0.9):
            assert np.mean(mine[:, gene] <= np.quantile(theirs[:, gene], q)) == pytest.approx(
                np.mean(theirs[:, gene] <= np.quantile(theirs[:, gene], q)), abs=0.04
            )


def test_tilted_genomes_reach_averages_that_independent_draws_do_not():
    made, rng = genomes_of(Layers), np.random.default_rng(0)
    features = features_of(Layers)
    column = features.names.index("mean of layers.*.ratio")
    spread = [np.std(features.of(draw(500, rng))[:, column]) for draw in (made.random, made.tilted)]
    assert spread[1] > 1.4 * spread[0]


def test_corners_are_the_least_and_the_most():
    made = genomes_of(Layers)
    low, high = (made.decode(row) for row in made.corners(np.random.default_rng(0)))
    assert (low.depth, low.width, {layer.ratio for layer in low.layers}) == (2, 64, {1})
    assert (high.depth, high.width, {layer.ratio for layer in high.layers}) == (8, 256, {4})


def test_mutation_makes_every_kind_of_move():
    made, rng = genomes_of(Layers), np.random.default_rng(0)
    start = Layers.architecture({
        "depth": 4, "width": 128, **{f"layers.{i}.op": "abca"[i] for i in range(4)},
        **{f"layers.{i}.ratio": i + 1 for i in range(4)},
    })  # fmt: skip
    children = mutate(made, made.encode([start]).repeat(3000, axis=0), rng, more=0.0)
    found = [made.decode(row) for row in children]
    records = [tuple((layer.op, layer.ratio) for layer in arch.layers) for arch in found]
    before = tuple((layer.op, layer.ratio) for layer in start.layers)
    dropped = {r for r in records if len(r) == 3}
    assert dropped >= {before[:i] + before[i + 1 :] for i in range(4)}
    doubled = {before[: i + 1] + before[i:] for i in range(4)}
    assert {r for r in records if len(r) == 5} >= doubled
    swapped = {(before[1], before[0], *before[2:]), (*before[:2], before[3], before[2])}
    copied = {(before[1], *before[1:]), (*before[:3], before[0])}
    assert set(records) >= swapped | copied
    assert {arch.width for arch in found} == {64, 128, 256}
    assert any(r[:3] == before[:3] and r[3][0] != "a" for r in records if len(r) == 4)


def test_cross_takes_segments_of_records_and_genes_of_either_parent():
    made, rng = genomes_of(Layers), np.random.default_rng(1)
    low, high = made.encode([
        Layers.architecture({"depth": 8, "width": width, **{f"layers.{i}.op": "a" for i in range(8)},
                             **{f"layers.{i}.ratio": ratio for i in range(8)}}) for width, ratio in ((64, 1), (256, 4))
    ])  # fmt: skip
    children = cross(made, low[None].repeat(200, 0), high[None].repeat(200, 0), rng)
    for row in children:
        ratios = [layer.ratio for layer in made.decode(row).layers]
        changes = sum(a != b for a, b in itertools.pairwise(ratios))
        assert changes <= 2 and set(ratios) <= {1, 4}
    assert {made.decode(row).width for row in children} == {64, 256}


def test_features_tell_levels_curvature_trend_and_options():
    features = features_of(Layers)
    flat = {"depth": 4, "width": 64}
    arch = Layers.architecture({
        **flat, **{f"layers.{i}.op": "aabb"[i] for i in range(4)}, **{f"layers.{i}.ratio": (1, 1, 4, 4)[i] for i in range(4)}
    })  # fmt: skip
    row = dict(zip(features.names[: features.width], features([arch])[0], strict=False))
    assert row["mean of layers.*.ratio"] == pytest.approx(0.0)
    assert row["curvature of layers.*.ratio"] == pytest.approx(1.0)  # only the ends of the domain occur
    assert row["trend of layers.*.ratio"] < -0.5  # low first, high last
    assert row["mean of layers.*.op=a"] == row["mean of layers.*.op=b"] == pytest.approx(0.5)
    assert row["trend of layers.*.op=a"] > 0.3 > 0 > row["trend of layers.*.op=b"]
    assert row["share of layers.*.op"] == pytest.approx(0.5)


def test_a_space_of_a_hundred_decisions_is_varied_in_milliseconds_each():
    made, rng = genomes_of(TinyGPT), np.random.default_rng(0)
    genomes = made.random(2000, rng)
    assert canonical(TinyGPT, mutate(made, genomes, rng)[:50])
    assert canonical(cases.Repeats, genomes_of(cases.Repeats).tilted(50, rng))


def test_what_is_settled_stays_settled():
    steered = steer.steered(Layers, {"depth": (3, 4), "layers.1.op": ("b",)})
    made, rng = genomes_of(steered), np.random.default_rng(0)
    genomes = made.random(50, rng)
    for more in (genomes, made.tilted(50, rng), mutate(made, genomes, rng), cross(made, genomes, genomes[::-1], rng)):
        assert canonical(steered, more)
        assert {(a.depth in (3, 4), a.layers[1].op) for a in map(made.decode, more)} == {(True, "b")}


@settings(max_examples=25, deadline=None)
@given(spaces(), seeds)
def test_architectures_that_share_records_are_those_that_are_decided_alone(space, seed):
    genomes = genomes_of(space) if space.decisions() else None
    if genomes is None:
        return
    rng = np.random.default_rng(seed)
    rows = genomes.random(20, rng)
    for row in np.concatenate([rows, mutate(genomes, rows, rng)]):
        shared = genomes.decode(row)
        alone = space.decide_canonical(lambda path, _, flat=shared.flat: flat[path])
        assert list(shared.flat.items()) == list(alone.flat.items())
        assert (shared.tree, shared.counts) == (alone.tree, alone.counts)
        assert shared.id == alone.id and shared.training_id == alone.training_id


def test_records_that_are_known_are_not_decided_again(monkeypatch):
    genomes = genomes_of(TinyGPT)
    rows = genomes.random(40, np.random.default_rng(3))
    deep = rows[rows[:, genomes.lists[0].count] == rows[:, genomes.lists[0].count].max()]
    genomes.decode(deep[0]), genomes.decode(deep[1])
    row = deep[0].copy()
    row[genomes.lists[0].genes[0]] = deep[1][genomes.lists[0].genes[0]]
    asked = []
    decide = tree._record
    monkeypatch.setattr(tree, "_record", lambda *given: asked.append(given) or decide(*given))
    made = genomes.decode(row)
    assert not asked and made.layers[0] is genomes.decode(deep[1]).layers[0]
