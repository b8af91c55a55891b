"""The parameters of an Ax experiment as one space: the user's own `Space` with what is next to it, or all of them.

Imports ax: loaded on first use only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ax.core.parameter import DerivedParameter
from ax.core.parameter_constraint import ParameterConstraint
from ax.core.search_space import SearchSpace

from nas_bo.architecture import Architecture
from nas_bo.ax.inferred.fields import Fields, Leaf, dependents_of, settled
from nas_bo.ax.lowering import Lowered, architecture, constraints, parameters, params, plan
from nas_bo.errors import HostError, SpaceError
from nas_bo.space import Space
from nas_bo.space.constraint import Require
from nas_bo.space.domain import Domain, Real
from nas_bo.space.extend import projected, rules_on_base
from nas_bo.space.steer import Allowed, steered
from nas_bo.space.tree import Slot


@dataclass(frozen=True, eq=False)
class View:
    """How parameters of an experiment and architectures of `space` become each other.

    Attributes:
        base: the user's space, if any; a part of `space` or `space` itself.
        ours: the names in Ax of what `base` has.
        leaves: the decisions that `base` does not have, by the name in Ax.
    """

    space: type[Space]
    base: type[Space] | None
    ours: frozenset[str]
    leaves: Mapping[str, Leaf]
    search_space: SearchSpace

    def architecture(self, given: Mapping[str, object]) -> Architecture:
        """The inverse of `params`; foreign keys are skipped.

        Raises:
            HostError: a parameter is missing.
            SpaceError: a value is outside its domain.
        """
        if self.base is self.space:
            return architecture(self.space, given)
        lowered: Mapping[str, Lowered] = {} if self.base is None else plan(self.base)
        by_path = {leaf.path: leaf for leaf in self.leaves.values()}

        def pick(path: str, _domain: Domain) -> object:
            if path in lowered:
                return lowered[path].read(given)
            leaf = by_path[path]
            value = given.get(leaf.parameter.name, leaf.parameter.backfill_value)
            if value is None:
                raise HostError(f"the Ax parameters have no value for {leaf.parameter.name!r}")
            return leaf.encode(value)

        return self.space.decide(pick)

    def params(self, arch: Architecture) -> dict[str, Any]:
        """An architecture as parameters of the experiment, exactly the active ones."""
        found = {} if self.base is None else params(self.base, self.project(arch))
        every = self.search_space.parameters
        waiting = list(self.search_space.top_level_parameters)
        for name, value in found.items():
            waiting += dependents_of(every[name], value)
        derived = []
        while waiting:
            name = waiting.pop(0)
            parameter = every[name]
            if name in self.ours:
                continue
            if isinstance(parameter, DerivedParameter):
                derived.append(parameter)
                continue
            if name in self.leaves:
                value = self.leaves[name].decode(arch.flat[self.leaves[name].path])
            else:
                value = settled(parameter)
            found[name] = value
            waiting += dependents_of(parameter, value)
        for parameter in derived:
            found[parameter.name] = parameter.compute(found)
        return found

    def value(self, arch: Architecture, name: str) -> Any:
        """One of the parameters of an architecture; as `params`, but faster."""
        if name in self.leaves:
            return self.leaves[name].decode(arch.flat[self.leaves[name].path])
        item = None if self.base is None else plan(self.base).get(name)
        if item is not None and not item.gates and not item.fixed:
            return next(item.write(arch.flat[name]))[1]
        return self.params(arch)[name]

    def project(self, arch: Architecture) -> Architecture:
        """The part of an architecture that the user's own space, rules and objectives know."""
        return arch if self.base is None or self.base is self.space else projected(self.base, arch)

    # ---- values that the user fixes -----------------------------------------------------------------------------

    def fixed(self, values: Mapping[str, object]) -> type[Space]:
        """`space`, in which everything that is drawn or bred has these values, given by the names of Ax.

        What must hold for a conditional parameter to exist is fixed as well.

        Raises:
            HostError: no such parameter, a value outside it, one that is derived, or two that exclude each other.
        """
        allowed: Allowed = {}
        for name, value in values.items():
            for path, those in self._asked(name, value):
                while True:
                    both = tuple(v for v in allowed.get(path, those) if v in those)
                    if not both:
                        raise HostError(
                            f"fixed_parameters={dict(values)!r} cannot hold together: nothing is left for {path!r}; "
                            f"leave out {name!r} or what excludes it"
                        )
                    allowed[path] = both
                    slot = self.space.decisions()[path]
                    if slot.parent is None:
                        break
                    parent = self.space.decisions()[slot.parent].domain
                    path, those = slot.parent, tuple(v for v in parent.values if _opens(v, slot))
        return steered(self.space, allowed)

    def _asked(self, name: str, value: object) -> Iterable[tuple[str, tuple[object, ...]]]:
        """Which decisions may then have which values."""
        if name in self.leaves:
            leaf = self.leaves[name]
            return [(leaf.path, (self._canonical(name, leaf.path, leaf.encode(value)),))]
        for path, item in ({} if self.base is None else plan(self.base)).items():
            counts = dict(item.gates)
            if name in counts and isinstance(value, bool):
                sizes = tuple(v for v in item.domain.values if (int(v) >= counts[name]) is value)  # type: ignore[arg-type]
                return [(path, sizes)]
            if name in counts or (name == path and not item.fixed and not item.gates):
                known = value if name in counts else item.read({name: value})
                return [(path, (self._canonical(name, path, known),))]
        if name not in self.search_space.parameters:
            raise HostError(
                f"fixed_parameters={{{name!r}: {value!r}}}: the Ax experiment has no such parameter; it has "
                f"{', '.join(self.search_space.parameters)}"
            )
        parameter = self.search_space.parameters[name]
        if isinstance(parameter, DerivedParameter):
            raise HostError(
                f"fixed_parameters={{{name!r}: {value!r}}}: it is derived, {name} = {parameter.expression_str}; fix the "
                "parameters that it is made of"
            )
        if settled(parameter) != value:
            raise HostError(
                f"fixed_parameters={{{name!r}: {value!r}}}: the Ax experiment has it fixed to {settled(parameter)!r}; "
                "leave it out"
            )
        return []

    def _canonical(self, name: str, path: str, value: object) -> object:
        try:
            return self.space.decisions()[path].domain.canonical(value)
        except SpaceError as error:
            raise HostError(f"fixed_parameters={{{name!r}: ...}}: {error}; pass a value of the parameter") from error


def _opens(value: Any, slot: Slot) -> bool:
    """Whether the parent's `value` makes `slot` exist."""
    if slot.values is not None:
        return value in slot.values
    return bool(value > slot.index) if slot.index is not None else bool(value == slot.value)


# ---- building it ------------------------------------------------------------------------------------------------


def view(search_space: SearchSpace, base: type[Space] | None) -> View:
    """The view of an experiment's search space.

    Raises:
        HostError: parameters of `base` are missing or conditional, or something in the search space that no space can
            say.
    """
    ours = frozenset() if base is None else frozenset(config.name for config in parameters(base))
    if base is not None:
        _check(search_space, base, ours)
    fields = Fields(search_space, base, ours)
    made = fields.top()
    told = _told(base)
    extra = [c for c in search_space.parameter_constraints if not any(_same(c, mine) for mine in told)]
    if base is not None and not made and not extra:
        return View(base, base, ours, {}, search_space)
    if base is None and not fields.leaves:
        raise HostError("the Ax experiment has nothing to decide: all its parameters are fixed; evaluate the one point")
    body = {} if base is None else rules_on_base(base)
    found: list[View] = []  # rules read architectures with the view that they belong to
    for i, constraint in enumerate(extra):
        body[f"ax_constraint_{i}"] = Require(_holds(constraint, found))
    kept = {} if base is None else dict(base._fields)
    title = "AxParameters" if base is None else f"{base.title} and more"
    space = Space.of(title, body, **kept, **made)
    found.append(View(space, base, ours, fields.leaves, search_space))
    for constraint in extra:
        _check_constraint(constraint, found[0])
    return found[0]


def _check(search_space: SearchSpace, base: type[Space], ours: frozenset[str]) -> None:
    missing = sorted(ours - set(search_space.parameters))
    if missing:
        raise HostError(
            f"the Ax experiment has no parameter {missing[0]!r} (and {len(missing) - 1} more of {len(ours)} are missing), "
            f"so it was not configured for {base.title}; use "
            "client.configure_experiment(parameters=[*nas_bo.ax.parameters(space), ...])"
        )
    top = search_space.top_level_parameters
    always = {name for item in plan(base).values() if item.under is None for name in _names(item)}
    hidden = sorted(name for name in always if name not in top)
    if hidden:
        raise HostError(
            f"{hidden[0]!r} of {base.title} depends on another parameter in the Ax experiment, and a whole space cannot "
            "be conditional; put it at the top level, or write the other parameter into the space: "
            "choice(option(...), ...)"
        )


def _names(item: Lowered) -> tuple[str, ...]:
    if item.fixed:
        return ()
    return (item.gates[0][0],) if item.gates else (item.path,)


def _told(base: type[Space] | None) -> list[ParameterConstraint]:
    """The linear rules of `base` as Ax has them."""
    with suppress(HostError):  # a rule that Ax cannot hold
        return [] if base is None else [ParameterConstraint(inequality=text) for text in constraints(base)]
    return []


def _same(one: ParameterConstraint, other: ParameterConstraint) -> bool:
    same = one.constraint_dict == other.constraint_dict and one.is_equality == other.is_equality
    return same and math.isclose(one.bound, other.bound)


def _holds(constraint: ParameterConstraint, views: list[View]) -> Callable[[Architecture], bool]:
    def holds(arch: Architecture) -> bool:
        return bool(constraint.check({name: float(views[0].value(arch, name)) for name in constraint.constraint_dict}))

    return holds


def _check_constraint(constraint: ParameterConstraint, made: View) -> None:
    """Raise HostError where the constraint cannot be obeyed by drawing again, or Ax itself cannot check it."""
    lowered: Mapping[str, Lowered] = {} if made.base is None else plan(made.base)
    for name in constraint.constraint_dict:
        path = made.leaves[name].path if name in made.leaves else name
        slot = made.space.decisions().get(path)
        if (slot is not None and slot.parent is not None) or (path in lowered and lowered[path].under is not None):
            raise HostError(
                f"the parameter constraint {constraint!r} names {name!r}, which does not always exist; Ax cannot "
                "check it. Leave it out, or write it as a rule of a space: @require"
            )
        if constraint.is_equality and slot is not None and isinstance(slot.domain, Real):
            raise HostError(
                f"the parameter constraint {constraint!r} is an equality of real numbers, which candidates never "
                f"satisfy by chance; make one of {', '.join(constraint.constraint_dict)} a derived parameter"
            )


__all__ = ["Leaf", "View", "view"]
