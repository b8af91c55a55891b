"""Steps between architectures: the moves that local search and mutation are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

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


def complete(space: type[Space], flat: Mapping[str, Any]) -> Architecture:
    """The architecture with the values of `flat` where they apply, and the middle of the domain elsewhere.

    Values under records that do not exist are skipped; a value outside its domain is replaced by the middle.
    """

    def pick(path: str, domain: Domain) -> Any:
        if path in flat:
            try:
                return domain.canonical(flat[path])
            except SpaceError:
                pass
        return middle(domain)

    return space.decide(pick)


def records(arch: Architecture) -> dict[str, int]:
    """Prefix of every list of records in `arch` -> the number of records (``{"layers": 4}``)."""
    found: dict[str, int] = {}
    for path in arch.flat:
        for match in re.finditer(r"\.(\d+)\.", path):
            prefix = path[: match.start()]
            found[prefix] = max(found.get(prefix, 0), int(match[1]) + 1)
    return found


def reorder(flat: Mapping[str, Any], prefix: str, order: list[int]) -> dict[str, Any]:
    """`flat` with the records of the list at `prefix` replaced by copies of the records `order`, in that order."""
    head = f"{prefix}."
    kept: dict[str, Any] = {}
    records: dict[int, list[tuple[str, Any]]] = {}
    for path, value in flat.items():
        index, _, rest = path[len(head) :].partition(".") if path.startswith(head) else ("", "", "")
        if rest and index.isdigit():
            records.setdefault(int(index), []).append((rest, value))
        else:
            kept[path] = value
    for new, old in enumerate(order):
        kept |= {f"{head}{new}.{rest}": value for rest, value in records.get(old, ())}
    return kept


def count_path(space: type[Space], prefix: str) -> str | None:
    """The flat name of the count of the list at `prefix`; None when the count is a constant."""
    return next((slot.parent for slot in space.decisions().values() if slot.records == prefix), None)


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


def _steps(space: type[Space], arch: Architecture) -> Iterator[dict[str, Any]]:
    flat = dict(arch.flat)
    lists = records(arch)
    counted = {count_path(space, prefix) for prefix in lists}
    for path, value in flat.items():
        if path not in counted:
            for other in space.decisions()[path].domain.steps(value):
                yield {**flat, path: other}
    by_count: dict[str, list[str]] = {}
    for prefix in lists:
        count = count_path(space, prefix)
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
                changed: dict[str, Any] = {**flat, count: m}
                for prefix in prefixes:
                    changed = reorder(changed, prefix, order)
                yield changed


def pattern(path: str) -> str:
    """A path without its indices: ``layers.3.mixer`` -> ``layers.*.mixer``."""
    return re.sub(r"\.\d+(?=\.)", ".*", path)
