"""Numbers and their nouns in messages, pages and files: ``1 trial``, ``2 trials``."""

from __future__ import annotations


def plural(n: float, one: str, many: str = "") -> str:
    """The form of a word that agrees with a number: `one` for 1, else `many`, by default `one` with an s. A verb may be part of it."""
    return one if n == 1 else many or f"{one}s"


def counted(n: int, one: str, many: str = "") -> str:
    """A whole number, with commas between thousands, and the noun that agrees with it."""
    return f"{n:,} {plural(n, one, many)}"
