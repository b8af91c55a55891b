"""Blocks of one's own that say which part of stock models they are are exported as that; others are refused by name."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ExportError, ModelError
from nas_bo.export.fits import fits
from nas_bo.export.folder import TrainedModel
from nas_bo.export.homes import GGUF, TRANSFORMERS
from nas_bo.export.stock_parts import in_stock_parts
from nas_bo.export.weights import filled
from nas_bo.model import build, check, word
from nas_bo.model.blocks import StockPart, linear, matrix
from nas_bo.model.blocks.attention import AttentionSpec
from nas_bo.model.blocks.dense import MlpSpec
from nas_bo.model.blocks.table import known
from nas_bo.model.layers.attention import Attention
from nas_bo.testing import BlockTests
from tests.conformance import own_blocks
from tests.export.test_huggingface import VOCAB, randomised, same

ATTENTION = known()["attention"]


class GlanceSpec(NamedTuple):
    kind: str
    heads: int


class Glance:
    """Attention with one key head, whose matrix has another name in its module."""

    kind, slots, fields, Spec = "glance", ("mixer",), {"heads": 2}, GlanceSpec

    def check(self, fields, frame):
        return GlanceSpec(self.kind, fields["heads"])

    def part(self, spec, frame):
        return AttentionSpec("attention", spec.heads, 1, frame.width // spec.heads, None)

    def stock_part(self, spec, frame):
        return StockPart(attention=self.part(spec, frame), names={"qkv.weight": "wqkv.weight", "qkv.bias": "wqkv.bias"})

    def parameters(self, spec, frame):
        return ATTENTION.parameters(self.part(spec, frame), frame)

    def operations(self, spec, frame, call):
        return ATTENTION.operations(self.part(spec, frame), frame, call)

    def shared(self, spec, frame):
        return ATTENTION.shared(self.part(spec, frame), frame)

    def module(self, spec, frame):
        return GlanceModule(self.part(spec, frame), frame)


class GlanceModule(Attention):
    def __init__(self, spec, frame):
        super().__init__(spec, frame)
        self.wqkv = self._modules.pop("qkv")

    @property
    def qkv(self):
        return self.wqkv


class SquashSpec(NamedTuple):
    kind: str


class Squash:
    """A gated MLP, which says so by nas_bo's own names."""

    kind, slots, fields, Spec = "squash", ("mlp",), {}, SquashSpec

    def check(self, fields, frame):
        return SquashSpec(self.kind)

    def stock_part(self, spec, frame):
        return StockPart(mlp=MlpSpec("squash", 2 * frame.width, "silu", True, 0, 0))

    def parameters(self, spec, frame):
        wide, width = 4 * frame.width, frame.width
        return linear(width, wide, frame.bias) + linear(wide // 2, width, frame.bias)

    def operations(self, spec, frame, call):
        yield matrix("up", frame.width, 4 * frame.width, frame.bias, call.new)
        yield matrix("out", 2 * frame.width, frame.width, frame.bias, call.new)

    def module(self, spec, frame):
        return SquashModule(frame)


class SquashModule(torch.nn.Module):
    def __init__(self, frame):
        super().__init__()
        self.up = torch.nn.Linear(frame.width, 4 * frame.width, frame.bias)
        self.out = torch.nn.Linear(2 * frame.width, frame.width, frame.bias)

    def forward(self, x):
        gate, up = self.up(x).chunk(2, -1)
        return self.out(torch.nn.functional.silu(gate) * up), None


class Misnamed(Glance):
    """Says that the matrix has a name that it has not."""

    kind = "misnamed"

    def stock_part(self, spec, frame):
        return StockPart(attention=self.part(spec, frame))


class Miscounted(Glance):
    kind = "miscounted_part"

    def stock_part(self, spec, frame):
        return StockPart(attention=self.part(spec, frame)._replace(kv_heads=2))


class Undecided(Glance):
    kind = "undecided"

    def stock_part(self, spec, frame):
        return StockPart(attention=self.part(spec, frame), mlp=MlpSpec("dense", 1, "silu", True, 0, 0))


class Vague(Glance):
    kind = "vague"

    def stock_part(self, spec, frame):
        return "attention"


glance, squash = word(Glance()), word(Squash())
for wrong in (Misnamed, Miscounted, Undecided, Vague):
    word(wrong())


def decoder(mixer, mlp, **fields):
    layer = Node({"mixer": Node({"kind": mixer}), "mlp": Node({"kind": mlp})})
    return Node({"width": 16, "layers": (layer, layer), **fields})


@pytest.mark.parametrize("fields", [{}, {"tie_layers": 2, "bias": True}], ids=str)
def test_stock_classes_of_transformers_compute_the_same(fields):
    pytest.importorskip("transformers")
    arch = decoder("glance", "squash", **fields)
    holding = [fit for fit in fits(arch, TRANSFORMERS) if not fit.reasons]
    assert "Llama" in {fit.home.name for fit in holding}
    same(randomised(arch), holding[0])


def test_llama_cpp_computes_the_same(tmp_path):
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    from nas_bo.export import gguf

    class Made(TrainedModel):
        tokenizer = None

    arch = decoder("glance", "squash")
    assert "llama" in {fit.home.name for fit in fits(arch, GGUF) if not fit.reasons}
    told, found, _ = gguf.write(Made(None, Architecture(arch, {}), {}, randomised(arch, 256)), tmp_path, 10.0)
    assert "llama" in told and found.good


def test_a_block_that_says_nothing_is_refused_by_name():
    reasons = " ".join(fits(decoder(own_blocks.mean.block.kind, own_blocks.thin.block.kind), TRANSFORMERS)[0].reasons)
    assert "mixer is mean, where it has attention" in reasons and "mlp is thin, where it has dense" in reasons


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (
            "miscounted_part",
            r"'miscounted_part' says that it is .* 1,024 parameters at width=16, and it counts 768; correct",
        ),
        ("undecided", "'undecided' says that it is .*; it must be one part"),
        ("vague", "'vague' gave 'attention' for its stock_part; it must be a StockPart"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(kind, why):
    with pytest.raises(ModelError, match=why):
        fits(decoder(kind, "squash"), TRANSFORMERS)


def test_a_parameter_of_another_name_is_found():
    spec = check(decoder("misnamed", "squash"))
    with pytest.raises(
        ExportError, match=r"'misnamed' says .* parameter 'layers.0.mixer.qkv.weight' has the shape .* of that name"
    ):
        filled(build(spec, VOCAB), in_stock_parts(spec))


def test_the_suite_compares_a_part_with_the_block():
    suite = type("One", (BlockTests,), {"block": glance.block})()
    suite.test_its_stock_part_computes_the_same()

    class Sharp(Glance):
        kind = "sharp"

        def module(self, spec, frame):
            made = super().module(spec, frame)
            made.register_forward_hook(lambda _m, _i, output: (1.1 * output[0], output[1]))
            return made

    globals()["Sharp"] = Sharp
    Sharp.__qualname__ = "Sharp"
    suite = type("One", (BlockTests,), {"block": word(Sharp()).block})()
    with pytest.raises(AssertionError):
        suite.test_its_stock_part_computes_the_same()
