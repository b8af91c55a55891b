"""Every promise of the space language, on random spaces and on small ones that can be counted by hand."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_bo.architecture import Architecture
from nas_bo.errors import SpaceError
from nas_bo.search_spaces import NAMED, TinyGPT
from nas_bo.space import Space, choice, integer, option, real, repeat, require
from tests.generated_spaces import seeds, spaces


class Small(Space):
    """Thirteen architectures before rules, eleven after; the numbers below were counted by hand."""

    depth = integer(0, 2)
    layers = repeat(depth, mixer=choice(option("conv", kernel=choice(3, 7)), option("skip")))  # 3 ways a layer
    # 1 + 3 + 9 = 13 ways for the layers
    norm = "rms"

    @require
    def not_only_skips(arch):
        """A network must do something."""
        return arch.depth == 0 or any(layer.mixer.kind == "conv" for layer in arch.layers)


class Nested(Space):
    """Repeats inside repeats, a count in place, an option that stands by itself."""

    stages = repeat(
        integer(1, 2),
        blocks=integer(1, 2),
        inner=repeat("blocks", act=choice("gelu", "relu")),
        fixed=option("dense", ratio=choice(1, 2)),
    )
    lr = real(1e-4, 1e-2, log=True)


# ---- random spaces ---------------------------------------------------------------------------------------------------


@given(spaces(rules=True), seeds)
def test_a_sample_belongs_and_both_views_are_one_bijection(space, seed):
    arch = space.sample(seed)
    assert space.contains(arch)
    assert space.architecture(arch.flat) == arch
    tree = arch.to_dict()["tree"]
    assert space.architecture(tree) == arch
    assert space.flat(tree) == dict(arch.flat)
    assert list(space.architecture(dict(arch.flat)).flat.items()) == list(arch.flat.items())
    assert set(arch.flat) <= set(space.domains())


@given(spaces(rules=True), seeds)
def test_json_both_ways(space, seed):
    arch = space.sample(seed)
    back = Architecture.from_json(arch.to_json())
    assert back == arch and back.tree == arch.tree and dict(back.flat) == dict(arch.flat)
    again = Space.from_json(space.to_json(), {rule.name: rule.test for rule in space.rules()})
    assert again.fingerprint() == space.fingerprint()
    assert again.architecture(arch.flat).id == arch.id
    assert again.sample(seed) == arch


@given(spaces(), st.integers(0, 99))
def test_size_is_the_number_of_enumerated_architectures(space, seed):
    if space.size() > 3_000:
        return
    every = [arch.id for arch in space.enumerate()]
    assert len(every) == len(set(every)) == space.size()
    if space.is_finite():
        assert space.sample(seed).id in set(every)
        assert space.sample_uniform(seed).id in set(every)


@given(spaces(rules=True), seeds)
def test_neighbours_are_valid_distinct_and_others(space, seed):
    arch = space.sample(seed)
    near = space.neighbours(arch)
    assert all(space.contains(n) for n in near)
    ids = [n.id for n in near]
    assert len(set(ids)) == len(ids) and arch.id not in ids


@given(spaces(), seeds)
def test_encoding_is_in_the_unit_cube_masks_the_inactive_and_tells_architectures_apart(space, seed):
    archs = [space.sample(random.Random(seed + i)) for i in range(8)]
    values, active = space.encode(archs)
    assert values.shape == active.shape == (8, len(space.encoding().columns))
    assert np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()
    assert (values[~active] == 0).all()
    for i, a in enumerate(archs):
        for j, b in enumerate(archs):
            same = np.array_equal(values[i], values[j]) and np.array_equal(active[i], active[j])
            assert same == (dict(a.flat) == dict(b.flat)) or not space.is_finite()


@given(spaces(), seeds)
def test_contains_says_why_not(space, seed):
    arch = space.sample(seed)
    wrong = {**arch.flat, "no_such_field": 1}
    assert not space.contains(wrong) and "no_such_field" in space.contains(wrong).reason
    for path in arch.flat:
        missing = {k: v for k, v in arch.flat.items() if k != path}
        assert not space.contains(missing)
        outside = space.contains({**arch.flat, path: object()})
        assert not outside and path in outside.reason


# ---- counted by hand -------------------------------------------------------------------------------------------------


def test_exact_sizes():
    assert Small.size(rules=False) == 13
    assert Small.size() == 13 - 2  # (skip) and (skip, skip) are forbidden
    assert Nested.size() == (2 * (2 + 4)) + (2 * (2 + 4)) ** 2
    assert NAMED["hw_gpt_bench_s"].size() == 3 * 2 * (9**10 + 9**11 + 9**12)


def test_uniform_over_choices_and_uniform_over_architectures_are_what_they_say():
    class Two(Space):
        depth = integer(1, 3)
        layers = repeat(depth, a=choice("x", "y"))

    rng, n = random.Random(0), 14_000
    depths = Counter(Two.sample(rng).depth for _ in range(n))
    assert all(abs(depths[d] / n - 1 / 3) < 0.02 for d in (1, 2, 3))
    archs = Counter(Two.sample_uniform(rng).id for _ in range(n))
    assert len(archs) == Two.size() == 14
    chi2 = sum((c - n / 14) ** 2 / (n / 14) for c in archs.values())
    assert chi2 < 40  # 13 degrees of freedom: p < 0.0002


def test_uniform_sampling_respects_rules():
    rng = random.Random(1)
    seen = Counter(Small.sample_uniform(rng).id for _ in range(11_000))
    assert len(seen) == 11 and max(seen.values()) < 1.25 * min(seen.values())


def test_neighbours_of_a_small_architecture():
    flat = {"depth": 1, "layers.0.mixer": "conv", "layers.0.mixer.conv.kernel": 3}
    near = {json.dumps(dict(n.flat)) for n in Small.neighbours(Small.architecture(flat))}
    expected = [
        {"depth": 1, "layers.0.mixer": "conv", "layers.0.mixer.conv.kernel": 7},
        {"depth": 0},
        {**flat, "depth": 2, "layers.1.mixer": "conv", "layers.1.mixer.conv.kernel": 3},
    ]
    ordered = {json.dumps(dict(Small.architecture(e).flat)) for e in expected}
    assert near == ordered  # skip alone is forbidden by the rule


def test_a_layer_of_a_constant_list_inside_a_counted_record_is_not_counted_by_it():
    class Deep(Space):
        depth = integer(1, 2)
        outer = repeat(depth, pair=repeat(2, act=choice("a", "b")))

    arch = Deep.sample(3)
    for near in Deep.neighbours(arch):
        assert all(len(record.pair) == 2 for record in near.outer)


def test_inactive_choices_and_counts_are_not_in_the_id():
    class Counted(Space):
        depth = integer(1, 3)
        layers = repeat(depth, a=choice("x", "y"))

    class Constant(Space):
        layers = repeat(2, a=choice("x", "y"))

    values = {"layers.0.a": "x", "layers.1.a": "y"}
    assert Counted.architecture({"depth": 2, **values}).id == Constant.architecture(values).id
    assert (
        Counted.architecture({"depth": 2, **values, "layers.2.a": "x"}, strict=False).id
        == Constant.architecture(values).id
    )


def test_attribute_access_and_freezing():
    arch = Nested.sample(0)
    assert arch.stages[0].fixed.kind == "dense" and arch.stages[0].fixed.ratio in (1, 2)
    assert len(arch.stages[0].inner) == arch.stages[0].blocks
    with pytest.raises(AttributeError, match="frozen"):
        arch.lr = 1
    with pytest.raises(AttributeError, match="no field 'wrong'"):
        _ = arch.wrong


def test_inheritance_adds_and_replaces():
    class Wider(Small):
        depth = integer(1, 1)
        layers = repeat("depth", mixer=choice(option("conv", kernel=choice(3, 5, 7)), option("skip")))

    assert Wider.size() == 3 and Small.size() == 11  # skip alone is forbidden by the inherited rule


def test_replacing_a_count_replaces_it_for_the_inherited_list():
    class Base(Space):
        depth = integer(2, 4)
        layers = repeat(depth, a=choice("x", "y"))

    class Shallow(Base):
        depth = integer(1, 2)

    class Three(Base):
        depth = 3

    assert Shallow.size() == 2 + 4 and all(len(a.layers) == a.depth for a in Shallow.enumerate())
    assert Three.size() == 8 and Three.sample(0).depth == 3

    class Other(Space):
        lr = real(1e-4, 1e-2)

    class Both(Base, Other):
        pass

    assert set(Both.domains()) == set(Base.domains()) | {"lr"}


def test_zero_has_no_sign():
    class Signed(Space):
        x = real(-0.0, 0.0)
        y = real(-1.0, 1.0)

    one, other = (Signed.architecture({"x": zero, "y": zero}) for zero in (-0.0, 0.0))
    assert one.id == other.id and str(one.x) == str(one.y) == "0.0"
    assert {str(Signed.sample(seed).x) for seed in range(20)} == {"0.0"}


def test_ids_are_stable_across_processes_and_versions():
    """The digits are written down: they may never change, whatever the hash seed or the version of Python."""
    arch = TinyGPT.sample(7)
    code = "from nas_bo.search_spaces import TinyGPT; print(TinyGPT.sample(7).id, TinyGPT.fingerprint())"
    for seed in ("0", "1"):
        out = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PATH": ""}, capture_output=True, text=True
        )
        assert out.stdout.split() == [arch.id, TinyGPT.fingerprint()], out.stderr
    flat = {"depth": 1, "layers.0.mixer": "conv", "layers.0.mixer.conv.kernel": 3}
    assert Small.architecture(flat).id == "6edc2390afa05873"


# ---- what is refused, and how it is said -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: choice(), "at least one value"),
        (lambda: choice([1, 2]), "one by one"),
        (lambda: choice(1, True), "equal"),
        (lambda: choice(1, 1.0), "equal"),
        (lambda: choice(float("nan")), "not finite"),
        (lambda: choice((1, 2), (3, 4)), "tuple"),
        (lambda: choice(option("a"), option("a")), "two options"),
        (lambda: choice(option("a"), "a"), "equal"),
        (lambda: integer(3, 1), "above high"),
        (lambda: integer(1, 2.5), "whole number"),
        (lambda: integer(0, 4, log=True), "at least 1"),
        (lambda: integer(1, 9, step=2, log=True), "cannot be combined"),
        (lambda: integer(1, 9, step=0), "at least 1"),
        (lambda: real(0, 1, log=True), "above 0"),
        (lambda: real(0, float("inf")), "finite"),
        (lambda: option("a.b"), "without dots"),
        (lambda: option("7"), "not a number"),
        (lambda: Space.of("S", a=choice(option("o", values=choice(1, 2)))), "not allowed"),
        (lambda: Space.of("S", a=float("nan")), "NaN"),
        (lambda: repeat(-1, a=choice(1)), "at least 0"),
        (lambda: repeat(2), "at least one field"),
        (lambda: repeat(choice("a", "b"), a=choice(1)), "whole number"),
        (lambda: repeat(1.5, a=choice(1)), "count is a whole number"),
        (lambda: require("depth"), "linear inequality"),
        (lambda: require("a * b <= 3"), "cannot read"),
        (lambda: require(3), "pass a function"),
        (lambda: Space.of("S", layers=repeat("depth", a=choice(1))), "not an integer of the same level"),
        (lambda: Space.of("S", sample=choice(1, 2)), "word of the language"),
        (lambda: Space.of("S", kind=choice(1, 2)), "not allowed"),
        (lambda: Space.of("S", a=[1, 2]), "list"),
        (lambda: Space.of("S", a=choice("x", "y"), r=require("a <= 3")), "linear rule"),
        (lambda: Space.from_json("{}"), "needs the keys"),
        (lambda: Space.from_json("nonsense"), "not JSON"),
        (lambda: Architecture.from_json("{}"), "needs the keys"),
    ],
)
def test_refusals(make, says):
    with pytest.raises(SpaceError, match=says):
        make()


def test_a_rule_that_admits_nothing_is_named():
    class Impossible(Space):
        a = integer(0, 9)
        b = integer(0, 9)

        @require
        def harmless(arch):
            return arch.a < 9

        @require
        def to_blame(arch):
            return arch.a > 100

    with pytest.raises(SpaceError, match=r"the rule to blame is 'to_blame' \('to_blame' rejects 100 %"):
        Impossible.sample(0)


def test_a_rule_that_raises_is_named():
    class Broken(Space):
        a = integer(1, 3)

        @require
        def divides(arch):
            return 1 % (arch.a - arch.a) == 0

    with pytest.raises(SpaceError, match="'divides' raised ZeroDivisionError"):
        Broken.sample(0)


def test_an_edited_or_newer_document_is_refused():
    data = Small.sample(0).to_dict()
    with pytest.raises(SpaceError, match="edited"):
        Architecture.from_dict({**data, "tree": {**data["tree"], "norm": "layer"}})
    with pytest.raises(SpaceError, match="schema version 99"):
        Architecture.from_dict({**data, "schema": 99})
    with pytest.raises(SpaceError, match="rule 'not_only_skips', which is code"):
        Space.from_json(Small.to_json())


def test_linear_rules():
    class Budget(Space):
        depth = integer(1, 8)
        extra = integer(0, 8)
        budget = require("depth + 2*extra <= 10")
        least = require("3 <= depth + extra")

    every = [(a.depth, a.extra) for a in Budget.enumerate()]
    assert every and all(d + 2 * e <= 10 and d + e >= 3 for d, e in every)
    assert len(every) == sum(d + 2 * e <= 10 and d + e >= 3 for d in range(1, 9) for e in range(9))


def test_large_spaces_count_without_walking():
    assert NAMED["llama"].size() > 10**30
    assert "10^" in NAMED["llama"].describe()

    class Ruled(NAMED["llama"]):
        @require
        def any_rule(arch):
            return True

    with pytest.raises(SpaceError, match="more than the 1,000,000"):
        Ruled.size()
    assert Ruled.size(rules=False) == NAMED["llama"].size()


@pytest.mark.parametrize("name", NAMED)
def test_named_spaces_describe_themselves_and_build(name):
    from nas_bo.model import check, parameters

    space = NAMED[name]
    assert space.title in space.describe()
    for seed in range(30):
        arch = space.sample(seed)
        check(arch)
        assert parameters(arch, 256) > 0
