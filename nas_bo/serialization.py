"""What an objective is, as JSON: enough to build it again in another process or another year, without pickle.

A dataclass is its type and its fields, a function or class that can be imported its name. What was defined in a script or in
another function cannot be named; that is reported, not guessed.
"""

from __future__ import annotations

import importlib
import math
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any, Protocol, runtime_checkable

from nas_bo import moved
from nas_bo.errors import NasBoError, SearchError
from nas_bo.foreign_document import WRONG, reading

UNKNOWN = "unknown"  # the key under which the reason is kept why something cannot be built again


@runtime_checkable
class Qualified(Protocol):
    """A class, a function or a method: it says what it is called where it is defined."""

    __qualname__: str


def describe(value: object) -> Any:
    """`value` as JSON-safe data that `rebuild` turns into an equal one; ``{"unknown": reason}`` where that cannot be.

    Plain data stays as it is; tuples, dataclasses, functions and classes become records.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, tuple):
        return {"tuple": [describe(v) for v in value]}
    if isinstance(value, list):
        return [describe(v) for v in value]
    if isinstance(value, Mapping):
        return {"dict": [[describe(k), describe(v)] for k, v in value.items()]}
    if isinstance(value, Qualified):
        name = _name(value)
        return {"name": name} if name else {UNKNOWN: _why(value)}
    if is_dataclass(value):
        name = _name(type(value))
        if not name:
            return {UNKNOWN: _why(type(value))}
        return {"type": name, "fields": {f.name: describe(getattr(value, f.name)) for f in fields(value) if f.init}}
    return {UNKNOWN: f"a {type(value).__module__}.{type(value).__qualname__} is neither plain data nor a dataclass"}


def rebuild(data: object, allow: Collection[str] = ()) -> Any:
    """The inverse of `describe`. Nothing is unpickled.

    Args:
        allow: names of further packages or modules that may be imported. What is read from a shared store names what to
            import, and importing runs code: by default only ``nas_bo`` is imported.

    Raises:
        SearchError: something in it cannot be built again; the message says what and why.
    """
    try:
        return _rebuilt(data, allow)
    except (*WRONG, OSError) as error:
        if isinstance(error, NasBoError):
            raise
        raise SearchError(
            f"this is not the description of an objective, or it is damaged ({type(error).__name__}: {error!s:.200}); give one that nas_bo wrote"
        ) from error


def _rebuilt(data: object, allow: Collection[str]) -> Any:
    if isinstance(data, list):
        return [_rebuilt(v, allow) for v in data]
    if not isinstance(data, Mapping):
        return data
    if UNKNOWN in data:
        raise SearchError(f"it cannot be built again: {data[UNKNOWN]}")
    if "float" in data:
        return _odd(data["float"])
    if "tuple" in data:
        return tuple(_rebuilt(v, allow) for v in data["tuple"])
    if "dict" in data:
        return {_rebuilt(k, allow): _rebuilt(v, allow) for k, v in data["dict"]}
    if "name" in data:
        return _own(data["name"], allow)
    if "type" not in data:
        raise SearchError(f"this is not a description of an objective: {data!s:.200}")
    kind = _own(data["type"], allow)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise SearchError(f"{data['type']} is not a dataclass any more, so the objective cannot be built again")
    known = {f.name for f in fields(kind) if f.init}
    if not isinstance(data.get("fields"), Mapping):
        raise SearchError(f"the description of {data['type']} has no fields, so the objective cannot be built again")
    lost = [name for name in data["fields"] if name not in known]
    if lost:
        raise SearchError(
            f"{data['type']} has no field {lost[0]!r} in this version of the package; install the one that was logged"
        )
    with warnings.catch_warnings():  # what an earlier version has stored is not the user's to change
        warnings.simplefilter("ignore", DeprecationWarning)
        built = {name: _rebuilt(value, allow) for name, value in data["fields"].items()}
        try:
            return kind(**built)
        except (*WRONG, OSError) as error:
            if isinstance(error, NasBoError):
                raise
            raise SearchError(
                f"{data['type']} takes no such values ({error!s:.200}), so the objective cannot be built again"
            ) from error


@reading("a number that JSON does not know", SearchError)
def _odd(text: str) -> float:
    return float(text)


def unknown(data: object) -> list[str]:
    """The reasons why `data` cannot be built again; empty where it can be tried."""
    if isinstance(data, Mapping):
        own = [str(data[UNKNOWN])] if UNKNOWN in data else []
        return own + [reason for value in data.values() for reason in unknown(value)]
    return [reason for value in data for reason in unknown(value)] if isinstance(data, list) else []


def _module(thing: object) -> str | None:
    found: str | None = getattr(thing, "__module__", None)  # methods of types of C have none
    return found


def _name(thing: Qualified | type) -> str | None:
    """``module:qualified.name`` if importing that gives the same thing."""
    module, inside = _module(thing), thing.__qualname__
    if not module or module == "__main__" or "<" in inside:
        return None
    try:
        return f"{module}:{inside}" if _import(f"{module}:{inside}") is thing else None
    except SearchError:
        return None


def _allowed(name: str, allow: Collection[str]) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", name):
        raise SearchError(f"{name!r:.200} is not the name of a function or class (module:name)")
    module = name.partition(":")[0]
    if not any(module == one or module.startswith(f"{one}.") for one in ("nas_bo", *allow)):
        raise SearchError(
            f"{name} is not part of nas_bo, and importing it runs its code; if you trust it, allow it by name: "
            f"--allow {module.partition('.')[0]}, or allow=[{module.partition('.')[0]!r}]"
        )
    return name


def _own(name: str, allow: Collection[str]) -> object:
    """What `name` says, if an allowed module defines it: most modules have others, such as `os`, within their reach."""
    found = _import(_allowed(name, allow))
    if isinstance(found, Qualified):
        _allowed(f"{_module(found)}:{name.partition(':')[2]}", allow)
        return found
    raise SearchError(f"{name} is neither a function nor a class, so the objective cannot be built again")


def _why(thing: Qualified | type) -> str:
    module, inside = _module(thing) or "?", thing.__qualname__
    where = (
        "the script that was run" if module == "__main__" else f"a function of {module}" if "<" in inside else module
    )
    return f"{inside} is defined in {where}, where no other process can import it; put it into a module of its own"


def _import(name: str) -> object:
    module, _, inside = name.partition(":")
    try:
        found = importlib.import_module(moved.current(module))
        for part in inside.split("."):
            found = getattr(found, part)
        return found
    except (ImportError, AttributeError) as error:
        raise SearchError(
            f"{name} cannot be imported here ({error}); install what defines it, or run where it can be imported"
        ) from error
