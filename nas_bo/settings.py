"""Settings of a call: keyword arguments as one frozen value, with a message for a name that does not exist."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")
F = TypeVar("F", bound=Callable[..., Any])


def settings_of(kind: type[S], who: str, given: Mapping[str, object], base: S | None = None) -> S:
    """The settings that a call of `who` was given.

    Args:
        base: settings that were given as a whole; `given` takes precedence.

    Raises:
        TypeError: one that there is not.
    """
    names = [one.name for one in fields(kind)]
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{who}() got an unexpected keyword argument {name!r}{meant}. It takes: {', '.join(names)}")
    return kind(**given) if base is None else replace(base, **given)


def takes(kind: type[DataclassInstance]) -> Callable[[F], F]:
    """Of a function with ``**options``: `help`, editors and notebooks show the fields of `kind` as its keyword arguments."""

    def show(function: F) -> F:
        own = inspect.signature(function)
        named = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        options = [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if one.default is MISSING else one.default,
                annotation=one.type,
            )
            for one in fields(kind)
        ]
        vars(function)["__signature__"] = own.replace(parameters=[*named, *options])
        return function

    return show
