"""Documents that somebody else may have written: whatever is wrong with one becomes a single error that says so."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from nas_bo.errors import NasBoError

P = ParamSpec("P")
R = TypeVar("R")
WRONG = (TypeError, KeyError, AttributeError, ValueError, IndexError, ArithmeticError, RecursionError)


def reading(what: str, error: type[NasBoError]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator of a function that reads `what`: it returns what it has read or raises `error`, and nothing else.

    Args:
        what: with its article, such as "the JSON of an architecture".
    """

    def decorate(read: Callable[P, R]) -> Callable[P, R]:
        @wraps(read)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return read(*args, **kwargs)
            except error:
                raise
            except NasBoError as cause:
                raise error(f"{what} is wrong: {cause}") from cause
            except WRONG as cause:
                raise error(
                    f"this is not {what}, or it is damaged ({type(cause).__name__}: {cause!s:.200}); give one that nas_bo wrote"
                ) from cause

        return wrapped

    return decorate
