"""Decoders of random weights as ONNX files of open length, run by ONNX Runtime."""

from __future__ import annotations

import pytest

from nas_bo.errors import ExportError
from tests.export.test_gguf import made
from tests.export.test_huggingface import CASES, MOE, SKIP, A, block, decoder

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

from nas_bo.export import onnx  # noqa: E402

GATED = block("dense", ratio=1, gated=True)
CONV = block("conv", kernel=4)


@pytest.mark.parametrize(
    "arch", [CASES["Mistral"], CASES["GPT2"], decoder((CONV, GATED), (A, SKIP), (SKIP, GATED)), CASES["GPTNeoX"]]
)
def test_onnx_runtime_computes_the_same_at_every_length(arch, tmp_path):
    _, check = onnx.write(made(arch), tmp_path)
    assert check.good and check.difference < 1e-4, check
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "tokenizer.json"}


def test_mixtures_say_that_they_cannot(tmp_path):
    with pytest.raises(ExportError, match="mlp is moe"):
        onnx.write(made(decoder((A, MOE))), tmp_path)
