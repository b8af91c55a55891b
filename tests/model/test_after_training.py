"""Fields of what is done after training: ids, checks, and what they make weights, caches and time cost."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError, SpaceError
from nas_bo.export.fits import fits
from nas_bo.export.homes import TRANSFORMERS
from nas_bo.hardware import memory
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.energy import EnergyModel, Prices
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.latency.roofline_model import RooflineModel
from nas_bo.hardware.workload import Setting, workload
from nas_bo.model import build, check, connections_fit, flops, kv_cache_bytes, label, parameters
from nas_bo.model.after_training import GROUP, After, compress_options, deployed, matrices, stored_bits, weight_bytes
from nas_bo.model.layers import common
from nas_bo.search_spaces import NAMED, TinyGPT, TinyGPTBits, with_bits
from nas_bo.space import Space, choice, repeat
from nas_bo.supernet import Supernet
from tests.model.architectures import ATTENTION, CONV, DENSE, GATED, MOE, SKIP, WINDOW, block, decoder, layer

LATENT = block("latent_attention", heads=2, latent=8)
PLAIN = decoder(layer(ATTENTION, GATED), layer(CONV, DENSE), layer(WINDOW, SKIP), width=64)


def after(tree: Node, *each: dict, **fields: object) -> Node:
    """The decoder with fields at its top, and in its layers."""
    layers = tuple(
        Node({**one, **more}) for one, more in zip(tree.layers, each or [{}] * len(tree.layers), strict=True)
    )
    return Node({**tree, "layers": layers, **fields})


def arch_of(tree: Node) -> Architecture:
    return Architecture(tree, {})


# ---- ids --------------------------------------------------------------------------------------------------------------


def test_fields_that_do_nothing_are_in_no_id_and_none_is_in_that_of_the_training():
    before = arch_of(PLAIN)
    assert before.id == before.training_id
    nothing = arch_of(after(PLAIN, {"bits": 32}, {"prune": 0.0}, {}, bits=32, kv_bits=32, sparsity=0.0, prune=0.0))
    assert nothing.id == before.id == nothing.training_id
    different = [
        after(PLAIN, bits=8),
        after(PLAIN, bits=4),
        after(PLAIN, kv_bits=4),
        after(PLAIN, sparsity=0.5),
        after(PLAIN, prune=0.5),
        after(PLAIN, {"bits": 4}, {}, {}),
        after(PLAIN, {}, {"bits": 4}, {}),
        after(PLAIN, {"bits": 32}, {}, {}, bits=4),  # says otherwise than the top
    ]
    ids = {arch_of(tree).id for tree in different}
    assert len(ids) == len(different) and before.id not in ids
    assert {arch_of(tree).training_id for tree in different} == {before.id}
    same = [after(PLAIN, bits=4), after(PLAIN, {"bits": 4}, {"bits": 4}, {}, bits=4)]
    assert len({arch_of(tree).id for tree in same}) == 1
    skipped = decoder(layer(SKIP, SKIP), layer(ATTENTION, SKIP), width=32)
    assert arch_of(after(skipped, {"bits": 3, "prune": 0.5, "kv_bits": 4}, {"prune": 0.5})).id == arch_of(skipped).id


def test_the_id_of_what_is_no_decoder_does_not_change():
    class Own(Space):
        bits = choice(32, 8)
        layers = repeat(2, a=choice("x", "y"), sparsity=choice(0.0, 0.5))

    made = {arch.id for arch in Own.enumerate()}
    assert len(made) == Own.size() and all(arch.training_id == arch.id for arch in Own.enumerate())
    assert (
        Own.architecture(
            {"bits": 32, **{f"layers.{i}.{k}": v for i in (0, 1) for k, v in (("a", "x"), ("sparsity", 0.0))}}
        ).id
        == "0ed2ff47133fcbe0"
    )


def test_an_architecture_survives_json_and_pickle():
    arch = TinyGPTBits.sample(1)
    for again in (
        Architecture.from_json(arch.to_json()),
        pickle.loads(pickle.dumps(arch)),
        TinyGPTBits.architecture(arch),
    ):
        assert again.id == arch.id and again.training_id == arch.training_id
    own = {path: value for path, value in arch.flat.items() if "bits" not in path}
    assert TinyGPT.architecture(own).id == arch.training_id != arch.id


# ---- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        (after(PLAIN, bits=5), "the architecture has bits=5; bits must be one of 32, 16, 8, 4, 3, 2"),
        (after(PLAIN, {}, {"bits": True}, {}), "layers.1 has bits=True"),
        (after(PLAIN, kv_bits=1), "kv_bits must be one of"),
        (after(PLAIN, {"sparsity": 1.0}, {}, {}), "layers.0 has sparsity=1.0; sparsity must be a number from 0 to 0.9"),
        (after(PLAIN, prune="half"), "prune must be a number"),
        (after(PLAIN, {"bit": 4}, {}, {}), "field 'bit' that the decoder does not know .did you mean 'bits'"),
        (
            after(decoder(layer(ATTENTION, DENSE), layer(ATTENTION, DENSE), tie_layers=2), {"bits": 4}, {"bits": 3}),
            "layers 0 to 1 are one module .tie_layers=2.",
        ),
    ],
)
def test_impossible_values_are_one_sentence(tree, says):
    with pytest.raises(ModelError, match=says):
        check(tree)


def test_fields_of_the_users_own_can_be_left_to_them():
    assert check(after(PLAIN, bits=5), ignore=("bits",)) == check(PLAIN)
    tied = after(decoder(layer(ATTENTION, DENSE), layer(ATTENTION, DENSE), tie_layers=2), {"bits": 4}, {"bits": 3})
    assert not connections_fit(tied)


def test_the_decoder_is_built_as_it_is_trained():
    tree = after(PLAIN, bits=4, prune=0.5, kv_bits=4)
    made = build(tree, 64, generator=torch.Generator().manual_seed(0))
    same = build(PLAIN, 64, generator=torch.Generator().manual_seed(0))
    assert made.spec == same.spec and all(
        torch.equal(one, other)
        for one, other in zip(made.state_dict().values(), same.state_dict().values(), strict=True)
    )


# ---- costs ------------------------------------------------------------------------------------------------------------


def test_fewer_channels_are_fewer_parameters_and_operations():
    smaller = decoder(
        layer(ATTENTION, Node({**GATED, "ratio": 0.75})),
        layer(CONV, Node({**DENSE, "ratio": 1})),
        layer(WINDOW, SKIP),
        width=64,
    )
    tree = after(PLAIN, prune=0.5)
    assert deployed(check(tree)) == check(smaller)
    assert parameters(tree, 100) == parameters(smaller, 100) < parameters(PLAIN, 100)
    assert flops(tree, 100, 16) == flops(smaller, 100, 16)
    mixture = decoder(layer(ATTENTION, MOE), width=64)
    assert parameters(after(mixture, prune=0.5), 100) == parameters(mixture, 100)  # experts are left alone


def test_matrices_are_those_of_the_module_that_learn_as_such():
    for mixer in (ATTENTION, WINDOW, CONV, LATENT, block("ssm", heads=2, state=4), block("gated_delta", heads=2)):
        for mlp in (DENSE, GATED, MOE):
            tree = decoder(layer(mixer, mlp), width=32, bias=True)
            made = build(tree, 16, device="meta")
            learn = [
                w
                for n, w in made.named_parameters()
                if n.startswith("layers.") and made.role(n, w) in ("in", "out", "out_each")
            ]
            spec = check(tree)
            said = sum(rows * columns for one in spec.layers[0] for rows, columns in matrices(one, spec.frame))
            exact = spec.layers[0].mlp.experts * 32 if mlp is MOE else 0  # a router keeps its numbers
            assert said == sum(w.numel() for w in learn) - exact


def test_bits_of_a_matrix_count_scales_and_zero_points():
    assert stored_bits(4, 64, 4) == 4 * 64 * 4 + 4 * 2 * (16 + 4)
    assert stored_bits(4, 65, 2) == 4 * 65 * 2 + 4 * 3 * (16 + 2)
    assert stored_bits(4, 64, 16) == 4 * 64 * 16 and stored_bits(4, 64, 32) == 4 * 64 * 32
    assert stored_bits(4, 64, 32, whole=16) == 4 * 64 * 16
    assert stored_bits(4, 64, 8, 0.5) == 4 * 32 * 8 + 4 * 64 + 4 * 2 * 24  # a mask instead of the zeros
    assert stored_bits(4, 64, 2, 0.1) == stored_bits(4, 64, 2)  # the mask would be larger
    assert common.GROUP == GROUP


def test_weights_in_memory_follow_the_bits_of_each_layer():
    setting = Setting("decode", context=64, vocab_size=100)
    plain = memory.inference(PLAIN, setting)
    assert memory.inference(after(PLAIN, bits=32), setting) == plain
    sizes = [memory.inference(after(PLAIN, bits=bits), setting).weights for bits in (32, 16, 8, 4, 3, 2)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 6
    spec = check(after(PLAIN, {"bits": 4}, {"bits": 3}, {"bits": 2}, bits=8))
    total = stored_bits(100, 64, 8)
    for one, bits in zip(spec.layers, (4, 3, 2), strict=True):
        total += sum(
            8 * math.ceil(sum(stored_bits(*shape, bits) for shape in matrices(b, spec.frame)) / 8) for b in one
        )
    counted = 100 * 64 + sum(r * c for one in spec.layers for b in one for r, c in matrices(b, spec.frame))
    found = weight_bytes(spec, 100, 4, parameters(spec, 100))
    assert found == math.ceil(total / 8) + 4 * (parameters(spec, 100) - counted)
    assert found == workload(spec, "decode", context=64, vocab_size=100).parameter_bytes


def test_caches_follow_kv_bits_where_they_are_keys_and_values():
    whole, four = (kv_cache_bytes(after(PLAIN, kv_bits=bits), 32, 4) for bits in (32, 4))
    conv = kv_cache_bytes(decoder(layer(CONV, DENSE), width=64), 32, 4)
    assert four - conv == pytest.approx((whole - conv) * (4 + 20 / 32) / 32, abs=2)
    one = after(PLAIN, {"kv_bits": 4}, {}, {})
    assert four < kv_cache_bytes(one, 32, 4) < whole
    latent = decoder(layer(LATENT, SKIP), width=32)
    assert kv_cache_bytes(after(latent, kv_bits=8), 32, 2) < kv_cache_bytes(latent, 32, 2)


def test_time_and_energy_follow_the_bytes_that_are_read():
    setting = Setting("decode", context=256, vocab_size=100)
    slow = Roofline(gflops=1e9, gbytes=1.0, overhead_us=0.0)  # traffic alone counts
    trees = [PLAIN, after(PLAIN, bits=8), after(PLAIN, bits=4), after(PLAIN, bits=4, kv_bits=4)]
    model, energy = RooflineModel(slow, setting), EnergyModel(Prices(0.0, 30.0), setting)
    times = [float(model.predict(tree)) for tree in trees]
    assert times == sorted(times, reverse=True) and len(set(times)) == 4
    joules = [float(energy.predict(tree)) for tree in trees]
    assert [a / joules[0] for a in joules] == pytest.approx([t / times[0] for t in times], rel=1e-6)
    assert [slow.milliseconds(tree, 100, "decode", 256) for tree in trees] == pytest.approx(times, rel=1e-9)
    read = workload(trees[2], "decode", context=256, vocab_size=100)
    assert sum(work.weight_bytes for work in read.operations) < 0.35 * sum(
        work.weight_bytes for work in workload(PLAIN, "decode", context=256, vocab_size=100).operations
    )
    assert float(RooflineModel(Device.named("pi5"), setting).predict(trees[2])) < float(
        RooflineModel(Device.named("pi5"), setting).predict(PLAIN)
    )


def test_keys_and_values_are_rounded_in_one_pass_and_from_the_cache_alike():
    for mixer in (ATTENTION, WINDOW, LATENT):
        made = build(decoder(layer(mixer, DENSE), width=32), 50, generator=torch.Generator().manual_seed(0)).eval()
        tokens = torch.randint(50, (2, 12), generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            exact = made(tokens)
            apart = {}
            for bits in (16, 8, 4, 2):
                made.layers[0].mixer.kv_bits = bits
                apart[bits] = float((made(tokens) - exact).abs().max())
            cache = made.new_cache(2, 12)
            steps = torch.cat([made(tokens[:, t : t + 1], cache=cache) for t in range(12)], 1)
            assert torch.allclose(steps, made(tokens), atol=1e-4)
        assert 0 < apart[8] < apart[4] < apart[2] and apart[16] < apart[4]


# ---- labels and spaces ------------------------------------------------------------------------------------------------


def test_labels_say_what_is_done():
    assert label(after(PLAIN, bits=4)).startswith("d64 b8:4,4,4 ") and label(after(PLAIN, bits=8)).startswith("d64 b8 ")
    assert label(after(PLAIN, {"bits": 4}, {"bits": 3}, {"bits": 2}, bits=8, kv_bits=4)).startswith("d64 b8:4,3,2 v4 ")
    assert label(after(PLAIN, sparsity=0.5, prune=0.25)).startswith("d64 z0.5 p0.25 ")
    assert label(after(PLAIN, bits=32)) == label(PLAIN)


def test_with_bits_adds_choices_to_any_space():
    assert NAMED["tiny_gpt_bits"] is TinyGPTBits and pickle.loads(pickle.dumps(TinyGPTBits)) is TinyGPTBits
    arch = TinyGPTBits.sample(0)
    assert arch.bits == 8 and arch.kv_bits in (8, 4, 3, 2) and all(one.bits in (8, 4, 3, 2) for one in arch.layers)
    every = with_bits(TinyGPT, bits=(4, 2), kv_bits=(), sparsity=(0.0, 0.5), prune=(0.0, 0.25), title="Every")
    made = every.sample(0)
    assert (
        every.title == "Every" and "kv_bits" not in made.tree and {"sparsity", "prune", "bits"} <= set(made.layers[0])
    )
    alike = with_bits(NAMED["llama_uniform"], prune=(0.25,)).sample(0)
    assert check(alike).after[1] == After(alike.bits, alike.kv_bits, 0.0, 0.25)
    for bad, says in [
        (lambda: with_bits(TinyGPT, bits=(8, 5)), r"with_bits\(bits=5\): bits must be one of"),
        (lambda: with_bits(TinyGPT, prune=(1.5,)), "prune must be a number from 0 to 0.9"),
        (lambda: with_bits(TinyGPTBits), "has a field 'bits' already"),
    ]:
        with pytest.raises(SpaceError, match=says):
            bad()


def test_the_command_that_does_the_same_to_a_trained_folder():
    for tree, options in (
        (PLAIN, ""),
        (after(PLAIN, bits=8), "--bits 8"),
        (after(PLAIN, bits=4), "--bits layers.0=4,layers.1=4,layers.2=4,default=8"),
        (
            after(PLAIN, {"bits": 4}, {"bits": 3}, {"bits": 2}, bits=16, prune=0.5),
            "--bits layers.0=4,layers.1=3,layers.2=2,default=16 --prune 0.5",
        ),
        (after(PLAIN, {"prune": 0.5}, {}, {}, sparsity=0.25), "--sparsity 0.25"),
    ):
        assert compress_options(check(tree)) == options


def test_what_shares_weights_refuses_choices_that_it_cannot_see():
    with pytest.raises(ModelError, match="TinyGPTBits chooses 'layers.0.bits', which acts after training"):
        Supernet(TinyGPTBits, 64)
    for bits in (4, 32):  # what a stock class can hold does not depend on it; on channels that are gone it does
        uniform = after(decoder(layer(ATTENTION, GATED), layer(ATTENTION, GATED), width=64), bits=bits)
        assert fits(arch_of(uniform), TRANSFORMERS)[0].reasons == ()
    uneven = fits(arch_of(after(uniform, {"prune": 0.5}, {"prune": 0.0})), TRANSFORMERS)[0]
    assert uneven.reasons or uneven.padding > 0
