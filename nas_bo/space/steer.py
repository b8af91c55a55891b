"""A space in which some decisions are settled while everything else stays as it is."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from nas_bo.architecture import Architecture, Primitive
from nas_bo.space.space import Space
from nas_bo.space.tree import Decision, Records

Allowed = dict[str, tuple[Any, ...]]  # flat name -> the values that are left
KEPT = 64  # such spaces that are remembered, since strategies remember by space

_made: OrderedDict[tuple[type[Space], str], type[Space]] = OrderedDict()
_lock = threading.Lock()


def steered(space: type[Space], allowed: Mapping[str, tuple[object, ...]]) -> type[Space]:
    """`space`, in which whatever is drawn, bred or read has one of the allowed values, where the decision exists.

    The domains are those of `space`, so a strategy learns from all earlier trials; only what becomes of a choice
    differs. A value that is not allowed becomes the nearest one that is.
    """
    if not allowed:
        return space
    key = (space, repr(sorted(allowed.items())))
    with _lock:
        if key not in _made:
            _made[key] = _build(space, dict(allowed))
            while len(_made) > KEPT:
                _made.popitem(last=False)
        return _made[key]


def _build(space: type[Space], allowed: Allowed) -> type[Space]:
    whole: Any = vars(Space)["decide_canonical"].__func__

    def decide_canonical(
        cls: type[Space], pick: Callable[[str, Decision], Any], records: Records | None = None
    ) -> Architecture:
        def settled(path: str, decision: Decision) -> Primitive:
            values = allowed.get(path)
            if values is None:
                chosen: Primitive = pick(path, decision)
                return chosen
            found: Primitive = values[0] if len(values) == 1 else _nearest(pick(path, decision), values)
            return found

        arch: Architecture = whole(cls, settled, records)
        return arch

    made: type[Space] = type(space.__name__, (space,), {"title": space.title, "__module__": space.__module__})
    made.decide_canonical = classmethod(decide_canonical)  # type: ignore[method-assign, assignment]
    made._settled = allowed
    return made


def _nearest(value: Any, values: tuple[Any, ...]) -> Any:
    """Only counts have several values left, and they are numbers; other choices take the first one."""
    if value in values or not all(isinstance(v, (int, float)) for v in (value, *values)):
        return value if value in values else values[0]
    return min(values, key=lambda v: abs(v - value))
