"""The text of which an id is the digest, against that of the whole architecture made at once."""

import hashlib
import json
import pickle
import random

import pytest
from hypothesis import given, settings

from nas_bo.architecture import UNSAID, UNSAID_INSIDE, Architecture, Node, acting_after, without_effect
from nas_bo.search_spaces import Connections, Hybrid, MoE, TinyGPT, with_bits
from nas_bo.space import Space, choice, integer, option, real, repeat
from tests.generated_spaces import seeds, spaces


class Odd(Space):
    """Names and values that JSON writes in its own way, lists in lists, and counts that are left out inside records."""

    ratio = real(1e-9, 1e9, log=True)
    large = integer(0, 10**20)
    word = choice('a"b', "ü", "\n", True, False, 1.5, 1e-7)
    kinds = repeat(2, kind_of=choice(option("attention", share_kv=choice(True, False), n=integer(0, 2)), "skip"))
    outer = repeat(
        integer(1, 3), blocks=choice(1, 2), inner=repeat(integer(0, 2), op=choice("x", "y")), mine=integer(1, 2)
    )


def reference(arch: Architecture, without: frozenset[str]) -> str:
    drop = without.union(arch.counts)
    drop |= {name for name, value in UNSAID.items() if arch.tree.get(name, ...) == value}
    layers = arch.tree.get("layers")
    if isinstance(layers, tuple) and len(layers) < 3:
        drop |= {"long_skips"} & arch.tree.keys()

    def plain(value: object, path: str) -> object:
        if isinstance(value, Node):
            fields, inner = dict(value), path
            if "kind" in fields:
                inner = f"{path}{fields['kind']}."
                name, default = UNSAID_INSIDE.get(fields["kind"], ("", None))
                if name in fields and fields[name] is default:
                    del fields[name]
            return {k: plain(v, f"{inner}{k}.") for k, v in fields.items() if f"{inner}{k}" not in drop}
        return [plain(v, f"{path}{i}.") for i, v in enumerate(value)] if isinstance(value, tuple) else value

    text = json.dumps(plain(arch.tree, ""), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check(arch: Architecture) -> None:
    other = pickle.loads(pickle.dumps(arch))
    for one in (arch, other, Architecture.from_json(arch.to_json())):
        assert one.training_id == reference(arch, acting_after(arch.tree) or without_effect(arch.tree))
        assert one.id == reference(arch, without_effect(arch.tree))


@settings(max_examples=40, deadline=None)
@given(spaces(), seeds)
def test_ids_of_any_space(space, seed):
    check(space.sample(seed))


@pytest.mark.parametrize("space", [Odd, TinyGPT, Connections, Hybrid, MoE, with_bits(Hybrid)])
def test_ids_of_spaces_with_fields_that_are_left_out(space):
    rng = random.Random(1)
    for _ in range(20):
        check(space.sample(rng))
