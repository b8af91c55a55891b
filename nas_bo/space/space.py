"""`Space`: a search space written as a class body; every question about it is a method of the class itself."""

from __future__ import annotations

import copyreg
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import SpaceError
from nas_bo.foreign_document import reading
from nas_bo.seeds import Seed, generator_of
from nas_bo.space import schema as _schema
from nas_bo.space.constraint import Linear, Require, Rule
from nas_bo.space.domain import Choice, Domain, Real, Repeat
from nas_bo.space.tree import (
    LARGEST,
    Constant,
    Decision,
    Fixed,
    Guard,
    Level,
    Loop,
    Records,
    Slot,
    compile_level,
    decide,
    extent,
    fields_of_tree,
    slots,
)
from nas_bo.wording import counted, plural

if TYPE_CHECKING:
    import numpy as np

    from nas_bo.space.encode import Encoding

MAX_DRAWS = 10_000  # rejected draws after which a space is called (almost) empty
MAX_ENUMERATED = 1_000_000  # points that `size` and `enumerate` are willing to walk to apply rules

RandomSource = Seed


@dataclass(frozen=True)
class Membership:
    """The answer of `Space.contains`: true or false, with the reason when false."""

    ok: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.ok


class SpaceType(type):
    """The type of spaces: those that a function made are pickled as its call, all others by their name."""


class Space(metaclass=SpaceType):
    """Base of all search spaces; a subclass *is* a space, written like a dataclass::

        class Tiny(Space):
            depth = integer(1, 4)
            width = choice(64, 128)
            layers = repeat(depth, mixer=choice(option("attention", heads=choice(2, 4)), option("skip")))

            @require
            def not_all_skipped(arch): return any(layer.mixer.kind != "skip" for layer in arch.layers)

    All methods are class methods: ``Tiny.sample(0)``, ``Tiny.size()``. Constants are allowed as fields. A subclass
    of a subclass inherits fields and rules and may replace them. `Space.of` builds one from data.

    Raises:
        SpaceError: at class creation, for anything that is not a well-formed space.
    """

    title: ClassVar[str] = "Space"
    _level: ClassVar[Level] = Level(())
    _rules: ClassVar[tuple[Rule, ...]] = ()
    _fields: ClassVar[Mapping[str, object]] = {}
    _slots: ClassVar[Mapping[str, Slot]] = {}
    _cache: ClassVar[dict[str, Any]] = {}
    _built_by: ClassVar[tuple[Callable[..., type[Space]], tuple[object, ...]] | None] = None
    _settled: ClassVar[Mapping[str, tuple[Any, ...]]] = {}  # decisions that `nas_bo.space.steer` has settled

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        fields: dict[str, object] = {}
        rules: dict[str, Rule] = {}
        inherited = [base for base in reversed(cls.__mro__) if base not in (object, Space)]
        for name, value in [item for base in inherited for item in _by_name(vars(base), fields).items()]:
            if (
                name.startswith("_")
                or name == "title"
                or isinstance(value, (FunctionType, classmethod, staticmethod, property, type))
            ):
                continue
            if name in _RESERVED:
                raise SpaceError(
                    f"{cls.__name__}.{name}: {name!r} is a word of the language; give the field another name"
                )
            if isinstance(value, Require):
                rules[name] = Rule(name, value.test)
            else:
                fields[name] = value
        cls.title = vars(cls).get("title", cls.__name__)
        if not isinstance(cls.title, str):
            raise SpaceError(f"{cls.__name__}.title: 'title' is a word of the language; give the field another name")
        cls._fields, cls._rules = fields, tuple(rules.values())
        cls._level = compile_level(fields, cls.title)
        if (size := extent(cls._level)) > LARGEST:
            raise SpaceError(
                f"{cls.title}: it may have {counted(size, 'decision')} and records of lists, and {LARGEST:,} is the most; bound the count of "
                "its longest list"
            )
        cls._slots = {slot.path: slot for slot in slots(cls._level)}
        cls._cache = {}
        _check_linear_rules(cls)

    @staticmethod
    def of(
        title: str, rules: Mapping[str, Callable[[Architecture], object] | Require] | None = None, **fields: object
    ) -> type[Space]:
        """A space from data instead of a class body; `rules` maps names to functions of the architecture."""
        body = {name: rule if isinstance(rule, Require) else Require(rule) for name, rule in (rules or {}).items()}
        module = sys._getframe(1).f_globals.get("__name__", __name__)  # where pickle is to look for it
        clash = set(body) & set(fields)
        if clash:
            raise SpaceError(f"{title}: {sorted(clash)[0]!r} names both a field and a rule; rename one")
        return type(title, (Space,), {**fields, **body, "title": title, "__module__": module})

    # ---- points -----------------------------------------------------------------------------------------------

    @classmethod
    def decide(cls, pick: Callable[[str, Domain], object]) -> Architecture:
        """The architecture that results from asking ``pick(path, domain)`` for every active decision, in order.

        This is the one way in which choices become an architecture; samplers, hosts and policies differ in `pick` only.

        Raises:
            SpaceError: `pick` returned something outside the domain.
        """
        return cls.decide_canonical(
            lambda path, decision: _canonical(path, decision.domain, pick(path, decision.domain))
        )

    @classmethod
    def decide_canonical(cls, pick: Callable[[str, Decision], object], records: Records | None = None) -> Architecture:
        """As `decide`, where `pick` gives the domain's own values only: nothing is checked. Records of lists that are known are not decided
        again."""
        flat: dict[str, Primitive] = {}
        counts: list[str] = []
        tree = decide(cls._level, pick, flat, counts, "", None, records)
        return Architecture(tree, flat, tuple(counts))

    @classmethod
    def sample(cls, rng: RandomSource) -> Architecture:
        """A valid architecture: every choice uniform among its values (log-uniform on a log scale), layer counts
        included; draws that a rule forbids are drawn again.

        Args:
            rng: a seed (see `nas_bo.seeds`), or a generator of numpy or Python, of which every call takes a draw.

        Raises:
            SpaceError: the rules admit almost nothing; the message says which rule rejects how much. Or no seed.
        """
        source = generator_of(rng, f"{cls.title}.sample", SpaceError)
        return cls._draw(lambda _path, decision: decision.domain.sample(source))

    @classmethod
    def sample_uniform(cls, rng: RandomSource) -> Architecture:
        """A valid architecture, every architecture of the finite part equally likely.

        Deep architectures are then by far the most frequent ones, since there are by far the most of them: `sample`,
        which is uniform over the choices, is the better start of a search.

        Raises:
            SpaceError: as `sample`.
        """
        source = generator_of(rng, f"{cls.title}.sample_uniform", SpaceError)
        if "weights" not in cls._cache:
            cls._cache["weights"] = dict(_weights(cls._level))
        weights: Mapping[int, list[int]] = cls._cache["weights"]

        def pick(_path: str, decision: Decision) -> Primitive:
            if isinstance(decision.domain, Real):
                return decision.domain.sample(source)
            cumulative = weights[id(decision)]
            at = source.randrange(cumulative[-1])  # exact also where the numbers exceed a float
            return decision.domain.values[next(i for i, c in enumerate(cumulative) if at < c)]

        return cls._draw(pick)

    @classmethod
    def _draw(cls, pick: Callable[[str, Decision], object]) -> Architecture:
        if not cls._rules:
            return cls.decide_canonical(pick)
        rejected: dict[str, int] = dict.fromkeys((r.name for r in cls._rules), 0)
        alone: dict[str, int] = dict(rejected)
        for _ in range(MAX_DRAWS):
            arch = cls.decide_canonical(pick)
            broken = [rule.name for rule in cls._rules if not rule.holds(arch)]
            if not broken:
                return arch
            for name in broken:
                rejected[name] += 1
            if len(broken) == 1:
                alone[broken[0]] += 1
        worst = max(rejected, key=lambda name: (rejected[name], alone[name]))
        shares = "; ".join(
            f"{name!r} rejects {100 * n / MAX_DRAWS:.4g} %" for name, n in sorted(rejected.items(), key=lambda x: -x[1])
        )
        raise SpaceError(
            f"{cls.title}: none of {MAX_DRAWS:,} random architectures satisfies the rules; the rule to blame is {worst!r} "
            f"({shares}). Make such architectures impossible by the structure of the space (search a divisor instead of "
            "checking divisibility), or loosen the rule"
        )

    @classmethod
    def architecture(cls, values: Mapping[str, object] | Architecture, *, strict: bool = True) -> Architecture:
        """The architecture of a flat mapping (``{"layers.0.mixer": "skip", ...}``) or of a nested one (a tree).

        Rules are not applied: see `violations` and `contains`.

        Args:
            strict: refuse names that are unknown or inactive; `False` ignores them (hosts mix in parameters
                of their own).

        Raises:
            SpaceError: a value that is missing, outside its domain or (when strict) not active.
        """
        if isinstance(values, Architecture):
            values = values.flat
        constants = {name for name, item in cls._level.fields if isinstance(item, (Constant, Fixed))}
        nested = any(k in constants or isinstance(v, (Mapping, list, tuple)) for k, v in values.items())
        flat = dict(fields_of_tree(cls._level, values, "")) if nested else values
        arch = cls.decide(partial(_look_up, flat))
        if strict and len(arch.flat) != len(flat):
            extra = next(name for name in flat if name not in arch.flat)
            why = "is not active in this architecture" if extra in cls._slots else "is not a choice of this space"
            raise SpaceError(f"{cls.title}: {extra!r} {why}; leave it out")
        return arch

    @classmethod
    def flat(cls, tree: Mapping[str, object] | Architecture) -> dict[str, Primitive]:
        """The flat view of an architecture or of a tree of plain data (raises SpaceError as `architecture`)."""
        return dict(cls.architecture(tree).flat)

    @classmethod
    def violations(cls, arch: Architecture) -> tuple[str, ...]:
        """The names of the rules that `arch` breaks, in the order of the space."""
        return tuple(rule.name for rule in cls._rules if not rule.holds(arch))

    @classmethod
    def contains(cls, values: Architecture | Mapping[str, object]) -> Membership:
        """Whether an architecture (or its flat or nested values) belongs to the space, with the reason when not."""
        try:
            arch = cls.architecture(values.flat if isinstance(values, Architecture) else values)
            if isinstance(values, Architecture) and arch.id != values.id:
                return Membership(False, "a constant of the architecture differs from the one that this space fixes")
            broken = cls.violations(arch)
        except SpaceError as error:
            return Membership(False, str(error))
        return Membership(not broken, f"breaks the {plural(len(broken), 'rule')} {', '.join(broken)}" if broken else "")

    @classmethod
    def neighbours(cls, arch: Architecture) -> list[Architecture]:
        """All valid architectures one step away, without repeats: the next value of an ordered choice, any other
        value of an unordered one, one layer dropped or one doubled. See `nas_bo.space.neighbours`."""
        from nas_bo.space.neighbours import neighbours

        return neighbours(cls, arch)

    # ---- the space as a whole ---------------------------------------------------------------------------------

    @classmethod
    def domains(cls) -> dict[str, Domain]:
        """Every decision that can ever be active, by flat name, parents first."""
        return {path: slot.domain for path, slot in cls._slots.items()}

    @classmethod
    def decisions(cls) -> Mapping[str, Slot]:
        """As `domains`, with what must hold for each decision to be active."""
        return cls._slots

    @classmethod
    def rules(cls) -> tuple[Rule, ...]:
        return cls._rules

    @classmethod
    def is_finite(cls) -> bool:
        return not any(isinstance(slot.domain, Real) for slot in cls._slots.values())

    @classmethod
    def size(cls, *, rules: bool = True) -> int:
        """The exact number of architectures of the finite part (real choices count as one).

        Args:
            rules: count only what the rules allow. Rules are arbitrary functions, so this walks the space and is
                refused above a million points; ``rules=False`` is exact at any size.

        Raises:
            SpaceError: the space has rules and is too large to be walked.
        """
        if not (rules and cls._rules):
            return cls._level.size
        if "size" not in cls._cache:
            cls._cache["size"] = sum(1 for _ in cls.enumerate())
        return int(cls._cache["size"])

    @classmethod
    def enumerate(cls) -> Iterator[Architecture]:
        """Every valid architecture once, reals at the middle of their interval.

        Raises:
            SpaceError: more than a million points (before rules).
        """
        if cls._level.size > MAX_ENUMERATED:
            raise SpaceError(
                f"{cls.title} has {cls._level.size:.3g} architectures before rules, more than the {MAX_ENUMERATED:,} that "
                "are walked one by one; size(rules=False) counts without walking, sample() draws"
            )
        script: list[int] = []  # the value index of every decision on the current path
        while True:
            widths: list[int] = []

            def pick(_path: str, decision: Decision, widths: list[int] = widths) -> Primitive:
                if isinstance(decision.domain, Real):
                    return decision.domain.at(0.5)
                if len(widths) == len(script):
                    script.append(0)
                widths.append(decision.domain.size)
                return decision.domain.values[script[len(widths) - 1]]

            arch = cls.decide_canonical(pick)
            if all(rule.holds(arch) for rule in cls._rules):
                yield arch
            while script and script[-1] + 1 == widths[len(script) - 1]:
                script.pop()
            if not script:
                return
            script[-1] += 1

    @classmethod
    def encoding(cls) -> Encoding:
        """The numeric `Encoding` of the space: column names, and `encode(archs) -> (values, active)`."""
        from nas_bo.space.encode import Encoding

        if "encoding" not in cls._cache:
            cls._cache["encoding"] = Encoding(cls)
        found: Encoding = cls._cache["encoding"]
        return found

    @classmethod
    def encode(cls, archs: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        """Architectures as numbers for models: values (n, columns) in [0, 1] and which of them are active (bool)."""
        encoded: tuple[np.ndarray, np.ndarray] = cls.encoding().encode(archs)
        return encoded

    @classmethod
    def describe(cls) -> str:
        """The space as text to read."""
        from nas_bo.space.describe import describe

        return describe(cls)

    @classmethod
    def to_dict(cls) -> dict[str, Any]:
        """The space as plain data with a schema version; rules by name only, since they are code."""
        return _schema.to_dict(cls.title, cls._level, cls.rules())

    @classmethod
    def to_json(cls) -> str:
        return json.dumps(cls.to_dict(), indent=1)

    @staticmethod
    @reading("the JSON of a space", SpaceError)
    def from_dict(
        data: Mapping[str, object], rules: Mapping[str, Callable[[Architecture], object]] | None = None
    ) -> type[Space]:
        """The inverse of `to_dict`; `rules` supplies the functions of the rules that are not linear.

        Raises:
            SpaceError: not such a document, a newer schema version, or a rule that is not supplied.
        """
        title, fields, its = _schema.from_dict(data, {} if rules is None else rules)
        return Space.of(title, its, **fields)

    @staticmethod
    @reading("the JSON of a space", SpaceError)
    def from_json(text: str, rules: Mapping[str, Callable[[Architecture], object]] | None = None) -> type[Space]:
        try:
            return Space.from_dict(json.loads(text), rules)
        except json.JSONDecodeError as error:
            raise SpaceError(f"this is not JSON ({error}); expected the text written by Space.to_json") from error

    @classmethod
    def fingerprint(cls) -> str:
        """16 hexadecimal digits that differ when fields, constants or the names of rules differ."""
        data = {k: v for k, v in cls.to_dict().items() if k != "title"}
        return hashlib.sha256(json.dumps(data, separators=(",", ":")).encode()).hexdigest()[:16]


_RESERVED = frozenset(name for owner in (Space, Architecture) for name in dir(owner) if not name.startswith("_"))


def _by_name(body: Mapping[str, object], before: Mapping[str, object]) -> dict[str, object]:
    """`body` with the counts of its repeats said by name where they are fields of it, or of `before`: so a subclass that
    replaces the field replaces the count."""
    known = {**before, **body}
    named = dict(body)
    for name, value in body.items():
        if isinstance(value, Repeat) and not isinstance(value.count, (int, str)):
            same = [other for other, domain in known.items() if domain is value.count]
            if len(same) == 1:
                named[name] = Repeat(same[0], value.fields)
    return named


def built_by(space: type[Space], function: Callable[..., type[Space]], *arguments: object) -> None:
    """Say which call makes this space again; other processes make it by that."""
    space._built_by = function, arguments


def _reduced(space: SpaceType) -> str | tuple[Any, ...]:
    built: tuple[Any, ...] | None = vars(space).get("_built_by")
    return built or space.__qualname__


copyreg.pickle(SpaceType, _reduced)


def is_space(value: object) -> bool:
    """Whether `value` is a search space: a subclass of `Space` (or an instance of one)."""
    return isinstance(value, Space) or (isinstance(value, type) and issubclass(value, Space))


def _canonical(path: str, domain: Domain, value: object) -> Primitive:
    try:
        return domain.canonical(value)
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from error


def _look_up(flat: Mapping[str, object], path: str, _domain: Domain) -> Any:
    try:
        return flat[path]
    except KeyError:
        raise SpaceError(f"the value of {path!r} is missing") from None


def _weights(level: Level) -> Iterator[tuple[int, list[int]]]:
    """Cumulative numbers of completions per value of every decision below `level`, by the decision's identity."""
    for name, item in level.fields:
        inner: list[Level] = []
        decision: Decision | None = None
        if isinstance(item, Decision):
            decision, inner = item, list(item.options.values())
        elif isinstance(item, Loop):
            decision, inner = item.inline, [item.body]
        elif isinstance(item, (Fixed, Guard)):
            inner = [item.body]
        if decision is not None and not isinstance(decision.domain, Real):
            total, cumulative = 0, []
            for v in decision.domain.values:
                if isinstance(item, Loop):
                    total += item.body.size ** int(v)  # type: ignore[arg-type]
                else:
                    total += level.ways(name, decision, v)
                cumulative.append(total)
            yield id(decision), cumulative
        for below in inner:
            yield from _weights(below)


def _check_linear_rules(cls: type[Space]) -> None:
    for rule in cls._rules:
        if isinstance(rule.test, Linear):
            for name in rule.test.weights:
                slot = cls._slots.get(name)
                numbers = slot is not None and (
                    not isinstance(slot.domain, Choice)
                    or all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in slot.domain.values)
                )
                if slot is None or slot.parent is not None or not numbers:
                    raise SpaceError(
                        f"{cls.title}: the linear rule {rule.name!r} names {name!r}, which is not a number that is "
                        "always active; write the rule as a function with @require"
                    )
