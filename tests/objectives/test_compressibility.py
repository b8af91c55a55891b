"""What is measured of a trained network's compressibility, on networks of which the answer is known."""

from __future__ import annotations

import pytest
import torch

from nas_bo.compress import held_out, quantize
from nas_bo.errors import ObjectiveError
from nas_bo.objectives import ActivationSparsity, LayerSensitivity, OutlierScore, QuantizationGap, ValidationLoss
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT
from tests.compress.models import PLAIN, learned, made, text
from tests.model.architectures import CONV, SKIP, block, decoder, layer

QUALITY = ValidationLoss(tokens=2000, evaluation_tokens=1024, device="cpu")
EACH = (QuantizationGap, LayerSensitivity, ActivationSparsity, OutlierScore)


def test_one_training_serves_all(monkeypatch):
    calls = []
    before = ValidationLoss.trained
    monkeypatch.setattr(ValidationLoss, "trained", lambda self, arch: calls.append(arch) or before(self, arch))
    problem = Problem(TinyGPT, [one(quality=QUALITY) for one in EACH])
    trial = problem.evaluate(TinyGPT.sample(3))
    assert set(trial.values) == {"quantization_gap_3", "layer_sensitivity", "activation_sparsity", "outlier_score"}
    assert len(calls) == 1 and 0 <= trial.values["activation_sparsity"] < 1 < trial.values["outlier_score"]
    assert trial.info["quantization_gap_3"]["low"] <= trial.values["quantization_gap_3"]
    assert problem.conditions() == Problem(TinyGPT, [one(quality=QUALITY) for one in EACH]).conditions()
    assert QuantizationGap(bits=2, quality=QUALITY).conditions() != QuantizationGap(quality=QUALITY).conditions()


def test_the_gap_is_what_quantizing_costs():
    model = learned()
    loss = ValidationLoss(tokens=2000, evaluation_tokens=4096, sequence=32)
    for bits in (2, 4):
        value = QuantizationGap(bits=bits, quality=loss).measured(model, text())
        after, before = (held_out(one, text(), 4096, 32) for one in (quantize(model, bits).model, model))
        assert float(value) == pytest.approx(after.mean - before.mean)
    layers = LayerSensitivity(quality=loss).measured(model, text())
    assert float(layers) == pytest.approx(sum(layers.info["layers"].values())) and len(layers.info["layers"]) == 2
    assert float(LayerSensitivity(of="max", quality=loss).measured(model, text())) == max(
        layers.info["layers"].values()
    )


def test_sparse_and_even_activations_are_told_apart():
    loss = ValidationLoss(tokens=2000, evaluation_tokens=1024, sequence=32)
    relu, gelu = (made(decoder(layer(SKIP, block("dense", ratio=4, activation=a)))) for a in ("relu2", "gelu"))
    shares = [float(ActivationSparsity(quality=loss).measured(one, text())) for one in (relu, gelu)]
    assert shares[0] > 0.5 and shares[0] > shares[1] + 0.1
    assert float(ActivationSparsity(quality=loss).measured(made(decoder(layer(CONV, SKIP))), text())) == 0
    even, uneven = made(PLAIN), made(PLAIN)
    with torch.no_grad():
        for one in uneven.layers:
            one.mlp_norm.weight[0] = one.mixer_norm.weight[0] = 50.0
    for of in ("max_to_median", "kurtosis"):
        low, high = (float(OutlierScore(of=of, quality=loss).measured(one, text())) for one in (even, uneven))
        assert high > 2 * low, of


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ObjectiveError, match="bits must be one of 2, 3, 4, 8"):
        QuantizationGap(bits=5)
    with pytest.raises(ObjectiveError, match="without build="):
        OutlierScore(quality=ValidationLoss(build=torch.nn.Flatten))
    with pytest.raises(ObjectiveError, match="energy must be"):
        ActivationSparsity(energy=1.0)
    again = QuantizationGap(quality=QUALITY, at_most=0.1).larger(3)
    assert again.quality.tokens == 6000 and again.at_most is None


def test_the_training_of_the_loss_serves_those_that_look_at_its_model(monkeypatch):
    calls = []
    before = ValidationLoss.judged
    monkeypatch.setattr(ValidationLoss, "judged", lambda self, arch: calls.append(arch.id) or before(self, arch))
    quality = ValidationLoss(tokens=1500, evaluation_tokens=1024, device="cpu")
    problem = Problem(TinyGPT, [quality, OutlierScore(quality=quality)])
    first, second = (TinyGPT.sample(seed) for seed in (0, 1))
    problem.evaluate(first)  # nobody has asked for a model before
    scores = problem.evaluate(second).values["outlier_score"]
    assert calls == [first.id]
    assert scores == pytest.approx(
        float(OutlierScore(quality=quality).measured(quality.trained(second).model, quality.corpus()))
    )
