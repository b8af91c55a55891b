"""Mutation and crossover of architectures, after Elsken et al., 2019, "Neural architecture search: a survey", JMLR 20.

Generic over spaces: decisions, and lists of records ("layers"), are found in the flat view. Children are built by
`Space.decide`, so they always have the structure of the space; rules and limits are for the caller to check.
A decision that a move makes active without saying its value is taken over from a donor, or drawn at random.

Notation: `flat` maps dotted paths to values; the list at prefix ``layers`` has the records ``layers.0``, ``layers.1``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import SpaceError
from nas_bo.space import Space
from nas_bo.space.domain import Domain
from nas_bo.space.neighbours import counted_lists, lists_of, pattern, reorder
from nas_bo.space.tree import Decision
from nas_bo.strategies.number_variation import is_long, shifted

STEP = 0.8  # probability that an ordered decision goes one step instead of anywhere
INSIDE = 0.25  # probability that crossover also mixes two records with each other
Flat = dict[str, Any]
Donors = Sequence[Architecture]


def build(space: type[Space], flat: Mapping[str, object], rng: random.Random) -> Architecture:
    """The architecture with the values of `flat` where they apply, and random ones elsewhere."""

    def pick(path: str, decision: Decision) -> object:
        if path in flat:
            try:
                return decision.domain.canonical(flat[path])
            except SpaceError:
                pass
        return decision.domain.sample(rng)

    return space.decide_canonical(pick)  # everything picked is canonical, `Space.decide` would check it again


# ---- mutation ---------------------------------------------------------------------------------------------------


def mutate(
    space: type[Space], arch: Architecture, rng: random.Random, moves: int = 1, donors: Donors = ()
) -> Architecture:
    """`arch` after `moves` random moves; equal to `arch` where no move changes anything.

    `donors`, the best first, give the values below a decision that changes (see `_opened`).
    ~ change with probability 1/2, otherwise uniform among the moves on lists that apply (swap, copy, insert, drop).
    """
    return build(space, moved_flat(space, dict(arch.flat), rng, moves, donors), rng) if moves else arch


def moved_flat(space: type[Space], flat: Flat, rng: random.Random, moves: int, donors: Donors = ()) -> Flat:
    """`mutate` on a flat view, for `build`: what the moves leave open is missing from it."""
    for _ in range(moves):
        made: Flat | None = None
        if rng.random() < 0.5:
            tries = (move(space, flat, rng) for move in rng.sample((_swap, _copy, _insert, _drop), 4))
            made = next((found for found in tries if found is not None), None)
        flat = _change(space, flat, rng, donors) if made is None else made
    return flat


def _change(space: type[Space], flat: Flat, rng: random.Random, donors: Donors = ()) -> Flat:
    """One decision changes. ~ uniform over decisions or, as often, over their patterns first (so that the many
    decisions of layers do not crowd out the few at the top); counts of lists are left to `_insert` and `_drop`."""
    counts, domains = counted_lists(space), space.decisions()
    paths = [p for p in flat if p not in counts and domains[p].domain.size != 1]
    if not paths:
        return flat
    if rng.random() < 0.5:
        kind = rng.choice(list(dict.fromkeys(map(pattern, paths))))
        paths = [p for p in paths if pattern(p) == kind]
    path = rng.choice(paths)
    value = moved(domains[path].domain, flat[path], rng)
    return {**flat, path: value, **_opened(space, flat, path, value, rng, donors)}


def _opened(
    space: type[Space], flat: Flat, path: str, value: Primitive, rng: random.Random, donors: Donors
) -> dict[str, Primitive]:
    """Values for the decisions below `path` when it becomes `value`: what the best of `donors` with that value has
    there or, as often, what fields of the same names and domains have below the value before. Nothing without donors."""
    below = openings(space).get(path, ()) if donors else ()
    if not below:
        return {}
    decisions, old, new = space.decisions(), f"{path}.{flat[path]}.", f"{path}.{value}."
    alike = {name: old + name[len(new) :] for name in below if name.startswith(new)}
    kept = {
        name: flat[before]
        for name, before in alike.items()
        if before in flat and decisions[before].domain == decisions[name].domain
    }
    if kept and rng.random() < 0.5:
        return kept
    donor = next((arch.flat for arch in donors if arch.flat.get(path) == value), None)
    return kept if donor is None else {name: donor[name] for name in below if name in donor}


_openings: WeakKeyDictionary[type[Space], dict[str, tuple[str, ...]]] = WeakKeyDictionary()


def openings(space: type[Space]) -> dict[str, tuple[str, ...]]:
    """Every decision on which others depend -> those, also indirectly; counts of lists included."""
    if space not in _openings:
        found: dict[str, list[str]] = {}
        slots = space.decisions()
        for slot in slots.values():
            above = slot.parent
            while above is not None:
                found.setdefault(above, []).append(slot.path)
                above = slots[above].parent
        _openings[space] = {path: tuple(names) for path, names in found.items()}
    return _openings[space]


def moved(domain: Domain, value: Primitive, rng: random.Random) -> Primitive:
    """Another value of the domain. A number of many values: see `shifted`; ordered: ~ one step with probability STEP,
    otherwise any other value; unordered: ~ uniform among the others."""
    if is_long(domain):
        return shifted(domain, value, rng)
    steps = domain.steps(value)
    size = domain.size or 0
    if domain.ordered and size > 1 and rng.random() >= STEP:
        here = domain.values.index(value)
        there = rng.randrange(size - 1)  # ~ uniform among the others, without listing them
        return domain.values[there + (there >= here)]
    return rng.choice(steps) if steps else value


def _swap(space: type[Space], flat: Flat, rng: random.Random) -> Flat | None:
    """Two records of a list change places. ~ uniform over lists, then pairs."""
    return _of_pair(flat, rng, both=True)


def _copy(space: type[Space], flat: Flat, rng: random.Random) -> Flat | None:
    """One record of a list replaces another. ~ uniform over lists, then pairs."""
    return _of_pair(flat, rng, both=False)


def _of_pair(flat: Flat, rng: random.Random, both: bool) -> Flat | None:
    lists = {prefix: n for prefix, n in lists_of(flat).items() if n > 1}
    if not lists:
        return None
    prefix = rng.choice(list(lists))
    order = list(range(lists[prefix]))
    i, j = rng.sample(order, 2)
    order[i], order[j] = j, i if both else j
    return reorder(flat, prefix, order)


def _resizable(space: type[Space], flat: Flat, up: bool) -> dict[str, int]:
    """Active counts that can grow (or shrink) -> the next size."""
    found = {}
    for count in counted_lists(space):
        if count in flat:
            n = int(flat[count])
            sizes = [int(v) for v in space.decisions()[count].domain.values if (int(v) > n if up else int(v) < n)]  # type: ignore[arg-type]
            if sizes:
                found[count] = min(sizes) if up else max(sizes)
    return found


def _insert(space: type[Space], flat: Flat, rng: random.Random) -> Flat | None:
    """A list grows to its next size: copies of a neighbour or, as often, new random records. ~ uniform over places."""
    sizes = _resizable(space, flat, up=True)
    if not sizes:
        return None
    count = rng.choice(list(sizes))
    n, m = int(flat[count]), sizes[count]
    at, copy = rng.randint(0, n), rng.random() < 0.5
    source = min(max(0, at - rng.randint(0, 1)), max(0, n - 1))
    flat = {**flat, count: m}
    for prefix in counted_lists(space)[count]:
        flat = reorder(flat, prefix, [*range(at), *([source] * (m - n) if copy else [m] * (m - n)), *range(at, n)])
    return flat


def _drop(space: type[Space], flat: Flat, rng: random.Random) -> Flat | None:
    """A list shrinks to its next size; the records that go are neighbours. ~ uniform over places."""
    sizes = _resizable(space, flat, up=False)
    if not sizes:
        return None
    count = rng.choice(list(sizes))
    n, m = int(flat[count]), sizes[count]
    at = rng.randint(0, m)
    flat = {**flat, count: m}
    for prefix in counted_lists(space)[count]:
        flat = reorder(flat, prefix, [*range(at), *range(at + n - m, n)])
    return flat


# ---- crossover --------------------------------------------------------------------------------------------------


def crossover(space: type[Space], first: Architecture, second: Architecture, rng: random.Random) -> Architecture:
    """A child of two architectures: blocks and records are exchanged whole.

    Fields: ~ each from either parent; a block that both have is exchanged whole or mixed inside. Lists: the length is
    one parent's, and a random segment of records (one- or two-point) comes from `second`.
    """
    return build(space, crossed_flat(space, first, second, rng), rng)


def crossed_flat(space: type[Space], first: Architecture, second: Architecture, rng: random.Random) -> Flat:
    """`crossover` as a flat view, for `build`."""
    flat = dict(first.flat)
    _mix(space, flat, dict(second.flat), "", rng)
    return flat


def _mix(space: type[Space], child: Flat, other: Flat, scope: str, rng: random.Random) -> None:
    """Exchange between `child` and `other`, in place, what lies below `scope` ("" or ending with a dot)."""
    names = {k[len(scope) :].split(".")[0]: None for source in (child, other) for k in source if k.startswith(scope)}
    done: set[str] = set()
    counts = {p: c for c, prefixes in counted_lists(space).items() for p in prefixes}
    for path in (scope + name for name in names):
        if path in done:
            continue
        count = counts.get(path) or (path if path in counted_lists(space) else None)
        if count is not None:
            lists = counted_lists(space)[count]
            done |= {count, *lists}
            if count in child and count in other:
                length = rng.choice([int(child[count]), int(other[count])])
                _splice(space, child, other, lists, (int(child[count]), int(other[count]), length), rng)
                child[count] = length
        elif path not in child and path not in other:  # a list of constant length
            n = lists_of(child).get(path, 0)
            _splice(space, child, other, (path,), (n, n, n), rng)
        elif path in child and path in other and rng.random() < 0.5:
            below = f"{path}.{child[path]}."
            if child[path] == other[path] and rng.random() < 0.5:
                _mix(space, child, other, below, rng)
            else:
                _replace(child, other, path)


def _splice(space: type[Space], child: Flat, other: Flat, lists: tuple[str, ...], sizes: tuple[int, int, int],
            rng: random.Random) -> None:  # fmt: skip
    """The records [start, stop) come from `other`, and those that `child` lacks; one-point when an end is an end."""
    mine, theirs, length = sizes
    start, stop = sorted((rng.randint(0, length), rng.randint(0, length)))
    taken = {str(i) for i in range(length) if i >= mine or (start <= i < stop and i < theirs)}
    for prefix in lists:
        head = prefix + "."
        for flat in (child, other) if taken else ():
            found = {k: v for k, v in flat.items() if k.startswith(head) and k[len(head) :].split(".", 1)[0] in taken}
            if flat is other:
                child.update(found)
            else:
                for key in found:
                    del child[key]
        both = min(mine, theirs, length)
        if both and rng.random() < INSIDE:
            _mix(space, child, other, f"{prefix}.{rng.randrange(both)}.", rng)


def _replace(child: Flat, other: Flat, path: str) -> None:
    """What `child` has at and below `path` becomes what `other` has there."""
    for key in [k for k in child if k == path or k.startswith(path + ".")]:
        del child[key]
    child.update({k: v for k, v in other.items() if k == path or k.startswith(path + ".")})
