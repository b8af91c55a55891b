"""Corpora: text or tokens in, one fixed stream of batches out.

Every candidate of a study sees the same windows in the same order (common random numbers), and quality is bits per
byte on held-out text, so that tokenizers compare.
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nas_bo.errors import DataError, MissingExtra

VALIDATION_PERCENT = 5
SHORTEST = 1024
"""A corpus needs at least so many tokens to train on, and 1/8 of it to validate on."""

BLOCKS = 20  # a single text is cut into so many blocks, and the end of each is held out
STANDARD_LIBRARY_WITHOUT = frozenset(
    ("test", "tests", "site-packages", "dist-packages", "idlelib", "encodings", "pydoc_data", "distutils", "lib2to3",
     "ensurepip", "__pycache__")
)  # fmt: skip

Tokens = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A stream of tokens to train on and one to validate on.

    Attributes:
        name: where it came from, without the folder.
        train, validation: token ids, one-dimensional, unsigned integers (possibly memory-mapped).
        vocab_size: number of token ids.
        train_bytes, validation_bytes: the UTF-8 bytes that the tokens stand for.
        tokenizer: "bytes", or the name of the tokenizer's file, or "tokens" if they came ready-made.
    """

    name: str
    train: Tokens = field(repr=False)
    validation: Tokens = field(repr=False)
    vocab_size: int
    train_bytes: int
    validation_bytes: int
    tokenizer: str = "bytes"

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
        """Mean bytes that one held-out token stands for; 1.0 for bytes."""
        return self.validation_bytes / len(self.validation)

    def part(self, share: float) -> Corpus:
        """The same corpus with the first `share` (above 0, at most 1) of its training text, and all of its held-out
        text; the text's bytes are taken in proportion.

        Raises:
            DataError: the share is out of range, or leaves too little to train on.
        """
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise DataError(f"data_share={share!r} must be a share of the training text, above 0 and at most 1")
        count = round(share * len(self.train))
        if count < SHORTEST:
            raise DataError(
                f"data_share={share!r} of {self.name!r} leaves {count} tokens to train on, and {SHORTEST} are the least; "
                "use a larger share or more text"
            )
        return replace(self, train=self.train[:count], train_bytes=round(share * self.train_bytes))

    def describe(self) -> str:
        """One line for logs and reports."""
        return (
            f"{self.name}: {len(self.train):,} training and {len(self.validation):,} validation tokens "
            f"({self.tokenizer}, vocabulary {self.vocab_size}, {self.bytes_per_token:.2f} bytes per token), "
            f"sha256 {self.fingerprint[:12]}"
        )

    def batches(self, start: int, count: int, batch: int, sequence: int, seed: int = 0) -> np.ndarray[Any, Any]:
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

    def held_out(self, tokens: int, sequence: int) -> np.ndarray[Any, Any]:
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
                f"the {part} part of {self.name!r} has {length} tokens, fewer than one window of sequence + 1 = "
                f"{sequence + 1}; use a shorter sequence or more text"
            )


def load_corpus(
    data: str | Path | None = None, tokenizer: str | Path | None = None, vocab_size: int | None = None
) -> Corpus:
    """Read a corpus.

    Args:
        data: None for the source of Python's standard library as installed here (about 11 MB; its content differs
            between Python versions: see `Corpus.fingerprint`). Else a text file, a folder of text files, a `.jsonl`
            file (its field "text"), or tokens: a `.npy` file of integers, or a `.bin` file of unsigned 16-bit
            little-endian integers (nanoGPT's form), of 8 bits if `vocab_size` is at most 256.
        tokenizer: None for bytes; else a JSON file of the package `tokenizers`. With token files it is only read for
            its vocabulary and for the bytes that tokens stand for.
        vocab_size: for token files only: the number of ids.

    Folders, `.jsonl` and the standard library are split by a hash of the file's relative name (or the record), so that
    a file stays on its side when others come or go: 5 % of them are held out. A single text is cut into 20 blocks and
    the last 5 % of each held out; of a token file the last 5 %, which leaves it memory-mapped. Short ones (below 20,000
    tokens) hold out 15 %.

    Raises:
        DataError: data or tokenizer are missing, unreadable, empty, too short, or not text.
        MissingExtra: a tokenizer was given and the package `tokenizers` is not installed.
    """
    encoder = None if tokenizer is None else _Encoder(Path(tokenizer))
    if data is None:
        folder = Path(sysconfig.get_path("stdlib"))
        return _from_texts("python standard library", _standard_library(folder), encoder)
    path = Path(data)
    if not path.exists():
        raise DataError(f"there is no file or folder {str(path)!r}; give a text file, a folder, .jsonl, .bin or .npy")
    if path.suffix in (".bin", ".npy"):
        return _from_tokens(path, encoder, vocab_size)
    if vocab_size is not None:
        raise DataError(
            f"vocab_size={vocab_size} was given for the text {path.name!r}; it is for .bin and .npy files, a text "
            "takes its vocabulary from the tokenizer"
        )
    if path.is_dir():
        return _from_texts(path.name, _folder(path), encoder)
    if path.suffix == ".jsonl":
        return _from_texts(path.name, _records(path), encoder)
    return _from_blocks(path.name, _text(path, path.name), encoder)


# ---- texts --------------------------------------------------------------------------------------------------------


def _standard_library(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in _walk(folder, STANDARD_LIBRARY_WITHOUT):
        if path.suffix == ".py":
            try:
                yield path.relative_to(folder).as_posix(), path.read_bytes()
            except OSError:
                continue


def _folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All text files below; files that are not text are passed over, as in any folder of sources."""
    for path in _walk(folder, frozenset(("__pycache__",))):
        content = _read(path)
        if content and _why_not_text(content) is None:
            yield path.relative_to(folder).as_posix(), content


def _walk(folder: Path, without: frozenset[str]) -> Iterator[Path]:
    """Files below, sorted by name; no hidden ones."""
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DataError(
            f"the folder {str(folder)!r} cannot be read ({error.strerror}); check its permissions"
        ) from None
    for path in entries:
        if path.name.startswith(".") or path.name in without or path.is_symlink():
            continue
        if path.is_dir():
            yield from _walk(path, without)
        elif path.is_file():
            yield path


def _records(path: Path) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(_text(path, path.name).decode().split("\n"), 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
            content = text.encode()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"line {number} of {path.name!r} is no JSON object with a field text ({type(error).__name__}: "
                f"{line[:40]!r}...); write one such object per line"
            ) from None
        yield hashlib.sha1(content).hexdigest(), content


def _text(path: Path, name: str) -> bytes:
    content = _read(path)
    if not content:
        raise DataError(f"{name!r} is empty; a corpus needs at least {SHORTEST} tokens")
    why = _why_not_text(content)
    if why is not None:
        raise DataError(
            f"{name!r} is not text: {why}; give UTF-8 text, or tokens as .bin or .npy with the tokenizer that made them"
        )
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read ({error.strerror}); check its permissions") from None


def _why_not_text(content: bytes) -> str | None:
    if b"\0" in content:
        return f"it has a NUL byte at {content.index(0):,}"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start:,} is not UTF-8"
    return None


def _from_texts(name: str, texts: Iterable[tuple[str, bytes]], encoder: _Encoder | None) -> Corpus:
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for key, content in texts:
        parts[int(hashlib.sha1(key.encode()).hexdigest(), 16) % 100 < VALIDATION_PERCENT].append(content)
    train, validation = (b"\n".join(part) for part in parts)
    if parts[0] and not parts[1] and len(train) >= SHORTEST:  # too few files for 5 % of them: cut the text instead
        return _from_blocks(name, train, encoder)
    return _from_bytes(name, train, validation, encoder)


def _from_blocks(name: str, text: bytes, encoder: _Encoder | None) -> Corpus:
    if encoder is None:
        tokens = np.frombuffer(text, np.uint8)
        return _checked(name, *_cut(tokens), 256, "bytes", None)
    train, validation = _cut(np.frombuffer(text, np.uint8))  # a cut character is replaced by the decoder
    return _from_bytes(name, train.tobytes(), validation.tobytes(), encoder)


def _from_bytes(name: str, train: bytes, validation: bytes, encoder: _Encoder | None) -> Corpus:
    if encoder is None:
        return _checked(name, np.frombuffer(train, np.uint8), np.frombuffer(validation, np.uint8), 256, "bytes", None)
    sizes = len(train), len(validation)
    return _checked(name, encoder.encode(train), encoder.encode(validation), encoder.size, encoder.name, sizes)


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
    name: str, train: Tokens, validation: Tokens, vocab_size: int, tokenizer: str, sizes: tuple[int, int] | None
) -> Corpus:
    if len(train) + len(validation) == 0:
        raise DataError(f"{name!r} holds no text at all; give a file or folder with at least {SHORTEST} tokens")
    if len(train) < SHORTEST or len(validation) < SHORTEST // 8:
        raise DataError(
            f"{name!r} is too short: {len(train)} training and {len(validation)} validation tokens, where at least "
            f"{SHORTEST} and {SHORTEST // 8} are needed; give more text"
        )
    train_bytes, validation_bytes = sizes or (len(train), len(validation))
    return Corpus(name, train, validation, vocab_size, train_bytes, validation_bytes, tokenizer)


# ---- tokens -------------------------------------------------------------------------------------------------------


def _from_tokens(path: Path, encoder: _Encoder | None, vocab_size: int | None) -> Corpus:
    if vocab_size is None and encoder is not None:
        vocab_size = encoder.size
    try:
        if path.suffix == ".npy":
            tokens = np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.stat().st_size == 0:
            raise DataError(f"{path.name!r} is empty; a corpus needs at least {SHORTEST} tokens")
        else:
            small = vocab_size is not None and vocab_size <= 256
            tokens = np.memmap(path, np.uint8 if small else np.dtype("<u2"), "r")
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read ({error.strerror or error}); check its permissions") from None
    except ValueError as error:
        raise DataError(f"{path.name!r} does not hold tokens ({error}); write it with numpy.save or tofile") from None
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise DataError(
            f"{path.name!r} holds an array of {tokens.ndim} dimensions and type {tokens.dtype}; tokens are one "
            "dimension of integers"
        )
    if len(tokens) < 2 * SHORTEST:
        raise DataError(f"{path.name!r} is too short: {len(tokens)} tokens, where at least {2 * SHORTEST} are needed")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or (vocab_size is not None and high >= vocab_size):
        raise DataError(
            f"{path.name!r} has token ids from {low} to {high}, outside 0 to {(vocab_size or high + 1) - 1}; give the "
            "tokenizer that made them"
        )
    if encoder is None and high > 255:
        raise DataError(
            f"{path.name!r} has token ids up to {high}, so its tokens are not bytes, and bits per byte cannot be told "
            "without the tokenizer that made them; pass tokenizer=, the path of its JSON file"
        )
    train, validation = _cut(tokens, blocks=1)
    if encoder is None:
        return _checked(path.name, train, validation, vocab_size or 256, "bytes", None)
    sizes = encoder.count_bytes(train), encoder.count_bytes(validation)
    return _checked(path.name, train, validation, vocab_size or encoder.size, encoder.name, sizes)


class _Encoder:
    """A JSON file of the package `tokenizers`."""

    def __init__(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtra("tokenizers", "data") from None
        if not path.is_file():
            raise DataError(f"there is no tokenizer file {str(path)!r}; give the path of a tokenizer.json")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises plain Exception
            raise DataError(
                f"{path.name!r} is no tokenizer ({str(error)[:80]}); give a JSON file of the package tokenizers"
            ) from None
        self.name = path.name
        self.size: int = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    def encode(self, text: bytes) -> Tokens:
        lines = text.decode(errors="replace").splitlines(keepends=True)
        pieces = ["".join(lines[i : i + 200]) for i in range(0, len(lines), 200)]
        ids = [np.asarray(one.ids, np.uint32) for one in self._tokenizer.encode_batch(pieces, add_special_tokens=False)]
        return np.concatenate(ids) if ids else np.empty(0, np.uint32)

    def count_bytes(self, tokens: Tokens) -> int:
        pieces = [tokens[i : i + 4096].tolist() for i in range(0, len(tokens), 4096)]
        return sum(len(text.encode()) for text in self._tokenizer.decode_batch(pieces, skip_special_tokens=False))
