"""ValidationLoss of a model of the user's own: the same loop, batches and checkpoints."""

import pytest
import torch
from torch import nn

from nas_bo import search
from nas_bo.errors import ModelError, ObjectiveError
from nas_bo.objectives import Growth, Latency, Parameters, ValidationLoss
from nas_bo.strategies import Random
from tests.own_models import Stack, Stacks, huggingface

ARCH = Stacks.architecture({"width": 32, "depth": 1, "layers.0.cell": "mlp", "layers.0.cell.mlp.ratio": 2})
SMALL = {"tokens": 4_000, "evaluation_tokens": 1_024, "device": "cpu"}


class Dropping(Stack):
    def forward(self, tokens):
        return nn.functional.dropout(super().forward(tokens), 0.1, self.training)


class LastOnly(Stack):
    def forward(self, tokens):
        return super().forward(tokens)[:, -1:]


@pytest.mark.parametrize("made", [Stack, huggingface])
def test_it_learns_and_says_how(made) -> None:
    value = ValidationLoss(build=made, **SMALL)(ARCH)
    longer = ValidationLoss(build=made, **{**SMALL, "tokens": 16_000})(ARCH)
    assert longer < value
    assert value.info["parameters"] == sum(p.numel() for p in made(ARCH).parameters())
    assert ValidationLoss(build=made, **SMALL).conditions()["build"] == made.__qualname__


def test_the_same_seed_gives_the_same_bits_and_the_random_state_is_left_alone() -> None:
    objective = ValidationLoss(build=Dropping, **SMALL)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = objective(ARCH)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    assert objective(ARCH) == first
    assert ValidationLoss(build=Dropping, seed=1, **SMALL)(ARCH) != first


def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path) -> None:
    whole = ValidationLoss(build=Dropping, **SMALL)(ARCH)
    half = ValidationLoss(build=Dropping, fidelity=0.5, checkpoints=str(tmp_path), **SMALL)
    half(ARCH)
    rest = ValidationLoss(build=Dropping, checkpoints=str(tmp_path), **SMALL)(ARCH)
    assert rest == whole and rest.info["resumed"] > 0
    other = ValidationLoss(build=Stack, checkpoints=str(tmp_path), **SMALL)(ARCH)
    assert "resumed" not in other.info  # a run of another model


def test_what_cannot_be_trained_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="LastOnly returned logits .* training needs those of every position"):
        ValidationLoss(build=LastOnly, **SMALL)(ARCH)
    for wrong in ({"width_factor": 0.5}, {"growth": Growth()}):
        with pytest.raises(ObjectiveError, match="know the decoder of nas_bo only"):
            ValidationLoss(build=Stack, **wrong)
    assert ValidationLoss.quick(build=Stack).growth is None


def test_a_whole_search_loss_latency_parameters() -> None:
    quick = Latency(build=Stack, context=16, max_seconds=0.05)
    objectives = [ValidationLoss(build=Stack, **SMALL), quick, Parameters(build=Stack)]
    found = search(Stacks, objectives, strategy=Random(seed=0), trials=3, retrain=2, retrain_others=0)
    assert [t.state.name for t in found.trials] == ["COMPLETE"] * 3
    assert found.retrained and all(r.values for r in found.retrained)


class Leaky(torch.nn.Module):
    """Adds the embedding of the next token, which is the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = torch.nn.Embedding(256, 8), torch.nn.Linear(8, 256)

    def forward(self, tokens):
        seen = self.table(tokens)
        return self.out(seen + seen.roll(-1, 1))


def test_a_model_that_sees_the_future_is_refused():
    with pytest.raises(ModelError, match="sees the future"):
        ValidationLoss(tokens=2_000, build=leaky)(Stacks.sample(0))


def leaky(arch):
    return Leaky()
