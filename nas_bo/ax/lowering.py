"""A space as Ax parameters and back. Imports ax only inside the functions that build Ax's own objects.

How each word of the language is given to Ax:

===========================================  ==================================================================
real, integer                                a range (log where the space says so); a stepped integer has a step size
choice of strings, of booleans, of numbers   a choice of that type; consecutive whole numbers in order become a range
choice of mixed types (None, "a", 3, True)   a choice of strings; `Coding` turns them back
choice among options                         a choice with the fields of each option as its dependent parameters
count of a repeat, v0 < v1 < ... < vk        a chain of booleans "n.above_v0" -> "n.above_v1" -> ...; each holds the
                                             records that exist only above that count, and the next boolean
constant, or a decision with a single value  nothing: it is filled in on the way back
===========================================  ==================================================================

The chain exists because in Ax a parameter has one parent with one value of it, while record 3 exists for every count
above 3. Gate names cannot collide with flat names: nothing but record numbers is below a count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import HostError, MissingExtra, SpaceError
from nas_bo.space import Space
from nas_bo.space.constraint import Linear, Rule
from nas_bo.space.domain import Choice, Domain, Integer, Real
from nas_bo.wording import counted

if TYPE_CHECKING:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
    from ax.core.parameter import Parameter

    Config: TypeAlias = RangeParameterConfig | ChoiceParameterConfig

MAX_GATES = 200  # Ax walks the chain recursively; at this length it is still far from Python's recursion limit
NO_KEY = "null"  # Ax's JSON reader turns the key "null" into None, in parameter values as well as in dependents
TOLERANCE = 1.5e-7  # how far outside the bounds of a range Ax lets a value lie (ax.core.parameter.EPS)
Under = tuple[str, Primitive]  # the Ax parameter, and its value, that a parameter depends on


@dataclass(frozen=True)
class Coding:
    """The values of a choice as Ax stores them; `codes[i]` stands for `values[i]`."""

    kind: str  # "bool", "int", "float" or "str"
    codes: tuple[Primitive, ...]

    @staticmethod
    def of(domain: Choice) -> Coding:
        values = domain.values
        if all(isinstance(v, bool) for v in values):
            return Coding("bool", values)
        numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        monotone = sorted(numbers) in (numbers, numbers[::-1])
        if len(numbers) == len(values) and (monotone or not domain.ordered):  # Ax would sort them
            if all(isinstance(v, int) for v in values):
                return Coding("int", values)
            if len({float(v) for v in numbers}) == len(values):
                return Coding("float", tuple(float(v) for v in numbers))
        plain = tuple(str(v) for v in values)
        if len(set(plain)) == len(values) and NO_KEY not in plain:
            return Coding("str", plain)
        return Coding("str", tuple(repr(v) for v in values))


@dataclass(frozen=True)
class Lowered:
    """One decision of the space: left out (`fixed`), a chain of gates, or one parameter of Ax.

    Attributes:
        under: what must hold in Ax for it to exist; None is always.
        gates: (name, count above it) in the order of the chain, for a count.
    """

    path: str
    domain: Domain
    under: Under | None
    coding: Coding | None = None
    gates: tuple[tuple[str, int], ...] = ()

    @property
    def fixed(self) -> bool:
        return single(self.domain)

    def write(self, value: Any) -> Iterator[tuple[str, Primitive]]:
        """The Ax parameters that say `value`, which is canonical."""
        if self.fixed:
            return
        if self.gates:
            for name, count in self.gates:
                yield name, value >= count
                if value < count:
                    return
        elif self.coding is not None and isinstance(self.domain, Choice):
            yield self.path, self.coding.codes[self.domain.index(value)]
        else:
            yield self.path, value

    def read(self, params: Mapping[str, Any]) -> Any:
        """The value that Ax parameters say; the inverse of `write`."""
        if self.fixed:
            return self.domain.low if isinstance(self.domain, Real) else self.domain.values[0]
        if self.gates:
            value = min(self.domain.values)  # type: ignore[type-var]
            for name, count in self.gates:
                if not _look_up(params, name):
                    break
                value = count
            return value
        value = _look_up(params, self.path)
        if self.coding is not None and self.coding.kind == "str" and value in self.coding.codes:
            return self.domain.values[self.coding.codes.index(value)]
        if isinstance(self.domain, Real) and isinstance(value, (int, float)):
            low, high = self.domain.low, self.domain.high
            if low - TOLERANCE <= value <= high + TOLERANCE:
                return min(high, max(low, value))
        return value


def single(domain: Domain) -> bool:
    """Whether nothing is to be decided."""
    return domain.low == domain.high if isinstance(domain, Real) else domain.size == 1


def _look_up(params: Mapping[str, object], name: str) -> Any:
    try:
        return params[name]
    except KeyError:
        raise HostError(
            f"the Ax parameters have no value for {name!r}, which the architecture needs; pass the whole dictionary of "
            "a trial of an experiment that was configured with nas_bo.ax.parameters(space)"
        ) from None


def plan(space: type[Space]) -> Mapping[str, Lowered]:
    """Every decision of `space` by flat name, parents first.

    Raises:
        HostError: something that Ax cannot hold and that is seen without Ax.
    """
    if "ax" not in space._cache:
        space._cache["ax"] = _plan(space)
    found: Mapping[str, Lowered] = space._cache["ax"]
    return found


def _plan(space: type[Space]) -> dict[str, Lowered]:
    slots = space.decisions()
    gated: set[str] = set()
    for slot in slots.values():
        above = slot
        while not single(slot.domain) and above.parent is not None:  # up through what Ax will not see
            index, above = above.index, slots[above.parent]
            if not single(above.domain):
                if index is not None:
                    gated.add(above.path)
                break
    found: dict[str, Lowered] = {}
    for path, slot in slots.items():
        if path == NO_KEY and not single(slot.domain):
            raise HostError(
                f"{space.title}: Ax's JSON files lose a parameter named {path!r}; give the field another name"
            )
        under = None
        if slot.parent is not None:
            under = _under(found[slot.parent], slot.value, slot.index)
        domain, coding = slot.domain, None
        gates: tuple[tuple[str, int], ...] = ()
        if path in gated:
            gates = _gates(path, sorted(domain.values), space)  # type: ignore[arg-type]
        elif isinstance(domain, Choice):
            coding = Coding.of(domain)
        found[path] = Lowered(path, domain, under, coding, gates)
    return found


def _gates(path: str, counts: list[int], space: type[Space]) -> tuple[tuple[str, int], ...]:
    if len(counts) - 1 > MAX_GATES:
        raise HostError(
            f"{space.title}: the count {path!r} has {counted(len(counts), 'value')}; in Ax it is a chain of {len(counts) - 1} nested "
            f"booleans, and at most {MAX_GATES} are possible. Repeat larger blocks, or step the count: "
            "integer(..., step=...)"
        )
    return tuple((f"{path}.above_{low}", high) for low, high in pairwise(counts))


def _under(parent: Lowered, value: str | None, index: int | None) -> Under | None:
    """What must hold in Ax for the records or the option below `parent`."""
    if parent.fixed:
        return parent.under
    if index is not None:
        if not parent.gates or index < min(parent.domain.values):  # type: ignore[type-var, operator]
            return parent.under
        return next(name for name, count in parent.gates if count > index), True
    return next(parent.write(value))


def parameters(space: type[Space]) -> list[RangeParameterConfig | ChoiceParameterConfig]:
    """The space as parameter configurations for ``Client.configure_experiment``.

    Names are the flat names of the space; counts of repeats become chains of booleans (see the head of this file).
    Your own parameters can be next to them in the same experiment.

    Raises:
        HostError: Ax cannot hold a parameter (more than 1000 values, a range narrower than 1.5e-5, ...), or nothing is
            to be decided. The message names the parameter and the way round.
        MissingExtra: ax-platform is not installed.
    """
    configs = list(_configs(space))
    if not configs:
        raise HostError(
            f"{space.title} has nothing to decide (every field is a constant or has a single value), and Ax cannot search "
            "an empty space; add a choice, or evaluate the one architecture directly: space.sample(0)"
        )
    for config in configs:
        core_parameter(config, space)
    return configs


def core_parameter(config: Config, space: type[Space]) -> Parameter:
    """Ax's own object for `config`, so that what Ax refuses is refused now, by name."""
    from ax.api.configs import ChoiceParameterConfig
    from ax.api.utils.instantiation.from_config import parameter_from_config

    try:
        return parameter_from_config(config)
    except Exception as error:
        if isinstance(config, ChoiceParameterConfig) and len(config.values) > 1000:
            way = "write it as integer(low, high) or real(low, high), or give it a coarser grid"
        elif isinstance(config, ChoiceParameterConfig):
            way = "use smaller or rounder numbers, or strings"
        elif config.step_size is not None:
            way = "leave out the step, or make it coarser"
        else:
            way = "search its exponent or a multiple of it, real(-8, -7) for real(1e-8, 1e-7), and convert it"
        raise HostError(f"{space.title}: Ax cannot hold {config.name!r}: {error} The way round: {way}.") from error


def _configs(space: type[Space]) -> Iterator[Config]:
    try:
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
    except ImportError:
        raise MissingExtra("ax-platform", "ax") from None
    lowered = plan(space)
    below: dict[str, dict[Primitive, list[str]]] = {}

    def put(name: str, under: Under | None) -> None:
        if under is not None:
            below.setdefault(under[0], {}).setdefault(under[1], []).append(name)

    for item in lowered.values():
        if item.gates:
            put(item.gates[0][0], item.under)
            for (above, _), (name, _) in pairwise(item.gates):
                put(name, (above, True))
        elif not item.fixed:
            put(item.path, item.under)
    for path, item in lowered.items():
        domain = item.domain
        if item.fixed:
            continue
        if item.gates:
            for name, _ in item.gates:
                yield ChoiceParameterConfig(name, [False, True], "bool", True, below.get(name))
        elif isinstance(domain, Integer):
            step = domain.step if domain.step > 1 else None
            if step and domain.size > 1000:
                raise HostError(
                    f"{space.title}: {path!r} has {counted(domain.size, 'value')} in steps of {step}, and Ax holds at most 1000; leave "
                    "out the step, or make it coarser"
                )
            yield RangeParameterConfig(path, (domain.low, domain.high), "int", step, "log" if domain.log else None)
        elif isinstance(domain, Real):
            yield RangeParameterConfig(path, (domain.low, domain.high), "float", None, "log" if domain.log else None)
        elif domain.ordered and _consecutive(domain) and path not in below:
            values = [int(v) for v in domain.values]  # type: ignore[arg-type]
            yield RangeParameterConfig(path, (min(values), max(values)), "int")
        else:
            coding = item.coding
            assert coding is not None
            yield ChoiceParameterConfig(path, list(coding.codes), coding.kind, domain.ordered, below.get(path))


def _consecutive(domain: Choice) -> bool:
    coding = Coding.of(domain)
    return coding.kind == "int" and all(abs(int(b) - int(a)) == 1 for a, b in pairwise(coding.codes))  # type: ignore[arg-type]


def constraints(space: type[Space]) -> list[str]:
    """The linear rules of the space (``require("depth + 2*extra <= 12")``) for ``parameter_constraints=``.

    Rules that are functions cannot be given to Ax. `generation` obeys them; Ax's own generators do not know them, so
    with those check ``space.contains(architecture(space, params))`` and abandon the trials that are not contained.

    Raises:
        HostError: Ax cannot hold a rule. Ax constrains ranges on a linear scale only: it refuses log scales, and on
            any choice (also on a stepped integer) it silently constrains the position among the values instead of the
            value. Conditional parameters, and so the booleans of a count, cannot be constrained at all.
        MissingExtra: ax-platform is not installed.
    """
    configs = {config.name: config for config in _configs(space)}
    told = [_constraint(space, rule, rule.test, configs) for rule in space.rules() if isinstance(rule.test, Linear)]
    return [text for text in told if text]


def _constraint(space: type[Space], rule: Rule, linear: Linear, configs: Mapping[str, Config]) -> str:
    from ax.api.configs import RangeParameterConfig

    lowered, bound = plan(space), linear.bound
    weights: dict[str, float] = {}
    where = f"{space.title}: Ax cannot hold the linear rule {rule.name!r}"
    for name, weight in linear.weights.items():
        item, config = lowered[name], configs.get(name)
        if item.fixed:
            bound -= weight * float(item.read({}))
            continue
        if item.gates:
            raise HostError(
                f"{where}: {name!r} is the count of a repeat, which in Ax is a chain of booleans. Write the rule as a function "
                "with @require (generation() obeys it), or bound the count itself: integer(low, high)"
            )
        if isinstance(config, RangeParameterConfig) and config.scaling == "log":
            raise HostError(
                f"{where}: {name!r} is on a log scale, which Ax does not constrain. Leave out log=True, or write the rule as a "
                "function with @require (generation() obeys it)"
            )
        if not isinstance(config, RangeParameterConfig) or config.step_size is not None:
            raise HostError(
                f"{where}: {name!r} is {item.domain.describe()}, a choice for Ax, which would constrain the position among the "
                "values instead of the value. Search a plain integer(low, high) and multiply it in the model, or "
                "write the "
                "rule as a function with @require (generation() obeys it)"
            )
        weights[name] = weight
    if not weights:
        if bound < -1e-9:
            raise HostError(f"{where}: it can never hold, since everything in it has a single value; loosen the rule")
        return ""
    text = " + ".join(f"{w!r}*{name}" for name, w in weights.items()) + f" <= {bound!r}"
    from ax.core.parameter_constraint import ParameterConstraint

    try:
        understood = ParameterConstraint(inequality=text).constraint_dict
        fits = understood == weights
    except Exception:
        fits = False
    if not fits:
        raise HostError(
            f"{where}: Ax does not understand the names in {text!r}, since some of them mean something in sympy or in Python "
            f"(such as E, N, beta, test, lambda). Rename the fields {', '.join(weights)}"
        )
    return text


def architecture(space: type[Space], params: Mapping[str, object]) -> Architecture:
    """The architecture of an Ax parameter dictionary; the inverse of `params`. Foreign keys are skipped.

    Rules are not applied: see `Space.contains`.

    Raises:
        HostError: a parameter is missing.
        SpaceError: a value is outside its domain.
    """
    lowered = plan(space)
    return space.decide(lambda path, _domain: lowered[path].read(params))


def params(space: type[Space], arch: Architecture | Mapping[str, object]) -> dict[str, Primitive]:
    """The Ax parameters of an architecture, exactly the active ones, as ``Client.attach_trial`` wants them.

    Args:
        arch: an architecture, or its flat or nested values.

    Raises:
        SpaceError: it does not belong to the space (rules are not applied).
    """
    mine = space.architecture(arch)
    if isinstance(arch, Architecture) and mine.id != arch.id:
        raise SpaceError(f"{space.title}: a constant of the architecture differs from the one that this space fixes")
    lowered = plan(space)
    return {name: value for path, v in mine.flat.items() for name, value in lowered[path].write(v)}
