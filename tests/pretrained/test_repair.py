"""Repair of a part of a trained model, and one block replaced by another."""

from dataclasses import replace

import pytest
import torch

from nas_bo.model.spec import check
from nas_bo.pretrained import ordered as ordered_model
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.controls import controls
from nas_bo.pretrained.repair import RIDGES, fitted
from nas_bo.pretrained.replaced import Replaced
from nas_bo.pretrained.slices import sliced
from nas_bo.pretrained.space import whole


def drawn(many, noise, columns=12):
    """A matrix, what it is given, and what lacks: a small change of it, and noise."""
    rng = torch.Generator().manual_seed(0)
    weight, change, x = (torch.randn(shape, generator=rng) for shape in ((3, columns), (3, columns), (many, columns)))
    return weight, x, x @ change.t() + noise * torch.randn(many, 3, generator=rng)


@pytest.mark.parametrize("many", [8, 40])
def test_a_fit_is_that_of_ridge_regression_on_either_side(many):
    weight, x, rest = drawn(many, 0.01)
    r = 0.5 * x.square().mean()
    expected = weight + torch.linalg.solve(x.t() @ x + r * torch.eye(12), x.t() @ rest).t()
    assert torch.allclose(fitted(weight, x, rest, [0.5]), expected, atol=1e-4)
    assert fitted(weight, x, rest / 0.0) is None


@pytest.mark.parametrize("many", [8, 40, 400])
def test_what_few_rows_say_by_chance_is_not_fitted(many):
    weight, x, _ = drawn(many, 0.0)
    found = fitted(weight, x, torch.randn(many, 3, generator=torch.Generator().manual_seed(1)))
    assert found is None or (found - weight).norm() < 0.05 * weight.norm()


def test_the_ridge_is_the_one_that_predicts_rows_that_were_left_out():
    weight, x, rest = drawn(400, 0.1)
    assert torch.equal(fitted(weight, x, rest), fitted(weight, x, rest, RIDGES[:1]))
    weight, x, noisy = drawn(64, 30.0, 48)  # more noise than 64 rows can tell from what is to be learned
    change, wrong = (torch.linalg.lstsq(x, one).solution.t() for one in (drawn(64, 0.0, 48)[2], noisy))
    fresh = torch.randn(2000, 48, generator=torch.Generator().manual_seed(5))

    def missing(found):
        return float((fresh @ (weight + change - found).t()).square().mean())

    chosen = fitted(weight, x, noisy)
    assert missing(weight if chosen is None else chosen) <= 1.1 * missing(weight) < missing(weight + wrong)


PARTS = {
    "narrow MLPs": {f"layers.{i}.mlp.dense.ratio": 0.25 for i in range(2)},
    "an MLP left out": {"layers.0.mlp": "skip"},
    "attention left out": {"layers.1.mixer": "skip"},
    "half of the heads": {f"layers.{i}.mixer.attention.heads": 2 for i in range(2)},
}


@pytest.mark.parametrize("decisions", PARTS.values(), ids=PARTS)
def test_a_part_is_better_repaired_and_the_whole_stays_as_it_is(small, loss, decisions):
    space = small.space(mlp=(8, 16, 32), depth=(0, 1))
    model = loss.ordered().model
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    arch = changed(space, whole(space), decisions)
    assert loss(arch) < float(replace(loss, repair=False)(arch)) - 0.01
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert loss(whole(space)) == replace(loss, repair=False)(whole(space))


def test_a_longer_text_repairs_better_and_is_used_for_what_is_kept(loss, small):
    held = loss.ordered()
    assert len(held.long_repair.tokens) == 4 * len(held.repair.tokens)
    assert torch.equal(held.long_repair.tokens[: len(held.repair.tokens)], held.repair.tokens)
    space = small.space(depth=(0, 1))
    arch = changed(space, whole(space), PARTS["an MLP left out"])
    kept, judged = loss.sub_model(arch), loss.sub_model(arch, longer=False)
    assert not torch.equal(kept.layers[1].mlp.out.weight, judged.layers[1].mlp.out.weight)


def test_a_replaced_block_is_evaluated_as_the_model_with_it(loss, small):
    space = small.space(mlp=(16,), depth=(0, 1))
    held = loss.ordered()
    windows = held.windows[:16]
    bench = Replaced(held.model, windows)
    tokens, targets = windows[:, :-1], windows[:, 1:]
    assert bench.loss == pytest.approx(float(held.model.loss(tokens, targets)[1].detach()), rel=1e-5)
    for decisions in (
        {"layers.0.mlp": "skip"},
        {"layers.1.mlp.dense.ratio": 0.5},
        {"layers.0.mixer.attention.heads": 2},
    ):
        part = sliced(held.model, check(changed(space, whole(space), decisions)))
        (name,) = decisions
        index, slot = int(name.split(".")[1]), name.split(".")[2]
        block = part.layers[index].slot(slot)[1]
        expected = float(part.loss(tokens, targets)[1].detach())
        assert bench.evaluated(index, slot, block) == pytest.approx(expected, rel=1e-5)
        assert bench.moved(index, slot, block) > 0
    assert bench.moved(1, "mlp", held.model.layers[1].mlp) == pytest.approx(0, abs=1e-9)


def test_another_process_orders_by_the_importance_that_is_kept(small, loss, monkeypatch):
    """Each worker of a search needs the same order, and a pass over a large model takes long."""
    first = loss.ordered()
    ordered_model._kept.clear()  # as in another process
    monkeypatch.setattr(ordered_model, "importances", lambda *_: pytest.fail("computed once more"))
    again = loss.ordered()
    assert again is not first and [*again.importance] == [*first.importance]
    for key, one in first.importance.items():
        assert torch.equal(one.scores, again.importance[key].scores) and one.batches == again.importance[key].batches
        assert torch.equal(one.spread, again.importance[key].spread)
    for (name, weight), other in zip(first.model.named_parameters(), again.model.parameters(), strict=True):
        assert torch.equal(weight, other), name


def test_controls_are_the_model_made_smaller_alike_everywhere(small, loss):
    space = small.space(mlp=(16, 32))
    influence = loss.ordered().importance["layers", "layers"].scores.tolist()
    found = controls(space, influence)
    assert [*found] == [
        "uniform width 67%",
        "uniform width 33%",
        "uniform depth 50%",
    ]  # a quarter of two layers is none
    assert [layer.mlp.ratio for layer in found["uniform width 33%"].layers] == [0.5, 0.5]
    gone = [layer.mixer.kind == layer.mlp.kind == "skip" for layer in found["uniform depth 50%"].layers]
    assert gone.index(True) == influence.index(min(influence)) and sum(gone) == 1
    assert controls(small.space(keep=(0, 1)), influence) == {}


def test_where_no_usual_control_fits_the_largest_that_does_takes_its_place(small, loss):
    influence = loss.ordered().importance["layers", "layers"].scores.tolist()
    found = controls(small.space(mlp=(8, 16, 32)), influence, lambda arch: arch.layers[0].mlp.ratio <= 0.25)
    (label,) = found
    assert label.startswith("uniform width ") and [layer.mlp.ratio for layer in found[label].layers] == [0.25, 0.25]
