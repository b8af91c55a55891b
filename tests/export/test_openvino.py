"""Decoders of random weights as OpenVINO files: float32, and few bits by NNCF, run by OpenVINO."""

from __future__ import annotations

import pytest

from nas_bo.errors import MissingExtra
from tests.export.test_gguf import made
from tests.export.test_huggingface import CASES

for package in ("onnx", "onnxscript", "openvino"):
    pytest.importorskip(package)

from nas_bo.export import openvino  # noqa: E402


@pytest.fixture(scope="module")
def model():
    return made(CASES["Llama"])


def test_openvino_computes_the_same_at_every_length_with_a_cache_and_without(model, tmp_path):
    told, check = openvino.write(model, tmp_path)
    assert check.good and check.cached and check.difference < 1e-4, check
    names = {"model.xml", "model.bin", "model_with_cache.xml", "model_with_cache.bin", "tokenizer.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert "without and with a cache" in told


def test_fewer_bits_are_smaller_and_cost_what_is_said(model, tmp_path, held_out, capfd):
    pytest.importorskip("nncf")
    from openvino import Core

    sizes = []
    for bits in openvino.BITS:
        place = tmp_path / str(bits)
        place.mkdir()
        told, check = openvino.write(model, place, bits, held_out)
        assert f"matrices in {bits} bits" in told and check.tokens == held_out.windows[:, 1:].size
        assert bits < 8 or (abs(check.after - check.before) < 0.01 and check.agreed > 0.9)
        sizes.append((place / "model.bin").stat().st_size)
        kinds = {
            one.get_element_type().get_type_name()
            for one in Core().read_model(place / "model.xml").get_ops()
            if one.get_type_name() == "Constant"
        }
        assert kinds & {f"i{bits}", f"u{bits}"}, kinds
    floats = sum(weight.numel() * 4 for weight in model.model.parameters())
    assert sizes == sorted(sizes, reverse=True) and sizes[0] < floats / 2
    assert capfd.readouterr().out == ""  # NNCF reports on the standard output, where --json is


def test_nncf_that_is_not_there_is_named_before_anything_is_made(model, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino, "find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(MissingExtra, match=r"'nncf'.*pip install .*\[nncf\]"):
        openvino.write(model, tmp_path, 4)
    assert not list(tmp_path.iterdir())
