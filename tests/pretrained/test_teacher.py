"""Trained models of other people, read from their folders: equal logits, at once and from a cache, or a refusal that says why."""

import json
from pathlib import Path

import pytest
import torch

from nas_bo.errors import ExportError, ModelError
from nas_bo.export.fits import fits
from nas_bo.export.homes import TRANSFORMERS
from nas_bo.pretrained import Pretrained
from nas_bo.pretrained.configuration import FAMILIES as READ
from tests.conformance.test_real_models import FAMILIES, agree, stock
from tests.pretrained.models import saved

transformers = pytest.importorskip("transformers")

from nas_bo.export.huggingface import converted  # noqa: E402
from tests.export.test_huggingface import CASES, VOCAB, randomised  # noqa: E402

OTHER = {
    "Llama": "Llama, biases",
    "SmolLM3": "Llama, biases",
    "GPTNeoX": "Starcoder2",
    "Lfm2": "Qwen3, heads",
}  # cases with other options
KNOWN = {name: family for name, family in FAMILIES.items() if family.name != "Gemma2"}


@pytest.mark.parametrize("name", KNOWN)
def test_a_saved_model_has_its_own_logits_here(name, tmp_path):
    model = stock(KNOWN[name])
    model.save_pretrained(tmp_path)
    ours = Pretrained(str(tmp_path)).model()
    vocab = model.config.vocab_size
    agree(ours, model, torch.randint(vocab, (2, 40), generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("home", [home for home, _ in READ.values()])
def test_what_was_exported_is_read_again(home, tmp_path):
    """Nothing in the configuration of an export is an option that is not understood here."""
    arch = next(arch for name, arch in CASES.items() if name.startswith(OTHER.get(home, home)))
    model = randomised(arch)
    fit = next(fit for fit in fits(arch, TRANSFORMERS, vocab_size=VOCAB) if fit.home.name == home and not fit.reasons)
    theirs = converted(model, home, fit.spec)
    theirs.save_pretrained(tmp_path)
    ours = Pretrained(str(tmp_path)).model()
    agree(ours, theirs, torch.randint(VOCAB, (2, 40), generator=torch.Generator().manual_seed(1)))


def test_shards_are_one_model(tmp_path):
    whole = saved(tmp_path / "whole")
    model = transformers.AutoModelForCausalLM.from_pretrained(whole)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    one, other = (Pretrained(str(tmp_path / name)).model().state_dict() for name in ("whole", "shards"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_bfloat16_stays_what_it_is_where_that_is_asked_for(tmp_path):
    model = transformers.AutoModelForCausalLM.from_pretrained(saved(tmp_path / "whole"), dtype="bfloat16")
    model.save_pretrained(tmp_path / "half")
    found = Pretrained(str(tmp_path / "half"), dtype="bfloat16").model()
    assert found.embedding.weight.dtype == torch.bfloat16
    assert torch.equal(found.embedding.weight, model.get_input_embeddings().weight)


def changed(folder: Path, **config: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "bloom"}, "family 'bloom'"),
        ({"hidden_act": "tanh"}, "hidden_act='tanh'"),
        ({"attention_multiplier": 0.3}, "attention_multiplier=0.3"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "kind 'dynamic'"),
    ],
)
def test_what_is_not_understood_is_named(config, said, tmp_path):
    with pytest.raises(ModelError, match=said):
        Pretrained(str(changed(saved(tmp_path), **config)))


def test_a_configuration_of_quantization_is_judged_by_the_weights(tmp_path, caplog):
    """transformers leaves it in the configuration of a GGUF file whose weights it made plain numbers again."""
    from safetensors.torch import load_file, save_file

    folder = saved(tmp_path)
    before = Pretrained(str(folder)).model().state_dict()
    changed(folder, quantization_config={"quant_method": "gguf"})
    with caplog.at_level("WARNING"):
        found = Pretrained(str(folder)).model().state_dict()
    assert all(torch.equal(found[name], before[name]) for name in before)
    assert "quantization_config (gguf)" in caplog.text
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({**weights, name: weights[name].to(torch.int8)}, path, {"format": "pt"})
    with pytest.raises(ModelError, match=f"quantized \\(gguf\\): {name} is I8"):
        Pretrained(str(folder))


def test_weights_that_do_not_fit_are_named(tmp_path):
    folder = saved(tmp_path / "m")
    with pytest.raises(ExportError, match="sizes"):
        Pretrained(str(changed(folder, intermediate_size=64))).model()
    changed(folder, intermediate_size=48)
    with pytest.raises(ExportError, match="no place"):
        Pretrained(str(changed(folder, num_hidden_layers=2))).model()
    with pytest.raises(ExportError, match="lack"):
        Pretrained(str(changed(folder, num_hidden_layers=4))).model()


def test_a_pickle_is_not_opened(tmp_path):
    folder = saved(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ExportError, match="pickle"):
        Pretrained(str(folder)).model()


def test_what_is_no_model_is_one_sentence(tmp_path):
    with pytest.raises(ExportError, match="no folder"):
        Pretrained(str(tmp_path / "nowhere"))
    with pytest.raises(ExportError, match=r"config\.json"):
        Pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        Pretrained(str(tmp_path))
    folder = saved(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ExportError, match="tokenizer"):
        _ = Pretrained(str(folder)).tokenizer
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ExportError, match="damaged"):
        Pretrained(str(folder)).model()
