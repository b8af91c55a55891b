"""Architectures grown to a number of parameters: the design stays, sizes are met, and what is not understood is named."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError
from nas_bo.model import check, label, parameters, word
from nas_bo.model.blocks.table import _BLOCKS
from nas_bo.model.larger import Growing, grown, larger
from nas_bo.search_spaces import NAMED, TinyGPT
from nas_bo.space import Space, choice, integer, option, repeat


def kinds(arch):
    return [(layer.mixer.kind, layer.mlp.kind) for layer in check(arch).layers]


@pytest.mark.parametrize("name", NAMED)
def test_every_named_space_grows_to_what_is_asked_and_keeps_its_design(name):
    for seed in range(2):
        arch = NAMED[name].sample(seed)
        size = parameters(arch, 256)
        for factor in (1.5, 4, 20):
            made = larger(arch, factor * size)
            assert parameters(made, 256) == pytest.approx(factor * size, rel=0.06 if factor > 2 else 0.12)
            before, after = kinds(arch), kinds(made)
            assert after == before * (len(after) // len(before))
            for old, new in zip(check(arch).layers * (len(after) // len(before)), check(made).layers, strict=True):
                if old.mixer.kind in ("attention", "ssm", "linear_attention", "gated_delta", "latent_attention"):
                    assert new.mixer.head_dim == old.mixer.head_dim
                if old.mixer.kind == "attention":
                    assert new.mixer.heads * old.mixer.kv_heads == old.mixer.heads * new.mixer.kv_heads
                if old.mlp.kind == "dense":
                    assert new.mlp.hidden / made.width == pytest.approx(old.mlp.hidden / arch.width, rel=0.02)


def test_depth_and_width_grow_together():
    arch = next(a for a in map(TinyGPT.sample, range(50)) if len(a.layers) == 2)
    for factor in (8, 64):
        made = larger(arch, factor * parameters(arch, 256))
        wider, deeper = made.width / arch.width, len(made.layers) / 2
        assert 0.5 < wider / deeper < 2 and made.depth == len(made.layers) and "depth" in made.counts


def test_a_grown_architecture_is_one_like_others():
    arch = TinyGPT.sample(3)
    made = larger(arch, 5 * parameters(arch, 256))
    again = Architecture.from_json(made.to_json())
    assert again.id == made.id != arch.id and label(made)
    assert list(made.flat)[:2] == ["depth", "width"] and made.flat["layers.0.mixer"] == made.layers[0].mixer.kind
    assert larger(arch, parameters(arch, 256)) is arch
    assert larger(arch, 5 * parameters(arch, 256)).id == made.id


class Own(Space):
    depth = integer(1, 3)
    width = choice(16, 32)
    layers = repeat(depth, mixer=option("attention", heads=2), mlp=option("skip"))

    @staticmethod
    def grow(arch, parameters):
        """Deeper only."""
        tree = dict(arch.tree)
        each = 4 * arch.width**2
        count = max(1, round(parameters / each))
        return {**tree, "layers": [arch.layers[0]] * count, "depth": count}


def test_a_space_may_have_a_rule_of_its_own():
    arch = Own.sample(0)
    assert isinstance(Own, Growing) and not isinstance(TinyGPT, Growing)
    made = grown(Own, arch, 40_000)
    assert made.width == arch.width and parameters(made, 256) == pytest.approx(40_000, rel=0.4)
    assert grown(TinyGPT, TinyGPT.sample(0), 1e6).id == larger(TinyGPT.sample(0), 1e6).id
    assert larger(arch, 40_000, rule=lambda one, size: made) is made


class Cells(Space):
    cells = repeat(integer(1, 3), op=choice("conv", "pool"))


class Pooled(NamedTuple):
    kind: str
    bins: int


class Pooling:
    kind = "pooling_that_does_not_say"
    slots = ("mixer",)
    fields = {"bins": ...}  # noqa: RUF012
    Spec = Pooled

    def check(self, fields, frame):
        return Pooled(self.kind, fields["bins"])

    def parameters(self, spec, frame):
        return frame.width

    def operations(self, spec, frame, call):
        return ()

    def module(self, spec, frame):
        raise NotImplementedError


def test_what_is_not_understood_is_named_with_what_to_do():
    with pytest.raises(
        ModelError, match=r"does not understand the architecture: .*'cells'.*a static method grow\(arch, parameters\)"
    ):
        larger(Cells.sample(0), 1e6)
    word(Pooling())
    try:
        layers = (Node({"mixer": Node({"kind": Pooling.kind, "bins": 4}), "mlp": Node({"kind": "skip"})}),)
        arch = Architecture(Node({"width": 16, "layers": layers}), {})
        with pytest.raises(
            ModelError,
            match="does not understand 'bins' of the block 'pooling_that_does_not_say': give the block widened",
        ):
            larger(arch, 1e6)
    finally:
        _BLOCKS.pop(Pooling.kind)
    arch = TinyGPT.sample(1)
    with pytest.raises(ModelError, match="more than the 100 that it is to grow to; ask for more"):
        larger(arch, 100)
    with pytest.raises(ModelError, match="parameters must be a number of at least 1"):
        larger(arch, float("nan"))
    with pytest.raises(ModelError, match="the architecture has no layers"):
        larger(Architecture(Node({"width": 16, "layers": ()}), {}), 1e6)


def test_a_rule_that_fails_or_gives_something_else_is_named():
    arch = TinyGPT.sample(1)

    def failing(arch, parameters):
        raise KeyError("depth")

    with pytest.raises(ModelError, match="failing failed with KeyError: 'depth'"):
        larger(arch, 1e6, rule=failing)
    with pytest.raises(ModelError, match="gave 7; it must give an Architecture"):
        larger(arch, 1e6, rule=lambda arch, parameters: 7)
    with pytest.raises(ModelError, match="where 1,000,000 were asked for; it must come near them"):
        larger(arch, 1e6, rule=lambda arch, parameters: arch)
    with pytest.raises(ModelError, match="gave what cannot be built: the architecture has no width"):
        larger(arch, 1e6, rule=lambda arch, parameters: {"layers": []})
