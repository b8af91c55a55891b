"""Parameters of an Ax experiment as fields of a space.

==============================  =======================================================================
Ax                              field of the space
==============================  =======================================================================
range                           real or integer, on a log scale where Ax has one
choice                          choice, ordered where Ax says so
dependents of a choice          fields that exist only while the choice has that value
fixed, disabled, derived        none: filled in when an architecture becomes parameters again
parameter constraint            a rule, unless it is one of the user's own space
==============================  =======================================================================

Names that are not Python identifiers (``layers.0.op``) become some (``layers_0_op``). Imports ax: loaded on first use.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ax.core.parameter import ChoiceParameter, DerivedParameter, FixedParameter, Parameter, RangeParameter
from ax.core.search_space import SearchSpace

from nas_bo.ax.lowering import TOLERANCE, plan
from nas_bo.errors import HostError, SpaceError
from nas_bo.space import Space, choice, integer, real
from nas_bo.space.domain import Domain, When
from nas_bo.space.extend import FieldNames, field_names


@dataclass(frozen=True, eq=False)
class Leaf:
    """A parameter that is not part of the user's space: the field at `path` is `parameter`."""

    path: str
    parameter: Parameter

    def encode(self, value: object) -> Any:
        """Ax's value as a value of nas_bo; values a rounding error outside the bounds of a range count as the bounds."""
        if isinstance(self.parameter, RangeParameter) and isinstance(value, (int, float)):
            low, high = self.parameter.lower, self.parameter.upper
            if low - TOLERANCE <= value <= high + TOLERANCE:
                return min(high, max(low, value))
        return value

    def decode(self, value: object) -> Any:
        return self.parameter.cast(value)


class Fields:
    """Fields for the parameters that are not of the base space, and their leaves."""

    def __init__(self, search_space: SearchSpace, base: type[Space] | None, ours: frozenset[str]) -> None:
        self._search_space, self._base, self._ours = search_space, base, ours
        taken = () if base is None else {*field_names(base), *(rule.name for rule in base.rules())}
        self._names = FieldNames(taken)
        self.leaves: dict[str, Leaf] = {}

    def top(self) -> dict[str, Any]:
        top = self._level(name for name in self._search_space.top_level_parameters if name not in self._ours)
        for path, item in ({} if self._base is None else plan(self._base)).items():
            parameter = self._search_space.parameters.get(path)
            if item.fixed or item.gates or "." in path or parameter is None or not parameter.is_hierarchical:
                continue
            for code, names in parameter.dependents.items():
                below = self._level(name for name in names if name not in self._ours)
                if not below:
                    continue
                top[self._names.new(f"{path}_is_{code}")] = When(path, frozenset({item.read({path: code})}), below)
        every = self._search_space.parameters
        for name in self._ours:  # what is inside the space, and booleans of counts, cannot have further dependents
            for below in every[name].dependents.values() if every[name].is_hierarchical else ():
                lost = [n for n in below if n not in self._ours and n not in self.leaves and not is_settled(every[n])]
                if lost:
                    raise HostError(
                        f"{lost[0]!r} depends on {name!r}, which is not a choice at the top level of the space; write it "
                        "into the space, below what it depends on"
                    )
        return top

    def _level(self, names: Iterable[str]) -> dict[str, object]:
        found: dict[str, object] = {}
        for name in names:
            parameter = self._search_space.parameters[name]
            if isinstance(parameter, DerivedParameter):
                continue
            if is_settled(parameter):
                found |= self._level(dependents_of(parameter, settled(parameter)))
                continue
            domain, field = _domain(parameter), self._names.new(name)
            found[field] = domain
            self.leaves[name] = Leaf(field, parameter)
            for value, below in parameter.dependents.items() if parameter.is_hierarchical else ():
                inner = self._level(below)
                if inner:
                    found[self._names.new(f"{field}_is_{value}")] = When(field, frozenset({value}), inner)
        return found


def _domain(parameter: Parameter) -> Domain:
    try:
        if isinstance(parameter, RangeParameter):
            if parameter.python_type is int:
                return integer(parameter.lower, parameter.upper, log=parameter.log_scale)
            return real(parameter.lower, parameter.upper, log=parameter.log_scale)
        if isinstance(parameter, ChoiceParameter):
            values = list(dict.fromkeys(parameter.values))  # whole numbers may be equal once Ax made floats of them
            return choice(*values, ordered=parameter.is_ordered)
    except SpaceError as error:
        raise HostError(f"the parameter {parameter.name!r} of the Ax experiment: {error}") from error
    raise HostError(
        f"the parameter {parameter!r} of the Ax experiment is of a kind that nas_bo does not know; use a range, a "
        "choice, a fixed or a derived parameter"
    )


def dependents_of(parameter: Parameter, value: object) -> list[str]:
    return list(parameter.dependents.get(value, [])) if parameter.is_hierarchical else []


def settled(parameter: Parameter) -> Any:
    """The value of a parameter without a choice."""
    return parameter.default_value if parameter.is_disabled else parameter.value


def is_settled(parameter: Parameter) -> bool:
    return parameter.is_disabled or isinstance(parameter, (FixedParameter, DerivedParameter))
