"""Files of token ids, ``.bin`` and ``.npy``, memory-mapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_bo.errors import DataError
from nas_bo.model import token_width
from nas_bo.validated import Check, check_values, whole_number
from nas_bo.wording import counted

SUFFIXES = (".bin", ".npy")
LARGEST = 1 << 24  # token ids that an embedding may have
VOCABULARY = Check(
    f"a whole number (--vocab-size) from 2 to {LARGEST:,}, or None",
    whole_number(2, LARGEST).or_none().holds,
    "it is one more than the largest token id",
)

Tokens = NDArray[np.integer]


def check_vocab_size(vocab_size: object) -> None:
    """Raise DataError unless it is None or a number of ids that a model can have."""
    check_values("load_corpus", DataError, VOCABULARY, vocab_size=vocab_size)


def read_tokens(path: Path, dtype: str | None, vocab_size: int | None, shortest: int) -> tuple[Tokens, int]:
    """The tokens of a file and the largest id among them.

    Args:
        dtype: the type of the items of a ``.bin``; None finds out. A ``.npy`` says it itself.
        vocab_size: the number of ids, where it is known.
        shortest: the least number of tokens.

    Raises:
        DataError: it cannot be read, or does not hold tokens of that vocabulary.
    """
    try:
        if path.suffix.lower() == ".npy":
            tokens, why = _numpy(path, dtype), "the header of .npy"
        else:
            form = token_width.form_of(path, dtype, vocab_size)
            tokens, why = np.memmap(path, form.dtype, "r", offset=form.skip), form.why
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read ({error.strerror or error}); check its permissions") from None
    except (ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name!r} does not hold tokens ({error}); write it with numpy.save or tofile") from None
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        rows = "write array.reshape(-1) if its rows follow one another, and without padding"
        what = rows if tokens.dtype.kind in "iu" else "write token ids as uint16 or uint32, text as a text file"
        raise DataError(
            f"{path.name!r} holds an array of {counted(tokens.ndim, 'dimension')} and type {tokens.dtype}; tokens are one dimension of "
            f"integers: {what}"
        )
    if len(tokens) < shortest:
        raise DataError(
            f"{path.name!r} is too short: {counted(len(tokens), 'token')}, where at least {shortest} are needed"
        )
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= (vocab_size or LARGEST):
        bits = 8 * tokens.dtype.itemsize
        said = f"read as {bits}-bit integers ({why}), {path.name!r} has token ids from {low} to {high}, outside 0 to "
        said += f"{(vocab_size or LARGEST) - 1}"
        swapped = ""
        if path.suffix.lower() != ".npy":
            swapped = token_width.big_endian(token_width.sample(path), tokens.dtype.itemsize, vocab_size or LARGEST)
        raise DataError(
            f"{said}; {swapped or 'give the tokenizer that made them, or the right vocab_size; for a .bin, ' + token_width.SAY}"
        )
    if not tokens.dtype.isnative:
        tokens = tokens.astype(tokens.dtype.newbyteorder("="))
    return tokens, high


def _numpy(path: Path, dtype: str | None) -> Tokens:
    found: Tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    if dtype is not None and np.dtype(found.dtype).name != dtype:
        raise DataError(
            f"{path.name!r} holds {found.dtype}, and dtype={dtype!r} was given; a .npy says its type itself: leave dtype out"
        )
    return found
