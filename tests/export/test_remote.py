"""The last resort: a folder with its own code, which transformers loads where there is no nas_bo."""

from __future__ import annotations

import json

import pytest
import torch

from nas_bo.errors import ExportError, ModelError
from nas_bo.export import folder as files
from nas_bo.model.spec import check
from nas_bo.model.teacher import loaded
from nas_bo.pretrained.checkpoint import TrainedDecoder
from nas_bo.search_spaces import Connections, Mixers, TinyGPT
from nas_bo.workflows.export import continued, export
from tests.export.test_export import folder, named
from tests.export.test_gguf import made
from tests.export.test_huggingface import CASES, MOE, SKIP, A, attention, block, decoder
from tests.processes import WITHOUT_US, python

pytest.importorskip("transformers")

from nas_bo.export import remote

GATED = block("dense", ratio=1, gated=True)
ARCHS = {
    "every mixer": decoder(
        (block("conv", kernel=4), GATED),
        (block("conv", kernel=12, gates="linear2"), SKIP),
        (block("linear_attention", heads=2), GATED),
        (block("gated_delta", heads=2), SKIP),
        (block("ssm", heads=2, state=8), GATED),
        (block("latent_attention", heads=2, latent=8), MOE),
        (attention(window=7), GATED),
        (SKIP, GATED),
    ),
    "every field": decoder(
        (attention(qk_norm="head", rotary_share=0.5, qkv_bias=True), block("dense", ratio=1)),
        (attention(sinks=True, window=7, value_dim=4), block("dense", ratio=1, activation="gelu_tanh")),
        (attention(qk_norm="whole", sinks=True), SKIP),
        norm_place="sandwich", rope_scaling="llama3", rope_factor=8.0, rope_length=16, embedding_scale="sqrt_width", logit_cap=4.0,
        tied=False,
    ),
    "layer norms": decoder((A, GATED), (block("conv", kernel=4), GATED), norm="layer", bias=True, parallel=True),
    "positions that are learned": CASES["GPT2"],
    "connections": decoder((A, GATED), (attention(share_kv=True), GATED), (block("conv", kernel=4), GATED), (A, SKIP), long_skips=True),
    "tied layers": decoder((block("conv", kernel=4), GATED), (block("conv", kernel=4), GATED), tie_layers=2),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHS)
def test_the_file_computes_the_same_with_its_cache_and_names_no_nas_bo(name, tmp_path):
    told, found = remote.write(made(ARCHS[name]), tmp_path)
    assert found.good and found.cached and found.difference < 1e-4, found
    assert "NasBoForCausalLM" in told
    code = (tmp_path / "modeling_nas_bo.py").read_text()
    assert "import nas_bo" not in code and "from nas_bo" not in code


@pytest.mark.parametrize("space", [TinyGPT, Mixers, Connections])
def test_what_searches_find_leaves(space, tmp_path):
    for seed in range(2):
        (tmp_path / str(seed)).mkdir()
        assert remote.write(made(space.sample(seed)), tmp_path / str(seed))[1].good


def test_where_there_is_no_nas_bo_text_is_written_with_a_cache_and_in_beams(tmp_path):
    trained = folder(tmp_path, named(ARCHS["every mixer"]))
    out = export(trained, tmp_path / "hf", remote_code=True).folder
    code = (
        WITHOUT_US + "import torch; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "ids = tokenizer('def ', return_tensors='pt')\n"
        "lengths = []\n"
        "model.forward, before = (lambda *a, **k: (lengths.append(k['input_ids'].shape[1]), before(*a, **k))[1]), model.forward\n"
        "texts = [tokenizer.decode(model.generate(**ids, do_sample=False, max_new_tokens=12, **more)[0])\n"
        "         for more in ({}, {'use_cache': False}, {'num_beams': 3}, {'num_beams': 3, 'use_cache': False})]\n"
        "print(repr((texts, lengths[:12])))"
    )
    done = python("-c", code, out)
    assert done.returncode == 0, done.stderr
    (plain, uncached, beams, uncached_beams), lengths = eval(done.stdout.splitlines()[-1])
    assert plain == uncached == continued(trained, "def ", 12, 0.0)
    assert beams == uncached_beams
    assert lengths == [4] + [1] * 11
    assert "trust_remote_code=True" in (out / "README.md").read_text()


def test_it_is_read_again_without_its_code(tmp_path):
    """`nas-bo search --from hf`, `generate hf`, `--teacher hf`: exactly the model, whatever the Python file next to it would do."""
    trained = folder(tmp_path, named(ARCHS["every mixer"]))
    out = export(trained, tmp_path / "hf", remote_code=True).folder
    (out / "modeling_nas_bo.py").write_text("raise SystemExit('code of a model was run')")
    ids = torch.arange(40)[None]
    wanted = files.load(trained).model(ids)
    for found in (files.load(out).model, TrainedDecoder(str(out)).model(), loaded(str(out), torch.device("cpu"))):
        assert torch.equal(found(ids), wanted)
    assert files.load(out).tokenizer is None is TrainedDecoder(str(out)).tokenizer
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "model_type": "of_somebody"}))
    with pytest.raises(
        ModelError, match=r"class in that folder \(modeling_nas_bo.NasBoConfig\), and the code of a model is never run"
    ):
        TrainedDecoder(str(out))


def test_blocks_of_your_own_go_out_with_their_source(tmp_path):
    from tests.conformance import own_blocks

    arch = next(
        one for one in map(own_blocks.Own.sample, range(99)) if any("rank" in layer.mixer for layer in one.layers)
    )
    _, found = remote.write(made(arch), tmp_path)
    assert found.good and found.cached
    assert "class ShiftModule" in (tmp_path / "modeling_nas_bo.py").read_text()
    (tmp_path / "undecodable").mkdir()
    _, found = remote.write(made(own_blocks.Undecodable.sample(0)), tmp_path / "undecodable")
    assert found.good and not found.cached


def test_no_two_names_of_the_file_are_one(tmp_path):
    """Modules have constants of one name with other values."""
    code = remote.code(check(ARCHS["every mixer"]))
    tops = [line.split("=")[0].strip() for line in code.splitlines() if line[:1].isupper() and " = " in line]
    assert len(tops) == len(set(tops))


def test_what_was_typed_into_an_interpreter_has_no_source():
    from nas_bo.export.bundle import Bundle

    with pytest.raises(ExportError, match="put the block into a file"):
        Bundle({"math"}, ()).add("math", "sin")
    with pytest.raises(ExportError, match="made while it runs"):
        Bundle({"nas_bo"}, ()).add("nas_bo.export.remote", "nothing")


def test_the_configuration_is_that_of_the_network(tmp_path):
    remote.write(made(ARCHS["every field"]), tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    assert said["hidden_size"] == 32 and said["num_hidden_layers"] == 3 and said["max_position_embeddings"] == 2048
    assert said["network"]["layers"][1][0]["window"] == 7 and said["auto_map"]["AutoModelForCausalLM"].endswith(
        "NasBoForCausalLM"
    )
