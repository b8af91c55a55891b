"""The reference fronts of the synthetic problems: long evolutionary searches, independent of the strategies compared.

Half of the parents come from the archive of everything not dominated, half from a population kept by non-dominated
rank and crowding; children exchange layers, copy and swap them, and change single decisions. Several seeds share one
archive at the end.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any

import moocore
import numpy as np

from benchmarks.search_efficiency.problems.case import Case
from nas_bo.architecture import Architecture, Primitive
from nas_bo.pareto import crowding, ranks
from nas_bo.space.domain import Domain, Real

POPULATION = 300
Flat = dict[str, Primitive]


def reference(case: Case, evaluations: int, seeds: int) -> dict[str, Any]:
    """The entry of `case` in reference.json; `evaluations` are those of one seed."""
    fronts = []
    for seed in range(seeds):
        fronts.append(front(case, evaluations, seed))
        print(
            f"{case.name} seed {seed}: hypervolume {case.volume(fronts[-1].tolist()):.6f}", file=sys.stderr, flush=True
        )
    merged = np.unique(moocore.filter_dominated(np.concatenate(fronts)), axis=0)
    volume = case.volume(merged.tolist())
    worst = min(case.volume(f.tolist()) for f in fronts)
    return {
        "point": list(case.point),
        "hv": volume,
        "front_size": len(merged),
        "evaluations": evaluations * seeds,
        "seeds": seeds,
        "regret_of_the_worst_seed": round(1 - worst / volume, 6),
        "front_from": merged.min(0).round(4).tolist(),
        "front_to": merged.max(0).round(4).tolist(),
    }


def front(case: Case, evaluations: int, seed: int) -> np.ndarray:
    """The non-dominated values (n, objectives) of one search."""
    rng, seen = random.Random(f"reference/{case.name}/{seed}"), set()
    people: list[Architecture] = []
    values, beyond = np.empty((0, len(case.objectives))), np.empty(0)
    archive: list[Architecture] = []
    best = np.empty((0, len(case.objectives)))
    spent = 0
    while spent < evaluations:
        children: list[Architecture] = []
        while len(children) < POPULATION:
            arch = _child(case, people, archive, rng) if people else case.space.sample(rng)
            if arch.id not in seen:
                seen.add(arch.id)
                children.append(arch)
        spent += len(children)
        found = [case.values(a) for a in children]
        rows = np.array([[v[o] for o in case.objectives] for v in found])
        over = np.array([sum(max(0.0, v[n] / bound - 1.0) for n, bound in case.limits.items()) for v in found])
        allowed = [a for a, o in zip(children, over, strict=True) if o == 0]
        archive, best = [*archive, *allowed], np.concatenate([best, rows[over == 0]])
        if len(best):
            keep = moocore.is_nondominated(best)
            archive, best = [a for a, k in zip(archive, keep, strict=True) if k], best[keep]
        people, values = [*people, *children], np.concatenate([values, rows])
        beyond = np.concatenate([beyond, over])
        chosen = _survivors(values, beyond)
        people, values, beyond = [people[i] for i in chosen], values[chosen], beyond[chosen]
    return best


def _survivors(values: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """Indices of the best: feasible by rank and crowding, then the least infeasible."""
    fine = np.flatnonzero(beyond == 0)
    chosen: list[int] = []
    if len(fine):
        rank = ranks(values[fine], until=POPULATION)
        for level in range(int(rank.max()) + 1):
            rows = fine[rank == level]
            chosen += rows[np.argsort(-crowding(values[rows]), kind="stable")].tolist()
    rest = np.flatnonzero(beyond > 0)
    chosen += rest[np.argsort(beyond[rest], kind="stable")].tolist()
    return np.array(chosen[:POPULATION])


def _child(case: Case, people: list[Architecture], archive: list[Architecture], rng: random.Random) -> Architecture:
    pool = archive if archive and rng.random() < 0.5 else people
    flat = dict(rng.choice(pool).flat)
    if rng.random() < 0.4:  # whole layers of another parent, or its head
        other = rng.choice(archive if archive and rng.random() < 0.5 else people).flat
        layers = {name.split(".")[1] for name in flat if name.startswith("layers.")}
        taken = {i for i in sorted(layers) if rng.random() < 0.5}
        head = rng.random() < 0.3
        for name, value in other.items():
            if name.split(".")[1] in taken if name.startswith("layers.") else head:
                flat[name] = value
    if rng.random() < 0.35:
        flat = _moved(flat, case.space.domains()["depth"].values, rng)
    change = 0.0 if rng.random() < 0.15 else rng.choice((1.0, 1.0, 2.0, 4.0)) / len(flat)

    def pick(path: str, domain: Domain) -> Any:
        if path not in flat:
            return domain.sample(rng)
        if rng.random() >= change:
            return flat[path]
        if isinstance(domain, Real):
            return domain.at(domain.position(flat[path]) + rng.gauss(0.0, rng.choice((0.003, 0.03, 0.3))))
        steps = domain.steps(flat[path])
        return rng.choice(steps) if steps and rng.random() < 0.5 else domain.sample(rng)

    return case.space.decide(pick)


def _moved(flat: Flat, depths: Sequence[Primitive], rng: random.Random) -> Flat:
    """One layer copied onto another, two exchanged, or one dropped or inserted with the count adjusted."""
    depth = int(flat["depth"])  # type: ignore[arg-type]
    layers: list[Flat] = [{} for _ in range(depth)]  # what is missing in them is drawn afterwards
    head = {}
    for name, value in flat.items():
        if not name.startswith("layers."):
            head[name] = value
        elif int(name.split(".")[1]) < depth:
            _, index, rest = name.split(".", 2)
            layers[int(index)][rest] = value
    i, j, move = rng.randrange(depth), rng.randrange(depth), rng.randrange(4)
    if move == 0:
        layers[i] = layers[j]
    elif move == 1:
        layers[i], layers[j] = layers[j], layers[i]
    elif move == 2:
        del layers[i]
    else:
        layers.insert(i, layers[j])
    if len(layers) in depths:
        head["depth"] = len(layers)
    return head | {f"layers.{i}.{name}": value for i, layer in enumerate(layers) for name, value in layer.items()}
