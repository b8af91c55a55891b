"""Variation of genomes, thousands at a time: the moves of `nas_bo.strategies.variation` on matrices.

Notation: genomes (n, genes), canonical before and after; functions return new matrices. Rules are not looked at.
"""

from __future__ import annotations

import numpy as np

from nas_bo.surrogate.genomes import Genomes, List

STEP = 0.8  # probability that an ordered gene goes one step instead of anywhere
SPREAD = 0.1  # standard deviation of a real step, of the range
MOVES = 6  # the most moves in one mutation
STRUCTURAL = 0.4  # probability that a move is one of whole records


def mutate(space: Genomes, genomes: np.ndarray, rng: np.random.Generator, more: float = 0.5) -> np.ndarray:
    """1 + geometric(`more`) moves on every genome: one gene changes or, with probability `STRUCTURAL`, records of a
    list are swapped, copied, inserted or dropped."""
    genomes = genomes.copy()
    moves = np.minimum(rng.geometric(1 - more, len(genomes)), MOVES)
    for j in range(int(np.max(moves, initial=0))):
        rows = np.flatnonzero(moves > j)
        structural = (rng.random(len(rows)) < STRUCTURAL) & bool(space.lists)
        genomes[rows[~structural]] = _change(space, genomes[rows[~structural]], rng)
        which = rng.integers(0, max(1, len(space.lists)), len(rows))  # ~ uniform over lists
        for i in np.unique(which[structural]):
            part = rows[structural & (which == i)]
            genomes[part] = _move(space.lists[i], genomes[part], rng)
    return space.complete(genomes, rng)


def _change(space: Genomes, genomes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One active gene changes. ~ uniform over genes or, as often, over their kinds first, so that the many genes of
    layers do not crowd out the few at the top. Ordered: one step with probability STEP, otherwise anywhere."""
    n = len(genomes)
    if not n:
        return genomes
    active = (genomes >= 0) & (space.size != 1)
    weight = active.astype(float)
    many = np.zeros((n, int(space.kind.max()) + 1))
    np.add.at(many.T, space.kind, weight.T)
    by_kind = weight / np.maximum(many, 1)[:, space.kind]
    weight = np.where(rng.random((n, 1)) < 0.5, weight, by_kind)
    gene = np.argmax(np.where(active, np.log(rng.random(weight.shape)) / np.maximum(weight, 1e-12), -np.inf), 1)
    rows, old, size = np.arange(n), genomes[np.arange(n), gene], space.size[gene]
    other = np.floor(rng.random(n) * np.maximum(size - 1, 1))
    other += other >= old  # ~ uniform among the other values
    step = old + rng.choice([-1.0, 1.0], n)
    step = np.where(step < 0, 1.0, np.where(step >= size, size - 2.0, step))
    near = space.ordered[gene] & (rng.random(n) < STEP)
    new = np.where(near, step, other)
    new = np.where(space.real[gene], np.clip(old + SPREAD * rng.standard_normal(n), 0, 1), new)
    changed = genomes.copy()
    works = active.any(1)
    changed[rows[works], gene[works]] = new[works]
    return changed


def _move(records: List, genomes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A record of one list changes places with another, replaces another, is doubled or dropped. ~ uniform over these
    four (the first two where the length is constant), then over places. Lists grow and shrink to their next size."""
    n, most = len(genomes), len(records.genes)
    kind = rng.integers(0, 4 if records.count is not None else 2, n)
    length = records.length(genomes)
    first, second, spot = np.floor(rng.random((3, n)) * np.maximum(length + np.array([[0], [0], [1]]), 1)).astype(int)
    place, rows = np.tile(np.arange(most), (n, 1)), np.arange(n)
    order = place.copy()  # of the records: which one each comes from
    swap, copy = (length > 0) & (kind == 0), (length > 0) & (kind == 1)
    order[rows[swap], first[swap]], order[rows[swap], second[swap]] = second[swap], first[swap]
    order[rows[copy], first[copy]] = second[copy]
    genomes = genomes.copy()
    if records.count is not None:
        there = genomes[:, records.count] >= 0
        for move, up in ((2, True), (3, False)):
            target = records.next(length, up)
            moved = there & (kind == move) & (target >= 0)
            by = np.abs(target - length)[:, None]
            if up:  # what was at `spot` or later moves on, and what was before it fills the gap
                shifted = np.where(place >= spot[:, None] + by, place - by, np.maximum(spot - 1, 0)[:, None])
            else:
                shifted = np.minimum(place + by, most - 1)
            start = spot if up else np.minimum(spot, np.maximum(target, 0))
            order = np.where(moved[:, None] & (place >= start[:, None]), shifted, order)
            genomes[moved, records.count] = records.code(target[moved])
    blocks = genomes[:, records.genes]  # (n, records, genes of a record)
    genomes[:, records.genes] = np.take_along_axis(blocks, order[:, :, None], axis=1)
    return genomes


def cross(space: Genomes, first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Children of pairs: genes outside lists ~ from either parent; of every outermost list a segment of records
    comes from the second."""
    n = len(first)
    take = rng.random(first.shape) < 0.5
    for records in space.lists:
        most = len(records.genes)
        ends = np.sort(rng.integers(0, most + 1, (n, 2)), axis=1)
        place = np.arange(most)[None]
        inside = (place >= ends[:, :1]) & (place < ends[:, 1:])
        take[:, records.genes] = inside[:, :, None]
    found = np.where(take, second, first)
    found = np.where(found < 0, np.where(take, first, second), found)  # what one parent lacks comes from the other
    return space.complete(found, rng)
