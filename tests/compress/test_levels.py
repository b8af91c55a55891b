"""A trained model at mixtures of bits: each matrix once for each width."""

from __future__ import annotations

import pytest
import torch

from nas_bo.compress import held_out, quantize
from nas_bo.compress.levels import Levels
from nas_bo.compress.quantization import _target
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
