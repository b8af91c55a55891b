"""Other operators in place of the attention of a trained model: what a block inherits, how it learns, where it is kept, and how it stands
in spaces, scores and sub-models."""

import dataclasses
import json

import pytest
import torch

from nas_bo import search
from nas_bo.errors import ModelError, SpaceError
from nas_bo.model.spec import check
from nas_bo.objectives import KVCacheBytes
from nas_bo.pretrained import BlockDistillation, CalibrationText, Parts, Pretrained
from nas_bo.pretrained.block_library import taken_over
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.slices import sliced
from nas_bo.pretrained.space import whole
from nas_bo.strategies import Knapsack

BOTH = ("linear_attention", "gated_delta")
TOKENS = torch.randint(256, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def teacher(small):
    return small


@pytest.fixture(scope="module")
def loss(teacher, text, tmp_path_factory):
    few = CalibrationText(batches=1, sequences=32, sequence=32)
    how = BlockDistillation(tokens=4096, batch=8, sequence=32, folder=str(tmp_path_factory.mktemp("blocks")))
    return teacher.loss(
        data=text, calibration=few, held_out_tokens=1024, sequence=32, device="cpu", operators=how, repair=False
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "cache"))


def block_of(loss, kind, index=0):
    own = loss.ordered().model.spec.layers[index].mixer
    space = loss.teacher.space(operators=BOTH, windows=(8,))
    arch = changed(
        space,
        whole(space),
        {f"layers.{index}.mixer": kind} if kind != "window" else {f"layers.{index}.mixer.attention.window": 8},
    )
    mixer = check(arch).layers[index].mixer
    assert mixer != own
    return arch, mixer


@pytest.mark.parametrize("kind", [*BOTH, "window"])
def test_a_block_learns_what_the_trained_one_does(loss, kind):
    arch, mixer = block_of(loss, kind)
    learned = loss.library().block(0, mixer)
    raw = dataclasses.replace(loss, operators=dataclasses.replace(loss.operators, tokens=0)).library().block(0, mixer)
    assert 0 <= learned.kl <= raw.kl * (1.0 if kind == "window" else 0.7)
    made = loss.sub_model(arch)
    assert made.spec == check(arch)
    for name, weight in learned.weights.items():
        assert torch.equal(made.get_parameter(f"layers.0.mixer.{name}"), weight)
    others = dict(loss.ordered().model.named_parameters())
    assert all(torch.equal(w, others[n]) for n, w in made.named_parameters() if not n.startswith("layers.0.mixer."))
    assert torch.isfinite(made(TOKENS)).all()


def test_a_sub_model_makes_the_blocks_that_it_needs(loss):
    """Also where no gradients are wanted."""
    arch, mixer = block_of(loss, "linear_attention")
    for number, mode in enumerate((torch.no_grad, torch.inference_mode)):
        how = dataclasses.replace(loss.operators, tokens=512, seed=3 + number)
        one = dataclasses.replace(loss, operators=how)
        with mode():
            made = one.sub_model(arch)
        assert torch.equal(made.layers[0].mixer.out.weight, one.library().block(0, mixer).weights["out.weight"])


def test_blocks_that_were_made_alone_are_repaired_together(loss):
    space = loss.teacher.space(operators=BOTH)
    arch = changed(space, whole(space), {f"layers.{index}.mixer": "linear_attention" for index in range(2)})
    for batches in (1, 2):  # of 1,024 tokens, which are few for so many weights
        few = CalibrationText(batches=batches, sequences=32, sequence=32)
        repaired, plain = (dataclasses.replace(loss, repair=one, calibration=few) for one in (True, False))
        assert float(repaired(arch)) < float(plain(arch))


def test_the_trained_weights_are_not_touched(loss):
    model = loss.ordered().model
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    wanted = {name: weight.requires_grad for name, weight in model.named_parameters()}
    _, mixer = block_of(loss, "gated_delta", 1)
    dataclasses.replace(loss, operators=dataclasses.replace(loss.operators, tokens=512, seed=7)).library().block(
        1, mixer
    )
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == wanted


def test_queries_keys_and_values_are_taken_over(loss):
    model = loss.ordered().model
    own = model.spec.layers[0].mixer
    q, k, v = torch.split(model.layers[0].mixer.qkv.weight, list(own.sizes))
    for kind in BOTH:
        _, mixer = block_of(loss, kind)
        found = taken_over(model, 0, mixer, 0)["qkvg.weight"]
        inner = mixer.heads * mixer.head_dim
        assert torch.equal(found[:inner], q)
        for at, part in ((1, k), (2, v)):  # each key is that of its group of queries
            shared = part.view(own.kv_heads, 1, own.head_dim, -1).expand(-1, own.heads // own.kv_heads, -1, -1)
            assert torch.equal(found[at * inner : (at + 1) * inner], shared.reshape(inner, -1))


def test_a_window_as_long_as_the_text_begins_as_the_trained_block(loss):
    model = loss.ordered().model
    wide = model.spec.layers[0].mixer._replace(window=64)
    how = dataclasses.replace(loss.operators, tokens=0)
    block = dataclasses.replace(loss, operators=how).library().block(0, wide)
    assert block.kl < 1e-6 and abs(block.added) < 1e-6


def test_finished_blocks_are_kept_in_the_folder_and_damaged_files_made_again(loss, tmp_path):
    how = dataclasses.replace(loss.operators, tokens=512, folder=str(tmp_path / "kept"))
    one = dataclasses.replace(loss, operators=how)
    _, mixer = block_of(loss, "linear_attention")
    first = one.library().block(0, mixer)
    (file,) = (tmp_path / "kept").glob("*.safetensors")
    one.library()._blocks.clear()
    clock = file.stat().st_ino
    again = one.library().block(0, mixer)
    assert (again.kl, again.added) == (first.kl, first.added) and file.stat().st_ino == clock
    assert all(torch.equal(again.weights[name], weight) for name, weight in first.weights.items())
    file.write_bytes(b"damaged")
    one.library()._blocks.clear()
    assert one.library().block(0, mixer).kl == first.kl  # the same seed makes the same block
    other = dataclasses.replace(one, operators=dataclasses.replace(how, lr=1e-4))
    other.library().block(0, mixer)
    assert len([*(tmp_path / "kept").glob("*.safetensors")]) == 2


def test_the_space_has_them_where_attention_was(teacher):
    space = teacher.space(operators=BOTH, keep=(1,), depth=False)
    kinds = {tuple(layer.mixer.kind for layer in space.sample(seed).layers) for seed in range(40)}
    assert kinds == {(kind, "attention") for kind in ("attention", *BOTH)}
    spec = teacher.spec.layers[0].mixer
    one = next(a for a in map(space.sample, range(40)) if a.layers[0].mixer.kind == "gated_delta")
    assert check(one).layers[0].mixer[1:3] == (spec.heads, spec.head_dim)
    assert check(whole(space)).layers == teacher.spec.layers
    assert Parts(operators=("window",)).windows == (128,)
    with pytest.raises(SpaceError, match="linear_attention"):
        teacher.space(operators=("linear_atention",))


def test_a_search_places_them_under_a_limit_on_the_cache(teacher, loss):
    parts = Parts(mlp=False, heads=False, depth=False, operators=BOTH)
    space, scores = teacher.space(parts), teacher.block_scores(loss, parts=parts)
    cache = KVCacheBytes(context=64)
    terms = dict(scores.terms(space))
    terms.pop("")
    for index in range(2):
        added = {dict(t.choice)[f"layers.{index}.mixer"]: t.added for t in terms[f"layers.{index}.mixer"]}
        assert added["attention"] == 0 and all(added[kind] > 0 for kind in BOTH)
    bound = 0.8 * float(cache(whole(space)))
    result = search(
        space,
        [loss],
        limits=[KVCacheBytes(context=64, at_most=bound)],
        proxies=[scores],
        strategy=Knapsack(),
        trials=3,
        retrain=0,
    )
    assert all(trial.state.name == "COMPLETE" and float(cache(trial.architecture)) <= bound for trial in result.trials)
    assert all(any(layer.mixer.kind in BOTH for layer in t.architecture.layers) for t in result.trials)


def test_without_made_blocks_nobody_gets_a_wrong_model(teacher, loss):
    arch, _ = block_of(loss, "gated_delta")
    with pytest.raises(ModelError, match="no blocks of it were made"):
        sliced(loss.ordered().model, check(arch))
    half = dataclasses.replace(loss, teacher=Pretrained(teacher.path, "bfloat16"))
    with pytest.raises(ModelError, match="float32"):
        half.library()
    with pytest.raises(ModelError, match="output"):
        BlockDistillation(output=2)
    json.dumps(loss.conditions())
