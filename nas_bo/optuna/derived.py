"""The user's space with more fields: for strategies one space, for the user's rules and objectives still their own."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from nas_bo.architecture import Architecture
from nas_bo.problem import Objective
from nas_bo.space import Space
from nas_bo.space.constraint import Linear, Require
from nas_bo.space.extend import on_base, projected

KEPT_SPACES = 256  # derived spaces that are remembered; each study has a few

_made: OrderedDict[tuple[type[Space] | None, str], type[Space]] = OrderedDict()
_lock = threading.Lock()


def derived(base: type[Space] | None, fields: Mapping[str, Any]) -> type[Space]:
    """The space `base` with more fields; the same object for the same fields, since strategies remember by space.

    Rules of `base` go on speaking of architectures of `base`.
    """
    if base is not None and not fields:
        return base
    key = (base, repr(fields))
    with _lock:
        if key not in _made:
            if base is None:
                _made[key] = Space.of("OptunaParameters", **fields)
            else:
                rules = {
                    rule.name: rule.test if isinstance(rule.test, Linear) else on_base(base, rule.test)
                    for rule in base.rules()
                }
                wrapped = {name: Require(test) for name, test in rules.items()}
                _made[key] = Space.of(f"{base.title} and more", wrapped, **base._fields, **fields)
            while len(_made) > KEPT_SPACES:
                _made.popitem(last=False)
        return _made[key]


class Projected:
    """An objective of the user's space as one of a space derived from it."""

    def __init__(self, objective: Objective, base: type[Space]) -> None:
        self._objective, self._base = objective, base

    def __call__(self, arch: Architecture) -> float:
        return self._objective(projected(self._base, arch))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._objective, name)  # AttributeError where the objective has no such thing
        if name == "predict":
            return lambda arch: found(projected(self._base, arch))
        if name == "steer":
            return lambda arch, info: found(projected(self._base, arch), info)
        if name == "parts":
            return tuple(Projected(part, self._base) for part in found)
        return found
