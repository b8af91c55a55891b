"""Decoders of random weights in few bits as folders of transformers that hold the integers."""

from __future__ import annotations

import json
import stat

import pytest
import torch
from safetensors.torch import load_file

from nas_bo.architecture import Architecture
from nas_bo.compress import quantize
from nas_bo.errors import ExportError, MissingExtra
from nas_bo.export import folder as files
from nas_bo.export import packed_weights
from nas_bo.workflows.export import export
from tests.export.test_huggingface import CASES, randomised

pytest.importorskip("compressed_tensors")

MIXED = {"mlp": 3, "mixer": 4, "layers.0.mlp": 2, "default": 8, "embedding": 16}


def quantized(case, folder, symmetric=True, bits=MIXED, group=16):
    """The folder of a quantized decoder."""
    model = randomised(CASES[case], 256)
    made = quantize(model, bits, group, symmetric=symmetric)
    about = {"tokenizer": "bytes", "format": files.PACKED, "quantization": made.about()}
    content = files.files(made.model, Architecture(CASES[case], {}), about, ())
    from safetensors.torch import save

    files.write(folder, {**content, files.WEIGHTS: save(made.state())})
    return folder


@pytest.mark.parametrize("case", ["Llama, unlike layers", "Llama, biases", "GPTNeoX", "NemotronH", "Lfm2", "Qwen2Moe"])
def test_transformers_computes_the_same_from_the_integers(case, tmp_path, capfd):
    """Also where matrices are split, put in another order, padded with zeros, or next to experts that stay as they are."""
    made = export(quantized(case, tmp_path / "small"), tmp_path / "to", padding=10, type="packed")
    assert made.check.good and made.check.cached and made.check.difference < 1e-4, made
    state = load_file(tmp_path / "to" / "model.safetensors")
    packed = [name for name in state if name.endswith(".weight_packed")]
    assert packed and f"{len(packed)} " in made.what and "bits" in made.what
    config = json.loads((tmp_path / "to" / "config.json").read_text())["quantization_config"]
    widths = {group["weights"]["num_bits"] for group in config["config_groups"].values()}
    assert len(widths) > 1 and widths <= {2, 3, 4}, config
    assert all(state[name].dtype is torch.int32 for name in packed)
    assert any(state[name].dtype is torch.bfloat16 for name in state if "embed" in name)  # exact in 16 bits
    assert "pip install compressed-tensors" in (tmp_path / "to" / "README.md").read_text()
    assert "it/s" not in capfd.readouterr().err  # bars of compressed-tensors


def test_one_width_is_said_for_all_matrices_and_files_are_smaller(tmp_path):
    small = quantized("Llama", tmp_path / "small", bits=4)
    sizes = {}
    for name in ("packed", "floats"):
        made = export(small, tmp_path / name, type="packed" if name == "packed" else None)
        path = tmp_path / name / "model.safetensors"
        sizes[name] = sum(t.numel() * t.element_size() for key, t in load_file(path).items() if "layers" in key)
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / name / "README.md").stat().st_mode)
    assert "--type packed keeps them integers" in made.what
    assert sizes["packed"] < sizes["floats"] / 5
    config = json.loads((tmp_path / "packed" / "config.json").read_text())["quantization_config"]
    assert [one["targets"] for one in config["config_groups"].values()] == [["Linear"]] and config["ignore"] == [
        "lm_head"
    ]


def test_what_cannot_be_packed_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    zeros = quantized("Llama", tmp_path / "zeros", symmetric=False)
    turned = quantized("GPT2", tmp_path / "turned")
    files.write(
        tmp_path / "whole", files.files(randomised(CASES["Llama"], 256), Architecture(CASES["Llama"], {}), {}, ())
    )
    for folder, message in (
        (zeros, "zero points.*--symmetric"),
        (turned, "GPT2LMHeadModel.*leave --type packed out"),
        (tmp_path / "whole", "no weights of few bits.*nas-bo compress"),
    ):
        with pytest.raises(ExportError, match=message):
            export(folder, tmp_path / "to", padding=10, type="packed")
    for format, type, message in (
        ("gguf", "packed", "PACKED|packed.*Q4_K_M"),
        ("onnx", "packed", "--type belongs to the formats gguf and huggingface"),
        ("huggingface", "Q8_0", "--type Q8_0.*--format gguf"),
    ):
        with pytest.raises(ExportError, match=message):
            export(turned, tmp_path / "to", format, type=type)
    monkeypatch.setattr(packed_weights, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install .*\[packed\]"):
        export(quantized("Llama", tmp_path / "small"), tmp_path / "to", type="packed")
    assert not (tmp_path / "to").exists() and not (tmp_path / "to.unverified").exists()
