"""Reading architectures: defaults, errors that name what is wrong, labels; and that none of it loads torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given

from nas_bo.architecture import Node
from nas_bo.errors import ModelError
from nas_bo.model import DecoderSpec, check, flops, label, parameters
from nas_bo.model.spec import AttentionSpec, MlpSpec
from tests.model.architectures import (
    ATTENTION,
    CONV,
    DENSE,
    GATED,
    LINEAR,
    MOE,
    SKIP,
    WINDOW,
    architectures,
    block,
    decoder,
    layer,
)


def test_defaults_are_filled_in() -> None:
    spec = check(decoder(layer(block("attention", heads=4), block("dense", ratio=2))))
    assert spec == DecoderSpec(
        32,
        ((AttentionSpec("attention", 4, 4, 8, None), MlpSpec("dense", 64, "gelu", False, 0, 0)),),
        "rms",
        "rotary",
        False,
        True,
        False,
    )


def test_shorthand_is_the_same_layer_repeated() -> None:
    short = Node({"width": 32, "depth": 3, "mixer": ATTENTION, "mlp": MOE, "norm": "layer"})
    assert check(short) == check(decoder(*[layer(ATTENTION, MOE)] * 3, norm="layer"))
    assert check(decoder(layer(CONV, DENSE), depth=1)) == check(decoder(layer(CONV, DENSE)))


def test_hyperparameters_and_ignored_fields_are_passed_over() -> None:
    plain = decoder(layer(CONV, DENSE))
    assert check(decoder(layer(CONV, DENSE), lr=1e-3, batch_size=4)) == check(plain)
    assert check(decoder(layer(CONV, DENSE), dropout=0.1), ignore=("dropout",)) == check(plain)
    assert parameters(decoder(layer(CONV, DENSE), dropout=0.1), 9, ignore=("dropout",)) == parameters(plain, 9)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (decoder(dropout=0.1), r"no field 'dropout'.*ignore=\('dropout',\)"),
        (decoder(widht=3), "'widht'.*did you mean 'width'"),
        (Node({"layers": ()}), "has no width"),
        (decoder(width=0), "width=0"),
        (decoder(width=True), "width=True"),
        (decoder(width=32.0), "width=32.0"),
        (Node({"width": 8}), "neither layers nor depth nor mixer nor mlp"),
        (Node({"width": 8, "depth": -1, "mixer": SKIP, "mlp": SKIP}), "depth=-1"),
        (decoder(layer(block("atention", heads=2), SKIP)), "layers.0: .*'atention'.*did you mean 'attention'"),
        (decoder(layer(SKIP, SKIP), layer(SKIP, block("attention", heads=2))), "layers.1: there is no mlp 'attention'"),
        (decoder(layer(block("attention"), SKIP)), "attention needs the field 'heads'"),
        (decoder(layer(block("attention", heads=5), SKIP)), "heads=5 does not divide width=32"),
        (decoder(layer(block("attention", heads=4, kv_group=3), SKIP)), "kv_group=3 does not divide heads=4"),
        (decoder(layer(block("attention", heads=4, head_dim=5), SKIP)), "head_dim=5.*rotary"),
        (decoder(layer(block("attention", heads=4, window=0), SKIP)), "window=0"),
        (decoder(layer(block("attention", head=4), SKIP)), "no field 'head'.*did you mean 'heads'"),
        (decoder(layer(block("attention", heads="4"), SKIP)), "heads='4'"),
        (decoder(layer(block("attention", heads=[4]), SKIP)), "not a plain number"),
        (decoder(layer(block("conv", kernel=0), SKIP)), "kernel=0"),
        (decoder(layer(block("conv", kernel=3, stride=2), SKIP)), "conv has no field 'stride'"),
        (decoder(layer(SKIP, block("dense", ratio=0))), "ratio=0"),
        (decoder(layer(SKIP, block("dense", ratio=0.001))), "ratio=0.001 at width=32"),
        (decoder(layer(SKIP, block("dense", ratio=float("nan")))), "ratio=nan"),
        (decoder(layer(SKIP, block("dense", ratio=2, activation="swish"))), "activation='swish'"),
        (decoder(layer(SKIP, block("dense", ratio=2, gated="yes"))), "gated='yes'"),
        (decoder(layer(SKIP, block("moe", experts=2, top_k=3, ratio=1))), "top_k=3 but only experts=2"),
        (decoder(Node({"mixer": SKIP})), r"layers.0 has no mlp; write mlp=skip\(\)"),
        (decoder(Node({"mixer": SKIP, "mlp": SKIP, "norm": "rms"})), "layers.0 has a field 'norm'"),
        (decoder(Node({"mixer": 3, "mlp": SKIP})), "the mixer of layers.0 is 3"),
        (decoder(3), "layers.0 is 3"),
        (decoder(norm="batch"), "norm='batch'.*'rms', 'layer'"),
        (decoder(parallel=1), "parallel=1"),
        (decoder(position="rotari"), "did you mean 'rotary'"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_errors_name_what_is_wrong(arch: Node, message: str) -> None:
    for function in (check, lambda a: parameters(a, 256), lambda a: flops(a, 256, 8)):
        with pytest.raises(ModelError, match=message):
            function(arch)


def test_something_else_is_no_architecture() -> None:
    with pytest.raises(ModelError, match="this is a dict"):
        check({"width": 3})  # type: ignore[arg-type]


def test_odd_heads_are_allowed_without_rotary() -> None:
    check(decoder(layer(block("attention", heads=4, head_dim=5), SKIP), position="none"))


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        (decoder(layer(ATTENTION, GATED), layer(CONV, GATED), layer(ATTENTION, GATED), width=64), "d64 A2 C4 A2 x1.5g"),
        (decoder(*[layer(CONV, DENSE)] * 3, layer(WINDOW, DENSE)), "d32 3*C4 A4/2w5 x2"),
        (decoder(layer(LINEAR, MOE), layer(SKIP, DENSE), layer(CONV, SKIP)), "d32 L2.m4.2x1g -.x2 C4.-"),
        (decoder(), "d32"),
    ],
    ids=str,
)
def test_labels(arch: Node, expected: str) -> None:
    assert label(arch) == expected


@given(architectures())
def test_labels_are_short(arch: Node) -> None:
    assert len(label(arch)) <= 60


def test_long_labels_are_cut() -> None:
    arch = decoder(*[layer(WINDOW, MOE), layer(CONV, GATED)] * 20)
    assert len(label(arch)) <= 60
    assert label(arch).endswith("... 40 layers")


def test_words_make_options_of_a_space() -> None:
    space = pytest.importorskip("nas_bo.space")
    from nas_bo import model

    class Tiny(space.Space):  # type: ignore[name-defined, misc]
        width = space.choice(32, 64)
        layers = space.repeat(
            space.integer(1, 3),
            mixer=space.choice(
                model.attention(heads=space.choice(2, 4), kv_group=space.choice(1, 2)),
                model.linear_attention(heads=2),
                model.conv(kernel=space.choice(3, 7)),
                model.skip(),
            ),
            mlp=space.choice(model.dense(ratio=2, gated=True), model.moe(experts=4, top_k=2), model.skip()),
        )
        lr = space.real(1e-4, 1e-2, log=True)

    seen: set[str] = set()
    for seed in range(40):
        arch: Any = Tiny.sample(seed)
        spec = check(arch)
        assert len(spec.layers) == len(arch.layers)
        seen |= {one.mixer.kind for one in spec.layers} | {one.mlp.kind for one in spec.layers}
    assert seen == {"attention", "linear_attention", "conv", "skip", "dense", "moe"}


def test_vocabulary_and_counts_load_no_torch() -> None:
    code = (
        "import sys, nas_bo.model as m; from nas_bo.architecture import Node; "
        "assert {'build', 'train', 'check'} <= set(dir(m)); "
        "conv, skip = Node({'kind': 'conv', 'kernel': 3}), Node({'kind': 'skip'}); "
        "a = Node({'width': 8, 'depth': 1, 'mixer': conv, 'mlp': skip}); "
        "m.check(a), m.label(a), m.parameters(a, 9), m.flops(a, 9, 4), m.operations(a, 9, 'decode', 4); "
        "assert not {'torch', 'numpy', 'tokenizers'} & set(sys.modules), 'loaded'; "
        "m.build; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_of_the_room() -> None:
    import nas_bo.model

    with pytest.raises(AttributeError, match="no attribute 'bild'"):
        _ = nas_bo.model.bild
