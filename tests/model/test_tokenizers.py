"""Tokenizers of every kind, built here: what a text loses on the way through one is measured, said, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from nas_bo.errors import DataError
from nas_bo.model import load_corpus

LONG = "".join(f"Line {i}: ünïcode and {i * i} words, don't stop; Berlin-Bangalore!\n" for i in range(3000))
TEXT = "".join(LONG.splitlines(keepends=True)[:800])
CODE = Path(__file__).parent.joinpath("test_data.py").read_text() * 4


def byte_level(decoder: bool = True) -> Any:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if decoder:
        made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [LONG], trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    return made


def word_piece(text: str = TEXT) -> Any:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[UNK]"], show_progress=False)
    made.train_from_iterator([text], trainer)
    return made


def unigram() -> Any:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    made.train_from_iterator([TEXT], trainer)
    return made


def characters(text: str = TEXT, unknown: str | None = "<unk>") -> Any:
    known = sorted(set(text)) + ([unknown] if unknown else [])
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(known)}, unk_token=unknown or "<none>"))
    made.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    made.decoder = decoders.Fuse()
    return made


def words(size: int) -> Any:
    made = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=["[UNK]"], show_progress=False)
    made.train_from_iterator([TEXT], trainer)
    return made


def saved(made: Any, folder: Path, **changed: Any) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(made.to_str()), **changed}))
    return path


def text_file(folder: Path, text: str = TEXT) -> Path:
    (folder / "t.txt").write_text(text)
    return folder / "t.txt"


def token_file(folder: Path, made: Any, text: str = TEXT) -> Path:
    lines = text.splitlines(keepends=True)
    ids = np.concatenate([one.ids for one in made.encode_batch(lines, add_special_tokens=False)])
    np.save(folder / "t.npy", ids.astype(np.uint16))
    return folder / "t.npy"


@pytest.mark.parametrize("kind", [byte_level, unigram, characters])
def test_what_keeps_the_text_passes(tmp_path: Path, kind: Callable[[], Any]) -> None:
    made = kind()
    path = saved(made, tmp_path)
    corpus = load_corpus(text_file(tmp_path, LONG), path)
    assert corpus.train_bytes + corpus.validation_bytes == len(LONG.encode()) and not corpus.left_out
    if kind is not unigram:  # which keeps one of two line ends, as a space
        tokens = load_corpus(token_file(tmp_path, made, LONG), path)
        assert tokens.bytes_per_token == pytest.approx(corpus.bytes_per_token, rel=0.02)


def test_saved_truncation_and_padding_are_switched_off(tmp_path: Path) -> None:
    made = byte_level()
    text = text_file(tmp_path)
    wanted = load_corpus(text, saved(made, tmp_path))
    made.enable_truncation(16)
    made.enable_padding(length=64)
    found = load_corpus(text, saved(made, tmp_path))
    assert found.fingerprint == wanted.fingerprint and found.train_bytes == wanted.train_bytes


def test_a_template_adds_no_tokens(tmp_path: Path) -> None:
    made = byte_level()
    made.add_special_tokens(["<s>", "</s>"])
    text = text_file(tmp_path)
    wanted = load_corpus(text, saved(made, tmp_path))
    special = [(name, made.token_to_id(name)) for name in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    assert load_corpus(text, saved(made, tmp_path)).fingerprint == wanted.fingerprint


def test_separators_between_documents_stand_for_no_bytes(tmp_path: Path) -> None:
    made = byte_level()
    made.add_special_tokens(["<|endoftext|>"])
    path = saved(made, tmp_path)
    plain = load_corpus(token_file(tmp_path, made), path)
    ids = np.load(tmp_path / "t.npy")
    np.save(tmp_path / "t.npy", np.insert(ids, range(0, len(ids), 50), made.token_to_id("<|endoftext|>")))
    parted = load_corpus(tmp_path / "t.npy", path)
    assert parted.train_bytes + parted.validation_bytes == pytest.approx(
        plain.train_bytes + plain.validation_bytes, rel=0.001
    )


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: words(60), r"loses \d+.*% of the text.*of its tokens are the one for unknown text"),
        (lambda: characters("ein anderer Text, den es nicht gibt\n"), r"loses \d\d.*%.*unknown"),
        (lambda: word_piece("etwas ganz anderes " * 50), r"loses \d\d.*%.*unknown"),
    ],
)
def test_mostly_unknown_is_refused(tmp_path: Path, made: Callable[[], Any], said: str) -> None:
    made = made()
    with pytest.raises(DataError, match=f"{said}.*at most 2%.*byte-level BPE"):
        load_corpus(text_file(tmp_path), saved(made, tmp_path))
    with pytest.raises(DataError, match=r"% of the tokens.*unknown.*--vocab-size.*bits per token"):
        load_corpus(token_file(tmp_path, made), saved(made, tmp_path))


def test_unknown_text_that_is_dropped_is_refused(tmp_path: Path) -> None:
    """BPE without a token for the unknown drops it without a word."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(
        [TEXT.replace("o", "").replace("n", "")], trainers.BpeTrainer(vocab_size=300, show_progress=False)
    )
    with pytest.raises(DataError, match=r"loses \d+.\d% of the text of 't.txt'"):
        load_corpus(text_file(tmp_path), saved(made, tmp_path))


def test_a_normaliser_that_drops_text_is_refused(tmp_path: Path) -> None:
    made = byte_level()
    made.normalizer = normalizers.Replace("e", "")
    with pytest.raises(DataError, match=r"loses 5.\d% of the text"):
        load_corpus(text_file(tmp_path), saved(made, tmp_path))


def test_indentation_that_is_not_seen_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"loses \d+.\d% of the text"):
        load_corpus(text_file(tmp_path, CODE), saved(word_piece(CODE), tmp_path))


def test_what_is_lost_by_design_is_said(tmp_path: Path) -> None:
    corpus = load_corpus(text_file(tmp_path), saved(word_piece(), tmp_path))
    assert "letters whose case, accent or form the tokenizer does not keep" in corpus.left_out
    made = byte_level()
    made.normalizer = normalizers.Lowercase()
    corpus = load_corpus(text_file(tmp_path), saved(made, tmp_path))
    assert corpus.left_out.startswith("tokenizer tokenizer.json: 4.") and "case" in corpus.left_out


def test_no_token_for_the_unknown_is_one_message(tmp_path: Path) -> None:
    made = characters(TEXT.replace("ü", ""), unknown=None)
    with pytest.raises(DataError, match=r"cannot encode the text.*UNK.*give it a token for unknown text"):
        load_corpus(text_file(tmp_path), saved(made, tmp_path))


def test_a_missing_decoder_does_not_matter_to_text(tmp_path: Path) -> None:
    made = byte_level()
    wanted = load_corpus(text_file(tmp_path), saved(made, tmp_path))
    found = load_corpus(text_file(tmp_path), saved(made, tmp_path, decoder=None))
    assert found.fingerprint == wanted.fingerprint and not found.left_out


@pytest.mark.parametrize(
    ("kind", "part"),
    [(byte_level, "ByteLevel"), (word_piece, "WordPiece"), (unigram, "Metaspace"), (characters, "Fuse")],
)
def test_a_missing_decoder_miscounts_the_bytes_of_tokens(tmp_path: Path, kind: Callable[[], Any], part: str) -> None:
    made = kind()
    with pytest.raises(DataError, match=rf"without a decoder.*decoders.{part}.*--vocab-size"):
        load_corpus(token_file(tmp_path, made), saved(made, tmp_path, decoder=None))


def test_a_decoder_that_puts_spaces_into_words_miscounts_too(tmp_path: Path) -> None:
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"], show_progress=False))
    with pytest.raises(DataError, match="puts white space into words"):
        load_corpus(token_file(tmp_path, made), saved(made, tmp_path))


def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    made = byte_level()
    other = token_file(tmp_path, characters())
    with pytest.raises(DataError, match=r"gives only \d+% of them.*another tokenizer"):
        load_corpus(other, saved(made, tmp_path))
    assert load_corpus(other, vocab_size=500).unit == "bits/token"


def test_bytes_per_token_are_bounded(tmp_path: Path) -> None:
    """One token for each line of a hundred letters: nothing is lost, but nothing is left to predict."""
    lines = [f"{i:0>3}" + "x" * 97 for i in range(50)]
    made = Tokenizer(models.WordLevel({line: i for i, line in enumerate([*lines, "<unk>"])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    text = "\n".join(lines * 100)
    with pytest.raises(DataError, match=r"bytes per token"):
        load_corpus(text_file(tmp_path, text), saved(made, tmp_path))
