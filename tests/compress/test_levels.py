"""A trained model at mixtures of bits: each matrix once for each width."""

from __future__ import annotations

import pytest
import torch

from nas_bo.compress import held_out, quantize
from nas_bo.compress import levels as levels_module
from nas_bo.compress.calibration import hessians, matrices, windows
from nas_bo.compress.levels import Levels
from nas_bo.compress.quantization import _target, nearest
from nas_bo.compress.stacked_feedback import Inputs, Job, settled_together
from nas_bo.errors import CompressError
from tests.compress.models import EVERYTHING, learned, made, text, tokens


def test_a_mixture_is_put_together_from_what_was_made_once():
    model = made(EVERYTHING)
    levels = Levels(model, tokens())
    three, two = levels.at(3), levels.at(2)
    kept = dict(levels._made)
    mixed = levels.at({"layers.0": 2, "layers.1.mixer": 3, "default": 3})
    assert all(weight is kept[key] for key, weight in levels._made.items() if key in kept) and len(levels._made) == len(
        kept
    )
    for name, weight in mixed.named_parameters():
        want = two if name.startswith("layers.0.") else three
        assert torch.equal(weight, want.get_parameter(name)), name
    assert torch.equal(levels.at(32)(tokens(1, 9)), model(tokens(1, 9)))
    for bits in (8, 16):
        assert torch.equal(levels.at(bits)(tokens(1, 9)), quantize(model, bits).model(tokens(1, 9))), bits
    draft = levels.at(2)
    levels.put(draft, {"layers.0": 2, "layers.1.mixer": 3, "default": 3})
    assert all(torch.equal(weight, mixed.get_parameter(name)) for name, weight in draft.named_parameters())
    with torch.no_grad():
        mixed.layers[0].mlp.up.weight.zero_()  # a copy of its own
    assert torch.equal(levels.at(2).layers[0].mlp.up.weight, two.layers[0].mlp.up.weight)
    with pytest.raises(CompressError, match="layers.9"):
        levels.at({"layers.9": 2, "default": 3})


def test_calibrated_levels_cost_less_than_rounding():
    model = learned()
    before = held_out(model, text(), 4096, 32)
    cost = {
        "levels": held_out(Levels(model, text()).at(2), text(), 4096, 32).cost(before)[0],
        "rounded": held_out(quantize(model, 2).model, text(), 4096, 32).cost(before)[0],
    }
    assert 0 < cost["levels"] < 0.7 * cost["rounded"]


def worse(weight, made, hessian):
    """The error of what a matrix gives, as a share of what it gives."""
    apart = (made - weight).double()
    return float((apart @ hessian * apart).sum() / (weight.double() @ hessian * weight.double()).sum())


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_matrices_settled_together_are_as_good_as_one_by_one_and_a_second_round_gains_a_little(bits):
    """Of all shapes, in one call."""
    model = learned()
    there = {name: weight.detach() for name, weight in matrices(model).items()}
    seen = hessians(model, windows(model, text(), "test"), matrices(model))
    jobs = [Job(weight, Inputs.of(seen[name], 4096), bits) for name, weight in there.items()]
    once, twice = settled_together(jobs, 32), settled_together(jobs, 32, 2)
    errors = []
    for place, (name, weight) in enumerate(there.items()):
        alone = settled_together([jobs[place]], 32)[0]
        made = [one.weight(32) for one in (once[place], alone, twice[place])]
        assert made[0].shape == weight.shape
        errors.append([worse(weight, one, seen[name]) for one in (*made, nearest(weight, bits))])
    together, alone, second, plain = torch.tensor(errors).mean(0).tolist()
    assert together == pytest.approx(alone, rel=0.01) and second < together < 1.15 * second and together < 0.5 * plain


def test_several_widths_of_columns_that_are_no_multiple_of_the_group():
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 45, generator=draw) * torch.linspace(0.2, 2, 45)
    inputs[:, 7] = 0  # of a column that is given nothing
    seen = (inputs.t() @ inputs).double() / 500
    weights = [torch.randn(rows, 45, generator=draw) for rows in (5, 40, 12)]
    made = settled_together(
        [Job(w, Inputs.of(seen, 4096), bits) for w, bits in zip(weights, (2, 4, 3), strict=True)], 32
    )
    for weight, settled, bits in zip(weights, made, (2, 4, 3), strict=True):
        one = settled.weight(32)
        assert all(len(part.unique()) <= 2**bits for row in one for part in row.split(32))
        assert worse(weight, one, seen) < worse(weight, nearest(weight, bits), seen)
    assert Inputs.of(torch.zeros(4, 4, dtype=torch.float64), 4096) is None


def test_of_a_small_model_all_matrices_are_made_at_once_of_a_large_one_those_that_are_asked_for(monkeypatch):
    model = made(EVERYTHING)
    calls = []
    real = levels_module.settled_together
    monkeypatch.setattr(
        levels_module, "settled_together", lambda jobs, group: calls.append(len(jobs)) or real(jobs, group)
    )
    small = Levels(model, tokens())
    first = small.weight("layers.0.mlp.up.weight", 3)
    small.at(3)
    assert len(calls) == 1
    monkeypatch.setattr(levels_module, "MOST_NUMBERS", 0)
    large = Levels(model, tokens())
    again = large.weight("layers.0.mlp.up.weight", 3)
    assert (
        calls[1:] == [1]
        and worse(model.get_parameter("layers.0.mlp.up.weight").detach(), again, torch.eye(32).double()) > 0
    )
    assert (first != again).float().mean() < 0.02
    large.at({"layers.0": 3, "default": 8})
    assert calls[2] <= 3


def test_experts_that_the_text_never_reached_are_rounded_to_the_nearest():
    model = made(EVERYTHING)
    router = model.layers[4].mlp.router.weight  # one of three
    with torch.no_grad():
        router[1], router[2] = -router[0], 0  # the third is never the largest
    levels = Levels(model, tokens())
    name = next(key for key in matrices(model) if key.startswith("layers.4.mlp.up"))
    weight = model.get_parameter(name).detach()
    found = levels.weight(name, 2)
    assert found.shape == weight.shape
    assert [torch.equal(one, nearest(each, 2)) for one, each in zip(found, weight, strict=True)] == [False, False, True]


def test_zeros_stay_where_it_is_asked_for():
    model = made(EVERYTHING)
    with torch.no_grad():
        model.layers[0].mlp.up.weight[:, ::2] = 0
    at = Levels(model, tokens()).at(2, plain=["layers.0."])
    assert bool((at.layers[0].mlp.up.weight[:, ::2] == 0).all())
    assert not torch.equal(at.layers[1].mlp.up, quantize(model, 2).model.layers[1].mlp.up)


@pytest.mark.parametrize("each", [1.2, 2, 8, 64])
def test_a_correction_from_few_tokens_holds_for_other_tokens(each):
    """With a ridge of a hundredth, what few tokens say by chance made it worse than no correction at all."""
    draw = torch.Generator().manual_seed(0)
    columns = 96
    count = int(each * columns)
    mix = torch.randn(columns, columns, generator=draw) / columns**0.5
    exact = torch.randn(2 * count + 2000, columns, generator=draw) @ mix
    given = exact + 0.5 * torch.randn(exact.shape, generator=draw) @ mix
    weight = torch.randn(32, columns, generator=draw)
    y, x = exact[:count], given[:count]
    made = _target(weight, (x.t() @ x).double() / count, (y.t() @ x).double() / count, count)
    far = [float((exact[count:] @ weight.t() - given[count:] @ one.t()).square().mean()) for one in (made, weight)]
    assert far[0] < far[1]
