"""Zeros in matrices that keep their size."""

from __future__ import annotations

import pytest
import torch

from nas_bo.compress import held_out, sparsify, worth
from nas_bo.compress.calibration import matrices
from nas_bo.errors import CompressError
from tests.compress.models import EVERYTHING, PLAIN, learned, made, text, tokens
from tests.model.architectures import DENSE, SKIP, decoder, layer

METHODS = ("wanda", "sparsegpt", "weight")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sparsity", [0.5, 0.25, "2:4"])
def test_every_matrix_has_its_zeros(method, sparsity):
    model = made(EVERYTHING)
    small = sparsify(model, sparsity, method, tokens())
    share = 0.5 if sparsity == "2:4" else sparsity
    for name, weight in matrices(small.model).items():
        zero = weight == 0
        if name == "head.weight":
            assert not zero.any()
            continue
        if sparsity == "2:4":
            assert bool((zero.reshape(-1, 4).sum(1) == 2).all()), name
        elif method != "sparsegpt":
            assert bool((zero.sum(-1) == round(share * weight.shape[-1])).all()), name
        assert abs(float(zero.float().mean()) - share) < 0.05, name
    assert small.zeros / small.weights == pytest.approx(share, abs=0.02)
    assert not any(bool((weight == 0).any()) for weight in matrices(model).values())  # the model that was given


def test_what_looks_at_the_inputs_costs_less():
    model = learned()
    before = held_out(model, text(), 4096, 32)
    cost = {m: held_out(sparsify(model, 0.5, m, text()).model, text(), 4096, 32).cost(before)[0] for m in METHODS}
    assert cost["sparsegpt"] < cost["weight"] and cost["wanda"] < cost["weight"], cost
    pattern = held_out(sparsify(model, "2:4", "sparsegpt", text()).model, text(), 4096, 32).cost(before)[0]
    assert pattern > cost["sparsegpt"]


def test_what_zeros_are_worth_is_said():
    assert "no time on a CPU" in worth(0.5) and "no time on a CPU" in worth("2:4")
    assert "Ampere" in worth("2:4", "cuda:0") and "no time on a GPU" in worth(0.5, "cuda")
    assert sparsify(made(PLAIN), 0.5, "weight").worth() == worth(0.5)


@pytest.mark.parametrize(
    ("sparsity", "method", "said"),
    [
        (1.0, "wanda", r'between 0 and 1, both excluded; it is a share of the weights, or "2:4"'),
        ("4:8", "wanda", 'or "2:4"'),
        (0.5, "magic", "method must be"),
        (0.5, "wanda", "no calibration was given"),
    ],
)
def test_what_cannot_be_is_refused(sparsity, method, said):
    with pytest.raises(CompressError, match=said):
        sparsify(made(PLAIN), sparsity, method)


def test_a_pattern_needs_columns_by_four():
    with pytest.raises(CompressError, match="has 6 columns, which is not a multiple of 4"):
        sparsify(made(decoder(layer(SKIP, DENSE), width=6)), "2:4", "weight")
    assert torch.isfinite(sparsify(made(decoder(layer(SKIP, DENSE), width=6)), 0.5, "weight").model(tokens(1, 5))).all()
