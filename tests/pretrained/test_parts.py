"""Parts of a trained model: their order changes nothing, their weights are prefixes, their space is around the whole."""

import pickle

import pytest
import torch

from nas_bo.compress import importances
from nas_bo.errors import ModelError, SpaceError
from nas_bo.model.spec import check
from nas_bo.pretrained import Pretrained
from nas_bo.pretrained.ordering import put_in_order
from nas_bo.pretrained.repair import Repair
from nas_bo.pretrained.slices import sliced
from nas_bo.pretrained.space import whole
from tests.pretrained.models import saved

pytest.importorskip("transformers")
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": False}
SHAPES = {
    "Llama": {},
    "Olmo2": {},
    "Olmoe": MOE,
    "GPTNeoX": {"num_key_value_heads": None, "hidden_act": "gelu", "tie_word_embeddings": False},
    "Lfm2": {
        "layer_types": ["conv", "full_attention", "conv"],
        "block_auto_adjust_ff_dim": False,
    },
}


@pytest.fixture(scope="module", params=SHAPES)
def teacher(request, tmp_path_factory):
    config = {k: v for k, v in SHAPES[request.param].items() if v is not None}
    return Pretrained(str(saved(tmp_path_factory.mktemp("models") / request.param, request.param, **config)))


TOKENS = torch.randint(256, (2, 24), generator=torch.Generator().manual_seed(0))


def logits(model):
    with torch.no_grad():
        return model(TOKENS)


def test_any_order_gives_the_same_logits(teacher):
    model = teacher.model()
    before = logits(model)
    rng = torch.Generator().manual_seed(3)
    found = importances(model, torch.randint(256, (16, 65), generator=rng))
    orders = {key: torch.randperm(len(one.scores), generator=rng) for key, one in found.items()}
    assert {unit for _, unit in orders} >= {"width"}
    moved = {name: weight.clone() for name, weight in model.named_parameters()}
    put_in_order(model, orders)
    changed = {
        name.split(".", 2)[-1] for name, weight in model.named_parameters() if not torch.equal(weight, moved[name])
    }
    assert changed & {"mlp.up.weight", "mlp.up"} and ("mixer.qkv.weight" in changed or "mixer.proj.weight" in changed)
    assert float((logits(model) - before).abs().max()) <= 1e-5 * float(before.std())


def test_the_space_has_the_whole_and_only_parts_of_it(teacher):
    space = teacher.space(width=True)
    model = teacher.model()
    most = check(whole(space))
    assert [layer.mlp for layer in most.layers] == [layer.mlp for layer in teacher.spec.layers]
    assert float((logits(sliced(model, most)) - logits(model)).abs().max()) <= 1e-6
    assert pickle.loads(pickle.dumps(space)) is space
    kinds = [layer.mixer.kind for layer in teacher.spec.layers]
    for seed in range(12):
        arch = space.sample(seed)
        assert all(layer.mixer.kind in (kind, "skip") for layer, kind in zip(arch.layers, kinds, strict=True))
        part = sliced(model, check(arch), copy=True)
        assert torch.isfinite(logits(part)).all()
        names = dict(part.named_parameters())
        assert sum(weight.numel() for weight in names.values()) <= sum(w.numel() for w in model.parameters())


def test_all_blocks_may_go_but_the_first_mlp_or_those_of_the_layers_that_are_named(teacher):
    def gone(space):
        archs = [space.sample(seed) for seed in range(60)]
        slots = ((i, slot) for i in range(len(archs[0].layers)) for slot in ("mixer", "mlp"))
        return {at for at in slots if any(arch.layers[at[0]][at[1]].kind == "skip" for arch in archs)}

    most = {(i, slot) for i in range(len(teacher.spec.layers)) for slot in ("mixer", "mlp")}
    assert gone(teacher.space()) == most - {(0, "mlp")}
    assert gone(teacher.space(depth=(0,))) == {(0, "mixer"), (0, "mlp")}
    assert gone(teacher.space(depth=(0, -1), keep=(-1,))) == {(0, "mixer"), (0, "mlp")}
    assert gone(teacher.space(depth=())) == gone(teacher.space(depth=False)) == set()
    with pytest.raises(SpaceError, match=r"depth=\(99,\) names a layer that is not there"):
        teacher.space(depth=(99,))


def test_a_part_has_the_first_units_of_the_whole(teacher):
    model = teacher.model()
    arch = teacher.space(depth=False, heads=False, experts=False, mlp=(16,)).sample(5)
    part = sliced(model, check(arch))
    for index, layer in enumerate(part.spec.layers):
        small, large = part.layers[index].mlp.out, model.layers[index].mlp.out
        small, large = (one if isinstance(one, torch.Tensor) else one.weight for one in (small, large))
        assert torch.equal(small, large[..., : layer.mlp.hidden])


def test_what_is_no_part_is_refused(teacher):
    model = teacher.model()
    other = teacher.spec._replace(width=teacher.spec.width * 2)
    with pytest.raises(ModelError, match="width"):
        sliced(model, other)
    with pytest.raises(ModelError, match="layers"):
        sliced(model, teacher.spec._replace(layers=teacher.spec.layers[:1]))
    with pytest.raises(SpaceError, match="more than"):
        teacher.space(mlp=(10_000,), experts=(10_000,))


def test_a_part_of_any_family_is_repaired(teacher):
    """What comes out of the last layer is nearer to what comes out of the whole model."""
    model = teacher.model()
    repair = Repair(model, torch.randint(256, (16, 24), generator=torch.Generator().manual_seed(1)))
    expected = logits(model)
    for seed in (1, 5):
        spec = check(teacher.space().sample(seed))
        part = sliced(model, spec)
        before = float((logits(part) - expected).square().mean())
        repair(part)
        after = float((logits(part) - expected).square().mean())
        assert after < 1.02 * before
