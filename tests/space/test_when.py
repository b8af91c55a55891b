"""`When`: fields that exist for some values of another, as they are read from a host's define-by-run history."""

from __future__ import annotations

from collections import Counter

import pytest

from nas_bo.errors import SpaceError
from nas_bo.space import Space, choice, integer, real, repeat
from nas_bo.space.domain import When

Guarded = Space.of(
    "Guarded",
    optimizer=choice("adam", "sgd", "lion"),
    when_moving=When(
        "optimizer",
        frozenset({"sgd", "lion"}),
        {
            "momentum": choice(0.0, 0.9),
            "when_fast": When("momentum", frozenset({0.9}), {"nesterov": choice(True, False)}),
        },
    ),
    depth=integer(1, 4),
    layers=repeat("depth", kernel=choice(3, 5)),
    when_deep=When("depth", frozenset({3, 4}), {"skips": integer(0, 2), "lists": repeat("skips", width=choice(1, 2))}),
)


def test_every_architecture_is_counted_once():
    every = list(Guarded.enumerate())
    optimizers = 1 + 2 * (1 + 2)  # adam; sgd and lion without and with momentum
    layers = 2 + 4 + (8 + 16) * (1 + 2 + 4)
    assert Guarded.size() == len(every) == len({a.id for a in every}) == optimizers * layers
    for arch in every:
        assert ("momentum" in arch.flat) == (arch.optimizer != "adam") == ("momentum" in arch.tree)
        assert ("nesterov" in arch.flat) == (arch.flat.get("momentum") == 0.9)
        assert ("skips" in arch.flat) == (arch.depth >= 3)


def test_flat_and_tree_and_json_come_back():
    for seed in range(200):
        arch = Guarded.sample(seed)
        assert Guarded.architecture(arch.flat) == arch
        assert Guarded.architecture(arch.to_dict()["tree"]) == arch
        assert Guarded.contains(arch)
    again = Space.from_json(Guarded.to_json())
    assert again.fingerprint() == Guarded.fingerprint() and again.describe() == Guarded.describe()
    assert "while optimizer is one of lion, sgd:\n      momentum" in Guarded.describe()


def test_uniform_samples_weigh_what_depends_on_a_value():
    draws = Counter(Guarded.sample_uniform(seed).optimizer for seed in range(1400))
    assert draws["adam"] == pytest.approx(200, abs=60) and draws["sgd"] == pytest.approx(600, abs=90)


def test_what_does_not_exist_is_refused_and_masked():
    with pytest.raises(SpaceError, match="momentum"):
        Guarded.architecture({"optimizer": "adam", "momentum": 0.9, "depth": 1, "layers.0.kernel": 3})
    with pytest.raises(SpaceError, match="does not exist while 'optimizer' is 'adam'"):
        Guarded.architecture({"optimizer": "adam", "momentum": 0.9, "depth": 1, "layers": [{"kernel": 3}]})
    arch = Guarded.architecture({"optimizer": "adam", "depth": 1, "layers.0.kernel": 3})
    _, active = Guarded.encode([arch])
    assert active.sum() == 3 + 1 + 1  # one-hot of three, depth, one kernel
    assert {a.optimizer for a in Guarded.neighbours(arch)} == {"adam", "sgd", "lion"}


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"w": When("a", frozenset({1}), {"b": choice(1, 2)})}, "'a' is not a finite choice"),
        ({"a": real(0, 1), "w": When("a", frozenset({1}), {"b": choice(1, 2)})}, "'a' is not a finite choice"),
        ({"a": choice(1, 2), "w": When("a", frozenset({3}), {"b": choice(1, 2)})}, "never"),
        ({"a": choice(1, 2), "w": When("a", frozenset(), {"b": choice(1, 2)})}, "never"),
        ({"a": choice(1, 2), "w": When("a", frozenset({1}), {"a": choice(1, 2)})}, "two fields 'a'"),
    ],
)
def test_badly_written_conditions_are_refused(fields, match):
    with pytest.raises(SpaceError, match=match):
        Space.of("Bad", **fields)
