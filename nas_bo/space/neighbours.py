"""Steps between architectures: the moves that local search and mutation are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import SpaceError
from nas_bo.space.domain import Domain

if TYPE_CHECKING:
    from nas_bo.space.space import Space


def middle(domain: Domain) -> Primitive:
    """The value that a newly active decision gets when nothing better is known."""
    if domain.size is None:
        return domain.at(0.5)
    return domain.values[(domain.size - 1) // 2 if domain.ordered else 0]


def complete(space: type[Space], flat: Mapping[str, object]) -> Architecture:
    """The architecture with the values of `flat` where they apply, and the middle of the domain elsewhere.

    Values under records that do not exist are skipped; a value outside its domain is replaced by the middle.
    """

    def pick(path: str, domain: Domain) -> object:
        if path in flat:
            try:
                return domain.canonical(flat[path])
            except SpaceError:
                pass
        return middle(domain)

    return space.decide(pick)


_counted: WeakKeyDictionary[type[Space], Mapping[str, tuple[str, ...]]] = WeakKeyDictionary()


def counted_lists(space: type[Space]) -> Mapping[str, tuple[str, ...]]:
    """Flat name of every count -> the prefixes of the lists that it counts."""
    if space in _counted:
        return _counted[space]
    found: dict[str, dict[str, None]] = {}
    for slot in space.decisions().values():
        if slot.records is not None and slot.parent is not None:
            found.setdefault(slot.parent, {})[slot.records] = None
    return _counted.setdefault(space, {count: tuple(prefixes) for count, prefixes in found.items()})


@lru_cache(maxsize=20_000)
def _records_of(path: str) -> tuple[tuple[str, int], ...]:
    """The records that a path lies in: (prefix of the list, index)."""
    return tuple((path[: m.start()], int(m[1])) for m in re.finditer(r"\.(\d+)(?=\.)", path))


def lists_of(flat: Mapping[str, object]) -> dict[str, int]:
    """Prefix of every list -> the number of its records, for a flat view (``{"layers": 4}``)."""
    found: dict[str, int] = {}
    for path in flat:
        for prefix, i in _records_of(path):
            found[prefix] = max(found.get(prefix, 0), i + 1)
    return found


def reorder(flat: Mapping[str, object], prefix: str, order: list[int]) -> dict[str, object]:
    """`flat` with the records of the list at `prefix` replaced by copies of the records `order`, in that order."""
    head = f"{prefix}."
    kept: dict[str, object] = {}
    records: dict[int, list[tuple[str, object]]] = {}
    for path, value in flat.items():
        index, _, rest = path[len(head) :].partition(".") if path.startswith(head) else ("", "", "")
        if rest and index.isdigit():
            records.setdefault(int(index), []).append((rest, value))
        else:
            kept[path] = value
    for new, old in enumerate(order):
        kept |= {f"{head}{new}.{rest}": value for rest, value in records.get(old, ())}
    return kept


def neighbours(space: type[Space], arch: Architecture) -> list[Architecture]:
    """See `Space.neighbours`. A decision that a step activates takes the middle of its domain."""
    found: dict[str, Architecture] = {}
    for flat in _steps(space, arch):
        try:
            near = complete(space, flat)
        except SpaceError:
            continue
        if near.id != arch.id and near.id not in found and not space.violations(near):
            found[near.id] = near
    return list(found.values())


def _steps(space: type[Space], arch: Architecture) -> Iterator[dict[str, object]]:
    flat = dict(arch.flat)
    lists = lists_of(flat)
    counts = {prefix: count for count, prefixes in counted_lists(space).items() for prefix in prefixes}
    counted = {counts.get(prefix) for prefix in lists}
    for path, value in flat.items():
        if path not in counted:
            for other in space.decisions()[path].domain.steps(value):
                yield {**flat, path: other}
    by_count: dict[str, list[str]] = {}
    for prefix in lists:
        count = counts.get(prefix)
        if count is not None:
            by_count.setdefault(count, []).append(prefix)
    for count, prefixes in by_count.items():
        n = int(flat[count])  # type: ignore[arg-type]
        for other in space.decisions()[count].domain.steps(n):
            m = int(other)  # type: ignore[arg-type]
            for at in range(n):
                if m < n:  # drop n - m records from `at` on
                    order = [i for i in range(n) if not at <= i < at + n - m]
                    if len(order) != m:
                        continue
                else:  # repeat record `at`
                    order = [*range(at), *[at] * (m - n), *range(at, n)]
                changed: dict[str, object] = {**flat, count: m}
                for prefix in prefixes:
                    changed = reorder(changed, prefix, order)
                yield changed


def pattern(path: str) -> str:
    """A path without its indices: ``layers.3.mixer`` -> ``layers.*.mixer``."""
    return re.sub(r"\.\d+(?=\.)", ".*", path)
