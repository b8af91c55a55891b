"""Options as they were typed, so that what is wrong is reported by the name of the option and not of an argument in Python."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from nas_bo.errors import SearchError

ALSO = {"tokens": ("budget", "reference_budget"), "dtype": ("dtype", "token_dtype")}  # arguments called otherwise
_ARGUMENT = re.compile(r"(?:\w+\()?(\w+)=([^()]+?)\)?: ")
_typed: dict[str, tuple[str, list[str]]] = {}  # parameter -> the option and its values, of the command that runs


@contextmanager
def remembered(options: Mapping[str, tuple[str, object]]) -> Iterator[None]:
    """While this lasts, errors name these options: parameter -> (option, value)."""
    _typed.clear()
    for name, (option, value) in options.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        _typed[name] = option, [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    try:
        yield
    finally:
        _typed.clear()


def by_option(text: str) -> str:
    """The text of an error, with the option and its value in front where it names neither the option nor any other that was
    typed: the one whose argument it begins with, else the only one whose value it has in it."""
    if any(re.search(rf"{option}(?![\w-])", text) for option, _ in _typed.values()):
        return text
    argument = _ARGUMENT.match(text)
    if argument is not None:
        for name in ALSO.get(argument[1], (argument[1],)):
            if name in _typed:
                option, values = _typed[name]
                return f"{option} {' '.join(values)}: {text[argument.end() :]}"
    found = [(option, value) for option, values in _typed.values() for value in values if value and _names(text, value)]
    if len(found) != 1:
        return text
    option, value = found[0]
    return f"{option} {text}" if text.startswith(f"{value}:") else f"{option} {value}: {text}"


def _names(text: str, value: str) -> bool:
    """Whether a text has the value in it. Words and numbers that may mean something else there ("2", "parameters") count where they are
    quoted, are given with an equals sign, or begin the text."""
    before = r"(?:^|(?<=['\"=]))" if re.fullmatch(r"[\w.+-]+", value) else r"(?<![\w.-])"
    return re.search(rf"{before}{re.escape(value)}(?![\w-])", text) is not None


HUGE = 1e300


def within(least: float, most: float = math.inf, what: str = "a whole number") -> Callable[..., object]:
    """The callback of an option whose numbers lie from `least` to `most` (raises SearchError)."""

    def check(param: typer.CallbackParam, value: Any) -> Any:
        for number in value if isinstance(value, (list, tuple)) else [] if value is None else [value]:
            if not (least <= number <= most and abs(number) < HUGE):  # a whole number may be larger than any float
                upto = f" and at most {most:,.10g}" if math.isfinite(most) else ""
                given = f"{number:g}" if not abs(number) >= HUGE or number == math.inf else "beyond 1e300"
                raise SearchError(f"{param.opts[0]} {given}: it must be {what} of at least {least:,.10g}{upto}")
        return value

    return check


def above_zero(param: typer.CallbackParam, value: float | None) -> float | None:
    """The callback of an option whose number is above 0 (raises SearchError)."""
    if value is not None and not 0 < value < math.inf:
        raise SearchError(f"{param.opts[0]} {value:g}: it must be a number above 0")
    return value
