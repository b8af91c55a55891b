"""A tokenizer goes where its model goes: how it splits texts, which tokens end one, and how a dialogue is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas_bo.architecture import Architecture
from nas_bo.errors import ExportError
from nas_bo.export import folder as files
from nas_bo.export.gguf import tokens
from nas_bo.export.llamacpp import LlamaCpp
from nas_bo.export.token_roles import SPLITS, files_of, roles
from nas_bo.model import load_corpus
from nas_bo.pretrained import Pretrained
from nas_bo.workflows.export import export
from tests.export.test_huggingface import CASES, randomised

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")

TEXT = "In 2026, 12345 of them:\n\n\n  I'll say it's 'É' — don't?\r\n\tx_1 += 3.14;   ok\n"
TEMPLATE = "{% for one in messages %}<|im_start|>{{ one['content'] }}<|im_end|>{% endfor %}"


def tokenizer(split: str, place: Path) -> Path:
    """A small BPE tokenizer that splits so, as transformers keeps it."""
    blank = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "post_processor": None,
    }
    model = {"type": "BPE", "vocab": {}, "merges": []}
    about = {**blank, "pre_tokenizer": SPLITS[split], "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, "model": model}  # fmt: skip
    made = tokenizers.Tokenizer.from_str(json.dumps(about))
    text = bytes(load_corpus().train[:40_000]).decode(errors="replace")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator([text, TEXT * 9], trainer)
    place.mkdir()
    made.save(str(place / "tokenizer.json"))
    said = {
        "eos_token": "<|im_end|>",
        "bos_token": {"content": "<|endoftext|>"},
        "pad_token": "<nowhere>",
        "chat_template": TEMPLATE,
    }
    (place / "tokenizer_config.json").write_text(json.dumps(said))
    (place / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0], "temperature": 9.0}))
    return place / "tokenizer.json"


def trained(split: str, place: Path) -> Path:
    path = tokenizer(split, place / "tokenizer")
    arch = CASES["Llama"]
    model = randomised(arch, 400)
    content = files.files(model, Architecture(arch, {}), {"tokenizer": "bpe"}, ())
    files.write(place / "trained", {**files_of(path), **content})
    return place / "trained"


@pytest.mark.parametrize("split", SPLITS)
def test_llama_cpp_splits_as_the_tokenizer_does_and_back(split, tmp_path):
    pytest.importorskip("xllamacpp")
    folder = trained(split, tmp_path)
    made = export(folder, tmp_path / "gg", "gguf")
    assert made.check.good, made
    ids = files.load(folder).text().ids(TEXT)
    with LlamaCpp(tmp_path / "gg" / "model.gguf", 400) as run:
        assert run.tokenized(TEXT) == ids
    again = Pretrained(str(tmp_path / "gg" / "model.gguf")).tokenizer
    assert tokenizers.Tokenizer.from_file(again).encode(TEXT, add_special_tokens=False).ids == ids
    said = roles(Path(again))
    assert said.ids == {"bos": 0, "eos": 2} and said.template == TEMPLATE


def test_transformers_ends_texts_and_writes_dialogues_as_before(tmp_path):
    folder = trained("smollm", tmp_path)
    export(folder, tmp_path / "hf")
    there = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert (there.bos_token, there.eos_token, there.pad_token) == ("<|endoftext|>", "<|im_end|>", None)
    assert there.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "<|im_start|>x<|im_end|>"
    assert there(TEXT)["input_ids"] == files.load(folder).text().ids(TEXT)
    said = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert said["eos_token_id"] == [2, 0] and said["bos_token_id"] == 0 and said["temperature"] == 0.7
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["eos_token_id"] == [2, 0]
    export(folder, tmp_path / "copy", "folder")
    assert roles(tmp_path / "copy" / "tokenizer.json") == roles(folder / "tokenizer.json")


def test_a_split_that_llama_cpp_has_not_is_refused_with_those_that_it_has(tmp_path):
    folder = trained("gpt-2", tmp_path)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pre_tokenizer": {"type": "Whitespace"}}))
    with pytest.raises(ExportError, match="gpt-2, smollm, llama-bpe, qwen2, and the tokenizer is BPE after Whitespace"):
        export(folder, tmp_path / "gg", "gguf")


def test_tokens_that_are_no_text_are_told_apart(tmp_path):
    vocabulary = tokens(files.load(trained("qwen2", tmp_path)))
    assert vocabulary.split == "qwen2" and vocabulary.control == {0, 1, 2}
