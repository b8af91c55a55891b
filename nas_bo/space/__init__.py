"""ROOM 1, the language: what a search space is. Pure Python and numpy; does not know about models or hosts."""

from nas_bo.space.constraint import require
from nas_bo.space.domain import choice, integer, option, real, repeat
from nas_bo.space.space import Space

__all__ = [
    "Space", "choice", "integer", "option", "real", "repeat", "require",
]  # fmt: skip
