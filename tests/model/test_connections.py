"""Keys and values of earlier layers, tied layers and long skips, alone and together with everything else a decoder can have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError
from nas_bo.hardware import memory
from nas_bo.hardware.measuring.memory_measure import measured_inference, measured_training
from nas_bo.hardware.workload import Setting, workload
from nas_bo.model import build, check, connections_fit, counts, label
from tests.model.architectures import CONV, DENSE, GATED, LINEAR, MOE, SKIP, block, decoder, layer
from tests.model.torch_flops import counted

VOCAB = 13
OWN = block("attention", heads=4, kv_group=2, head_dim=8)
SHARED = block("attention", heads=4, kv_group=2, head_dim=8, share_kv=True)


@st.composite
def connected(draw: st.DrawFn) -> Node:
    """A decoder with any of the three, whose layers fit together."""
    kv, dim = draw(st.sampled_from((1, 2))), draw(st.sampled_from((2, 6, 8)))
    common: dict[str, Any] = {"head_dim": dim}
    if draw(st.booleans()):
        common["window"] = draw(st.sampled_from((1, 5, 40)))
    if draw(st.booleans()):
        common["value_dim"] = draw(st.sampled_from((3, 8)))
    if dim == 8 and draw(st.booleans()):
        common["rotary_share"] = draw(st.sampled_from((0, 0.5)))
    tie = draw(st.sampled_from((1, 1, 2, 3)))
    layers: list[Node] = []
    lent = False
    for _ in range(draw(st.integers(1, 6 // tie))):
        kind = draw(st.sampled_from(("attention", "attention", "attention", "conv", "linear", "skip")))
        mixer = {"conv": CONV, "linear": LINEAR, "skip": SKIP}.get(kind)
        if mixer is None:
            group = draw(st.sampled_from((1, 2)))
            fields = {**common, "heads": kv * group, "kv_group": group}
            for name, values in {
                "qk_norm": (None, "head", "whole"),
                "sinks": (False, True),
                "qkv_bias": (None, True),
            }.items():
                if draw(st.booleans()):
                    fields[name] = draw(st.sampled_from(values))
            if lent and draw(st.booleans()):
                fields["share_kv"] = True
            mixer, lent = block("attention", **fields), True
        layers += [layer(mixer, draw(st.sampled_from((DENSE, GATED, SKIP))))] * tie
    fields = {"width": draw(st.sampled_from((4, 8, 24)))}
    if tie > 1 or draw(st.booleans()):
        fields["tie_layers"] = tie
    for name, values in {
        "long_skips": (False, True),
        "norm": ("rms", "layer"),
        "position": ("rotary", "none"),
        "parallel": (False, True),
        "tied": (False, True),
        "bias": (False, True),
    }.items():
        if draw(st.booleans()):
            fields[name] = draw(st.sampled_from(values))
    return Node({**fields, "layers": tuple(layers)})


@settings(max_examples=12, deadline=None)
@given(connected())
def test_counts_are_those_of_the_module(arch: Node) -> None:
    spec = check(arch)
    model = build(arch, VOCAB)
    assert counts.parameters(arch, VOCAB) == sum(weight.numel() for weight in model.parameters())
    for length in (1, 2, 7, 70):
        tokens = torch.zeros(2, length, dtype=torch.long)
        with counted() as counter:
            model(tokens)
        assert counts.flops(arch, VOCAB, length, 2) == counter.get_total_flops()
        cache = model.new_cache(2, length)
        with torch.no_grad():
            if length > 1:
                model(tokens[:, 1:], cache=cache)
        with counted() as counter:
            model(tokens[:, :1], cache=cache)
        rows = counts.operations(arch, VOCAB, "decode", length, 2)
        assert sum(row.flops for row in rows) == counter.get_total_flops()
        held = [t for s in cache.states if s is not None for t in (s if isinstance(s, tuple) else (s,))]
        assert counts.kv_cache_bytes(arch, length, 4, 2) == sum(t.numel() * 4 for t in held)
        for phase in ("prefill", "decode"):
            work = workload(spec, phase, 2, length, vocab_size=VOCAB)
            rows = counts.operations(arch, VOCAB, phase, length, 2)
            assert [one.name for one in work.operations] == [one.name for one in rows]
            assert [one.flops for one in work.operations] == [one.flops for one in rows]
            assert sum(one.moved_bytes for one in work.operations) == sum(
                4 * (one.weight_elements + one.activation_elements) for one in rows
            )


@settings(max_examples=15, deadline=None)
@given(connected())
def test_cached_is_uncached(arch: Node) -> None:
    generator = torch.Generator().manual_seed(0)
    model = build(arch, VOCAB, dtype=torch.float64, generator=generator).eval()
    tokens = torch.randint(VOCAB, (2, 20), generator=generator)
    with torch.inference_mode():
        whole = model(tokens)
        cache = model.new_cache(2, 20)
        parts = [model(tokens[:, :9], cache=cache), *(model(tokens[:, i : i + 1], cache=cache) for i in range(9, 20))]
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        assert torch.allclose(model(tokens[:, :12]), whole[:, :12])


@settings(max_examples=10, deadline=None)
@given(connected(), st.sampled_from((24, 100)))
def test_memory_is_that_of_a_run(arch: Node, context: int) -> None:
    arch = Node({**arch, "width": 32})
    for phase in ("prefill", "decode"):
        setting = Setting(phase, 2, context)
        said, seen = memory.inference(arch, setting).total, measured_inference(arch, setting, "cpu")
        assert 0.9 * seen <= said <= 1.2 * seen, (phase, said, seen)
    said, seen = memory.training(arch, 2, 48).total, measured_training(arch, 2, 48, device="cpu")
    assert 0.85 * seen <= said <= 1.25 * seen, (said, seen)


# ---- what they do ---------------------------------------------------------------------------------------------------


def test_a_layer_that_shares_reads_the_nearest_earlier_keys_and_values() -> None:
    arch = decoder(layer(OWN, SKIP), layer(OWN, DENSE), layer(CONV, SKIP), layer(SHARED, SKIP), layer(SHARED, DENSE))
    model = build(arch, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).eval()
    assert {n for n, _ in model.layers[3].mixer.named_parameters()} == {"q.weight", "out.weight"}
    tokens = torch.randint(VOCAB, (1, 9), generator=torch.Generator().manual_seed(1))
    # the same written out: the shared layers with keys and values of layer 1, computed from what layer 1 read
    with torch.no_grad():
        seen: dict[str, torch.Tensor] = {}
        hooks = [
            model.layers[i].register_forward_pre_hook(lambda m, args, i=i: seen.__setitem__(f"x{i}", args[0]))
            for i in (1, 3)
        ]
        hooks.append(model.layers[3].register_forward_hook(lambda m, args, out: seen.__setitem__("y3", out[0])))
        model(tokens)
        for hook in hooks:
            hook.remove()
        one, three = model.layers[1], model.layers[3]
        k, v = one.mixer.qkv(one.mixer_norm(seen["x1"]))[..., 32:].view(1, 9, 4, 8).split(2, 2)
        q = three.mixer.q(three.mixer_norm(seen["x3"])).view(1, 9, 4, 8)

        def turned(x: torch.Tensor) -> torch.Tensor:
            angle = torch.arange(9.0, dtype=torch.float64)[:, None] * 10000.0 ** -(
                torch.arange(4.0, dtype=torch.float64) / 4
            )
            cos, sin = angle.cos()[:, None], angle.sin()[:, None]
            a, b = x[..., :4], x[..., 4:]
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

        q, k, v = (
            one.transpose(1, 2) for one in (turned(q), turned(k).repeat_interleave(2, 2), v.repeat_interleave(2, 2))
        )
        scores = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(torch.ones(9, 9).triu(1).bool(), -torch.inf)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(1, 9, 32)
        torch.testing.assert_close(seen["x3"] + three.mixer.out(y), seen["y3"], rtol=1e-5, atol=1e-6)


def test_tied_layers_are_the_untied_ones_with_equal_weights() -> None:
    first, second = layer(OWN, DENSE), layer(OWN, MOE)
    layers = (first, first, second, second)
    tied = build(decoder(*layers, tie_layers=2), VOCAB, generator=torch.Generator().manual_seed(0)).eval()
    loose = build(decoder(*layers), VOCAB).eval()
    weights = tied.state_dict()
    assert {n.split(".")[1] for n in weights if n.startswith("layers.")} == {"0", "1"}
    spread = {n: w for n, w in weights.items() if not n.startswith("layers.")}
    for name in loose.state_dict():
        if name.startswith("layers."):
            _, index, rest = name.split(".", 2)
            spread[name] = weights[f"layers.{int(index) // 2}.{rest}"]
    loose.load_state_dict(spread)
    tokens = torch.randint(VOCAB, (2, 9))
    with torch.no_grad():
        assert torch.equal(tied(tokens), loose(tokens))
    a, b = decoder(*layers, tie_layers=2), decoder(*layers)
    assert counts.flops(a, VOCAB, 9) == counts.flops(b, VOCAB, 9)
    assert counts.kv_cache_bytes(a, 9) == counts.kv_cache_bytes(b, 9)
    assert counts.active_parameters(a, VOCAB) < counts.parameters(a, VOCAB) < counts.parameters(b, VOCAB)


def test_long_skips_add_what_mirrors_a_layer() -> None:
    layers = [layer(CONV, DENSE)] * 5
    model = build(
        decoder(*layers, long_skips=True), VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    bare = build(decoder(*layers), VOCAB, dtype=torch.float64)
    bare.load_state_dict({n: w for n, w in model.state_dict().items() if n != "skip_gates"})
    assert model.skip_gates.tolist() == [1.0, 1.0]
    tokens = torch.randint(VOCAB, (2, 9))
    with torch.no_grad():
        model.skip_gates.zero_()
        assert torch.allclose(model(tokens), bare(tokens))
        model.skip_gates.copy_(torch.tensor([0.5, -2.0]))
        context = type(bare.layers[0]).forward  # every layer by hand
        x, kept = bare._embed(tokens), []
        for index, one in enumerate(bare.layers):
            x = x + (0.5 * kept[0] if index == 4 else -2.0 * kept[1] if index == 3 else 0.0)
            x = context(one, x, None, None)[0]
            kept.append(x)
        torch.testing.assert_close(model(tokens), bare._logits(x))
    rates = {id(p): g for g in model.parameter_groups(1e-3, 0.1) for p in g["params"]}
    assert (rates[id(model.skip_gates)]["lr"], rates[id(model.skip_gates)]["weight_decay"]) == (2e-3, 0.0)


def test_fewer_than_three_layers_have_no_long_skip() -> None:
    arch = decoder(layer(CONV, DENSE), layer(CONV, DENSE), long_skips=True)
    assert build(arch, VOCAB).skip_gates is None
    plain = decoder(layer(CONV, DENSE), layer(CONV, DENSE))
    assert Architecture(arch, {}).id == Architecture(plain, {}).id


# ---- ids and labels -------------------------------------------------------------------------------------------------


def test_fields_at_their_default_are_not_in_the_id() -> None:
    plain = Architecture(decoder(*[layer(OWN, DENSE)] * 3), {})
    said = block("attention", heads=4, kv_group=2, head_dim=8, share_kv=False)
    for tree in (
        decoder(*[layer(said, DENSE)] * 3),
        decoder(*[layer(OWN, DENSE)] * 3, tie_layers=1, long_skips=False),
    ):
        assert Architecture(tree, {}).id == plain.id and check(tree) == check(plain.tree)
    for tree in (
        decoder(layer(OWN, DENSE), layer(SHARED, DENSE), layer(OWN, DENSE)),
        decoder(*[layer(OWN, DENSE)] * 3, tie_layers=3),
        decoder(*[layer(OWN, DENSE)] * 3, long_skips=True),
    ):
        assert Architecture(tree, {}).id != plain.id and label(tree) != label(plain)


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        (decoder(layer(SHARED, DENSE)), "layers.0: attention has share_kv=True and no earlier layer"),
        (decoder(layer(CONV, DENSE), layer(SHARED, DENSE)), "layers.1: attention has share_kv=True and no earlier"),
        (
            decoder(layer(OWN, DENSE), layer(block("attention", heads=4, head_dim=8, share_kv=True), DENSE)),
            "layers.1: .*kv_heads=4 .*layers.0.*kv_heads=2",
        ),
        (
            decoder(layer(OWN, DENSE), layer(block("attention", heads=2, head_dim=6, share_kv=True), DENSE)),
            "head_dim=6 .*head_dim=8",
        ),
        (
            decoder(layer(OWN, DENSE), layer(Node({**SHARED, "window": 7}), DENSE)),
            "window=7 .*window=None",
        ),
        (decoder(layer(Node({**OWN, "share_kv": "yes"}), DENSE)), "share_kv='yes'; it is one of False, True"),
        (decoder(*[layer(OWN, DENSE)] * 3, tie_layers=2), "tie_layers=2 does not divide the 3 layers"),
        (
            decoder(layer(OWN, DENSE), layer(OWN, GATED), tie_layers=2),
            "tie_layers=2 gives layers.1 the weights of layers.0, and the two are not alike",
        ),
        (decoder(layer(OWN, DENSE), layer(SHARED, DENSE), tie_layers=2), "are not alike"),
        (decoder(layer(OWN, DENSE), tie_layers=0), "tie_layers=0 must be an integer of at least 1"),
        (decoder(layer(OWN, DENSE), tie_layers=True), "tie_layers=True must be an integer"),
        (decoder(layer(OWN, DENSE), long_skips="yes"), "long_skips='yes' is unknown; it is one of False, True"),
    ],
)
def test_what_does_not_fit_is_refused(arch: Node, words: str) -> None:
    with pytest.raises(ModelError, match=words) as error:
        check(arch)
    assert "\n" not in str(error.value)


def test_the_rule_of_a_space_looks_at_connections_alone() -> None:
    assert not connections_fit(decoder(layer(SHARED, DENSE))) and connections_fit(decoder(layer(OWN, DENSE)))
    assert connections_fit(decoder(layer(OWN, DENSE), mine=3, tie_layers=1))
    assert not connections_fit(decoder(*[layer(OWN, DENSE)] * 3, mine=3, tie_layers=2))
    assert connections_fit(decoder(layer(block("attention", heads=5), DENSE)))  # no matter of connections
