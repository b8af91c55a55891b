"""A user's space as a part of a larger one: what their rules and objectives are told of its architectures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nas_bo.architecture import Architecture, Node
from nas_bo.space.space import Space
from nas_bo.space.tree import names_of


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
    flat = {path: value for path, value in arch.flat.items() if path in base._slots}
    return Architecture(Node(fields), flat, tuple(path for path in arch.counts if path in base._slots))


def on_base(base: type[Space], function: Callable[[Architecture], Any]) -> Callable[[Architecture], Any]:
    """A function of architectures of `base` as one of architectures of a space that has its fields and more."""
    return lambda arch: function(projected(base, arch))
