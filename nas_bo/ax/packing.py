"""Spaces, strategies and objectives as JSON text and back, so that a saved Ax client finds them again.

Only what can be found again by its import path is stored: classes, functions, and dataclass objects with their
fields. Reading imports the modules that the file names: read only files that you trust.
"""

from __future__ import annotations

import dataclasses
import json
from importlib import import_module
from typing import Any

from nas_bo import moved
from nas_bo.errors import HostError, NasBoError
from nas_bo.serialization import Qualified
from nas_bo.space import Space


def pack(value: object) -> object:
    """`value` as JSON data; `unpack` is its inverse.

    Raises:
        HostError: something that could not be found again.
    """
    if value is None or (isinstance(value, (str, int, float)) and type(value) in (bool, str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return {"list" if isinstance(value, list) else "tuple": [pack(v) for v in value]}
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: pack(v) for k, v in value.items()}}
    if isinstance(value, type) and issubclass(value, Space):
        return {"space": _path(value), "data": value.to_dict(), "fingerprint": value.fingerprint()}
    if isinstance(value, Qualified):
        return {"name": _importable(value)}
    if dataclasses.is_dataclass(value):
        fields = {f.name: pack(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"object": _importable(type(value)), "fields": fields}
    raise HostError(
        f"{value!r} cannot be saved with the Ax client: it is neither plain data, nor a dataclass, nor a class or function "
        f"of a module. Make {type(value).__name__} a dataclass at the top level of a module, or save no JSON and call "
        "nas_bo.ax.generation(...) again after loading the experiment"
    )


def unpack(data: object) -> object:
    """The inverse of `pack`.

    Raises:
        HostError: something that is stored is not there any more, or the space is another one.
    """
    if not isinstance(data, dict):
        return data
    if "list" in data:
        return [unpack(v) for v in data["list"]]
    if "tuple" in data:
        return tuple(unpack(v) for v in data["tuple"])
    if "dict" in data:
        return {k: unpack(v) for k, v in data["dict"].items()}
    if "space" in data:
        return _space(data)
    if "name" in data:
        return _find(data["name"])
    made = _find(data["object"])
    if not (isinstance(made, type) and dataclasses.is_dataclass(made)):
        raise HostError(f"{data['object']!r} was a dataclass when the Ax client was saved and is none now; restore it")
    return made(**{k: unpack(v) for k, v in data["fields"].items()})


def to_text(value: object) -> str:
    return json.dumps(pack(value), separators=(",", ":"))


def from_text(text: str) -> Any:
    return unpack(json.loads(text))


def _path(value: Any) -> str:
    return f"{value.__module__}:{value.__qualname__}"


def _importable(value: object) -> str:
    path = _path(value)
    try:
        found = _find(path)
    except HostError:
        found = None
    if found is not value:
        raise HostError(
            f"{path} cannot be saved with the Ax client, since it cannot be imported by that name; define it at the top level "
            "of a module (not inside a function, not as a lambda)"
        )
    return path


def _find(path: str) -> object:
    module, _, name = path.partition(":")
    try:
        found = import_module(moved.current(module))
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise HostError(
            f"the saved Ax client needs {path!r}, which is not there ({error}); make that module importable before "
            "loading"
        ) from error
    return found


def _space(data: dict[str, Any]) -> type[Space]:
    try:
        found = _find(data["space"])
    except HostError:
        found = None
    if isinstance(found, type) and issubclass(found, Space):
        if found.fingerprint() != data["fingerprint"]:
            raise HostError(
                f"the space {data['space']!r} has changed since the Ax client was saved (fingerprint {found.fingerprint()}, "
                f"saved {data['fingerprint']}); restore it, or start a new experiment"
            )
        return found
    try:
        return Space.from_dict(data["data"])
    except NasBoError as error:
        raise HostError(
            f"the space {data['space']!r} cannot be imported, and it has rules that are code ({error}); make its "
            "module importable"
        ) from error
