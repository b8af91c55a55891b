"""Rules: named conditions that an architecture must satisfy beyond what the structure of the space guarantees."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import SpaceError

_TERM = re.compile(
    r"\s*([+-]?)\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?)\s*\*\s*)?([A-Za-z_][\w.]*|\d+\.?\d*(?:[eE][+-]?\d+)?)\s*"
)


@dataclass(frozen=True)
class Linear:
    """``sum(weights[name] * value[name]) <= bound`` over flat names that are always active."""

    weights: Mapping[str, float]
    bound: float

    def left(self, flat: Mapping[str, Primitive]) -> float:
        return sum(w * float(flat[name]) for name, w in self.weights.items())  # type: ignore[arg-type, misc]


@dataclass(frozen=True)
class Rule:
    """A named rule; `holds(arch)` says whether the architecture satisfies it."""

    name: str
    test: Callable[[Architecture], object] | Linear

    def holds(self, arch: Architecture) -> bool:
        """Whether `arch` satisfies the rule.

        Raises:
            SpaceError: the rule itself raised; the message names the rule and the architecture.
        """
        try:
            if isinstance(self.test, Linear):
                return self.test.left(arch.flat) <= self.test.bound + 1e-9
            return bool(self.test(arch))
        except Exception as error:
            raise SpaceError(
                f"the rule {self.name!r} raised {type(error).__name__}: {error}, for the architecture {dict(arch.flat)}; "
                "a rule must return True or False for every architecture of its space"
            ) from error


class Require:
    """What `@require` leaves in the class body until `Space` collects it under its name."""

    def __init__(self, test: Callable[[Architecture], object] | Linear) -> None:
        self.test = test


def require(rule: Callable[[Architecture], object] | str) -> Require:
    """Mark a rule of a space.

    As a decorator the function gets the architecture and returns whether it is allowed; its name names the rule::

        @require
        def heads_divide_width(arch): return all(arch.width % layer.mixer.heads == 0 for layer in arch.layers)

    With a string it is a linear inequality over top-level numbers, which hosts with linear constraints (Ax) get::

        budget = require("depth + 2*extra <= 12")

    Raises:
        SpaceError: neither a callable nor a linear inequality.
    """
    if isinstance(rule, str):
        return Require(_linear(rule))
    if not callable(rule):
        raise SpaceError(f"require({rule!r}): pass a function of the architecture or a linear inequality as a string")
    return Require(rule)


def _linear(text: str) -> Linear:
    for sign, flip in (("<=", 1.0), (">=", -1.0)):
        left, found, right = text.partition(sign)
        if found:
            weights: dict[str, float] = {}
            constant = _add_terms(left, 1.0, weights, text) + _add_terms(right, -1.0, weights, text)
            weights = {name: flip * w for name, w in weights.items() if w}
            if not weights:
                break
            return Linear(weights, -flip * constant)
    raise SpaceError(f"require({text!r}): expected a linear inequality such as 'depth + 2*extra <= 12'")


def _add_terms(side: str, factor: float, weights: dict[str, float], text: str) -> float:
    """Add the terms of one side to `weights`; the sum of its constants is returned."""
    constant, at = 0.0, 0
    while at < len(side.rstrip()):
        match = _TERM.match(side, at)
        if match is None or match.end() == at or (at and not match[1]):
            raise SpaceError(f"require({text!r}): cannot read {side[at:].strip()!r}; terms are 'name', '2*name' or '3'")
        value = factor * (-1.0 if match[1] == "-" else 1.0) * float(match[2] or 1.0)
        if match[3][0].isdigit():
            constant += value * float(match[3])
        else:
            weights[match[3]] = weights.get(match[3], 0.0) + value
        at = match.end()
    return constant
