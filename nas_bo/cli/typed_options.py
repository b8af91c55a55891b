"""Options as they were typed, so that what is wrong is reported by the name of the option and not of an argument in Python."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from nas_bo.errors import SearchError

ALSO = {
    "tokens": ("tokens", "budget", "reference_budget"), "dtype": ("dtype", "token_dtype"), "reference": ("reference_budget",),
    "history": ("storage",), "track": ("mlflow",), "uri": ("mlflow",), "corpus": ("data",), "channels": ("prune",),
    "teacher": ("teacher", "distill"), "executor": ("ray",), "address": ("ray",), "num_gpus": ("gpus_per_trial",),
    "num_cpus": ("cpus_per_trial",), "timeout": ("trial_timeout",), "patience": ("mlflow_patience",),
}  # fmt: skip
"""Arguments in Python whose options are called otherwise."""

FIELDS = ("heads", "layers", "depth", "width")
"""Of architectures as well: named without their function they are not options."""
_ARGUMENT = re.compile(r"(?:\w+\()?(\w+)=([^()]+?)\)?: ")
_FUNCTION = re.compile(r"^[a-z_]+\(\): ")
_BOTH = re.compile(r"(?:(\w+)=\S* \((--[\w-]+)\)|(--[\w-]+) \(\w+=\))")
_CALL = re.compile(r"\b[A-Za-z]\w*\((\w+)=((?:'[^']*'|[^(),'\s])*)\)")
_VALUE = re.compile(r"(?<![\w(.,{'-])([a-z_]+)=(\.\.\.|\[\.\.\.\]|'[^']*'|[\w.+-]*\w)(?![\w(=])")
_typed: dict[str, tuple[str, list[str]]] = {}  # parameter -> the option and its values, of the command that runs
_options: dict[str, str] = {}  # parameter -> the option, of all that the command has


@contextmanager
def remembered(options: Mapping[str, tuple[str, object]], every: Mapping[str, str] | None = None) -> Iterator[None]:
    """While this lasts, errors name these options: parameter -> (option, value).

    Args:
        every: parameter -> option of all that the command has, typed or not.
    """
    _options.clear()
    _options.update(every or {})
    _typed.clear()
    for name, (option, value) in options.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        _typed[name] = option, [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    try:
        yield
    finally:
        _typed.clear()
        _options.clear()


def by_option(text: str) -> str:
    """The text of an error, with options where it has arguments of Python, and with the option and its value in front where it names neither
    the option nor any other that was typed: the one whose argument it begins with, else the only one whose value it has in it."""
    text = _in_options(_headed(_FUNCTION.sub("", text)))
    if any(re.search(rf"{option}(?![\w-])", text) for option, _ in _typed.values()):
        return text
    found = [(option, value) for option, values in _typed.values() for value in values if value and _names(text, value)]
    if len(found) != 1:
        return text
    option, value = found[0]
    return f"{option} {text}" if text.startswith(f"{value}:") else f"{option} {value}: {text}"


def _option(argument: str) -> str | None:
    """The option that is called so in Python; None where the command has none."""
    return next((_options[name] for name in ALSO.get(argument, (argument,)) if name in _options), None)


def _headed(text: str) -> str:
    """A text that begins with an argument, ``validate(history='x'): ``, with the option instead, and what was typed for it."""
    argument = _ARGUMENT.match(text)
    if argument is None:
        return text
    for name in ALSO.get(argument[1], (argument[1],)):
        if name in _typed:
            option, values = _typed[name]
            return f"{option} {' '.join(values)}: {text[argument.end() :]}"
    option = _option(argument[1]) or ""
    return f"{option}: {text[argument.end() :]}" if option else text


def _in_options(text: str) -> str:
    """``seeds=1`` as ``--seeds 1``, ``Energy(target=...)`` as ``--target``, ``corpus= (--data)`` as ``--data``; a clause
    about Python stays as it is."""
    if not _options:
        return text

    def both(found: re.Match[str]) -> str:
        value = found[0].partition(" (")[0].partition("=")[2] if found[1] else ""
        return " ".join([found[2] or found[3], *([value] if value not in ("", "...") else [])])

    def one(found: re.Match[str]) -> str:
        option, value = _option(found[1]), found[2]
        bare = found.re is _VALUE and found[1] in FIELDS
        clause = re.split(r"[;.] ", found.string[: found.start()])[-1]
        if option is None or bare or value in ("True", "False", "None", "") or "Python" in clause:
            return found[0]
        return option if "..." in value else f"{option} {value}"

    return _VALUE.sub(one, _CALL.sub(one, _BOTH.sub(both, text)))


def _names(text: str, value: str) -> bool:
    """Whether a text has the value in it. Words and numbers that may mean something else there ("2", "parameters") count where they are
    quoted, are given with an equals sign, or begin the text; words of letters and whole numbers ("none", "3") there only before a colon."""
    if re.fullmatch(r"[a-zA-Z]+|\d+", value) and text.startswith(value) and not text.startswith(f"{value}:"):
        text = text[len(value) :]
    before = r"(?:^|(?<=['\"])|(?<![<>]=)(?<==))" if re.fullmatch(r"[\w.+-]+", value) else r"(?<![\w.-])"
    return re.search(rf"{before}{re.escape(value)}(?![\w-]|\.\d)", text) is not None


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
