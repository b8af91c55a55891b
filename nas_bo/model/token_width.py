"""How wide the items of a file of tokens are: from what is known about its form, else from its bytes.

A file of tokens has no type. Read with the wrong width it still gives numbers: 32-bit ids read as 16-bit ones are twice as
many tokens, every second one zero. What gives it away is that neighbouring tokens of a text are alike in distribution:
where items at even and at odd places are not, an item is wider than that.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_bo.errors import DataError
from nas_bo.wording import counted

NAMES = {"uint8": 1, "uint16": 2, "uint32": 4, "int64": 8}
LARGEST_VOCABULARY = 1 << 20  # an id beyond is read with the wrong width, unless a vocabulary says otherwise
SAMPLE = 1 << 21  # bytes that are looked at
DIFFERENT = 0.1  # total variation between even and odd places; below, they are alike
ZEROS = 0.05  # by which zeros are more frequent in the more significant byte
SHOWS_TEXT = 4096  # bytes in which 16-bit ids would have shown one that no text has
SIGMAS = 6.0  # and it must not be chance

LLM_C = {20240520: 2, 20240801: 4}  # karpathy/llm.c, dev/data/data_common.py: GPT-2 and Llama 3
LLM_C_HEADER = 1024  # bytes: 256 32-bit integers; the third is the number of tokens
NOT_TOKENS = {
    b"PK\x03\x04": "a zip archive, as torch.save writes",
    b"\x1f\x8b": "compressed with gzip; decompress it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstandard; decompress it first",
    b"\x93NUMPY": "an array of numpy; name it .npy",
    b"PAR1": "a Parquet file; name it .parquet",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"GGUF": "a model in GGUF",
    b"\x7fELF": "a program",
}
MEGATRON = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}  # codes in the .idx next to a .bin

SAY = "say it with dtype= (--token-dtype): uint8, uint16, uint32 or int64"


@dataclass(frozen=True)
class Form:
    """How to read a file of tokens: the type of an item, bytes before the first, and how that is known."""

    dtype: np.dtype[np.integer]
    skip: int
    why: str


def form_of(path: Path, dtype: str | None, vocab_size: int | None) -> Form:
    """The form of a ``.bin`` file.

    Args:
        dtype: what the user says: a key of `NAMES`; None finds out.
        vocab_size: number of ids, where it is known.

    Raises:
        DataError: dtype is unknown or contradicts the file, the file is not a file of tokens, truncated, or ambiguous.
        OSError: it cannot be read.
    """
    if dtype is not None and dtype not in NAMES:
        raise DataError(f"dtype={dtype!r} is not a type of token ids; {SAY}")
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path.name!r} is empty; give a file of token ids")
    with path.open("rb") as file:
        head = file.read(LLM_C_HEADER)
    form = _with_header(path, head, size) or _megatron(path, size)
    if form is not None:
        if dtype is not None and NAMES[dtype] != form.dtype.itemsize:
            raise DataError(
                f"{path.name!r} holds items of {8 * form.dtype.itemsize} bits ({form.why}), and dtype={dtype!r} was given; "
                "leave dtype out"
            )
        return form
    for magic, what in NOT_TOKENS.items():
        if dtype is None and head.startswith(magic):
            raise DataError(f"{path.name!r} does not hold tokens: it begins like {what}")
    if dtype is None:
        return _found(path, size, vocab_size)
    _whole(path, size, NAMES[dtype], "")
    raw = _sample(path, size)
    if NAMES[dtype] < 8 and _padded(raw, NAMES[dtype]):
        raise DataError(
            f"every second item of {path.name!r} is zero when it is read as dtype={dtype!r}, so its items are wider; leave "
            f"dtype out, or say the width that it was written with"
        )
    return Form(_type(NAMES[dtype]), 0, f"dtype={dtype!r}")


def _with_header(path: Path, head: bytes, size: int) -> Form | None:
    """A header of 256 32-bit integers: magic, version, number of tokens, zeros."""
    if len(head) < LLM_C_HEADER:
        return None
    magic, version, count = struct.unpack("<iii", head[:12])
    rest = size - LLM_C_HEADER
    if magic in LLM_C:
        width = LLM_C[magic]
        if rest != count * width:
            raise DataError(
                f"{path.name!r} has the header {magic} of llm.c, which announces {counted(count, 'token')} of {8 * width} bits, and "
                f"{counted(rest, 'byte follows', 'bytes follow')} instead of {count * width:,}; it is truncated or damaged: write it again"
            )
        return Form(_type(width), LLM_C_HEADER, f"header {magic} of llm.c")
    if not 20230101 <= magic <= 20391231 or any(head[12:]):  # such magics are dates
        return None
    for width in (2, 4):  # version 1 of other programs in that style
        if count > 0 and rest == count * width:
            return Form(_type(width), LLM_C_HEADER, f"header {magic} in the style of llm.c")
    raise DataError(
        f"{path.name!r} begins with the header {magic}, version {version}, which is not a header of a file of tokens that is "
        f"known here, or announces {counted(count, 'token')} where {counted(rest, 'byte follows', 'bytes follow')}; write the tokens without a header"
    )


def _megatron(path: Path, size: int) -> Form | None:
    """The type that Megatron-LM's index next to the file names."""
    try:
        with path.with_suffix(".idx").open("rb") as file:
            head = file.read(18)
    except OSError:
        return None
    if len(head) < 18 or head[:9] != b"MMIDIDX\0\0":
        return None
    kind = MEGATRON.get(head[17])
    if kind is None:
        raise DataError(
            f"the index of {path.name!r} says that its items are not integers (code {head[17]}), so they are not token ids"
        )
    dtype = np.dtype(kind)
    _whole(path, size, dtype.itemsize, " as its .idx says")
    return Form(dtype, 0, "the .idx next to it")


def _found(path: Path, size: int, vocab_size: int | None) -> Form:
    raw = _sample(path, size)
    text = len(raw) >= SHOWS_TEXT and _is_text(raw)
    wider = [] if text or size % 2 else [width for width in (1, 2, 4) if _differ(raw, width)]
    if vocab_size is not None and vocab_size <= 256 and not wider:
        return Form(_type(1), 0, f"a vocabulary of {vocab_size}")
    if size % 2:
        raise DataError(
            f"{path.name!r} does not hold tokens of 16, 32 or 64 bits: its size, {counted(size, 'byte')}, is not a multiple of 2, so it "
            f"is truncated, or has a header that is unknown here, or holds 8-bit ids or text. For 8-bit ids {SAY}; name "
            "text .txt"
        )
    if not wider:
        raise DataError(
            f"how wide the ids in {path.name!r} are cannot be seen: its bytes look like {'text' if text else '8-bit ids'}, "
            f"and could be 16-bit ids; {SAY}, or name it .txt if it is text"
        )
    width = 2 * max(wider)
    if width > 2:
        _whole(path, size, width, ", which its empty upper halves announce")
    items = raw.view(f"<u{width}")
    if width == 2 and np.mean(raw[::2] == 0) > np.mean(raw[1::2] == 0) + ZEROS:
        raise DataError(
            f"the most significant byte seems to come first in {path.name!r} (its first bytes are more often zero than its "
            f"second ones): {big_endian(raw, width, 1 << 16)}, or, if it is not so, {SAY}"
        )
    most = max(vocab_size or 0, LARGEST_VOCABULARY)
    if width > 2 and int(items.max()) >= most and np.mean(items >= most) > 0.01:
        raise DataError(
            f"how wide the ids in {path.name!r} are cannot be seen: read as {8 * width}-bit integers they go up to "
            f"{int(items.max()):,}, and of {4 * width} bits neighbours differ in kind; {big_endian(raw, width, most) or SAY}"
        )
    return Form(_type(width), 0, "found from its bytes")


def big_endian(raw: NDArray[np.uint8], width: int, vocab_size: int) -> str:
    """The remedy where the bytes make sense only with the most significant one first; else nothing."""
    if width == 1 or int(raw.view(f">u{width}").max()) >= vocab_size:
        return ""
    return (
        "with the most significant byte first they are within the vocabulary: write it again with numpy.fromfile(path, "
        f"'>u{width}').astype('<u{width}').tofile(path)"
    )


def _type(width: int) -> np.dtype[np.integer]:
    return np.dtype("<i8") if width == 8 else np.dtype(f"<u{width}")


def _whole(path: Path, size: int, width: int, why: str) -> None:
    if size % width:
        raise DataError(
            f"{path.name!r} does not hold tokens of {8 * width} bits{why}: its size, {counted(size, 'byte')}, is not a multiple of "
            f"{width}; it is truncated, or has a header that is unknown here: write it again, or {SAY}"
        )


def sample(path: Path) -> NDArray[np.uint8]:
    """Bytes from all over the file, cut at multiples of 8."""
    return _sample(path, path.stat().st_size)


def _sample(path: Path, size: int) -> NDArray[np.uint8]:
    raw = np.memmap(path, np.uint8, "r")
    if size <= SAMPLE:
        return np.asarray(raw[: size // 8 * 8])
    part = SAMPLE // 8
    starts = np.linspace(0, size - part, 8).astype(np.int64) // 8 * 8
    return np.concatenate([raw[start : start + part] for start in starts])


def _padded(raw: NDArray[np.uint8], width: int) -> bool:
    """Whether (almost) every second item is zero and the others are not."""
    items = raw[: len(raw) // (2 * width) * 2 * width].view(f"<u{width}")
    return bool(len(items)) and bool(np.mean(items[1::2] == 0) > 0.99 and np.mean(items[::2] == 0) < 0.9)


def _differ(raw: NDArray[np.uint8], width: int) -> bool:
    """Whether items of this width at even places are distributed otherwise than those at odd places."""
    items = raw[: len(raw) // (2 * width) * 2 * width].view(f"<u{width}")
    if not len(items):
        return False
    if width > 1:  # by their number of bits: magnitude is what tells halves of one item apart
        items = np.frexp(items.astype(np.float64))[1].astype(np.uint8)
    even, odd = (np.bincount(part, minlength=256).astype(float) for part in (items[::2], items[1::2]))
    seen = even + odd > 0
    distance = float(np.abs(even - odd).sum() / 2 / even.sum())
    surprise = float(((even - odd)[seen] ** 2 / (even + odd)[seen]).sum())  # chi-squared of equal counts
    freedom = max(1, int(seen.sum()) - 1)
    return distance > DIFFERENT and surprise > freedom + SIGMAS * (2 * freedom) ** 0.5


def _is_text(raw: NDArray[np.uint8]) -> bool:
    return bool((((raw >= 32) & (raw != 127)) | np.isin(raw, (9, 10, 12, 13))).all())
