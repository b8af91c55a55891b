"""The searchers of `search_efficiency.py`: our strategies, and what people already have."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.search_efficiency.arms import automl, ax_client, optuna_samplers, ours, pymoo_nsga2
from benchmarks.search_efficiency.arms.session import Arm, Session


def every() -> dict[str, Arm]:
    """All arms by name, cheap ones first."""
    found = [*ours.arms(), *pymoo_nsga2.arms(), *optuna_samplers.arms(), *automl.arms(), *ax_client.arms()]
    order = {"optuna-gp": 1, "neps": 2, "ax": 3, "optuna-botorch": 4}
    return {arm.name: arm for arm in sorted(found, key=lambda arm: order.get(arm.name, 0))}


def named(names: Sequence[str]) -> list[Arm]:
    """The arms of these names; "ours" and "peers" stand for all of them, none for every arm.

    Raises:
        KeyError: no such arm.
    """
    known = every()
    chosen: dict[str, Arm] = {}
    for name in names or list(known):
        group = {"ours": [a for a in known.values() if a.ours], "peers": [a for a in known.values() if not a.ours]}
        if name not in known and name not in group:
            raise KeyError(f"there is no arm {name!r}; there are: ours, peers, {', '.join(known)}")
        chosen |= {arm.name: arm for arm in group.get(name, [known[name]] if name in known else [])}
    return list(chosen.values())


__all__ = ["Arm", "Session", "every", "named", "ours"]
