"""What exists for some values of one other parameter: learned from finished trials (see `nas_bo.optuna.inferred.conditions`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.architecture import Primitive
from nas_bo.optuna.coding import Coding

MOST_VALUES = 64  # values above which nothing is taken to depend on a parameter


@dataclass(frozen=True)
class Table:
    """What finished trials had: Optuna's internal numbers (rows, names), NaN where a parameter was not asked for."""

    names: tuple[str, ...]  # in the order in which they were first asked for
    codings: tuple[Coding, ...]
    values: np.ndarray


def find_parents(
    table: Table, active: np.ndarray, plain: Sequence[int], given: Collection[str]
) -> dict[int, tuple[int, frozenset[Primitive]]]:
    """Parameter -> the one that it depends on, and for which values it is there; by columns.

    Of several that fit, the one that explains most parameters, then the one that is asked for first.
    """
    children = [c for c in plain if table.names[c] not in given and not active[:, c].all()]
    if not children:
        return {}
    fits: dict[int, dict[int, frozenset[Primitive]]] = {}
    for gate in plain:
        later = [c for c in children if c > gate]
        if later:
            found = values_with(table.codings[gate], table.values[:, gate], active[:, later])
            fits[gate] = {c: values for c, values in zip(later, found, strict=True) if values is not None}
    chosen = {}
    for child in children:
        able = [gate for gate, below in fits.items() if child in below]
        if able:
            gate = max(able, key=lambda g: (len(fits[g]), -g))
            chosen[child] = (gate, fits[gate][child])
    return chosen


def values_with(code: Coding, gate: np.ndarray, active: np.ndarray) -> list[frozenset[Primitive] | None]:
    """For each column of `active` (rows, children): the values of the gate (rows,) with which it is there; None where
    it does not depend on them alone."""
    nothing: list[frozenset[Primitive] | None] = [None] * active.shape[1]
    size = code.domain.size
    if size is None or size > MOST_VALUES:
        return nothing
    places = code.codes(gate)
    chosen = (places[:, None] == np.arange(size)).astype(float)
    total = chosen.sum(0)  # trials with each value
    there = chosen.T @ active  # (values, children)
    decided = (there == 0) | (there == total[:, None])
    fits = decided.all(0) & (there.sum(0) == active.sum(0)) & ((there == 0) & (total > 0)[:, None]).any(0)
    seen = np.flatnonzero(total)
    for k in np.flatnonzero(fits & (there.sum(0) > 0)):
        on = [i for i in range(size) if _is_on(i, seen, there[:, k] > 0, code.domain.ordered)]
        nothing[k] = frozenset(code.domain.values[i] for i in on)
    return nothing


def _is_on(i: int, seen: np.ndarray, on: np.ndarray, ordered: bool) -> bool:
    """A value that was not seen yet is like the nearest that was, if values are ordered."""
    if not ordered:
        return bool(on[i])
    distance = np.abs(seen - i)
    return bool(on[seen[distance == distance.min()]].any())
