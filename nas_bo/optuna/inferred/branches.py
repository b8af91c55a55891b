"""What exists for some values of one other parameter: learned from finished trials (see `nas_bo.optuna.inferred.conditions`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from nas_bo.architecture import Primitive
from nas_bo.optuna.inferred.tables import Table

MOST_VALUES = 64  # values above which nothing is taken to depend on a parameter


def find_parents(
    table: Table, plain: Sequence[int], given: Collection[str]
) -> dict[int, tuple[int, frozenset[Primitive]]]:
    """Parameter -> the one that it depends on, and for which values it is there; by columns.

    Of several that fit, the one that explains most parameters, then the one that is asked for first.
    """
    children = [c for c in plain if table.names[c] not in given and table.there[c] < table.rows]
    if not children:
        return {}
    fits: dict[int, dict[int, frozenset[Primitive]]] = {}
    for gate in plain:
        later = [c for c in children if c > gate]
        if later:
            found = values_with(table, gate, later)
            fits[gate] = {c: values for c, values in zip(later, found, strict=True) if values is not None}
    chosen = {}
    for child in children:
        able = [gate for gate, below in fits.items() if child in below]
        if able:
            gate = max(able, key=lambda g: (len(fits[g]), -g))
            chosen[child] = (gate, fits[gate][child])
    return chosen


def values_with(table: Table, gate: int, children: Sequence[int]) -> list[frozenset[Primitive] | None]:
    """For each of `children` (columns): the values of the gate (a column) with which it is there; None where it does not depend
    on them alone."""
    nothing: list[frozenset[Primitive] | None] = [None] * len(children)
    domain = table.codings[gate].domain
    if domain.size is None or domain.size > MOST_VALUES:
        return nothing
    counted = table.by_place(gate)
    total = counted[:, gate]  # rows with each value
    there = counted[:, children]  # (values, children)
    decided = (there == 0) | (there == total[:, None])
    fits = decided.all(0) & (there.sum(0) == table.there[children]) & ((there == 0) & (total > 0)[:, None]).any(0)
    seen = np.flatnonzero(total)
    for k in np.flatnonzero(fits & (there.sum(0) > 0)):
        on = [i for i in range(domain.size) if _is_on(i, seen, there[:, k] > 0, domain.ordered)]
        nothing[k] = frozenset(domain.values[i] for i in on)
    return nothing


def _is_on(i: int, seen: np.ndarray, on: np.ndarray, ordered: bool) -> bool:
    """A value that was not seen yet is like the nearest that was, if values are ordered."""
    if not ordered:
        return bool(on[i])
    distance = np.abs(seen - i)
    return bool(on[seen[distance == distance.min()]].any())
