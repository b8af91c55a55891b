"""Parts of a trained model whose layers have fewer bits: judged as they would be used, placed by the knapsack, and told to who trains one."""

from dataclasses import replace

import pytest
import torch

from nas_bo import search
from nas_bo.compress import held_out, levels, quantize
from nas_bo.compress.calibration import matrices
from nas_bo.errors import SpaceError
from nas_bo.model.inference import evaluate
from nas_bo.objectives import Memory, OutlierScore, QuantizationGap, WeightBytes
from nas_bo.pretrained import Parts
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.space import whole
from nas_bo.problem import Problem
from nas_bo.strategies import Knapsack
from tests.command import nas_bo

BITS = (2, 8, 4)


@pytest.fixture(scope="module")
def space(small):
    return small.space(bits=BITS)


@pytest.fixture(scope="module")
def scores(small, loss):
    return small.block_scores(loss, parts=Parts(bits=BITS))


def at(space, *bits):
    return changed(space, whole(space), {f"layers.{layer}.bits": one for layer, one in enumerate(bits)})


def test_a_part_is_judged_as_it_is_used(small, space, loss):
    most = whole(space)
    assert most == at(space, 8, 8) and most.training_id == at(space, 2, 4).training_id
    values = [float(loss(at(space, *bits))) for bits in ((8, 8), (4, 4), (2, 2))]
    plain = float(loss(whole(small.space())))
    assert abs(values[0] - plain) < 0.003 < values[2] - values[1] and abs(values[1] - values[0]) < 0.003
    two = loss.as_used(loss.sub_model(at(space, 2, 8)), at(space, 2, 8))
    mine, theirs = two.layers[0].mlp.up.weight, loss.sub_model(most).layers[0].mlp.up.weight
    assert (mine != theirs).any() and all(len(row.unique()) <= 4 for row in mine[:, :32])
    made = loss.as_used(loss.sub_model(at(space, 2, 2), longer=False), at(space, 2, 2), trained=False)
    assert values[2] == evaluate(made, loss.corpus(), 512, 32)


def test_matrices_of_the_trained_model_are_quantized_once_for_all_parts(small, space, loss, monkeypatch):
    """A part takes rows of them where it keeps their inputs and weights; what is fitted to less is quantized again."""
    settled = []
    real = levels.settled_together
    monkeypatch.setattr(levels, "settled_together", lambda jobs, *a: settled.append([*jobs]) or real(jobs, *a))
    half = changed(space, at(space, 2, 2), {"layers.1.mlp.dense.ratio": 1})
    loss(at(space, 2, 2))
    settled.clear()
    part = loss.sub_model(half, longer=False)
    quick, own = (loss.as_used(part, half, trained=trained) for trained in (False, True))
    again, once = settled[:2]
    shapes = [
        tuple(job.weight.shape) for job in again
    ]  # a block is only fitted where that helps, which may depend on the processor
    assert shapes in ([(32, 32)], [(32, 32)] * 2), "matrices out of the blocks of the layer that is fitted"
    assert len(once) == len(matrices(part))
    held, name = loss.ordered(), "layers.1.mlp.up.weight"
    rows = [(held.model.get_parameter(name) == row).all(1).nonzero().item() for row in part.get_parameter(name)]
    assert len(rows) == 64 and torch.equal(quick.get_parameter(name), held.levels.weight(name, 2)[rows])
    losses = [evaluate(one, loss.corpus(), 8_192, 32) for one in (part, own, quick)]
    # .02 to .15 bits, as the processor trains the model; rows of another matrix would cost whole ones
    assert losses[0] + 0.005 < losses[1] < losses[0] + 0.5 and losses[0] + 0.005 < losses[2] < losses[0] + 0.5


def test_after_a_training_too_which_all_bits_share(space, loss, tmp_path):
    trained = replace(loss, tokens=2_048, checkpoints=str(tmp_path))
    high, low = (trained(at(space, *bits)) for bits in ((8, 8), (2, 2)))
    assert high.info["trained"] == low.info["trained"] < float(low) and low.info["resumed"]
    assert low.info["as_is"] > high.info["as_is"] and len(list(tmp_path.glob("*.pt"))) == 1


def test_block_scores_are_of_layers_with_their_bits(space, scores):
    terms = dict(scores.terms(space))
    assert set(terms) == {"", "layers.0", "layers.1"} and scores.looks(space) <= scores.evaluations
    for layer in ("layers.0", "layers.1"):
        assert terms[layer][0].added == 0 or dict(terms[layer][0].choice)[f"{layer}.bits"] == 8
        by = {dict(term.choice)[f"{layer}.bits"]: term.added for term in terms[layer][:3]}
        assert by[8] < by[4] < by[2]
        if layer == "layers.0":
            continue  # its MLP stays
        gone = [t for t in terms[layer] if all(v == "skip" for p, v in t.choice if not p.endswith("bits"))]
        assert len({t.added for t in gone}) == 1, "nothing is left to have bits"
    for seed in range(20):
        arch = space.sample(seed)
        assert abs(float(scores(arch)) - scores.base(space) - sum_of(terms, arch)) < 1e-9


def sum_of(terms, arch):
    flat = set(arch.flat.items())
    return sum(
        max((t for t in ways if set(t.choice) <= flat), key=lambda t: len(t.choice)).added
        for layer, ways in terms.items()
        if layer
    )


def test_the_knapsack_takes_bits_before_blocks_where_weights_are_limited(space, scores, loss):
    size = WeightBytes(vocab_size=256)
    most = float(size(whole(space)))
    found = search(
        space,
        [loss, size],
        limits=[replace(size, at_most=0.75 * most, name="size")],
        proxies=[scores],
        strategy=Knapsack(),
        trials=4,
        retrain=0,
    )
    assert len(found.trials) == 4 and all(t.values["weight_bytes"] <= 0.75 * most for t in found.trials)
    best = min(found.trials, key=lambda t: t.values["bits_per_byte"])
    assert any(value in (2, 4) for path, value in best.architecture.flat.items() if path.endswith("bits"))
    assert Memory(context=64, vocab_size=256)(at(space, 2, 2)) < Memory(context=64, vocab_size=256)(at(space, 8, 8))


def test_who_trains_one_is_told_how_it_gets_its_bits(small, space, loss, scores, tmp_path):
    asked = {"strategy": Knapsack(), "retrain": 0, "enqueue": [at(space, 2, 4)]}
    found = search(space, [loss, WeightBytes(vocab_size=256)], proxies=[scores], trials=1, **asked)
    made = found.train(tmp_path / "out", 0, 2_048)
    assert made.about["compress"] == "--bits layers.0=2,layers.1=4,default=8"
    done = nas_bo("compress", "out", "--to", "small", *made.about["compress"].split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_bits_that_are_none_are_refused(small, tmp_path):
    for bits in ((5,), (8, 8.5), 4):
        with pytest.raises(SpaceError, match=r"such as \(8, 4, 3\)"):
            small.space(bits=bits)
    kept = small.space(bits=BITS, keep=(0,))
    assert all(kept.sample(seed).flat["layers.0.bits"] == 8 for seed in range(10))
    for args, said in (
        (["--from", small.path, "--bits", "5"], "--bits 5: give some of"),
        (["--bits", "4"], "with --from"),
    ):
        done = nas_bo("search", *args, "--trials", "1", cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_parts_of_a_trained_model_are_looked_at_as_they_are_judged(small, loss):
    space = small.space(mlp=(8, 16, 32))
    arch = whole(space)
    gap = QuantizationGap(quality=loss, bits=2)
    value = Problem(space, [loss, gap, OutlierScore(quality=loss)]).evaluate(arch).values
    model = loss.sub_model(arch, longer=False)
    before, after = (held_out(one, loss.corpus(), 512, 32) for one in (model, quantize(model, 2).model))
    assert value["quantization_gap_2"] == pytest.approx(after.mean - before.mean)
    assert value["outlier_score"] > 1 and gap.larger(2) is None
