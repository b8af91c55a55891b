"""Corpora: text or tokens in, one fixed stream of batches out.

Every candidate of a study sees the same windows in the same order (common random numbers), and quality is bits per
byte on held-out text, so that tokenizers compare.
"""

from __future__ import annotations

import hashlib
import logging
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_bo.errors import DataError
from nas_bo.model.left_out import LeftOut
from nas_bo.model.text_files import COLUMNS, JSON_LINES, NotText, as_utf8, content_of, suffix_of, walk
from nas_bo.model.text_folder import folder_texts
from nas_bo.model.text_records import NoRecords, Reader, columns, json_lines, json_records
from nas_bo.model.token_file import SUFFIXES, Tokens, check_vocab_size, read_tokens
from nas_bo.model.tokenizer import Encoder
from nas_bo.validated import check_values, number
from nas_bo.wording import counted

VALIDATION_PERCENT = 5
SHORTEST = 1024
"""A corpus needs at least so many tokens to train on, and 1/8 of it to validate on."""

BLOCKS = 20  # a single text is cut into so many blocks, and the end of each is held out
STANDARD_LIBRARY_WITHOUT = frozenset(
    ("test", "tests", "site-packages", "dist-packages", "idlelib", "encodings", "pydoc_data", "distutils", "lib2to3",
     "ensurepip", "__pycache__")
)  # fmt: skip

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Corpus:
    """A stream of tokens to train on and one to validate on.

    Attributes:
        name: where it came from, without the folder.
        train, validation: token ids, one-dimensional, unsigned integers (possibly memory-mapped).
        vocab_size: number of token ids.
        train_bytes, validation_bytes: the UTF-8 bytes that the tokens stand for; their number of tokens where that is
            not known.
        tokenizer: "bytes", or the name of the tokenizer's file, or "tokens" if they came ready-made without one.
        left_out: what was not read and why, and what of the text the tokenizer does not keep; "" if nothing.
    """

    name: str
    train: Tokens = field(repr=False)
    validation: Tokens = field(repr=False)
    vocab_size: int
    train_bytes: int
    validation_bytes: int
    tokenizer: str = "bytes"
    left_out: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits: the sha256 of both token streams. Results of different fingerprints do not compare."""
        digest = hashlib.sha256(f"{self.vocab_size} {len(self.train)} {len(self.validation)} ".encode())
        for part in (self.train, self.validation):
            for start in range(0, len(part), 1 << 24):
                digest.update(np.ascontiguousarray(part[start : start + (1 << 24)], "<u4").data)
        return digest.hexdigest()

    @property
    def bytes_per_token(self) -> float:
        """Mean bytes that one held-out token stands for; 1.0 for bytes, and for tokens of which that is not known."""
        return self.validation_bytes / len(self.validation)

    @property
    def unit(self) -> str:
        """Of a loss on it: "bits/byte", or "bits/token" where the bytes that tokens stand for are not known."""
        return "bits/token" if self.tokenizer == "tokens" else "bits/byte"

    def part(self, share: float) -> Corpus:
        """The same corpus with the first `share` (above 0, at most 1) of its training text, and all of its held-out
        text; the text's bytes are taken in proportion.

        Raises:
            DataError: the share is out of range, or leaves too little to train on.
        """
        said = number(above=0, at_most=1).advise("it is a share of the training text")
        check_values("Corpus.part", DataError, said, data_share=share)
        count = round(share * len(self.train))
        if count < SHORTEST:
            raise DataError(
                f"data_share={share!r} of {self.name!r} leaves {counted(count, 'token')} to train on, and {SHORTEST} are the least; "
                "use a larger share or more text"
            )
        return replace(self, train=self.train[:count], train_bytes=round(share * self.train_bytes))

    def describe(self) -> str:
        """One line for logs and reports."""
        known = "bytes not known" if self.unit == "bits/token" else f"{self.bytes_per_token:.2f} bytes per token"
        return (
            f"{self.name}: {len(self.train):,} training and {counted(len(self.validation), 'validation token')} "
            f"({self.tokenizer}, vocabulary {self.vocab_size}, {known}), "
            f"sha256 {self.fingerprint[:12]}{f'; left out: {self.left_out}' if self.left_out else ''}"
        )

    def batches(self, start: int, count: int, batch: int, sequence: int, seed: int = 0) -> NDArray[np.integer]:
        """The training batches of steps start ... start + count - 1: (count, batch, sequence + 1) token ids; the
        first `sequence` columns are inputs, the last `sequence` targets.

        Windows are drawn uniformly with replacement. Those of a step depend on (seed, step) alone: not on the steps
        before, the process, or the candidate; a smaller batch gets the first windows of a larger one.

        Raises:
            DataError: the corpus is shorter than one window.
        """
        self._check_window(len(self.train), sequence, "training")
        starts = np.empty((count, batch), np.int64)
        for index in range(count):
            bits = np.random.Philox(key=seed % (1 << 64), counter=[0, start + index, 0, 0])
            starts[index] = bits.random_raw(batch) % np.uint64(len(self.train) - sequence)
        return np.asarray(self.train[starts[..., None] + np.arange(sequence + 1)])

    def held_out(self, tokens: int, sequence: int) -> NDArray[np.integer]:
        """(windows, sequence + 1) token ids, evenly spaced over the validation text, about `tokens` targets in all;
        fewer if the text is shorter. Always the same ones.

        Raises:
            DataError: the validation text is shorter than one window.
        """
        self._check_window(len(self.validation), sequence, "validation")
        most = (len(self.validation) - 1) // sequence
        count = max(1, min(most, tokens // sequence))
        starts = np.linspace(0, len(self.validation) - sequence - 1, count).astype(np.int64)
        return np.asarray(self.validation[starts[:, None] + np.arange(sequence + 1)])

    def _check_window(self, length: int, sequence: int, part: str) -> None:
        if length < sequence + 1:
            raise DataError(
                f"the {part} part of {self.name!r} has {counted(length, 'token')}, fewer than one window of sequence + 1 = "
                f"{sequence + 1}; use a shorter sequence or more text"
            )


def load_corpus(
    data: str | Path | None = None,
    tokenizer: str | Path | None = None,
    vocab_size: int | None = None,
    *,
    dtype: str | None = None,
    text_key: str | None = None,
) -> Corpus:
    """Read a corpus.

    Args:
        data: None for the source of Python's standard library as installed here (about 11 MB; its content differs
            between Python versions: see `Corpus.fingerprint`). Else a text file; records with a text each, `.jsonl`,
            `.ndjson`, `.json` (an array of objects), `.parquet` or `.arrow`; a folder of all these; or tokens: a `.npy`
            file of integers, or a `.bin` file of unsigned 16-bit little-endian integers (nanoGPT's form), or of 8, 32 or
            64 bits, with the header of llm.c or without one. Text may be compressed (`.gz`, `.bz2`, `.xz`).
        tokenizer: None for bytes; else a JSON file of the package `tokenizers`. With token files it is only read for
            its vocabulary and for the bytes that tokens stand for; the word "bytes" says that the ids of a token file
            are bytes. Token files without it have a loss per token, not per byte.
        vocab_size: for token files only: the number of ids.
        dtype: for `.bin` only: uint8, uint16, uint32 or int64; None finds out, and refuses what is ambiguous.
        text_key: the field of a record that holds its text; None is "text".

    Folders, records and the standard library are split by a hash of the file's relative name (or the record), so that
    a file stays on its side when others come or go: 5 % of them are held out. A single text is cut into 20 blocks and
    the last 5 % of each held out; of a token file the last 5 %, which leaves it memory-mapped. Short ones (below 20,000
    tokens) hold out 15 %.

    What is not read (files that are not text, hidden ones, records without text: at most 1 %) is logged as a warning and
    kept in `Corpus.left_out`.

    Raises:
        DataError: data or tokenizer are missing, unreadable, empty, too short, not text, or ambiguous; or the tokenizer
            loses text.
        MissingExtra: a tokenizer was given and the package `tokenizers` is not installed.
    """
    for option, given in (("data", data), ("tokenizer", tokenizer)):
        if given is not None and (not isinstance(given, (str, Path)) or not str(given).strip()):
            raise DataError(f"{option}={given!r} (--{option}) is not a path; give one, or leave the option out")
    check_vocab_size(vocab_size)
    path = None if data is None else Path(data)
    tokens = path is not None and path.suffix.lower() in SUFFIXES and not path.is_dir()
    said = tokenizer == "bytes"
    if path is not None:
        _check_path(path, tokens, vocab_size, dtype, text_key)
    elif vocab_size is not None or dtype is not None or text_key is not None:
        option = "vocab_size" if vocab_size is not None else "dtype" if dtype is not None else "text_key"
        typed = {"dtype": "--token-dtype"}.get(option, "--" + option.replace("_", "-"))
        raise DataError(
            f"{option} was given without data ({typed} without --data); the default corpus is text, read as it is"
        )
    encoder = None if tokenizer is None or said else Encoder(Path(tokenizer))
    left = LeftOut()
    if path is None:
        folder = Path(sysconfig.get_path("stdlib"))
        return _from_texts("python standard library", _standard_library(folder), encoder, left)
    if tokens:
        return _from_tokens(path, encoder, vocab_size, dtype, said)
    corpus = _read_texts(path, text_key, encoder, left)
    if corpus.left_out and parent_process() is None:  # workers read the same again
        logger.warning("corpus %s: left out %s", corpus.name, corpus.left_out)
    return corpus


def _check_path(path: Path, tokens: bool, vocab_size: int | None, dtype: str | None, text_key: str | None) -> None:
    try:
        there = path.exists()
    except (OSError, ValueError):
        there = False
    if not there:
        raise DataError(
            f"there is no file or folder {str(path)!r}; give a text file, a folder, .jsonl, .json, .parquet, .bin or .npy"
        )
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{str(path)!r} is neither a file nor a folder; write its content to a file and give that")
    if vocab_size is not None and not tokens:
        raise DataError(
            f"vocab_size={vocab_size} was given for the text {path.name!r}; it is for .bin and .npy files, a text "
            "takes its vocabulary from the tokenizer"
        )
    if dtype is not None and not tokens:
        raise DataError(f"dtype={dtype!r} was given for the text {path.name!r}; it is for .bin files of tokens")
    if text_key is not None and not (path.is_dir() or suffix_of(path.name) in (".json", *JSON_LINES, *COLUMNS)):
        raise DataError(
            f"text_key={text_key!r} was given for {path.name!r}, which has no records; it is for .jsonl, .json, .parquet, "
            "and folders of them"
        )


# ---- texts --------------------------------------------------------------------------------------------------------


def _standard_library(folder: Path) -> Iterator[tuple[str, bytes]]:
    passed = LeftOut()  # what else is installed there is no part of this corpus
    for name, path in walk(folder, STANDARD_LIBRARY_WITHOUT, passed, follow=False):
        if path.suffix == ".py":
            try:
                yield name, path.read_bytes()
            except OSError:
                continue


def _read_texts(path: Path, text_key: str | None, encoder: Encoder | None, left: LeftOut) -> Corpus:
    reader = Reader(path.name, text_key)
    if path.is_dir():
        return _from_texts(path.name, folder_texts(path, reader, left), encoder, left)
    suffix = suffix_of(path.name)
    if path.suffix.lower() in COLUMNS:
        return _from_texts(path.name, reader.texts(columns(path, path.name, text_key)), encoder, left, reader)
    content = _text(path)
    if suffix in JSON_LINES:
        return _from_texts(path.name, reader.texts(json_lines(path.name, content)), encoder, left, reader)
    if suffix == ".json":
        try:
            records = json_records(path.name, content, text_key)
        except NoRecords as error:
            raise DataError(
                f"{path.name!r} {error}; give an array of objects with a text each, one such object per line (.jsonl), or, "
                "where the JSON itself is the text to learn, name the file .txt"
            ) from None
        return _from_texts(path.name, reader.texts(records), encoder, left, reader)
    return _from_blocks(path.name, content, encoder)


def _text(path: Path) -> bytes:
    try:
        content = as_utf8(content_of(path))
    except NotText as error:
        raise DataError(
            f"{path.name!r} is not text: {error}; give UTF-8 text, or tokens as .bin or .npy with the tokenizer that made "
            "them"
        ) from None
    if not content:
        raise DataError(f"{path.name!r} is empty; a corpus needs at least {SHORTEST} tokens")
    return content


def _from_texts(
    name: str,
    texts: Iterable[tuple[str, bytes]],
    encoder: Encoder | None,
    left: LeftOut,
    reader: Reader | None = None,
) -> Corpus:
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for key, content in texts:
        parts[int(hashlib.sha1(key.encode()).hexdigest(), 16) % 100 < VALIDATION_PERCENT].append(content)
    if reader is not None:
        reader.check(left)
    train, validation = (b"\n".join(part) for part in parts)
    if not train and not validation and left:
        raise DataError(
            f"{name!r} holds no text at all; left out: {left}. Give a file or folder with at least {SHORTEST} tokens"
        )
    if parts[0] and not parts[1] and len(train) >= SHORTEST:  # too few files for 5 % of them: cut the text instead
        return _from_blocks(name, train, encoder, str(left))
    return _from_bytes(name, train, validation, encoder, str(left))


def _from_blocks(name: str, text: bytes, encoder: Encoder | None, left: str = "") -> Corpus:
    if encoder is None:
        tokens = np.frombuffer(text, np.uint8)
        return _checked(name, *_cut(tokens), 256, "bytes", None, left)
    train, validation = _cut(np.frombuffer(text, np.uint8))  # a cut character is replaced by the decoder
    return _from_bytes(name, train.tobytes(), validation.tobytes(), encoder, left)


def _from_bytes(name: str, train: bytes, validation: bytes, encoder: Encoder | None, left: str) -> Corpus:
    if encoder is None:
        whole = np.frombuffer(train, np.uint8), np.frombuffer(validation, np.uint8)
        return _checked(name, *whole, 256, "bytes", None, left)
    left = "; ".join(filter(None, (left, encoder.check_text(name, train + b"\n" + validation))))
    sizes = len(train), len(validation)
    return _checked(name, encoder.encode(train), encoder.encode(validation), encoder.size, encoder.name, sizes, left)


def _cut(tokens: Tokens, blocks: int = BLOCKS) -> tuple[Tokens, Tokens]:
    """Train and validation: the last 5 % of each block held out (one block and 15 % if the text is short)."""
    short = len(tokens) < 20 * SHORTEST
    share = 85 if short else 100 - VALIDATION_PERCENT
    if blocks == 1 or short:
        cut = len(tokens) * share // 100
        return tokens[:cut], tokens[cut:]
    edges = np.linspace(0, len(tokens), blocks + 1).astype(np.int64)
    cuts = edges[:-1] + (edges[1:] - edges[:-1]) * share // 100
    train = np.concatenate([tokens[a:b] for a, b in zip(edges[:-1], cuts, strict=True)])
    return train, np.concatenate([tokens[a:b] for a, b in zip(cuts, edges[1:], strict=True)])


def _checked(
    name: str,
    train: Tokens,
    validation: Tokens,
    vocab_size: int,
    tokenizer: str,
    sizes: tuple[int, int] | None,
    left: str = "",
) -> Corpus:
    if len(train) + len(validation) == 0:
        raise DataError(f"{name!r} holds no text at all; give a file or folder with at least {SHORTEST} tokens")
    if len(train) < SHORTEST or len(validation) < SHORTEST // 8:
        raise DataError(
            f"{name!r} is too short: {len(train)} training and {counted(len(validation), 'validation token')}, where at least "
            f"{SHORTEST} and {SHORTEST // 8} are needed; give more text"
        )
    train_bytes, validation_bytes = sizes or (len(train), len(validation))
    return Corpus(name, train, validation, vocab_size, train_bytes, validation_bytes, tokenizer, left)


# ---- tokens -------------------------------------------------------------------------------------------------------


def _from_tokens(path: Path, encoder: Encoder | None, vocab_size: int | None, dtype: str | None, said: bool) -> Corpus:
    """Tokens of a file; `said`: its ids are bytes."""
    limit = 256 if said else vocab_size if vocab_size is not None or encoder is None else encoder.size
    if said and vocab_size not in (None, 256):
        raise DataError(
            f"vocab_size={vocab_size} was given for {path.name!r}, whose ids are bytes; there are 256 of them"
        )
    tokens, high = read_tokens(path, dtype, limit, 2 * SHORTEST)
    if encoder is None and high > 255 and vocab_size is None:
        raise DataError(
            f"{path.name!r} has token ids up to {high}, so its tokens are not bytes, and bits per byte cannot be computed "
            "without the tokenizer that made them; pass tokenizer= (--tokenizer), the path of its JSON file, or vocab_size= "
            "(--vocab-size), the number of its ids: the loss is then in bits per token"
        )
    train, validation = _cut(tokens, blocks=1)
    if encoder is None and vocab_size is None and not said and high < 255:
        logger.warning(
            "%s has token ids up to %d only, and models get the default of 256: where that is all, vocab_size=%d (--vocab-size) makes "
            "them smaller and their losses lower; tokenizer='bytes' says that the ids are bytes",
            path.name,
            high,
            high + 1,
        )
    if encoder is None:
        return _checked(path.name, train, validation, limit or 256, "bytes" if said else "tokens", None)
    if high >= encoder.size:
        raise DataError(
            f"{path.name!r} has token ids up to {high}, and the tokenizer {encoder.name!r} only {encoder.size}; give the "
            "tokenizer that made them"
        )
    encoder.check_tokens(path.name, tokens)
    sizes = encoder.count_bytes(train), encoder.count_bytes(validation)
    return _checked(path.name, train, validation, limit or encoder.size, encoder.name, sizes)
