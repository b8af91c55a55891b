"""What is sent to another machine, packed; and why something cannot be sent to another process: which attribute of what."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Protocol

from nas_bo.problem import Problem
from nas_bo.space.space import SpaceType

DEEPEST = 6  # attributes of attributes


def why_not(problem: Problem, dumps: Callable[[object], bytes]) -> str:
    """What of a problem cannot be packed, as the begin of a sentence; "" where all can be.

    ``the objective 'loss': its attribute settings.lock, a lock (cannot pickle '_thread.lock' object)``
    """
    named: list[tuple[str, object]] = [("the space", problem.space)]
    for what in ("objective", "limit", "proxy"):
        some = {"objective": problem.objectives, "limit": problem.limits, "proxy": problem.proxies}[what]
        named += [(f"the {what} {one.name!r}", one) for one in some]
    for name, value in named:
        if error := _fails(value, dumps):
            where, found, inner = _deepest(value, dumps, error)
            inside = f": its attribute {where}, a {type(found).__name__}" if where else ""
            return f"{name}{inside} ({inner})"
    error = _fails(problem, dumps)
    return f"the problem ({error})" if error else ""


def _fails(value: object, dumps: Callable[[object], bytes]) -> str:
    try:
        dumps(value)
    except Exception as error:
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ""


def _deepest(value: object, dumps: Callable[[object], bytes], error: str) -> tuple[str, object, str]:
    """The attribute furthest inside that cannot be packed by itself: its name, itself, and why."""
    where = ""
    for _ in range(DEEPEST):
        for name, part in _parts(value):
            if inner := _fails(part, dumps):
                where, value, error = f"{where}{name}", part, inner
                break
        else:
            break
    return where.lstrip("."), value, error


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        yield from ((f"[{at}]", part) for at, part in enumerate(value))
    elif isinstance(value, type):
        return
    else:
        try:
            yield from ((f".{name}", part) for name, part in vars(value).items())
        except TypeError:  # it has none
            return


def dumps(value: object) -> bytes:
    """As pickle does it; what a script or a notebook defines goes with its code, and a space that a function made is made there by the
    same call."""
    with io.BytesIO() as file:
        _pickler()(file).dump(value)
        return file.getvalue()


class _Pickles(Protocol):
    def dump(self, value: object, /) -> object: ...


@cache
def _pickler() -> Callable[[io.BytesIO], _Pickles]:
    from ray import cloudpickle

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, obj: object) -> object:
            if isinstance(obj, SpaceType) and "_built_by" in vars(obj):
                return vars(obj)["_built_by"]
            return super().reducer_override(obj)

    return Pickler
