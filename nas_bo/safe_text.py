"""Texts that others have made, fit to be shown and stored.

A name, a message or a model's answer may have signs that change a terminal, halves of characters that no file can be written with,
or no end. Terminals, tables, pages, pictures, logs and stores get it through here.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from nas_bo.errors import NasBoError
from nas_bo.redaction import redacted

LONGEST_MESSAGE = 2000  # characters
DEEPEST = 20  # levels of nested data
_TURNING = {*map(chr, (0x061C, 0x200E, 0x200F)), *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def is_printed(c: str) -> bool:
    """Not control characters, line separators, halves of characters, and signs that turn the direction of writing."""
    return unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") and c not in _TURNING


def printable(text: object, keep: str = "") -> str:
    """The text with characters that would change a terminal, or break a line, written out (``\\n``).

    Args:
        keep: characters that stay.
    """
    found = text if isinstance(text, str) else str(text)
    if found.isascii() and found.isprintable():
        return found
    return "".join(
        c if c in keep or is_printed(c) else c.encode("unicode_escape", "backslashreplace").decode() for c in found
    )


def lines(text: object) -> str:
    """The same of several lines: their ends and tabulators stay."""
    return printable(text, "\n\t")


def message(error: BaseException) -> str:
    """What an exception says, in one bounded line without secrets, whatever its ``__str__`` does."""
    try:
        said = str(error)
    except Exception as another:
        said = f"its message cannot be made: {type(another).__name__} in __str__"
    text = printable(" ".join(redacted(said[: 4 * LONGEST_MESSAGE]).split()))
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 1]}…"


def told(error: BaseException) -> str:
    """The same, with the kind of the exception in front where it is not one of nas_bo's own."""
    return message(error) if isinstance(error, NasBoError) else f"{type(error).__name__}: {message(error)}".rstrip(": ")


def plain(data: Any, depth: int = 0) -> Any:
    """Data that any JSON holds and any terminal shows: numbers that are not finite and what JSON does not know as text.

    What is nested deeper than `DEEPEST` levels becomes its own text.
    """
    if data is None or isinstance(data, (bool, int)):
        return data
    if isinstance(data, float):
        return float(data) if math.isfinite(data) else str(float(data))
    if isinstance(data, str):
        return lines(data)
    if depth < DEEPEST and isinstance(data, Mapping):
        return {printable(key): plain(value, depth + 1) for key, value in data.items()}
    if depth < DEEPEST and isinstance(data, (list, tuple)):
        return [plain(value, depth + 1) for value in data]
    try:
        listed = data.tolist()  # of numpy and torch
    except Exception:
        return _text(data)
    return plain(listed, depth + 1) if depth < DEEPEST else _text(data)


def _text(data: object) -> str:
    try:
        return lines(str(data)[:LONGEST_MESSAGE])
    except Exception as error:
        return f"a {type(data).__name__} that has no text ({type(error).__name__})"
