"""Slices of shared weights are exactly the networks that they stand for."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from nas_bo.errors import CheckpointError, ModelError
from nas_bo.model import attention, check, conv, dense, linear_attention, moe, parameters, skip
from nas_bo.model.connections import borrowing, connected
from nas_bo.search_spaces import NAMED, Connections, TinyGPT
from nas_bo.space import Space, choice, integer, real, repeat, require
from nas_bo.supernet.coverage import Extent
from nas_bo.supernet.weights import Supernet
from tests.model.test_fields import Fields, Placed


class Everything(Space):
    """The whole vocabulary, small."""

    depth = integer(1, 3)
    width = choice(8, 24)
    norm = choice("rms", "layer")
    position = choice("rotary", "none")
    tied = choice(True, False)
    bias = choice(True, False)
    parallel = choice(True, False)
    layers = repeat(
        depth,
        mixer=choice(
            attention(heads=choice(1, 2, 4), kv_group=choice(1, 2), head_dim=choice(2, 6), window=choice(None, 5)),
            linear_attention(heads=choice(2, 4)),
            conv(kernel=choice(3, 11)),
            skip(),
        ),
        mlp=choice(
            dense(ratio=real(0.5, 2.0), activation=choice("gelu", "silu", "relu2"), gated=choice(True, False)),
            moe(experts=choice(2, 4), top_k=choice(1, 2), ratio=choice(1, 2), gated=choice(True, False)),
            skip(),
        ),
    )


class Less(Everything):
    """Its blocks, with one form of everything around them."""

    width = choice(8, 12)
    norm = choice("rms", "layer")
    position, tied, bias, parallel = "rotary", True, True, choice(True, False)


def valid(space, count):
    found, seed = [], 0
    while len(found) < count:
        arch = space.sample(seed)
        seed += 1
        try:
            check(arch)
        except ModelError:  # a key/value group that does not divide the heads
            continue
        found.append(arch)
    return found


@pytest.fixture(scope="module")
def net():
    return Supernet(Everything, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 40, (2, 17), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("space", [Everything, Fields, Placed, Connections], ids=lambda s: s.__name__)
def test_the_extracted_model_gives_the_logits_of_the_slice_to_the_bit_and_so_do_its_blocks_one_by_one(
    space, net, tokens
):
    same = partial(
        torch.allclose, rtol=1e-5, atol=1e-6
    )  # to the bit on some processors, not on all: sums have another order there
    net, seen = net if space is Everything else Supernet(space, 40, generator=torch.Generator().manual_seed(0)), set()
    gains = [bank for name, bank in net.banks.items() if "/out_norm" in name and name.endswith("gain")]
    assert all((bank == 1).all() for bank in gains) and bool(gains) == (space is Fields)
    for at, arch in enumerate(valid(space, 40 if space is Everything else 20)):
        model, spec = net.extract(arch), net.spec(arch)
        with torch.no_grad():
            whole = net(tokens, arch)
            assert same(model(tokens), whole)
            if at < 10:
                assert same(model.loss(tokens, tokens)[0], net.loss(tokens, tokens, arch)[0])
            if not (spec.parallel or connected(spec.layers, spec.details)):
                x, context = net.embed(tokens, spec), net.context(tokens, spec)
                for index in range(len(spec.layers)):
                    for part in ("mixer", "mlp"):
                        x = x + net.branch(x, index, part, spec, context)[0]
                assert same(net.logits(x, spec), whole)
        assert sum(weight.numel() for weight in model.parameters()) == parameters(arch, 40)
        assert all(weight.is_contiguous() for weight in model.parameters())
        seen |= {block.kind for layer in spec.layers for block in layer}
        details = spec.details
        seen |= {f"tied {details.tie_layers}", f"skips {details.long_skips}", f"shared {borrows(spec)}"}
    if space is Everything:
        assert seen >= {"attention", "linear_attention", "conv", "skip", "dense", "moe"}
    if space is Connections:
        assert seen >= {"tied 1", "tied 2", "skips True", "skips False", "shared True", "shared False"}


def borrows(spec):
    return any(borrowing(layer.mixer) for layer in spec.layers)


def test_so_it_is_with_weights_of_its_own_for_some_values(tokens):
    apart = ("heads", "kv_group", "ratio", "kernel", "width", "depth", "experts", "bias")
    net = Supernet(TinyGPT, 40, apart=apart)
    one, other = TinyGPT.architecture(_tiny(width=32, heads=2)), TinyGPT.architecture(_tiny(width=32, heads=4))
    assert torch.equal(net.extract(one)(tokens), net(tokens, one))
    assert torch.equal(net.extract(other)(tokens), net(tokens, other))
    net.loss(tokens, tokens, one)[0].backward()
    before = {name: bank.grad for name, bank in net.banks.items() if bank.grad is not None}
    used = {name for name in before if "attention" in name}
    assert used and all("heads=2" in name for name in used if not name.endswith("gain"))


def _tiny(width=32, heads=2, kv_group=1, ratio=2):
    return {
        "depth": 1,
        "width": width,
        "layers.0.mixer": "attention",
        "layers.0.mixer.attention.heads": heads,
        "layers.0.mixer.attention.kv_group": kv_group,
        "layers.0.mlp": "dense",
        "layers.0.mlp.dense.ratio": ratio,
    }


def test_the_weights_of_a_small_network_are_the_first_of_a_large_one():
    net = Supernet(TinyGPT)
    small, large = net.extract(TinyGPT.architecture(_tiny(32))), net.extract(TinyGPT.architecture(_tiny(96)))
    assert torch.equal(small.embedding.weight, large.embedding.weight[:, :32])
    up = large.layers[0].mlp.up.weight
    assert torch.equal(small.layers[0].mlp.up.weight, torch.cat((up[:64, :32], up[192 : 192 + 64, :32])))
    # a head of 16 values takes every third of the 24 pairs of one of 48: those that turn with the same frequencies
    qkv, taken = large.layers[0].mixer.qkv.weight, small.layers[0].mixer.qkv.weight
    rows = [head * 48 + half * 24 + 3 * pair for head in range(4) for half in range(2) for pair in range(8)]
    assert torch.equal(taken[:64], qkv[rows, :32])
    values = [192 + head * 48 + half * 24 + pair for head in range(2) for half in range(2) for pair in range(8)]
    assert torch.equal(taken[64:], qkv[values, :32])


@pytest.mark.parametrize(
    "apart", [("layer",), ("mixers",), ("layer", "mixers", "activation"), ("depth", "norm")], ids=str
)
def test_every_architecture_has_weights_whatever_stands_apart(apart, tokens):
    net = Supernet(Less, 40, apart=apart)
    for arch in valid(Less, 25):
        assert torch.equal(net.extract(arch)(tokens), net(tokens, arch))


def test_operations_are_counted_within_their_kind():
    def arch(*mixers):
        flat = {"depth": len(mixers), "width": 32}
        for index, kind in enumerate(mixers):
            inner = {"heads": 2, "kv_group": 1} if kind == "attention" else {"kernel": 4}
            flat |= {f"layers.{index}.mixer": kind, f"layers.{index}.mlp": "skip"}
            flat |= {f"layers.{index}.mixer.{kind}.{name}": value for name, value in inner.items()}
        return TinyGPT.architecture(flat)

    alone, second = arch("conv"), arch("attention", "conv", "conv")
    for apart, shared in (((), True), (("layer",), False), (("mixers",), False)):
        net = Supernet(TinyGPT, apart=apart)
        first, other = net.extract(alone).layers[0].mixer, net.extract(second).layers[1].mixer
        assert torch.equal(first.out.weight, other.out.weight) is shared
        last = net.extract(second).layers[2].mixer
        assert not torch.equal(last.out.weight, other.out.weight)


def test_a_shared_key_is_that_of_the_first_query_of_its_group():
    net = Supernet(TinyGPT)
    alone, grouped = (net.extract(TinyGPT.architecture(_tiny(96, 4, group))).layers[0].mixer for group in (1, 2))
    assert torch.equal(grouped.qkv.weight[:96], alone.qkv.weight[:96])
    keys, shared = alone.qkv.weight[96:192].view(4, 24, 96), grouped.qkv.weight[96:144].view(2, 24, 96)
    assert torch.equal(shared, keys[::2])


def test_it_copies_and_remembers_nothing(net, tokens):
    first, second = valid(Everything, 2)
    expected = net(tokens, first)
    model = net.extract(first)
    net(tokens, second)
    assert torch.equal(net(tokens, first), expected)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert torch.equal(net(tokens, first), expected)


def test_gradients_reach_the_slices_and_nothing_else(tokens):
    net = Supernet(TinyGPT, 40)
    net.loss(tokens, tokens, TinyGPT.architecture(_tiny(32)))[0].backward()
    grad = net.banks["embedding"].grad
    assert grad[:, :32].any() and not grad[:, 32:].any()
    assert not any(bank.grad is not None for name, bank in net.banks.items() if name.startswith(("mixer1", "mlp1")))


@pytest.mark.parametrize("name", ["tiny_gpt", "hw_gpt_bench_s"])
def test_named_spaces_are_covered(name):
    space = NAMED[name]
    extent = Extent(space)
    sizes = [extent.size(space.sample(seed)) for seed in range(100)]
    assert extent.size(extent.largest()) >= max(sizes) and extent.size(extent.smallest()) <= min(sizes)


def test_extremes_are_those_of_the_whole_space():
    class Small(Space):
        depth = integer(1, 2)
        width = choice(8, 16)
        layers = repeat(
            depth, mixer=choice(conv(kernel=choice(2, 5)), attention(heads=choice(1, 2), kv_group=1)), mlp=choice(dense(ratio=2), skip())
        )  # fmt: skip

    extent = Extent(Small)
    sizes = [extent.size(arch) for arch in Small.enumerate()]
    assert extent.size(extent.largest()) == max(sizes)
    assert extent.size(extent.smallest()) == min(sizes)
    like = Small.sample(3)
    same = extent.largest(like)
    assert same.depth == 2 and same.layers[0].mixer.kind == like.layers[0].mixer.kind
    shallow = extent.smallest(like)
    assert shallow.depth == 1 and shallow.width == 8 and shallow.layers[0].mixer.kind == like.layers[0].mixer.kind


def test_rules_hold_for_extremes():
    class Ruled(TinyGPT):
        @require
        def not_the_largest(arch):
            return arch.depth < 5

    assert Extent(Ruled).largest().depth < 5


def test_an_architecture_of_a_larger_space_is_refused_by_name():
    class Wider(TinyGPT):
        width = choice(32, 128)

    net = Supernet(TinyGPT)
    arch = next(one for one in map(Wider.sample, range(20)) if one.width == 128)
    assert not net.covers(arch) and net.covers(TinyGPT.sample(0))
    with pytest.raises(ModelError, match="embedding.*128"):
        net.extract(arch)
    with pytest.raises(ModelError, match="linear_attention"):
        net(torch.zeros(1, 2, dtype=torch.long), Everything.architecture({**_everything(), "width": 8}))


def _everything():
    return {
        "depth": 1, "norm": "rms", "position": "rotary", "tied": True, "bias": False, "parallel": False,
        "layers.0.mixer": "linear_attention", "layers.0.mixer.linear_attention.heads": 2, "layers.0.mlp": "skip",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr": real(1e-4, 1e-2)}, "'lr' is about training"),
        ({"colour": choice("red", "blue")}, "'colour'"),
        ({"layers": repeat(2, mixer=choice("mamba", conv(kernel=4)), mlp=dense(ratio=1))}, "mamba"),
        ({"layers": repeat(1, mixer=attention(heads=choice(5, 7)), mlp=dense(ratio=1))}, "does not divide"),
        ({"layers": repeat(1, mixer=conv(kernel=integer(1, 30_000)), mlp=dense(ratio=1))}, "too many"),
    ],
)
def test_a_space_that_cannot_be_covered_is_refused_by_the_name_of_the_choice(fields, message):
    base = {"width": 16, "layers": repeat(1, mixer=conv(kernel=4), mlp=dense(ratio=1))}
    with pytest.raises(ModelError, match=message):
        Supernet(Space.of("Strange", **{**base, **fields}))


def test_what_is_the_users_own_is_passed_over_when_said_so():
    space = Space.of("Own", width=16, lr=real(1e-4, 1e-2), layers=repeat(1, mixer=conv(kernel=4), mlp=dense(ratio=1)))
    assert Supernet(space, ignore=("lr",)).covers(space.sample(0))


def test_an_unknown_field_cannot_stand_apart():
    with pytest.raises(ModelError, match="there are: activation"):
        Supernet(TinyGPT, apart=("head",))


def test_files_come_back_to_the_bit_and_only_to_their_own_space(tmp_path, tokens):
    net = Supernet(TinyGPT, 40, apart=("heads",))
    path, arch = tmp_path / "net.pt", TinyGPT.sample(0)
    net.save(path, corpus="a" * 64)
    again = Supernet.load(path, TinyGPT, corpus="a" * 64)
    assert torch.equal(again(tokens, arch), net(tokens, arch)) and again.fingerprint == net.fingerprint
    with pytest.raises(CheckpointError, match="another space"):
        Supernet.load(path, Everything)
    with pytest.raises(CheckpointError, match="trained on the corpus"):
        Supernet.load(path, TinyGPT, corpus="b" * 64)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "identity": {**content["identity"], "format": 99}}, path)
    with pytest.raises(CheckpointError, match="format 99"):
        Supernet.load(path, TinyGPT)
    path.write_bytes(b"no weights at all")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Supernet.load(path, TinyGPT)
    with pytest.raises(CheckpointError, match="there is no supernet"):
        Supernet.load(tmp_path / "nothing.pt", TinyGPT)


def test_fingerprints_tell_spaces_apart():
    assert Supernet(TinyGPT).fingerprint == Supernet(TinyGPT).fingerprint
    assert Supernet(TinyGPT).fingerprint != Supernet(TinyGPT, apart=("heads",)).fingerprint
    assert Supernet(TinyGPT).fingerprint != Supernet(TinyGPT, 300).fingerprint
