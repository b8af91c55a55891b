"""Corpora of every kind, and every bad input."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_bo.errors import DataError, MissingExtra
from nas_bo.model import Corpus, load_corpus
from tests.processes import python

TEXT = "".join(f"line {i}: ünïcode and {i * i} words\n" for i in range(4000))


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([TEXT], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "bpe.json"
    made.save(str(path))
    return path


def test_the_standard_library_is_the_default() -> None:
    corpus = load_corpus()
    assert corpus.name == "python standard library"
    assert corpus.vocab_size == 256 and corpus.train.dtype == np.uint8
    assert 4_000_000 < len(corpus.train) < 40_000_000
    assert 0.01 < len(corpus.validation) / len(corpus.train) < 0.12
    text = corpus.train.tobytes()
    assert b"def namedtuple(" in text + corpus.validation.tobytes()
    assert b"import unittest" in text  # modules that use it are there ...
    assert b"class TestMain(unittest.TestCase)" not in text  # ... tests are not
    assert corpus.bytes_per_token == 1.0
    assert corpus.fingerprint[:12] in corpus.describe()
    assert load_corpus().fingerprint == corpus.fingerprint


def test_text_file(text_file: Path) -> None:
    corpus = load_corpus(text_file)
    raw = text_file.read_bytes()
    assert len(corpus.train) + len(corpus.validation) == len(raw)
    assert corpus.train_bytes == len(corpus.train)
    assert len(corpus.validation) / len(raw) == pytest.approx(0.05, abs=0.001)
    assert load_corpus(str(text_file)).fingerprint == corpus.fingerprint
    text_file.write_text(TEXT.replace("line 7:", "line 8:"))
    assert load_corpus(text_file).fingerprint != corpus.fingerprint
    piece = corpus.validation[:200].tobytes()
    assert piece in raw and piece not in corpus.train.tobytes()


def test_folder_is_split_by_name(tmp_path: Path) -> None:
    for i in range(60):
        (tmp_path / f"part{i % 3}").mkdir(exist_ok=True)
        (tmp_path / f"part{i % 3}" / f"{i}.txt").write_text(f"file {i} " * 40)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0" * 1000)
    (tmp_path / ".hidden").write_text("secret" * 100)
    corpus = load_corpus(tmp_path)
    held = {name for i in range(60) if f"file {i} ".encode() in corpus.validation.tobytes() for name in [i]}
    kept = {i for i in range(60) if f"file {i} ".encode() in corpus.train.tobytes()}
    expected = {i for i in range(60) if int(hashlib.sha1(f"part{i % 3}/{i}.txt".encode()).hexdigest(), 16) % 100 < 5}
    assert held == expected and held and not held & kept and held | kept == set(range(60))
    assert b"PNG" not in corpus.train.tobytes() and b"secret" not in corpus.train.tobytes()
    (tmp_path / "a_new_one.txt").write_text("new " * 50)
    grown = load_corpus(tmp_path)
    assert {i for i in range(60) if f"file {i} ".encode() in grown.validation.tobytes()} == held


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"document {i} " * 20, "id": i}) for i in range(200)) + "\n")
    corpus = load_corpus(path)
    assert b"document 0 " in corpus.train.tobytes() + corpus.validation.tobytes()
    assert b'"id"' not in corpus.train.tobytes()
    assert 0 < len(corpus.validation) < len(corpus.train) / 5


@pytest.mark.parametrize("form", ["npy", "bin16", "bin8"])
def test_tokens(tmp_path: Path, form: str) -> None:
    tokens = np.random.default_rng(0).integers(0, 200, 30_000).astype(np.uint8 if form == "bin8" else np.uint16)
    if form == "npy":
        path = tmp_path / "tokens.npy"
        np.save(path, tokens)
    else:
        path = tmp_path / "tokens.bin"
        tokens.tofile(path)
    corpus = load_corpus(path, vocab_size=200 if form == "bin8" else None)
    assert np.array_equal(np.concatenate((corpus.train, corpus.validation)), tokens)
    assert corpus.vocab_size == (200 if form == "bin8" else 256)
    assert isinstance(corpus.train, np.memmap)


def test_tokens_with_their_tokenizer_know_their_bytes(tmp_path: Path, tokenizer_file: Path, text_file: Path) -> None:
    text = load_corpus(text_file, tokenizer=tokenizer_file)
    assert text.vocab_size == 400 and text.tokenizer == "bpe.json"
    assert text.train_bytes + text.validation_bytes == len(TEXT.encode())
    assert text.bytes_per_token > 1.5
    assert len(text.train) < text.train_bytes / 1.5
    np.asarray(text.train, np.uint16).tofile(tmp_path / "tokens.bin")
    raw = load_corpus(tmp_path / "tokens.bin", tokenizer=tokenizer_file)
    assert raw.vocab_size == 400
    assert raw.train_bytes + raw.validation_bytes == pytest.approx(text.train_bytes, rel=0.001)
    with pytest.raises(DataError, match=r"up to 399.*without the tokenizer"):
        load_corpus(tmp_path / "tokens.bin")
    with pytest.raises(DataError, match=r"outside 0 to 299"):
        load_corpus(tmp_path / "tokens.bin", vocab_size=300)


def test_batches_are_common_to_all_and_depend_on_seed_and_step_only(text_file: Path) -> None:
    corpus = load_corpus(text_file)
    whole = corpus.batches(0, 10, 4, 16, seed=3)
    assert whole.shape == (10, 4, 17)
    assert np.array_equal(corpus.batches(6, 2, 4, 16, seed=3), whole[6:8])
    assert np.array_equal(corpus.batches(0, 10, 2, 16, seed=3), whole[:, :2])
    assert not np.array_equal(corpus.batches(0, 10, 4, 16, seed=4), whole)
    text = corpus.train.tobytes()
    assert all(window.tobytes() in text for window in whole.reshape(-1, 17))
    assert len({window.tobytes() for window in whole.reshape(-1, 17)}) > 35


def test_held_out_windows_are_spread_and_bounded(text_file: Path) -> None:
    corpus = load_corpus(text_file)
    windows = corpus.held_out(1000, 50)
    assert windows.shape == (20, 51)
    assert np.array_equal(windows[0], corpus.validation[:51]) and np.array_equal(windows[-1], corpus.validation[-51:])
    assert len(corpus.held_out(10**9, 50)) == (len(corpus.validation) - 1) // 50


def test_windows_longer_than_the_text_are_refused(text_file: Path) -> None:
    corpus = load_corpus(text_file)
    with pytest.raises(DataError, match=r"validation part.*shorter sequence"):
        corpus.held_out(1000, 10**6)
    with pytest.raises(DataError, match=r"training part"):
        corpus.batches(0, 1, 1, 10**6)


def test_the_fingerprint_is_the_same_in_another_process(text_file: Path) -> None:
    path = str(text_file)
    code = f"from nas_bo.model import load_corpus; import sys; sys.stdout.write(load_corpus({path!r}).fingerprint)"
    out = python("-c", code, check=True)
    assert out.stdout == load_corpus(text_file).fingerprint


def _file(name: str, content: bytes) -> Any:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _array(name: str, array: Any) -> Any:
    def write(folder: Path) -> Path:
        np.save(folder / name, array)
        return folder / name

    return write


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nothing.txt", "there is no file or folder"),
        (lambda folder: folder, "holds no text at all"),
        (_file("empty.txt", b""), "empty.txt' is empty"),
        (_file("short.txt", b"too short"), r"too short: 7 training and 2 validation.*1024 and 128"),
        (_file("zero.txt", b"text\0text" * 1000), "NUL byte at 4"),
        (_file("latin.txt", "é".encode("latin-1") * 5000), "byte 0 is not UTF-8"),
        (_file("bad.jsonl", b'{"text": "a"}\n{"txt": "b"}\n'), "line 2 of 'bad.jsonl'.*KeyError"),
        (_file("bad2.jsonl", b"hello\n"), "line 1 of 'bad2.jsonl'"),
        (_file("bad3.jsonl", b'{"text": 5}\n'), "line 1 of 'bad3.jsonl'"),
        (_file("empty.bin", b""), "empty.bin' is empty"),
        (_file("odd.bin", b"abc" * 2001), "does not hold tokens"),
        (_file("short.bin", b"ab" * 100), "too short: 100 tokens"),
        (_file("bad.npy", b"not an array" * 500), "does not hold tokens"),
        (_array("float.npy", np.zeros(5000)), "type float64"),
        (_array("square.npy", np.zeros((100, 100), np.int64)), "2 dimensions"),
        (_array("negative.npy", np.full(5000, -1)), "from -1 to -1"),
    ],
)
def test_bad_inputs_are_refused(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_corpus(make(tmp_path))


def test_unreadable_files_are_refused(text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"cannot be read .Permission denied."):
        load_corpus(text_file)


def test_vocab_size_is_for_tokens(text_file: Path) -> None:
    with pytest.raises(DataError, match=r"vocab_size=300.*for .bin and .npy"):
        load_corpus(text_file, vocab_size=300)


def test_bad_tokenizers_are_refused(text_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(DataError, match=r"no tokenizer file"):
        load_corpus(text_file, tokenizer=tmp_path / "none.json")
    with pytest.raises(DataError, match=r"'words.txt' is not a tokenizer"):
        load_corpus(text_file, tokenizer=text_file)


def test_a_missing_package_is_named(text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pip install .*\[data\]"):
        load_corpus(text_file, tokenizer="any.json")


def test_symbolic_links_inside_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    os.symlink(tmp_path, tmp_path / "loop")
    corpus = load_corpus(tmp_path)
    assert isinstance(corpus, Corpus)
    assert len(corpus.train) + len(corpus.validation) == len(TEXT.encode())
