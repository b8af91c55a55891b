"""Files of token ids: the width is found or refused, never guessed; and a loss per token is not called one per byte."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from nas_bo.errors import DataError
from nas_bo.model import load_corpus
from nas_bo.objectives import ValidationLoss

N = 30_000


def ids(vocabulary: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, vocabulary, N) if kind == "uniform" else (rng.zipf(1.3, N) - 1) % vocabulary


def written(folder: Path, tokens: np.ndarray, dtype: str, head: bytes = b"") -> Path:
    path = folder / "train.bin"
    path.write_bytes(head + tokens.astype(dtype).tobytes())
    return path


def header(magic: int, count: int, version: int = 1) -> bytes:
    found = np.zeros(256, "<i4")
    found[:3] = magic, version, count
    return found.tobytes()


@pytest.mark.parametrize("kind", ["uniform", "as in text"])
@pytest.mark.parametrize(
    ("vocabulary", "dtype"),
    [
        *[(v, d) for v in (4, 65, 200) for d in ("u1", "<u2", "<u4", "<i8")],
        *[(v, d) for v in (50_257,) for d in ("<u2", "<u4", "<i4", "<i8")],
        *[(v, d) for v in (128_256, 262_144) for d in ("<u4", "<i8")],
    ],
)
def test_the_width_is_found(tmp_path: Path, vocabulary: int, dtype: str, kind: str) -> None:
    tokens = ids(vocabulary, kind)
    path = written(tmp_path, tokens, dtype)
    corpus = load_corpus(path, vocab_size=vocabulary)
    assert np.array_equal(np.concatenate((corpus.train, corpus.validation)), tokens)
    assert corpus.vocab_size == vocabulary
    if vocabulary <= 256 and dtype != "u1":  # without a vocabulary too
        found = load_corpus(path)
        assert np.array_equal(np.concatenate((found.train, found.validation)), tokens)


@pytest.mark.parametrize("vocabulary", [4, 65, 50_257, 65_536])
@pytest.mark.parametrize("dtype", [">u2", ">u4"])
def test_the_other_byte_order_is_refused(tmp_path: Path, vocabulary: int, dtype: str) -> None:
    path = written(tmp_path, ids(vocabulary, "as in text"), dtype)
    with pytest.raises(DataError, match=f"most significant byte.*{dtype}.*tofile"):
        load_corpus(path, vocab_size=vocabulary)


@pytest.mark.parametrize(
    ("magic", "version", "dtype"), [(20240520, 1, "<u2"), (20240801, 7, "<u4"), (20250211, 1, "<u2")]
)
def test_headers_of_llm_c(tmp_path: Path, magic: int, version: int, dtype: str) -> None:
    tokens = ids(50_257, "as in text")
    path = written(tmp_path, tokens, dtype, header(magic, N, version))
    corpus = load_corpus(path, vocab_size=50_257)
    assert np.array_equal(np.concatenate((corpus.train, corpus.validation)), tokens)
    assert isinstance(corpus.train, np.memmap)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"header|announces"):
        load_corpus(path, vocab_size=50_257)


def test_a_header_that_contradicts_what_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, ids(50_257, "uniform"), "<u4", header(20240801, N))
    with pytest.raises(DataError, match=r"32 bits .header 20240801.*dtype='uint16'.*leave dtype out"):
        load_corpus(path, vocab_size=128_256, dtype="uint16")


def test_the_index_of_megatron_says_the_type(tmp_path: Path) -> None:
    tokens = ids(200, "uniform")
    path = written(tmp_path, tokens, "<i4")
    path.with_suffix(".idx").write_bytes(b"MMIDIDX\0\0" + struct.pack("<QB", 1, 4) + b"\0" * 16)
    corpus = load_corpus(path, vocab_size=200)
    assert np.array_equal(np.concatenate((corpus.train, corpus.validation)), tokens)
    path.with_suffix(".idx").write_bytes(b"MMIDIDX\0\0" + struct.pack("<QB", 1, 7) + b"\0" * 16)
    with pytest.raises(DataError, match="not integers"):
        load_corpus(path, vocab_size=200)


def test_what_is_said_is_obeyed_unless_it_cannot_be(tmp_path: Path) -> None:
    tokens = ids(200, "uniform")
    path = written(tmp_path, tokens, "u1")
    assert len(load_corpus(path, dtype="uint8").train) == N * 95 // 100
    path = written(tmp_path, tokens, "<u4")
    for said in ("uint8", "uint16"):
        with pytest.raises(DataError, match="every second item.*wider"):
            load_corpus(path, dtype=said)
    with pytest.raises(DataError, match=r"dtype='float32'.*uint8, uint16, uint32 or int64"):
        load_corpus(path, dtype="float32")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Plain text, not tokens.\n" * 3000, "cannot be seen.*look like text.*--token-dtype.*name it .txt"),
        (ids(200, "uniform").astype("u1").tobytes(), "cannot be seen.*8-bit ids.*--token-dtype"),
        (ids(65_536, "uniform").astype("<u2").tobytes(), "cannot be seen.*--token-dtype"),
        (ids(50_257, "uniform").astype("<u4").tobytes()[:-2], "32 bits.*119,998 bytes.*truncated"),
        (ids(50_257, "uniform").astype("<u2").tobytes()[:-1], "not a multiple of 2.*truncated"),
        (np.where(np.arange(N) % 50, ids(50_257, "uniform"), -100).astype("<i4").tobytes(), "cannot be seen"),
        (b"PK\x03\x04" + b"\1\2\3\4" * 5000, "zip archive"),
        (b"\x93NUMPY" + b"\1\2\3\4" * 5000, "name it .npy"),
        (b"\x1f\x8b" + b"\1\2\3\4" * 5000, "gzip"),
        (b"", "is empty"),
    ],
)
def test_what_is_ambiguous_or_damaged_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_corpus(tmp_path / "x.bin", vocab_size=65_536)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", ">u2", "i4", ">i4", "u4", "i8", ">i8", "u8"])
def test_every_integer_of_numpy(tmp_path: Path, dtype: str) -> None:
    tokens = ids(100, "uniform")
    np.save(tmp_path / "t.npy", tokens.astype(dtype))
    corpus = load_corpus(tmp_path / "t.npy", vocab_size=100)
    assert np.array_equal(np.concatenate((corpus.train, corpus.validation)), tokens)
    assert corpus.train.dtype.isnative
    import torch

    from nas_bo.model.inference import as_tensor

    assert as_tensor(corpus.batches(0, 1, 2, 8)[0], torch.device("cpu")).dtype == torch.int64


def test_arrays_that_are_no_tokens(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    for array in (np.zeros(5000, bool), np.zeros(5000, "f4"), np.zeros((2, 5000), int), np.empty(0, int)):
        np.save(path, array)
        with pytest.raises(DataError, match=r"1 dimension and .* as uint16|2 dimensions .*reshape|too short"):
            load_corpus(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="does not hold tokens"):
        load_corpus(path)
    np.save(path, ids(100, "uniform"))
    with pytest.raises(DataError, match=r"holds int64.*dtype='uint16'.*leave dtype out"):
        load_corpus(path, dtype="uint16")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="does not hold tokens"):
        load_corpus(path)


def test_ids_are_bytes_only_if_it_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, ids(65, "as in text"), "<u2")
    corpus = load_corpus(path)
    assert corpus.tokenizer == "tokens" and corpus.unit == "bits/token" and "bytes not known" in corpus.describe()
    said = load_corpus(path, tokenizer="bytes")
    assert said.tokenizer == "bytes" and said.unit == "bits/byte" and said.fingerprint == corpus.fingerprint
    assert ValidationLoss(data=str(path)).unit == "bits/token"
    assert ValidationLoss(data=str(path), tokenizer="bytes").unit == "bits/byte"
    assert ValidationLoss(data="text.txt").unit == ValidationLoss().unit == "bits/byte"
    assert ValidationLoss(data=str(path)).larger(2).unit == "bits/token"
    with pytest.raises(DataError, match="whose ids are bytes"):
        load_corpus(path, tokenizer="bytes", vocab_size=65)


def test_a_vocabulary_makes_large_ids_a_loss_per_token(tmp_path: Path) -> None:
    path = written(tmp_path, ids(50_257, "as in text"), "<u2")
    with pytest.raises(DataError, match=r"--tokenizer.*--vocab-size.*bits per token"):
        load_corpus(path)
    loss = ValidationLoss(data=str(path), vocab_size=50_257)
    assert loss.corpus().vocab_size == 50_257 and loss.unit == loss.corpus().unit == "bits/token"
    with pytest.raises(DataError, match="outside 0 to 999"):
        load_corpus(path, vocab_size=1000)


@pytest.mark.parametrize("vocab_size", [0, 1, -3, True, 2.5, "65", 10**9])
def test_a_vocabulary_is_a_number_of_ids(tmp_path: Path, vocab_size: object) -> None:
    path = written(tmp_path, ids(65, "uniform"), "<u2")
    with pytest.raises(DataError, match=r"--vocab-size.*from 2 to"):
        load_corpus(path, vocab_size=vocab_size)  # type: ignore[arg-type]


def test_the_loss_of_wide_ids_is_that_of_narrow_ones(tmp_path: Path) -> None:
    """32-bit ids were read as twice as many 16-bit ones, half of them zero, which are easy to predict."""
    from nas_bo.model import train
    from nas_bo.search_spaces import TinyGPT

    tokens = ids(65, "as in text")
    found = []
    for dtype in ("<u2", "<u4"):
        corpus = load_corpus(written(tmp_path, tokens, dtype), vocab_size=65)
        found.append(train(TinyGPT.sample(0), corpus, 4000, seed=0).bits_per_byte)
    assert found[0] == found[1]
