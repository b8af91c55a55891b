"""CompleteP: at its base today's recipe to the bit, elsewhere the recipe of the paper, under which activations keep their size."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import nn

from nas_bo.errors import ModelError, ObjectiveError
from nas_bo.model import CompleteP, build, load_corpus, train, train_many, word
from nas_bo.model.blocks.table import _BLOCKS
from nas_bo.model.decoder import EPSILON
from nas_bo.model.parametrization import STANDARD, parametrization_of
from nas_bo.model.training_loop import Loop
from nas_bo.objectives import ValidationLoss
from nas_bo.objectives.validation_loss import dials_of
from tests.model.architectures import CONV, DENSE, MOE, block, decoder, layer
from tests.own_models import Stack

FREE = {"warmup": 0.0, "decay": 0.0, "clip": 0.0}
MIXERS = {
    "attention": lambda width: block("attention", heads=width // 8, head_dim=8),
    "conv": lambda width: CONV,
    "linear_attention": lambda width: block("linear_attention", heads=width // 8, head_dim=8),
    "gated_delta": lambda width: block("gated_delta", heads=width // 8, head_dim=8),
    "latent_attention": lambda width: block("latent_attention", heads=width // 8, head_dim=8, latent=width // 4),
    "ssm": lambda width: block("ssm", heads=width // 8),
}


@pytest.fixture(scope="module")
def corpus():
    return load_corpus()


def alike(mixer, width, depth, mlp=DENSE, **fields):
    return decoder(*[layer(MIXERS[mixer](width), mlp)] * depth, width=width, **fields)


def batches(corpus, count):
    return torch.from_numpy(corpus.batches(0, count, 4, 16, 0).astype("int64"))


def after_steps(arch, how, corpus, steps=5):
    """How far a few steps move the stream after the last layer and the logits, root mean squares."""
    model = build(arch, 256, generator=torch.Generator().manual_seed(0), parametrization=how)
    loop = Loop(
        model.parameter_groups(3e-3, 0.1, parametrization=how), list(model.parameters()), 100, {**FREE, "clip": 1.0},
        torch.device("cpu"),
    )  # fmt: skip
    tokens = batches(corpus, steps + 1)
    seen = tokens[-1][:, :-1]

    def look():
        with torch.no_grad():
            stream = model._through(model._embed(seen), model.context(seen), None)[0]
            return stream, model._logits(stream)

    before = look()
    for one in tokens[:-1]:
        loop.take([model.loss(one[:, :-1], one[:, 1:])])
    return [float((b - a).square().mean().sqrt()) for a, b in zip(before, look(), strict=True)]


# ---- coordinate checks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixer", MIXERS)
def test_what_steps_do_to_activations_does_not_grow_with_width_and_depth(mixer, corpus):
    base = CompleteP(16, 2)
    stream, logits = after_steps(alike(mixer, 16, 2), base, corpus)
    for width, depth in ((64, 2), (16, 8), (64, 8)):
        wider, wider_logits = after_steps(alike(mixer, width, depth), base, corpus)
        assert 0.3 * stream < wider < 1.5 * stream and 0.3 * logits < wider_logits < 1.5 * logits
    assert after_steps(alike(mixer, 16, 8), STANDARD, corpus)[0] > 1.5 * stream  # as it would be


def test_the_same_with_mixtures_untied_heads_and_norms_elsewhere(corpus):
    base = CompleteP(16, 2)
    for more in (
        {"tied": False, "mlp": MOE},
        {"norm_place": "post"},
        {"norm_place": "sandwich", "norm": "layer", "bias": True},
    ):
        stream, logits = after_steps(alike("attention", 16, 2, **more), base, corpus)
        wide, wide_logits = after_steps(alike("attention", 64, 8, **more), base, corpus)
        assert 0.25 * stream < wide < 1.6 * stream and 0.25 * logits < wide_logits < 1.6 * logits


# ---- the same as the paper's --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_weights_with_multipliers_in_them_train_as_with_multipliers_in_the_forward_pass(tied, corpus):
    """Table 1 of arXiv 2505.01618 written out: multipliers by hooks, and deviation, rate, decay and epsilon of each weight as there."""
    width, depth, base = 32, 4, CompleteP(16, 2)
    m, d, lr, decay = 2.0, 2.0, 3e-3, 0.3
    arch = alike("attention", width, depth, tied=tied, bias=True)
    ours = build(arch, 256, generator=torch.Generator().manual_seed(1), parametrization=base)
    paper = build(arch, 256, generator=torch.Generator().manual_seed(1), parametrization=base)
    groups = []
    for name, weight in paper.named_parameters():
        role, fan_in = paper.role(name, weight), weight.shape[-1]
        rate, decays, epsilon = 2 * lr, 0.0, 1 / (m * d)
        if role == "embedding" or not name.startswith("layers"):
            epsilon = 1 / m
        if role == "out" or name.endswith("out.bias"):  # the multiplier goes into the forward pass
            weight.data *= d
        if role in ("in", "out") and name != "head.weight":
            rate, decays = lr * 128 / fan_in, decay * m
        if name == "head.weight":
            weight.data *= m
            rate, decays = lr * 128 / 16, decay
        if role == "gain" and tied:
            weight.data *= m
        groups.append({"params": [weight], "lr": rate, "weight_decay": decays, "eps": EPSILON * epsilon})
    for one in paper.layers:
        one.mixer.register_forward_hook(lambda _module, _given, y: (y[0] / d, y[1]))
        one.mlp.register_forward_hook(lambda _module, _given, y: (y[0] / d, y[1]))
    last = paper.norm if tied else paper.head
    last.register_forward_hook(lambda _module, _given, y: y / m)
    if not tied:  # `_logits` reads the weight of the head, and calls no module
        paper._logits = lambda hidden: paper.head(paper.norm(hidden))
    found = []
    for model, its in ((ours, ours.parameter_groups(lr, decay, parametrization=base)), (paper, groups)):
        loop = Loop(its, list(model.parameters()), 100, FREE, torch.device("cpu"))
        losses = []
        for one in batches(corpus, 8):
            losses.append(float(loop.take([model.loss(one[:, :-1], one[:, 1:])])))
        found.append(losses)
    assert found[0] == pytest.approx(found[1], rel=2e-4) and found[0][-1] < found[0][0]


@pytest.mark.parametrize("mixer", MIXERS)
def test_at_its_base_it_is_the_recipe_of_today_to_the_bit(mixer, corpus):
    arch = alike(mixer, 16, 2, MOE, tied=mixer == "conv")
    how = {"batch_size": 2, "sequence": 16, "evaluation_tokens": 256}
    today = train(arch, corpus, 320, seed=3, **how)
    same = train(arch, corpus, 320, seed=3, parametrization=CompleteP(16, 2), **how)
    other = train(arch, corpus, 320, seed=3, parametrization="completep", **how)
    assert same.bits_per_byte == today.bits_per_byte and same.curve == today.curve
    assert other.bits_per_byte != today.bits_per_byte
    assert "base_width" not in today.settings and same.settings["base_width"] == 16


def test_it_is_kept_in_checkpoints_and_by_stacked_runs(tmp_path, corpus):
    arch = alike("attention", 24, 3)
    how = {"batch_size": 2, "sequence": 16, "evaluation_tokens": 256, "parametrization": CompleteP(16, 2)}
    whole = train(arch, corpus, 960, seed=3, **how)
    train(arch, corpus, 960, seed=3, stop_at=0.5, checkpoint=tmp_path / "run.pt", **how)
    rest = train(arch, corpus, 960, seed=3, checkpoint=tmp_path / "run.pt", **how)
    assert rest.bits_per_byte == whole.bits_per_byte and rest.resumed
    stacked = train_many([arch, arch], corpus, 960, [3, 4], together=2, **how)
    assert stacked[0].bits_per_byte == pytest.approx(whole.bits_per_byte, rel=1e-3)


# ---- the objective, and what is refused ---------------------------------------------------------------------------------


def test_an_objective_says_it_in_its_conditions_only_where_it_is_not_todays():
    plain, named = ValidationLoss(tokens=2000), ValidationLoss(tokens=2000, parametrization="standard")
    assert plain == named and plain.conditions() == named.conditions() and "parametrization" not in plain.conditions()
    changed = ValidationLoss(tokens=2000, parametrization=CompleteP(64, 3))
    told = changed.conditions()
    assert told["parametrization"] == {"base_width": 64, "base_depth": 3}
    assert dials_of(told) == {"parametrization": CompleteP(64, 3)}
    assert repr(plain) == repr(changed)  # what older validations are kept under


class NoWayOut(NamedTuple):
    kind: str


class Averaging:
    kind = "averaging_without_out"
    slots = ("mixer",)
    fields: dict[str, object] = {}  # noqa: RUF012
    Spec = NoWayOut

    def check(self, fields, frame):
        return NoWayOut(self.kind)

    def parameters(self, spec, frame):
        return frame.width

    def operations(self, spec, frame, call):
        return ()

    def module(self, spec, frame):
        return Scaled(frame.width)


class Scaled(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x, context, state=None):
        return x.cumsum(1) / x.shape[1] * self.gain, state


def test_what_it_cannot_say_is_refused_with_what_to_do(corpus):
    own = word(Averaging())
    try:
        arch = decoder(layer(block(Averaging.kind), DENSE), width=16)
        with pytest.raises(
            ModelError, match="'averaging_without_out' has no matrix out of it: call its last matrix `out`"
        ):
            build(arch, 256, parametrization=CompleteP())
        build(arch, 256)
        build(
            decoder(layer(block(Averaging.kind), DENSE), width=16, norm_place="post"), 256, parametrization=CompleteP()
        )
    finally:
        del own
        _BLOCKS.pop(Averaging.kind)
    with pytest.raises(ModelError, match="embedding_scale='sqrt_width' with the parametrization completep"):
        build(alike("attention", 16, 2, embedding_scale="sqrt_width"), 256, parametrization=CompleteP())
    with pytest.raises(ModelError, match=r"no parametrization of that name \(did you mean 'completep'\?\)"):
        train(alike("attention", 16, 2), corpus, 320, parametrization="completeP")
    with pytest.raises(ModelError, match='must be "standard", "completep" or a CompleteP'):
        parametrization_of(3.0)
    for wrong in (0, 1.5, True, math.nan):
        with pytest.raises(ModelError, match="base_width must be an integer of at least 1"):
            CompleteP(wrong)
    with pytest.raises(ObjectiveError, match="knows the decoder of nas_bo only"):
        ValidationLoss(build=Stack, parametrization="completep")
