"""Fields that models of other people have: ids, shared weights, what is refused, lengths, runs that are stacked."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from nas_bo.architecture import UNSAID, Node
from nas_bo.errors import ModelError
from nas_bo.hardware.latency.profile_file import blocks_from, blocks_to
from nas_bo.hardware.workload import parts
from nas_bo.model import (
    attention,
    build,
    check,
    conv,
    dense,
    flops,
    kv_cache_bytes,
    label,
    load_corpus,
    moe,
    parameters,
    skip,
    train,
    train_many,
)
from nas_bo.model.blocks.details import Details
from nas_bo.model.narrow import narrower
from nas_bo.objectives import Latency, ValidationLoss
from nas_bo.report.drawing import drawing
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.supernet.weights import Supernet
from tests.model.architectures import ATTENTION, DENSE, MOE, SKIP, block, decoder, layer


class Fields(Space):
    """Every field, small."""

    depth = integer(1, 3)
    width = choice(8, 24)
    norm = choice("rms", "layer")
    norm_place = choice("pre", "post", "sandwich")
    rope_theta, rope_scaling, rope_factor, rope_length = 500000.0, "yarn", 2.0, 16
    embedding_scale, logit_cap = "sqrt_width", 5.0
    layers = repeat(
        depth,
        mixer=choice(
            attention(
                heads=4,
                kv_group=choice(1, 2),
                head_dim=choice(4, 8),
                qk_norm=choice(None, "head", "whole"),
                rotary_share=choice(0.0, 0.5, 1.0),
                sinks=choice(False, True),
                value_dim=choice(None, 5),
                qkv_bias=choice(None, True),
            ),
            conv(kernel=3, gates="linear2"),
        ),
        mlp=choice(dense(ratio=1, activation="gelu_tanh"), moe(experts=2, top_k=2, renormalise=choice(False, True))),
    )


class Placed(Space):
    depth = integer(1, 2)
    width = choice(8, 12)
    parallel, parallel_norms, bias, norm = True, 2, True, "layer"
    position, max_length = "learned", choice(20, 40)
    layers = repeat(depth, mixer=attention(heads=choice(2, 4), qk_norm=choice("head", "whole")), mlp=dense(ratio=1))


# ---- ids ------------------------------------------------------------------------------------------------------------


def test_defaults_are_not_in_the_id() -> None:
    assert dict(UNSAID) == Details()._asdict()

    class Bare(Space):
        width = choice(8, 16)
        layers = repeat(1, mixer=attention(heads=2), mlp=skip())

    class Said(Space):
        width = choice(8, 16)
        norm_place, rope_theta, logit_cap, parallel_norms = choice("pre", "post"), 10000, choice(None, 3.0), 1
        layers = repeat(
            1, mixer=attention(heads=2, qk_norm=None, rotary_share=1, sinks=False, value_dim=None), mlp=skip()
        )

    one = Bare.architecture({"width": 8})
    two = Said.architecture({"width": 8, "norm_place": "pre", "logit_cap": None})
    other = Said.architecture({"width": 8, "norm_place": "post", "logit_cap": None})
    assert one.id == two.id != other.id
    assert type(two).from_json(two.to_json()) == one


# ---- shared weights -------------------------------------------------------------------------------------------------


def test_a_narrower_copy_can_be_built() -> None:
    for share in (0.25, 0.5, 1.0):
        mixer = block("attention", heads=4, head_dim=16, rotary_share=share, value_dim=12, qk_norm="whole")
        arch = decoder(layer(mixer, DENSE), width=64, embedding_scale="sqrt_width")
        for factor in (0.2, 0.5, 0.75):
            made = check(narrower(arch, factor)).layers[0].mixer
            assert made.turned % 2 == 0 and 2 <= made.head_dim <= 16 and made.values <= 12


# ---- what is written about them -------------------------------------------------------------------------------------


def test_labels_and_drawings_tell_them_apart() -> None:
    mixers = [
        ATTENTION,
        block("attention", heads=2, qk_norm="head"),
        block("attention", heads=2, qk_norm="whole"),
        block("attention", heads=2, sinks=True),
        block("attention", heads=2, rotary_share=0.5),
        block("attention", heads=2, value_dim=4),
    ]
    archs = [decoder(layer(mixer, SKIP)) for mixer in mixers]
    archs += [decoder(layer(SKIP, block("moe", experts=4, top_k=2, renormalise=divided))) for divided in (None, False)]
    assert len({label(arch) for arch in archs}) == len({drawing(arch) for arch in archs}) == len(archs)
    assert "norm_place post" in drawing(decoder(layer(ATTENTION, DENSE), norm_place="post"))
    assert "48 positions" in drawing(decoder(layer(ATTENTION, DENSE), position="learned", max_length=48))


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"norm_plase": "post"}, "did you mean 'norm_place'"),
        ({"norm_place": "pots"}, "norm_place='pots'.*did you mean 'post'"),
        ({"norm_place": "post", "parallel": True}, "does not go with parallel=True"),
        ({"parallel_norms": 2}, "needs parallel=True"),
        ({"parallel": True, "parallel_norms": True}, "parallel_norms=True is unknown"),
        ({"norm_bias": True}, 'needs norm="layer"'),
        ({"norm_eps": 0}, "norm_eps=0 must be a number above 0"),
        ({"norm_eps": "small"}, "norm_eps='small' must be a number"),
        ({"position": "learned"}, "needs max_length"),
        ({"max_length": 10}, "max_length=10 is for position"),
        ({"position": "learned", "max_length": 0}, "max_length=0 must be an integer"),
        ({"position": "learned", "max_length": 32, "sequence": 64}, "64 tokens are more than the max_length=32"),
        ({"position": "none", "rope_theta": 5.0}, "rope_theta=5.0 needs position"),
        ({"rope_theta": 1.0}, "rope_theta=1.0 must be a number above 1"),
        ({"rope_scaling": "yarm", "rope_factor": 2.0}, "did you mean 'yarn'"),
        ({"rope_scaling": "llama3", "rope_factor": 2.0}, "needs rope_length"),
        ({"rope_scaling": "linear"}, "needs rope_factor"),
        ({"rope_factor": 2.0}, "which is not given"),
        ({"rope_scaling": "linear", "rope_factor": 2.0, "rope_low": 1.0}, "has no such number"),
        ({"rope_scaling": "yarn", "rope_factor": 2.0, "rope_length": 9, "rope_low": 40}, "must be below rope_high"),
        ({"embedding_scale": "sqrt"}, 'or "sqrt_width"'),
        ({"logit_cap": float("inf")}, "logit_cap=inf must be a number"),
        ({"logit_cap": True}, "logit_cap=True must be a number"),
    ],
)
def test_details_that_cannot_be_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said) as error:
        check(decoder(layer(ATTENTION, DENSE), **fields))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "mixer, said",
    [
        (block("linear_attention", heads=2, sinks=True), "no field 'sinks'.*sinks is a field of attention"),
        (block("attention", heads=2, qk_nrom="head"), "did you mean 'qk_norm'"),
        (block("attention", heads=2, qk_norm="heads"), "did you mean 'head'"),
        (block("attention", heads=2, qk_norm=True), "qk_norm=True"),
        (block("attention", heads=2, head_dim=12, rotary_share=0.25), "rotary_share=0.25 of head_dim=12.*3 values"),
        (block("attention", heads=2, head_dim=6, rotary_share=0.1), "0 values.*turn pairs"),
        (block("attention", heads=2, rotary_share=1.5), "from 0 to 1"),
        (block("attention", heads=2, rotary_share=True), "from 0 to 1"),
        (block("attention", heads=2, value_dim=0), "value_dim=0"),
        (block("attention", heads=2, sinks=1), "sinks=1"),
    ],
)
def test_fields_that_cannot_be_are_refused(mixer: Node, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        check(decoder(layer(mixer, DENSE)))
    with pytest.raises(ModelError, match="renormalise='no'"):
        check(decoder(layer(SKIP, block("moe", experts=2, renormalise="no"))))


def test_a_field_of_ones_own_may_have_the_name_of_a_detail() -> None:
    own = decoder(layer(ATTENTION, DENSE), max_length="long")
    assert check(own, ignore=("max_length",)) == check(decoder(layer(ATTENTION, DENSE)))


# ---- learned positions ----------------------------------------------------------------------------------------------

SHORT = decoder(layer(ATTENTION, DENSE), position="learned", max_length=32)


def test_beyond_the_learned_positions_all_say_so() -> None:
    model = build(SHORT, 7)
    tokens = torch.zeros(1, 33, dtype=torch.long)
    assert model(tokens[:, :32]).isfinite().all()
    cache = model.new_cache(1, 32)
    model(tokens[:, :32], cache=cache)
    corpus = load_corpus()
    calls = [
        lambda: model(tokens),
        lambda: model.new_cache(1, 33),
        lambda: flops(SHORT, 7, 33),
        lambda: kv_cache_bytes(SHORT, 33),
        lambda: Latency(context=33, phase="prefill", target="pi5").check_architecture(SHORT),
        lambda: ValidationLoss(sequence=64).check_architecture(SHORT),
        lambda: train(SHORT, corpus, 2000, sequence=64),
    ]
    for call in calls:
        with pytest.raises(ModelError, match="more than the max_length=32 positions"):
            call()
    assert parameters(SHORT, 7) - parameters(decoder(layer(ATTENTION, DENSE)), 7) == 32 * 32


# ---- training -------------------------------------------------------------------------------------------------------


def test_stacked_runs_learn_as_runs_alone_do() -> None:
    mixer = block("attention", heads=4, kv_group=2, qk_norm="whole", rotary_share=0.5, sinks=True, value_dim=6)
    arch = decoder(layer(mixer, DENSE), norm_place="sandwich", logit_cap=8.0, embedding_scale="sqrt_width")
    corpus = load_corpus()
    stacked = train_many([arch, arch], corpus, 4000, seeds=[0, 1], together=2, evaluation_tokens=2000)
    for seed, one in enumerate(stacked):
        alone = train(arch, corpus, 4000, seed, evaluation_tokens=2000)
        assert one.bits_per_byte == pytest.approx(alone.bits_per_byte, rel=1e-3)


def test_weights_of_experts_are_divided_or_not() -> None:
    for top_k, divided in ((1, True), (2, False)):
        same = decoder(layer(SKIP, block("moe", experts=3, top_k=top_k)))
        other = decoder(layer(SKIP, block("moe", experts=3, top_k=top_k, renormalise=divided)))
        assert check(same) != check(other)
        tokens = torch.arange(7).unsqueeze(0)
        one, two = (build(arch, 7, generator=torch.Generator().manual_seed(0)) for arch in (same, other))
        assert not torch.allclose(one(tokens), two(tokens))
    assert check(decoder(layer(SKIP, MOE))) == check(decoder(layer(SKIP, Node({**MOE, "renormalise": True}))))


# ---- files of profiles ----------------------------------------------------------------------------------------------


def test_parts_of_a_profile_are_read_back() -> None:
    mixer = block("attention", heads=4, qk_norm="whole", rotary_share=0.5, sinks=True, value_dim=6)
    archs = [
        decoder(layer(mixer, DENSE), norm_place="post", rope_scaling="linear", rope_factor=2.0),
        decoder(layer(ATTENTION, DENSE)),
        SHORT,
    ]
    table = {part: float(number) for number, arch in enumerate(archs) for part in parts(check(arch))}
    rows = json.loads(json.dumps(blocks_to(table)))
    assert blocks_from(rows) == table
    assert sum("finer" in row for row in rows) == 4  # a default is not written


@pytest.mark.parametrize("place", ["post", "sandwich"])
@pytest.mark.parametrize(("width", "depth"), [(32, 2), (128, 12)])
def test_norms_on_what_blocks_give_begin_at_one_and_the_first_loss_is_near_guessing(place, width, depth):
    """A norm on a branch makes it as large as the stream, whatever its weights: with a gain of 1, as OLMo 2 and Gemma 2 begin."""
    arch = decoder(*[layer(ATTENTION, DENSE)] * depth, width=width, norm_place=place)
    model = build(arch, 64, generator=torch.Generator().manual_seed(0))
    gains = {name: weight for name, weight in model.named_parameters() if "out_norm" in name}
    assert len(gains) == 2 * depth and all(torch.equal(gain, torch.ones(width)) for gain in gains.values())
    tokens = torch.randint(64, (8, 33), generator=torch.Generator().manual_seed(1))
    loss = float(model.loss(tokens[:, :-1], tokens[:, 1:])[1])
    assert 0 < loss - math.log(64) < 1  # as of a pre-norm decoder, at every width and depth


@pytest.mark.parametrize("place", ["post", "sandwich"])
def test_so_they_do_in_a_supernet_at_every_width(place):
    class Widths(Space):
        width = choice(16, 32)
        depth = integer(1, 3)
        norm_place = place
        layers = repeat(depth, mixer=attention(heads=2), mlp=dense(ratio=1))

    net = Supernet(Widths, 64)
    for flat in ({"width": 16, "depth": 3}, {"width": 32, "depth": 1}):
        model = net.extract(Widths.architecture(flat))
        gains = [weight for name, weight in model.named_parameters() if "out_norm" in name]
        assert len(gains) == 2 * flat["depth"] and all((gain == 1).all() for gain in gains)
