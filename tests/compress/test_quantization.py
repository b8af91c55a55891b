"""Weights in few bits: exact packing, sizes that are computed, what calibration gains, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_bo.compress import held_out, quantization, quantize, stored_bytes
from nas_bo.compress.calibration import Passes, hessians, matrices, moments, windows
from nas_bo.compress.error_feedback import settle
from nas_bo.errors import CompressError, ModelError
from nas_bo.model import build
from nas_bo.model.packed import INTEGERS, pack, packed_bytes, unpack, unpacked
from tests.compress.models import ATTENTION, EVERYTHING, PLAIN, learned, made, text, tokens
from tests.conformance import own_blocks
from tests.model.architectures import SKIP, block, decoder, layer


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(INTEGERS), st.integers(1, 70), st.integers(0, 1000))
def test_packed_integers_come_back(bits, count, seed):
    values = torch.randint(0, 1 << bits, (count,), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    packed = pack(values, bits)
    assert len(packed) == -(-count * bits // 8) and torch.equal(unpack(packed, bits, count), values)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", INTEGERS)
def test_every_matrix_of_every_block_is_rounded_within_a_step(bits, symmetric):
    model = made(EVERYTHING)
    small = quantize(model, bits, group=16, symmetric=symmetric)
    before, after = dict(model.named_parameters()), dict(small.model.named_parameters())
    assert {"layers.1.mlp.up", "layers.6.mixer.proj.weight", "embedding.weight", "head.weight"} <= set(small.packed)
    assert not any("router" in name or "taps" in name or "norm" in name or "bias" in name for name in small.bits)
    for name, weight in before.items():
        if name not in small.packed:
            assert torch.equal(weight, after[name]), name
            continue
        packed, width = small.packed[name], 8 if name in ("embedding.weight", "head.weight") else bits
        step = packed.scales.float().abs().repeat_interleave(16, 1)[:, : weight.shape[-1]].view(weight.shape)
        far = (after[name] - weight).abs()
        assert packed.bits == width and bool(
            (far <= step * (0.51 if not symmetric else 1.01) + 0.02 * step * (1 << width)).all()
        ), name
    assert torch.equal(model.state_dict()["layers.0.mlp.up.weight"], before["layers.0.mlp.up.weight"])


def test_more_bits_are_nearer():
    model, given_tokens = made(EVERYTHING).requires_grad_(False), tokens(2, 17)
    exact = model(given_tokens)
    far = [float((quantize(model, bits).model(given_tokens) - exact).square().mean()) for bits in (2, 3, 4, 8, 16, 32)]
    assert far == sorted(far, reverse=True) and far[-1] == 0 < far[-2]


@pytest.mark.parametrize("bits", [2, 3, 4, 8, {"mlp": 3, "layers.1": 4, "default": 8, "embedding": 16}])
@pytest.mark.parametrize("symmetric", [False, True])
def test_sizes_are_computed_and_are_those_of_the_file(bits, symmetric):
    from safetensors.torch import save

    model = made(EVERYTHING)
    small = quantize(model, bits, group=24, symmetric=symmetric)
    content = save(small.state())
    head = 8 + int.from_bytes(content[:8], "little")
    assert small.nbytes == len(content) - head == stored_bytes(model.spec, 64, bits, 24, symmetric=symmetric)
    assert packed_bytes((10, 33), 3, 32, False) == 124 + 2 * 20 + 8 and packed_bytes((10, 33), 16, 32, False) == 660


def test_a_file_comes_back_as_the_same_weights():
    model = made(EVERYTHING)
    for bits in (2, {"default": 3, "layers.0.mixer": 16, "head": 32}):
        small = quantize(model, bits, group=24, symmetric=bits == 2)
        shapes = {name: tuple(w.shape) for name, w in model.named_parameters()}
        state = unpacked(small.state(), small.about(), shapes)
        there = build(model.spec, 64)
        there.load_state_dict(state)
        assert torch.equal(there(tokens(1, 9)), small.model(tokens(1, 9)))
    broken = {**small.state(), "layers.0.mlp.up.weight.codes": torch.zeros(3, dtype=torch.uint8)}
    with pytest.raises(ModelError, match=r"bytes for layers.0.mlp.up.weight, of shape \(128, 32\) and 3 bits"):
        unpacked(broken, small.about(), shapes)


def test_a_group_of_zeros_and_a_single_column_stay_what_they_are():
    weight = torch.zeros(2, 33)
    weight[1, 32] = -0.75
    model = made(decoder(layer(block("attention", heads=1, head_dim=2), block("dense", ratio=1)), width=33))
    model.requires_grad_(False)
    model.layers[0].mlp.up.weight.data[:2] = weight
    for symmetric in (False, True):
        there = quantize(model, 2, symmetric=symmetric).model.layers[0].mlp.up.weight[:2]
        assert torch.equal(there[0], weight[0]) and abs(float(there[1, 32]) + 0.75) < 0.01


@pytest.fixture(scope="module")
def costs():
    """(bits, method) -> what it costs on held-out text, with its interval."""
    model = learned()
    before = held_out(model, text(), 4096, 32)
    made = {(bits, "rtn"): quantize(model, bits) for bits in (2, 3, 4, 8)}
    made |= {(bits, "gptq"): quantize(model, bits, method="gptq", calibration=text()) for bits in (2, 3)}
    return {key: held_out(one.model, text(), 4096, 32).cost(before) for key, one in made.items()}


def test_fewer_bits_cost_more_and_calibration_gains(costs):
    plain = [costs[bits, "rtn"][0] for bits in (8, 4, 3, 2)]
    assert abs(plain[0]) < 0.001 and plain[1] < plain[2] < plain[3]
    assert costs[2, "gptq"][0] < plain[3] / 2 and costs[3, "gptq"][0] < 0.7 * plain[2], costs
    assert costs[2, "gptq"][2] < costs[2, "rtn"][1]  # intervals apart


def test_error_feedback_has_less_error_on_the_inputs_than_rounding():
    draws = torch.Generator().manual_seed(0)
    mixing = torch.randn(24, 24, generator=draws)
    x = torch.randn(400, 24, generator=draws) @ mixing
    weight = torch.randn(16, 24, generator=draws)
    moments = (x.t() @ x / len(x)).double()

    def rounded(w, _column):
        return w.round()

    there = settle(weight, moments, rounded)
    assert torch.equal(there, there.round())
    plain, fed = ((x @ (weight - w).t()).square().mean() for w in (weight.round(), there))
    assert fed < plain / 2
    nothing = settle(weight, torch.zeros(24, 24, dtype=torch.float64), rounded)
    assert torch.equal(nothing, weight.round())  # what was given nothing is rounded to the nearest


def test_calibration_sees_what_each_matrix_is_given_experts_and_own_blocks_too():
    model = made(EVERYTHING)
    there = matrices(model)
    seen = hessians(model, tokens(40, 33), there)
    assert set(seen) == set(there)
    assert all(bool((moments.diagonal(dim1=-2, dim2=-1) > 0).all()) for moments in seen.values())
    assert seen["layers.1.mlp.up"].shape == (4, 32, 32) and seen["layers.1.mlp.out"].shape == (4, 32, 32)
    hidden = []
    model.layers[0].mlp.out.register_forward_pre_hook(lambda _m, args: hidden.append(args[0]))
    model(tokens(40, 33)[:, :-1])
    x = hidden[0].flatten(0, 1).double()
    assert torch.allclose(seen["layers.0.mlp.out.weight"], x.t() @ x / len(x), rtol=1e-4)
    assert own_blocks.shift is not None  # its module makes the blocks known
    tree = decoder(layer(block("shift", rank=4), block("thin")), width=16)
    small = quantize(made(tree), 3, method="gptq", calibration=tokens())
    assert {"layers.0.mixer.down.weight", "layers.0.mlp.up.weight"} <= set(small.packed) and not small.unseen


@pytest.mark.parametrize("more", [{}, {"tie_layers": 2}, {"long_skips": True}])
def test_passes_that_begin_in_the_middle_see_the_same(more):
    model, text_of = made(decoder(*[layer(block("attention", heads=2), block("dense", ratio=2))] * 4, **more)), tokens()
    last = len(model.layers) - 1
    names = {name: weight for name, weight in matrices(model).items() if name.startswith(f"layers.{last}.")}
    whole, later = hessians(model, text_of, names), Passes(model, text_of)
    before = [id(one) for one in model.layers]
    for index in range(last + 1):
        later.advance(index)
    found, crossed = moments(later, names, last, later)
    assert [id(one) for one in model.layers] == before
    for name in names:
        assert torch.allclose(found[name], whole[name], rtol=1e-5) and torch.allclose(
            crossed[name], whole[name], rtol=1e-5
        )


def test_experts_that_no_token_chose_are_named():
    model = made(decoder(layer(block("skip"), block("moe", experts=3, top_k=1, ratio=1))))
    model.layers[0].mlp.router.weight.data[2] = 0
    model.layers[0].mlp.router.weight.data[:2] = torch.stack([torch.ones(32), -torch.ones(32)]) * 100
    small = quantize(model, 3, method="gptq", calibration=tokens())
    assert small.unseen == ("layers.0.mlp.up", "layers.0.mlp.out")


def test_tied_layers_are_calibrated_on_all_their_uses():
    model = made(decoder(*[layer(block("attention", heads=2), block("dense", ratio=2))] * 4, tie_layers=2))
    given_tokens = tokens()
    assert len(hessians(model, given_tokens, matrices(model))) == 8
    small = quantize(model, 4, method="gptq", calibration=given_tokens)
    assert set(small.packed) >= {"layers.0.mlp.up.weight", "layers.1.mlp.up.weight"}


def test_activations_of_8_bits_change_little_and_are_cached_alike():
    model, given_tokens = made(EVERYTHING).requires_grad_(False), tokens(2, 12)
    plain, rounded = quantize(model, 8), quantize(model, 8, activations=8)
    a, b = plain.model(given_tokens), rounded.model(given_tokens)
    assert 0 < float((a - b).abs().mean()) < 0.05 * float(a.std())  # a few tokens go to other experts
    x = torch.linspace(-1, 1, 64).view(2, 32)
    linear = rounded.model.layers[0].mlp.up
    scale = x.abs().amax(-1, keepdim=True) / 127
    with rounded.model._rounding():
        assert torch.allclose(
            linear(x), torch.nn.functional.linear((x / scale).round() * scale, linear.weight, linear.bias), atol=1e-5
        )
    moved = rounded.model.to(torch.float32).requires_grad_(False)
    assert torch.equal(moved(given_tokens), b)


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (5, r"bits=5\): weights can have 2, 3, 4, 8, 16 or 32 bits"),
        (True, r"bits=True\)"),
        ({"mlp": 1}, r"bits\['mlp'\]=1\)"),
        ({"layers.7": 4}, r"names 'layers.7'.*there are default, mixer, mlp, embedding, layers.0, layers.1, layers.0.mixer"),
        ({"embeding": 4}, r"did you mean 'embedding'"),
        ({"layers.1.mlpp": 4}, r"did you mean 'layers.1.mlp'"),
    ],
)  # fmt: skip
def test_what_bits_cannot_be_is_refused(bits, said):
    with pytest.raises(CompressError, match=said):
        quantize(made(PLAIN), bits)


def test_the_narrowest_name_counts():
    small = quantize(made(PLAIN), {"default": 4, "mlp": 3, "layers.1": 8, "layers.1.mlp.up.weight": 2, "embedding": 4})
    assert {name: bits for name, bits in small.bits.items() if "mlp" in name or "emb" in name} == {
        "layers.0.mlp.up.weight": 3,
        "layers.0.mlp.out.weight": 3,
        "layers.1.mlp.up.weight": 2,
        "layers.1.mlp.out.weight": 8,
        "embedding.weight": 4,
    }
    assert quantize(made(PLAIN), {"mlp": 3}).bits["layers.0.mixer.qkv.weight"] == 16


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        (None, "no calibration was given"),
        (tokens(3, 9), "24 tokens, too few"),
        (replace(text(), train=text().train[:700]), "700 tokens, too few"),
        (tokens().float(), "must be integers"),
        (tokens() + 60, "token ids from 60 to 123 and the model has 64"),
    ],
)
def test_what_cannot_calibrate_is_refused(calibration, said):
    with pytest.raises(CompressError, match=said):
        quantize(made(PLAIN), 4, method="gptq", calibration=calibration)
    assert windows(made(PLAIN), text(), "x").shape == (128, 129)


def test_a_model_whose_training_failed_is_refused():
    model = made(PLAIN)
    model.layers[1].mlp.out.weight.data[0, 0] = torch.nan
    with pytest.raises(CompressError, match="layers.1.mlp.out.weight has weights that are not finite"):
        quantize(model, 4)


def test_only_models_of_few_layers_are_corrected_towards_the_trained_model(monkeypatch):
    asked, before = [], quantization._target
    monkeypatch.setattr(quantization, "_target", lambda *given: asked.append(given[0]) or before(*given))
    for layers, corrected in ((6, True), (7, False)):
        asked.clear()
        model = made(decoder(*[layer(ATTENTION, SKIP)] * layers))
        quantize(model, 4, method="gptq", calibration=tokens())
        assert len(asked) == (len(matrices(model)) if corrected else 0)
