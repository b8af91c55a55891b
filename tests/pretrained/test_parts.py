"""Parts of a trained model: their order changes nothing, their weights are prefixes, their space is around the whole."""

import pickle

import numpy as np
import pytest
import torch

from nas_bo.errors import ModelError, SpaceError
from nas_bo.model.spec import check
from nas_bo.pretrained import Pretrained, importance
from nas_bo.pretrained.importance import METHODS
from nas_bo.pretrained.ordering import Orders, put_in_order
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
    spec = model.spec
    rng = torch.Generator().manual_seed(3)

    def order(count):
        return torch.randperm(count, generator=rng)

    layers = list(enumerate(spec.layers))
    orders = Orders(
        {
            i: torch.stack([order(mlp.hidden) for _ in range(mlp.experts)]) if mlp.experts else order(mlp.hidden)
            for i, (_, mlp) in layers
        },
        {i: order(mixer.kv_heads) for i, (mixer, _) in layers if mixer.kind == "attention"},
        {i: order(mlp.experts) for i, (_, mlp) in layers if mlp.experts},
        order(spec.width),
    )
    put_in_order(model, orders)
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
        teacher.space(mlp=(10_000,))


@pytest.mark.parametrize("method", METHODS)
def test_importance_names_what_matters(teacher, method):
    """A unit whose weights are made large matters most; one whose weights are zero, least."""
    model = teacher.model()
    with torch.no_grad():
        for layer in model.layers:
            out = layer.mlp.out if isinstance(layer.mlp.out, torch.Tensor) else layer.mlp.out.weight
            out[..., 7] = 0
            out[..., 3] *= 20
    batches = np.random.default_rng(0).integers(0, 256, (2, 4, 33))
    found = importance(model, batches, method)
    assert set(found.hidden) == set(range(3))
    for index, scores in found.hidden.items():
        if method == "activation":
            continue  # which looks at no weights
        rows = scores.reshape(-1, scores.shape[-1])
        assert (rows.argmin(-1) == 7).any(), index
        if method != "taylor" or rows.shape[0] == 1:
            assert (rows.argmax(-1) == 3).any(), index
    assert all(0 <= one <= 2 for one in found.influence.values())
    assert all(one >= 0 for one in found.spread.values())
