"""The compiled form of a space: levels of decisions, and the one interpreter that walks them.

Everything that turns choices into an architecture (drawing at random, reading a flat dictionary, asking an Optuna
trial, copying a parent with mutations) is a call of `decide` with another `pick`: there is no second walker to agree
with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol, TypeAlias

from nas_bo.architecture import Node, Primitive
from nas_bo.errors import SpaceError
from nas_bo.space.domain import Choice, Domain, Integer, Option, Real, Repeat, When, check_count, has, most_records
from nas_bo.wording import counted

RESERVED = ("kind", "keys", "items", "values", "get")  # what a record of the tree answers to by itself

Pick = Callable[[str, "Decision"], Any]
Item: TypeAlias = "Constant | Decision | Fixed | Loop | Guard"  # what a record has under a name


@dataclass(frozen=True, eq=False)
class Constant:
    """A field without a choice: part of the network (and of its id), not of the flat view."""

    value: Primitive


@dataclass(frozen=True, eq=False)
class Decision:
    """One choice; `options` are the levels below its values that are options."""

    domain: Domain
    options: Mapping[str, Level]

    def below(self, value: Primitive) -> int:
        """The number of ways to complete the choice of `value` (finite part)."""
        level = self.options.get(value) if isinstance(value, str) else None
        return 1 if level is None else level.size

    @cached_property
    def size(self) -> int:
        if not self.options:
            return self.domain.size or 1
        return sum(self.below(v) for v in self.domain.values)


@dataclass(frozen=True, eq=False)
class Fixed:
    """An option that is in a field by itself: always chosen, so no decision, but with decisions below it."""

    kind: str
    body: Level


@dataclass(frozen=True, eq=False)
class Loop:
    """`repeat`: `count` is a constant, the name of a sibling decision, or None with `inline` holding the decision."""

    count: int | str | None
    inline: Decision | None
    body: Level
    most: int  # the largest possible count

    def options_of_count(self, siblings: Mapping[str, object]) -> Sequence[Primitive]:
        if isinstance(self.count, int):
            return (self.count,)
        count = self.inline or siblings[str(self.count)]
        assert isinstance(count, Decision) and not isinstance(count.domain, Real)  # as `compile_level` has seen to it
        return count.domain.values


@dataclass(frozen=True, eq=False)
class Guard:
    """`When`: the fields of `body` belong to the record itself, while its decision `parent` has one of `values`."""

    parent: str
    values: frozenset[Primitive]
    body: Level


@dataclass(frozen=True, eq=False)
class Level:
    """The fields of one record, in the order in which they are decided."""

    fields: tuple[tuple[str, Item], ...]

    @cached_property
    def counts(self) -> frozenset[str]:
        """The names of the decisions that are counts of repeats here."""
        return frozenset(
            item.count for _, item in self.fields if isinstance(item, Loop) and isinstance(item.count, str)
        )

    @cached_property
    def gates(self) -> frozenset[str]:
        """The names of the decisions on which other fields of the record depend."""
        return self.counts | {item.parent for _, item in self.fields if isinstance(item, Guard)}

    def ways(self, name: str, decision: Decision, value: Primitive) -> int:
        """The number of ways to complete the choice of `value` for `name`: below it, and in what depends on it."""
        total = decision.below(value)
        for _, item in self.fields if name in self.gates else ():
            if isinstance(item, Loop) and item.count == name:
                total *= item.body.size ** int(value)  # type: ignore[arg-type]
            elif isinstance(item, Guard) and item.parent == name and value in item.values:
                total *= item.body.size
        return total

    @cached_property
    def size(self) -> int:
        """The exact number of points of the finite part, rules aside."""
        total = 1
        for name, item in self.fields:
            if isinstance(item, Decision):
                if name in self.gates:
                    total *= sum(self.ways(name, item, v) for v in item.domain.values)
                else:
                    total *= item.size
            elif isinstance(item, Fixed):
                total *= item.body.size
            elif isinstance(item, Loop) and not isinstance(item.count, str):
                counts = item.options_of_count({})
                total *= sum(item.body.size ** int(n) for n in counts)  # type: ignore[arg-type]
        return total


def compile_level(fields: Mapping[str, object], where: str) -> Level:
    """Check the fields of one record and compile them.

    Raises:
        SpaceError: a field name that cannot be one, a value that is not part of the language, a count that is not there.
    """
    named: dict[str, Item | Repeat] = {}
    for name, value in fields.items():
        if not name.isidentifier() or name in RESERVED or name.startswith("_"):
            raise SpaceError(
                f"{where}: the field name {name!r} is not allowed; use a Python identifier that does not begin with an "
                f"underscore and is none of {', '.join(RESERVED)}"
            )
        if isinstance(value, float) and value != value:
            raise SpaceError(f"{where}.{name} is NaN, which equals nothing; leave it out")
        if isinstance(value, Option):
            named[name] = Fixed(value.name, compile_level(value.fields, f"{where}.{name}.{value.name}"))
        elif isinstance(value, (Choice, Integer, Real)):
            options = value.options if isinstance(value, Choice) else {}
            levels = {k: compile_level(v, f"{where}.{name}.{k}") for k, v in options.items()}
            named[name] = Decision(value, levels)
        elif isinstance(value, Repeat):
            named[name] = value
        elif isinstance(value, When):
            named[name] = _compile_guard(value, named, f"{where}.{name}")
        elif isinstance(value, (str, int, float, bool, type(None))):
            named[name] = Constant(value)
        else:
            raise SpaceError(
                f"{where}.{name} is a {type(value).__name__}; a field is choice, integer, real, option, repeat or a constant "
                "(str, int, float, bool, None)"
            )
    items = {
        name: _compile_loop(one, named, fields, f"{where}.{name}") if isinstance(one, Repeat) else one
        for name, one in named.items()
    }
    return Level(tuple(_counts_first(items)))


def _compile_guard(when: When, named: Mapping[str, Item | Repeat], where: str) -> Guard:
    parent, body = named.get(when.parent), compile_level(when.fields, where)
    if not isinstance(parent, Decision) or isinstance(parent.domain, Real):
        raise SpaceError(
            f"{where}: {when.parent!r} is not a finite choice that is written before it in the same record"
        )
    strange = [v for v in when.values if not has(parent.domain, v)]
    if strange or not when.values:
        raise SpaceError(f"{where}: {when.parent!r} is never {strange or 'nothing'}; it is {parent.domain.describe()}")
    there = {
        one for name, item in named.items() for one in (names_of(item.body) if isinstance(item, Guard) else (name,))
    }
    twice = set(names_of(body)) & there
    if twice:
        raise SpaceError(f"{where}: the record has two fields {sorted(twice)[0]!r}; rename one")
    return Guard(when.parent, when.values, body)


def names_of(level: Level) -> Iterator[str]:
    """The names of all fields that a record can have."""
    for name, item in level.fields:
        if isinstance(item, Guard):
            yield from names_of(item.body)
        else:
            yield name


def _compile_loop(loop: Repeat, named: Mapping[str, Item | Repeat], fields: Mapping[str, object], where: str) -> Loop:
    body = compile_level(loop.fields, where)
    count = loop.count
    if isinstance(count, int):
        return Loop(count, None, body, count)
    if not isinstance(count, str):
        same = [name for name, value in fields.items() if value is count]
        if len(same) > 1:
            raise SpaceError(
                f"{where}: its count is the same object as the fields {same}; write repeat('{same[0]}', ...)"
            )
        if not same:
            return Loop(None, Decision(count, {}), body, most_records(count))  # type: ignore[arg-type]
        count = same[0]
    decision = named.get(count)
    if isinstance(decision, Constant) and type(decision.value) is int and decision.value >= 0:
        return Loop(decision.value, None, body, decision.value)
    if not isinstance(decision, Decision) or isinstance(decision.domain, Real):
        there = [n for n, v in named.items() if isinstance(v, Decision) and not isinstance(v.domain, Real)]
        raise SpaceError(
            f"{where}: its count {count!r} is not an integer of the same level; there are: {', '.join(there) or 'none'}"
        )
    check_count(decision.domain, f"{where}: count {count!r}")
    return Loop(count, None, body, most_records(decision.domain))


def _counts_first(named: Mapping[str, Item]) -> Iterator[tuple[str, Item]]:
    done: set[str] = set()
    for name, item in named.items():
        if isinstance(item, Loop) and isinstance(item.count, str) and item.count not in done:
            done.add(item.count)
            yield item.count, named[item.count]
        if name not in done:
            done.add(name)
            yield name, item


Record: TypeAlias = tuple[Node, dict[str, Primitive], list[str]]  # tree, flat view and counts of one record


class Records(Protocol):
    """Records of lists that were decided before."""

    def record(self, prefix: str, made: Callable[[], Record]) -> Record:
        """The record at `prefix` as it was decided before with the same answers of `pick`, else what `made` gives."""


def decide(
    level: Level,
    pick: Pick,
    flat: dict[str, Primitive],
    counts: list[str],
    prefix: str,
    kind: str | None,
    records: Records | None = None,
) -> Node:
    """Walk `level`, asking ``pick(path, decision)`` for every active decision, in order.

    `flat` receives the picked values by dotted path, `counts` the paths of named counts. Returns the tree. Of `records` come those of
    outermost lists, where they are known.
    """
    fields: dict[str, object] = {} if kind is None else {"kind": kind}
    _fill(fields, level, pick, flat, counts, prefix, records)
    return Node(fields)


def _fill(
    fields: dict[str, object],
    level: Level,
    pick: Pick,
    flat: dict[str, Primitive],
    counts: list[str],
    prefix: str,
    records: Records | None,
) -> None:
    for name, item in level.fields:
        path = prefix + name
        if isinstance(item, Decision):
            value = flat[path] = pick(path, item)
            below = item.options.get(value) if item.options and isinstance(value, str) else None
            if below is not None:
                fields[name] = decide(below, pick, flat, counts, f"{path}.{value}.", value, records)
            else:
                fields[name] = value
        elif isinstance(item, Loop):
            if item.inline is not None:
                n = flat[path] = pick(path, item.inline)
            else:
                n = item.count if isinstance(item.count, int) else fields[str(item.count)]
            if records is None:
                fields[name] = tuple(decide(item.body, pick, flat, counts, f"{path}.{i}.", None) for i in range(n))
            else:
                found = [
                    records.record(at, partial(_record, item.body, pick, at))
                    for at in (f"{path}.{i}." for i in range(n))
                ]
                for _, values, names in found:
                    flat.update(values)
                    counts += names
                fields[name] = tuple(node for node, _, _ in found)
        elif isinstance(item, Fixed):
            fields[name] = decide(item.body, pick, flat, counts, f"{path}.{item.kind}.", item.kind, records)
        elif isinstance(item, Guard):
            if flat[prefix + item.parent] in item.values:
                _fill(fields, item.body, pick, flat, counts, prefix, records)
        else:
            fields[name] = item.value
    for name in sorted(level.counts):
        counts.append(prefix + name)


def _record(body: Level, pick: Pick, prefix: str) -> Record:
    flat: dict[str, Primitive] = {}
    counts: list[str] = []
    return decide(body, pick, flat, counts, prefix, None), flat, counts


@dataclass(frozen=True)
class Slot:
    """A decision at a path, and what must hold above it for it to be active.

    `parent` is the path of the nearest decision above (None at the top); the slot is active when that parent is
    active and its value is `value` (an option), more than `index` (the count of a repeat) or one of `values`.
    """

    path: str
    domain: Domain
    parent: str | None = None
    value: str | None = None
    index: int | None = None
    is_count: bool = False
    records: str | None = None  # prefix of the list whose record `index` this is
    values: frozenset[Primitive] | None = None


LARGEST = 100_000  # decisions and records: a space of so many takes seconds to make, and as much to draw from


def extent(level: Level) -> int:
    """How many decisions and records of lists an architecture of `level` can have, over all of its options."""
    total = 0
    for _, item in level.fields:
        if isinstance(item, Decision):
            total += 1 + sum(extent(below) for below in item.options.values())
        elif isinstance(item, Loop):
            total += item.most * (1 + extent(item.body))
        elif isinstance(item, (Fixed, Guard)):
            total += extent(item.body)
    return total


def slots(level: Level, prefix: str = "", above: Slot | None = None) -> Iterator[Slot]:
    """Every decision that can ever be active, parents before children; `above` holds the condition they share."""
    above = above or Slot("", Choice((None,), False))
    for name, item in level.fields:
        path = prefix + name
        if isinstance(item, Decision):
            yield replace(above, path=path, domain=item.domain, is_count=name in level.counts)
            for kind, below in item.options.items():
                yield from slots(below, f"{path}.{kind}.", Slot("", item.domain, parent=path, value=kind))
        elif isinstance(item, Fixed):
            yield from slots(item.body, f"{path}.{item.kind}.", above)
        elif isinstance(item, Loop):
            if item.inline is not None:
                yield replace(above, path=path, domain=item.inline.domain, is_count=True)
            for i in range(item.most):
                record = above  # of a constant count: as active as the record that holds the list
                if not isinstance(item.count, int):
                    count = path if item.inline is not None else f"{prefix}{item.count}"
                    record = Slot("", above.domain, parent=count, index=i, records=path)
                yield from slots(item.body, f"{path}.{i}.", record)
        elif isinstance(item, Guard):
            guarded = Slot("", above.domain, parent=prefix + item.parent, values=item.values)
            yield from slots(item.body, prefix, guarded)


def fields_of_tree(level: Level, tree: Mapping[str, object], where: str) -> Iterator[tuple[str, object]]:
    """(flat path, value) of every decision of a tree of plain data or Nodes; the inverse of `decide`.

    Raises:
        SpaceError: a field is missing, unknown, or is not of the shape that the space has there.
    """
    there = list(names_of(level))
    unknown = [k for k in tree if k != "kind" and k not in there]
    if unknown:
        raise SpaceError(f"{where or 'the architecture'} has no field {unknown[0]!r}; there are: {', '.join(there)}")
    yield from _read(level, tree, where)


def _read(level: Level, tree: Mapping[str, object], where: str) -> Iterator[tuple[str, object]]:
    for name, item in level.fields:
        path = f"{where}.{name}" if where else name
        if isinstance(item, Guard):
            value = tree.get(item.parent)
            if (value.get("kind") if isinstance(value, Mapping) else value) in item.values:
                yield from _read(item.body, tree, where)
                continue
            extra = [k for k in names_of(item.body) if k in tree]
            if extra:
                raise SpaceError(f"the field {extra[0]!r} does not exist while {item.parent!r} is {value!r}")
            continue
        if name not in tree:
            if isinstance(item, Constant) or (isinstance(item, Fixed) and not item.body.fields):
                continue
            raise SpaceError(f"the field {path!r} is missing")
        value = tree[name]
        if isinstance(item, Fixed):
            if value == item.kind and isinstance(value, str):
                value = {"kind": item.kind}
            if not isinstance(value, Mapping) or value.get("kind") != item.kind:
                raise SpaceError(f"{path}={value!r}, but the space fixes it to the option {item.kind!r}")
            yield from fields_of_tree(item.body, value, f"{path}.{item.kind}")
        elif isinstance(item, Constant):
            if value != item.value or isinstance(value, bool) != isinstance(item.value, bool):
                raise SpaceError(f"{path}={value!r}, but the space fixes it to {item.value!r}")
        elif isinstance(item, Decision):
            if isinstance(value, Mapping):
                kind = value.get("kind")
                if not isinstance(kind, str) or kind not in item.options:
                    raise SpaceError(
                        f"{path}: {kind!r} is not an option here; there are: {', '.join(item.options) or 'none'}"
                    )
                yield path, kind
                yield from fields_of_tree(item.options[kind], value, f"{path}.{kind}")
            else:
                yield path, value
        else:
            if not isinstance(value, (list, tuple)) or not all(isinstance(v, Mapping) for v in value):
                raise SpaceError(f"{path} must be a list of records")
            if item.inline is not None:
                yield path, len(value)
            else:
                expected = item.count if isinstance(item.count, int) else tree.get(str(item.count))
                if expected != len(value):
                    raise SpaceError(f"{path} has {counted(len(value), 'record')}, but its count is {expected!r}")
            for i, record in enumerate(value):
                yield from fields_of_tree(item.body, record, f"{path}.{i}")
