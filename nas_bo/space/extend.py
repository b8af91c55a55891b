"""A user's space as a part of a larger one: what their rules and objectives see of its architectures."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from nas_bo.architecture import Architecture, Node
from nas_bo.space.constraint import Linear, Require
from nas_bo.space.space import _RESERVED, Space
from nas_bo.space.tree import RESERVED, names_of

if TYPE_CHECKING:
    from nas_bo.objective import Objective

_WORDS = frozenset({*_RESERVED, *RESERVED, "title", "flat", "tree", "id", "counts"})


def field_names(base: type[Space]) -> frozenset[str]:
    """The top-level fields of a space, constants and lists included."""
    if "names" not in base._cache:
        base._cache["names"] = frozenset(names_of(base._level))
    found: frozenset[str] = base._cache["names"]
    return found


def projected(base: type[Space], arch: Architecture) -> Architecture:
    """The part of an architecture that belongs to `base`."""
    known = field_names(base)
    fields = {name: value for name, value in arch.tree.items() if name in known}
    flat = {path: value for path, value in arch.flat.items() if path in base.decisions()}
    return Architecture(Node(fields), flat, tuple(path for path in arch.counts if path in base.decisions()))


def on_base(base: type[Space], function: Callable[[Architecture], object]) -> Callable[[Architecture], object]:
    """A function of architectures of `base` as one of architectures of a space that has its fields and more."""
    return lambda arch: function(projected(base, arch))


def rules_on_base(base: type[Space]) -> dict[str, Require]:
    """The rules of `base` for a space that has its fields and more: they still apply to architectures of `base`."""
    found = {rule.name: rule.test for rule in base.rules()}
    return {name: Require(t if isinstance(t, Linear) else on_base(base, t)) for name, t in found.items()}


class Projected:
    """An objective of the user's space as one of a larger space; `project` gives the part that the objective knows.

    Where a host got a value and not the parts that it is made of, `steer` gives that value, ``info["value"]``.
    """

    passes_on = True

    def __init__(self, objective: Objective, project: Callable[[Architecture], Architecture]) -> None:
        from nas_bo.objective import OFFERS

        self._objective, self._project = objective, project
        self.name, self.unit, self.direction, self.cost = (
            objective.name, objective.unit, objective.direction, objective.cost,
        )  # fmt: skip
        for name, contract in OFFERS.items():
            if isinstance(objective, contract):
                setattr(self, name, self._offered(name, getattr(objective, name)))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._objective, self._project)

    def __call__(self, arch: Architecture) -> float:
        from nas_bo.objective import value_of

        return value_of(self._objective, self._project(arch))

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._objective, name)  # its own settings, such as `seed`

    def _offered(self, name: str, found: Any) -> Any:
        if name == "predict":
            from nas_bo.objective import estimate_of

            of: Any = self._objective
            return lambda arch: estimate_of(of, self._project(arch))
        if name in ("stages", "check_architecture", "trained"):
            return lambda arch: found(self._project(arch))
        if name == "steer":
            return partial(self._steer, found)
        if name == "parts":
            return tuple(Projected(part, self._project) for part in found)
        return found

    def _steer(self, steer: Callable[..., float], arch: Architecture, info: Mapping[str, Any]) -> float:
        try:
            return steer(self._project(arch), info)
        except KeyError:
            return float(info["value"])


class FieldNames:
    """Names of fields for the parameters of a host: as there, where that is possible, and each of them once."""

    def __init__(self, taken: Collection[str] = ()) -> None:
        self._taken = {*taken, *_WORDS}

    def new(self, name: str) -> str:
        clean = re.sub(r"\W+", "_", name).strip("_")
        if not clean.isidentifier() or keyword.iskeyword(clean):
            clean = f"p_{clean}".rstrip("_")
        made, n = clean, 1
        while made in self._taken:
            n += 1
            made = f"{clean}_{n}"
        self._taken.add(made)
        return made
