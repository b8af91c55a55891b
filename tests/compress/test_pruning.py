"""Smaller models with a part of the weights: every kind of block, exact where nothing is lost, and scores that find what matters."""

from __future__ import annotations

import pytest
import torch

from nas_bo.compress import held_out, importances, prune
from nas_bo.compress.importance import METHODS
from nas_bo.compress.ridges import without_columns
from nas_bo.errors import CompressError
from nas_bo.model import build
from nas_bo.model.blocks.table import block_of
from nas_bo.model.counts import parameters
from nas_bo.model.spec import check
from tests.compress.models import ATTENTION, DENSE, EVERYTHING, MOE, PLAIN, arch, learned, made, text, tokens
from tests.model.architectures import CONV, SKIP, block, decoder, layer


@pytest.mark.parametrize("method", [*METHODS, "random"])
def test_every_block_that_has_units_loses_them_and_the_rest_stays(method):
    model = made(EVERYTHING)
    small = prune(model, channels=0.5, heads=0.5, experts=0.5, method=method, calibration=tokens(), repair=False)
    units = {where: {unit: len(kept) for unit, kept in there.items()} for where, there in small.kept.items()}
    assert units == {
        "layers.0.mlp": {"channels": 32},
        "layers.2.mlp": {"channels": 24},
        "layers.5.mlp": {"channels": 32},
        "layers.6.mlp": {"channels": 32},
        "layers.0.mixer": {"heads": 1},
        "layers.1.mixer": {"heads": 1},
        "layers.2.mixer": {"heads": 1},
        "layers.3.mixer": {"heads": 2},
        "layers.4.mixer": {"heads": 2},
        "layers.5.mixer": {"heads": 2},
        "layers.1.mlp": {"experts": 2},
        "layers.4.mlp": {"experts": 2},
    }  # fmt: skip
    assert check(small.architecture(EVERYTHING)) == small.model.spec
    assert small.parameters == parameters(small.architecture(EVERYTHING), 64) < parameters(EVERYTHING, 64)
    assert torch.isfinite(small.model(tokens(2, 12))).all()
    old, new = dict(model.named_parameters()), dict(small.model.named_parameters())
    assert torch.equal(old["layers.6.mixer.taps"], new["layers.6.mixer.taps"])
    kept = torch.tensor(small.kept["layers.0.mlp"]["channels"])
    gate, up = old["layers.0.mlp.up.weight"].chunk(2)
    assert torch.equal(new["layers.0.mlp.up.weight"], torch.cat((gate[kept], up[kept])))
    assert torch.equal(new["layers.0.mlp.out.weight"], old["layers.0.mlp.out.weight"][:, kept])
    (group,) = small.kept["layers.0.mixer"]["heads"]
    q, k, v = old["layers.0.mixer.qkv.weight"].split((32, 16, 16))
    both = torch.cat((q[16 * group : 16 * group + 16], k[8 * group : 8 * group + 8], v[8 * group : 8 * group + 8]))
    assert torch.equal(new["layers.0.mixer.qkv.weight"], both)


@pytest.mark.parametrize("repair", [False, True])
def test_units_that_give_nothing_go_without_a_difference(repair):
    """Whatever is chosen: of each block with units half are made to give 0, and the others are what stays."""
    model, given_tokens = made(EVERYTHING), tokens(40)
    with torch.no_grad():
        for where in ("layers.0.mlp", "layers.2.mlp", "layers.0.mixer", "layers.2.mixer", "layers.4.mixer"):
            index, part = where.split(".")[1:]
            spec = getattr(model.spec.layers[int(index)], part)
            (count,) = block_of(spec).units(spec, model.spec.frame).values()
            out = model.get_submodule(where).out.weight
            out.view(len(out), count, -1)[:, ::2] = 0
    small = prune(model, channels={"layers.0": 0.5, "layers.2": 0.5}, heads={"layers.0": 0.5, "layers.2.mixer": 0.5, "layers.4": 0.5}, calibration=given_tokens, repair=repair)  # fmt: skip
    assert all(index % 2 for there in small.kept.values() for kept in there.values() for index in kept)
    with torch.no_grad():
        exact, after = model(given_tokens[:2, :-1]), small.model(given_tokens[:2, :-1])
    assert float((exact - after).abs().max()) < 1e-4 * float(exact.std())


def test_experts_that_no_token_goes_to_go_without_a_difference():
    model = made(decoder(layer(ATTENTION, MOE)))
    router = model.layers[0].mlp.router.weight.data
    router[1] = router[0] + 1e-3 * torch.randn(32, generator=torch.Generator().manual_seed(0))
    router[2:] = 0
    given_tokens = tokens()
    probabilities = importances(model, given_tokens, units=("experts",))["layers.0.mlp", "experts"]
    assert (probabilities.scores >= 0).all()
    small = prune(model, experts=0.25, calibration=given_tokens)
    assert len(small.kept["layers.0.mlp"]["experts"]) == 3 and small.model.spec.layers[0].mlp.experts == 3
    one = prune(model, experts=0.75, calibration=given_tokens).model.spec.layers[0].mlp
    assert one.experts == one.top_k == 1 and one.renormalise is True  # its weight stays that of two


def test_layers_of_least_influence_go():
    model = made(decoder(*[layer(ATTENTION, DENSE)] * 4))
    with torch.no_grad():
        for out in (model.layers[2].mixer.out, model.layers[2].mlp.out):
            out.weight.zero_()
    small = prune(model, layers=0.25, calibration=tokens())
    assert small.kept == {"layers": {"layers": [0, 1, 3]}}
    assert torch.allclose(small.model(tokens(2, 9)), model(tokens(2, 9)), atol=1e-6)
    assert len(small.architecture(arch(decoder(*[layer(ATTENTION, DENSE)] * 4))).layers) == 3


def test_the_short_form_and_tied_layers_are_architectures_too():
    short = decoder(width=32)
    tree = type(short)({"width": 32, "depth": 4, "mixer": ATTENTION, "mlp": DENSE, "tie_layers": 2})
    model = made(tree)
    small = prune(model, channels={"layers.1": 0.5}, calibration=tokens())
    after = small.architecture(tree)
    assert [one.mlp.ratio for one in after.layers] == [2, 2, 1, 1] and check(after) == small.model.spec
    assert torch.isfinite(small.model(tokens(1, 9))).all()
    assert after.flat["layers.2.mlp"] == "dense" and after.flat["layers.2.mlp.dense.ratio"] == 1


@pytest.fixture(scope="module")
def pruned():
    """Cost on held-out text of half of the channels, by method and repair."""
    model = learned()
    before = held_out(model, text(), 4096, 32)
    return {
        (method, repair): held_out(prune(model, channels=0.5, method=method, calibration=text(), repair=repair).model, text(), 4096, 32).cost(before)[0]
        for method in (*METHODS, "random")
        for repair in (False, True)
    }  # fmt: skip


def test_scores_are_better_than_chance_and_repair_gains(pruned):
    for method in METHODS:
        assert pruned[method, False] < pruned["random", False], pruned
    for method in (*METHODS, "random"):
        assert pruned[method, True] < pruned[method, False], pruned


def test_every_score_has_a_spread_over_batches():
    model = made(EVERYTHING)
    for method in METHODS:
        found = importances(model, tokens(70), method)
        assert {unit for _, unit in found} == {"channels", "heads", "experts", "layers", "width"}
        for one in found.values():
            assert one.batches == 3 and one.scores.shape == one.spread.shape and bool(torch.isfinite(one.scores).all())
        assert found["width", "width"].scores.shape == (32,) and found["layers", "layers"].scores.shape == (7,)
        assert method == "weight" or float(found["layers.0.mlp", "channels"].spread.max()) > 0
    without = importances(model, None, "weight")
    assert ("layers", "layers") not in without and ("layers.1.mlp", "experts") in without


@pytest.mark.parametrize(
    ("tree", "how", "said"),
    [
        (PLAIN, {"channels": 1.0}, r"channels=1.0\): channels must be a number of at least 0 and below 1"),
        (PLAIN, {"channels": {"layers.0": -1}}, r"must be a number"),
        (PLAIN, {"channels": 0.0}, "nothing is removed"),
        (PLAIN, {"channels": 0.001}, "nothing is removed"),
        (PLAIN, {"channels": {"layers.9": 0.5}}, r"'layers.9' \(did you mean 'layers.[01]'\?\).*no such layer"),
        (PLAIN, {"experts": 0.5}, r"the model has no experts.*'attention', 'dense'"),
        (decoder(layer(CONV, DENSE)), {"heads": {"layers.0": 0.5}}, r"layers.0 has no heads.*'conv', 'dense'"),
        (decoder(layer(block("mean"), SKIP)), {"heads": 0.5}, r"the model has no heads.*'mean'"),
        (PLAIN, {"layers": 0.9}, r"layers=0.9\) removes all 2 layers"),
        (PLAIN, {"channels": 0.5, "method": "wnada"}, "method must be"),
        (decoder(layer(ATTENTION, DENSE), layer(block("attention", heads=4, kv_group=2, head_dim=8, share_kv=True), DENSE)), {"heads": 0.5}, "share_kv"),
        (decoder(*[layer(ATTENTION, DENSE)] * 4, long_skips=True), {"layers": 0.5}, "connected to others"),
    ],
)  # fmt: skip
def test_what_cannot_be_pruned_is_refused(tree, how, said):
    from tests.conformance import own_blocks

    assert own_blocks.mean is not None
    with pytest.raises(CompressError, match=said):
        prune(made(tree), calibration=tokens(), **how)


def test_text_is_asked_for_where_it_is_needed():
    with pytest.raises(CompressError, match="no calibration was given"):
        prune(made(PLAIN), channels=0.5)
    assert prune(made(PLAIN), channels=0.5, method="weight", repair=False).parameters < parameters(PLAIN, 64)


def test_a_pruned_model_can_be_built_again_and_trained():
    from nas_bo.model import train

    small = prune(learned(), channels=0.5, heads=0.5, calibration=text())
    there = build(small.architecture(PLAIN), 64)
    there.load_state_dict(small.model.state_dict())
    assert torch.equal(there(tokens(1, 9)), small.model(tokens(1, 9)))
    before = held_out(small.model, text(), 4096, 32)
    again = train(small.model, text(), 16_384, lr=2e-3, batch_size=16, sequence=32, threads=1, evaluation_tokens=1024)
    assert held_out(again.model, text(), 4096, 32).cost(before)[2] < 0


def test_the_score_of_weights_does_not_see_a_rescaling_within_a_unit():
    model, other = made(EVERYTHING), made(EVERYTHING)
    before = importances(model, None, "weight")
    with torch.no_grad():
        for scale, at in ((8.0, 0), (0.25, 3)):
            other.layers[0].mlp.up.weight[[at, 64 + at]] *= scale
            other.layers[0].mlp.out.weight[:, at] /= scale
    after = importances(other, None, "weight")
    assert torch.allclose(
        before["layers.0.mlp", "channels"].scores, after["layers.0.mlp", "channels"].scores, rtol=1e-4
    )
    assert all(bool((one.scores > 0).all()) for one in before.values())


@pytest.mark.parametrize("rank", [8, 96])
def test_a_correction_says_no_more_than_its_tokens(rank):
    draws = torch.Generator().manual_seed(0)
    columns, count, kept = 96, 128, torch.arange(48)
    mixed = (
        torch.randn(rank, columns, generator=draws, dtype=torch.float64) if rank < columns else torch.eye(96).double()
    )
    halves = [torch.randn(count // 2, rank, generator=draws, dtype=torch.float64) @ mixed for _ in range(2)]
    weight = torch.randn(32, columns, generator=draws)
    made = without_columns(weight, [x.t() @ x / len(x) for x in halves], count, kept)

    def missing(part):
        rest = weight.double().clone()
        rest[:, kept] -= part.double()
        return float((rest @ mixed.t()).square().sum())  # on all text there is

    alone = missing(weight[:, kept])
    if rank < columns:  # what stays tells what went
        assert missing(made) < 0.05 * alone
    else:  # it tells nothing, and a fit to so few tokens would say that it does
        assert missing(made) <= 1.02 * alone
