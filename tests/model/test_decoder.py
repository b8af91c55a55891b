"""The decoder: cached equals uncached, no token sees the future, initialisation, learning-rate groups."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_bo.architecture import Node
from nas_bo.errors import ModelError
from nas_bo.model import Decoder, build
from tests.model.architectures import (
    ATTENTION,
    CONV,
    DENSE,
    GATED,
    LINEAR,
    MIXERS,
    MOE,
    SKIP,
    architectures,
    block,
    decoder,
    layer,
)

VOCAB = 19


def made(arch: Node, seed: int = 0, dtype: torch.dtype = torch.float32) -> Decoder:
    model = build(arch, VOCAB, generator=torch.Generator().manual_seed(seed)).to(dtype).eval()
    return model


def some_tokens(batch: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def decoded(model: Decoder, tokens: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    cache = model.new_cache(tokens.shape[0], tokens.shape[1])
    return torch.cat([model(part, cache=cache) for part in tokens.split(sizes, 1)], 1)


@settings(max_examples=20, deadline=None)
@given(architectures(), st.integers(2, 140), st.data())
def test_cache_and_causality_hold_for_every_architecture(arch: Node, length: int, data: st.DataObject) -> None:
    model, tokens = made(arch, dtype=torch.float64), some_tokens(2, length)
    with torch.no_grad():
        whole = model(tokens)
    cut = data.draw(st.integers(1, length - 1))
    torch.testing.assert_close(decoded(model, tokens, [cut, length - cut]), whole)
    changed = tokens.clone()
    changed[:, cut] = (changed[:, cut] + 1) % VOCAB
    with torch.no_grad():
        other = model(changed)
    torch.testing.assert_close(other[:, :cut], whole[:, :cut])
    assert not torch.equal(other[:, cut], whole[:, cut])


@pytest.mark.parametrize("name", ["attention", "linear_attention", "conv", "long_conv", "window"])
def test_mixers_use_the_past(name: str) -> None:
    model, tokens = made(decoder(layer(MIXERS[name], DENSE))), some_tokens(1, 12)
    changed = tokens.clone()
    changed[0, 9] = (changed[0, 9] + 1) % VOCAB
    with torch.no_grad():
        assert not torch.allclose(model(tokens)[0, 11], model(changed)[0, 11])


@pytest.mark.parametrize(
    ("mixer", "reach"), [(block("attention", heads=2, window=5), 5), (CONV, 4), (MIXERS["long_conv"], 11)]
)
def test_a_window_ends_where_it_says(mixer: Node, reach: int) -> None:
    model, tokens = made(decoder(layer(mixer, DENSE))), some_tokens(1, 30)
    changed = tokens.clone()
    changed[0, 10] = (changed[0, 10] + 1) % VOCAB
    with torch.no_grad():
        differs = (model(tokens) - model(changed)).abs().amax(-1)[0] > 1e-7
    assert differs.nonzero().flatten().tolist() == list(range(10, 10 + reach))


def test_positions_matter_only_when_rotary() -> None:
    # Without positions one attention layer sees a set: swapping two past tokens changes nothing at the last one.
    for position, matters in (("rotary", True), ("none", False)):
        model = made(decoder(layer(ATTENTION, SKIP), position=position), dtype=torch.float64)
        with torch.no_grad():
            one = model(torch.tensor([[1, 2, 3]]))[0, -1]
            two = model(torch.tensor([[2, 1, 3]]))[0, -1]
        assert torch.allclose(one, two) is not matters


def test_rotary_beyond_the_table_goes_on() -> None:
    model = made(decoder(layer(ATTENTION, SKIP), width=8), dtype=torch.float64)
    tokens = some_tokens(1, 1030)
    with torch.no_grad():
        whole = model(tokens)
        torch.testing.assert_close(model(tokens[:, :1020]), whole[:, :1020])
    torch.testing.assert_close(decoded(model, tokens, [1020, 10]), whole, rtol=1e-4, atol=1e-5)


def test_grouped_heads_equal_repeated_heads() -> None:
    grouped = made(decoder(layer(block("attention", heads=4, kv_group=2), SKIP)))
    full = made(decoder(layer(block("attention", heads=4), SKIP)))
    weights = grouped.state_dict()
    q, k, v = weights["layers.0.mixer.qkv.weight"].split((32, 16, 16))
    wide = [part.view(2, 1, 8, 32).expand(2, 2, 8, 32).reshape(32, 32) for part in (k, v)]
    full.load_state_dict({**weights, "layers.0.mixer.qkv.weight": torch.cat((q, *wide))})
    tokens = some_tokens(2, 9)
    torch.testing.assert_close(full(tokens), grouped(tokens))


def test_linear_attention_is_the_recurrence() -> None:
    """Against the recurrence of the paper written out token by token, over more than one chunk."""
    from nas_bo.model import blocks

    g = torch.Generator().manual_seed(3)
    q, k, v = torch.randn(3, 1, 2, 130, 4, generator=g, dtype=torch.float64)
    decay = -torch.rand(1, 2, 130, generator=g, dtype=torch.float64)
    state = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    expected = []
    for t in range(130):
        state = state * decay[:, :, t, None, None].exp() + k[:, :, t, :, None] * v[:, :, t, None, :]
        expected.append((q[:, :, t, None] @ state).squeeze(2))
    first, carried = blocks.scan(q[:, :, :64], k[:, :, :64], v[:, :, :64], decay[:, :, :64], None, True)
    second, last = blocks.scan(q[:, :, 64:], k[:, :, 64:], v[:, :, 64:], decay[:, :, 64:], carried, True)
    torch.testing.assert_close(torch.cat((first, second), 2), torch.stack(expected, 2))
    torch.testing.assert_close(last, state)


def test_mixture_is_the_sum_of_its_experts() -> None:
    model = made(decoder(layer(SKIP, MOE), bias=True), dtype=torch.float64)
    mixture = model.layers[0].mlp
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, balance = mixture(x)
    probabilities = mixture.router(x).softmax(-1)
    for b in range(2):
        for t in range(5):
            best = probabilities[b, t].argsort(descending=True)[:2]
            weights = probabilities[b, t, best] / probabilities[b, t, best].sum()
            expected = 0
            for weight, e in zip(weights, best, strict=True):
                gate, up = (mixture.up[e] @ x[b, t] + mixture.up_bias[e]).chunk(2)
                expected = expected + weight * (mixture.out[e] @ (gate.relu() ** 2 * up) + mixture.out_bias[e])
            torch.testing.assert_close(y[b, t], expected, rtol=1e-5, atol=1e-6)
    chosen = torch.nn.functional.one_hot(probabilities.topk(2, -1).indices, 4).sum((0, 1, 2)) / 20
    torch.testing.assert_close(balance.double(), 4 * (chosen * probabilities.mean((0, 1))).sum(), rtol=1e-5, atol=1e-6)


def test_loss_adds_the_balance_and_trains_every_parameter() -> None:
    arch = decoder(layer(ATTENTION, MOE), layer(LINEAR, GATED), layer(CONV, MOE), tied=False, bias=True, norm="layer")
    model = made(arch)
    tokens = some_tokens(4, 65)
    loss, nll = model.loss(tokens[:, :-1], tokens[:, 1:])
    assert 0.019 < (loss - nll).item() < 0.05  # two mixtures, each 0.01 or a little more
    expected = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(nll, expected)
    loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_skips_have_no_weights_and_pass_through() -> None:
    model = made(decoder(layer(SKIP, SKIP)))
    assert [name for name, _ in model.named_parameters()] == ["embedding.weight", "norm.weight"]
    assert made(decoder()).layers._modules == {}


def test_initialisation_gives_a_loss_near_guessing_at_every_size() -> None:
    for width in (16, 64, 256):
        for depth in (1, 12):
            model = build(Node({"width": width, "depth": depth, "mixer": ATTENTION, "mlp": GATED}), 256)
            tokens = some_tokens(4, 33)
            with torch.no_grad():
                _, nll = model.loss(tokens[:, :-1], tokens[:, 1:])
            assert abs(float(nll) - math.log(256)) < 1.6, (width, depth)


def test_initialisation_depends_on_its_generator_only() -> None:
    arch = decoder(layer(LINEAR, MOE), layer(CONV, DENSE))
    one, two, other = made(arch, 5).state_dict(), made(arch, 5).state_dict(), made(arch, 6).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["embedding.weight"], other["embedding.weight"])


def test_learning_rates_follow_fan_in() -> None:
    arch = decoder(layer(ATTENTION, DENSE), layer(LINEAR, MOE), layer(CONV, SKIP), bias=True, tied=False)
    model = made(arch)
    names = {id(weight): name for name, weight in model.named_parameters()}
    rates = {names[id(w)]: (g["lr"], g["weight_decay"]) for g in model.parameter_groups(1e-3, 0.1) for w in g["params"]}
    assert len(rates) == len(names)
    assert rates["layers.0.mixer.qkv.weight"] == (1e-3 * 128 / 32, 0.1)
    assert rates["layers.0.mlp.out.weight"] == (1e-3 * 128 / 64, 0.1)
    assert rates["layers.1.mlp.up"] == (1e-3 * 128 / 32, 0.1)
    assert rates["head.weight"] == (1e-3 * 128 / 32, 0.1)
    for name in (
        "embedding.weight",
        "norm.weight",
        "layers.2.mixer.taps",
        "layers.1.mlp.up_bias",
        "layers.0.mlp.up.bias",
    ):
        assert rates[name][1] == 0.0, name


def test_the_rate_of_the_embedding_may_follow_the_width() -> None:
    model = made(decoder(layer(ATTENTION, DENSE), layer(CONV, SKIP)))
    width = model.embedding.weight.shape[1]

    def rates(power: float) -> dict[str, float]:
        groups = model.parameter_groups(1e-3, 0.1, power)
        at = {id(w): g["lr"] for g in groups for w in g["params"]}
        return {name: at[id(weight)] for name, weight in model.named_parameters()}

    plain, scaled = rates(0.0), rates(1.0)
    assert plain["embedding.weight"] == 2e-3 and scaled["embedding.weight"] == 2e-3 * 128 / width
    assert {k: v for k, v in plain.items() if k != "embedding.weight"} == {
        k: v for k, v in scaled.items() if k != "embedding.weight"
    }


def test_the_module_is_plain() -> None:
    model = made(decoder(layer(ATTENTION, DENSE), layer(CONV, MOE)))
    tokens = some_tokens(1, 8)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    logits = model(tokens)
    assert not any("rotary" in name for name in before)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    torch.testing.assert_close(model(tokens), logits, rtol=0, atol=0)
    other = made(decoder(layer(ATTENTION, DENSE), layer(CONV, MOE)), seed=9)
    other.load_state_dict(before)
    torch.testing.assert_close(other(tokens), logits, rtol=0, atol=0)
    torch.testing.assert_close(pickle.loads(pickle.dumps(model))(tokens), logits, rtol=0, atol=0)


def test_dtype_and_bf16() -> None:
    model = build(decoder(*(layer(MIXERS[name], MOE) for name in MIXERS)), VOCAB, dtype=torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    tokens = some_tokens(2, 70)
    assert model(tokens).dtype == torch.bfloat16
    assert decoded(model, tokens, [60, 1, 9]).isfinite().all()


def test_caches_refuse_what_does_not_fit() -> None:
    model = made(decoder(layer(ATTENTION, DENSE)))
    cache = model.new_cache(2, 4)
    with pytest.raises(ModelError, match="batch of 2, the tokens have 1"):
        model(some_tokens(1, 2), cache=cache)
    with torch.no_grad():
        model(some_tokens(2, 3), cache=cache)
    with pytest.raises(ModelError, match="holds 3 of at most 4 tokens and 2 more"):
        model(some_tokens(2, 2), cache=cache)


def test_vocab_size_is_checked() -> None:
    with pytest.raises(ModelError, match="vocab_size=0"):
        build(decoder(), 0)
