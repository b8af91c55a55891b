"""The final front: what is left of a front when its architectures have been trained, or measured, again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nas_bo.knee import beaten, interval, recommended
from nas_bo.spelling import answering
from nas_bo.trial import ObjectiveSpec, State, Trial, front


@dataclass(frozen=True)
class Final:
    """The front by the final values; where nothing was evaluated again the front of the search.

    Attributes:
        members: of the front, with their final values and how those were obtained; best in the first objective first.
        knee: the member to take, see `nas_bo.knee`; None without members.
        again: names of the objectives that were evaluated again; empty where nothing was.
        searched: the front of the search, with the values of the search.
        known: architecture id -> the trial with its final values, for everything that was evaluated again in all of `again`.
        left: architecture id -> why a member of `searched` is on the final front no more, or was never asked.
        factor: how many times the budget of the search.
    """

    members: Sequence[Trial]
    knee: Trial | None
    again: Sequence[str] = ()
    searched: Sequence[Trial] = ()
    known: Mapping[str, Trial] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    factor: float = 1.0

    def best(self, trial: Trial) -> Trial:
        """The trial with its final values; as it is where it was not evaluated again."""
        return self.known.get(trial.architecture.id, trial)


DOMINATED, NOT_AGAIN, BEYOND, FAILED = (
    "dominated by final values",
    "not evaluated again",
    "beyond a limit by its final values",
    "its re-training failed",
)


def settle(
    trials: Sequence[Trial],
    columns: Sequence[ObjectiveSpec],
    retrained: Sequence[Mapping[str, Any]] = (),
    baselines: Sequence[Mapping[str, Any]] = (),
    levels: Mapping[str, Any] | None = None,
) -> Final:
    """The final front of `trials`.

    A trial whose architecture was evaluated again has the values of that evaluation, and those of the search where an
    objective was evaluated once. Values of two budgets do not compare: where anything was evaluated again, the final front
    is made of those that were evaluated again in the same objectives, and of nothing else.

    Args:
        retrained: ``{"id": architecture id, "values": {objective: value}, "info": {...}, "factor": 2.0}``.
        baselines, levels: see `nas_bo.knee.recommended`.
    """
    searched = front(trials, columns)
    names = {c.name for c in columns}
    records = {str(r["id"]): r for r in retrained if r.get("id")}
    found = {key: {n: v for n, v in (r.get("values") or {}).items() if n in names} for key, r in records.items()}
    found = {key: values for key, values in found.items() if values and all(map(math.isfinite, values.values()))}
    again = [c.name for c in columns if any(c.name in values for values in found.values())]
    by_id = {t.architecture.id: t for t in [*reversed(trials), *searched]}
    known: dict[str, Trial] = {}
    for key, values in found.items():
        trial = by_id.get(key)
        if trial is None or trial.state is not State.COMPLETE or any(name not in values for name in again):
            continue
        final = answering({**trial.values, **values}, columns)
        info = {**trial.info, **{n: _how(trial, records[key], n) for n in values}}
        known[key] = replace(trial, values=final, info=info, violations=_violated(trial, columns, final))
    members = front(known.values(), columns)
    if not members:  # nothing was evaluated again, or nothing of it keeps the limits
        return Final(searched, recommended(searched, columns, baselines, levels), searched=searched, known=known)
    best = {t.architecture.id for t in members}
    on_it = {tuple(t.values[c.name] for c in columns) for t in members}
    left = {}
    for t in searched:
        key = t.architecture.id
        if key in best:
            continue
        if key not in known:
            left[key] = FAILED if key in records and (records[key].get("reason") or key not in found) else NOT_AGAIN
        elif not known[key].feasible:
            left[key] = BEYOND
        elif tuple(known[key].values[c.name] for c in columns) not in on_it:
            left[key] = DOMINATED
    factor = next((float(r.get("factor") or 1.0) for r in records.values()), 1.0)
    middle = _knee(members, by_id, columns, baselines, levels)
    return Final(members, middle, again, searched, known, left, factor)


def _how(trial: Trial, again: Mapping[str, Any], name: str) -> dict[str, Any]:
    """How the final value was obtained; the interval of the value before it is not its own."""
    noted = (again.get("info") or {}).get(name)
    old = trial.info.get(name, {})
    return dict(noted) if noted else {k: v for k, v in old.items() if k not in ("low", "high", "level", "spread")}


def intervals(trial: Trial) -> dict[str, dict[str, float]]:
    """Objective -> the ends of its interval and the share of cases that it is to hold, of those that have one."""
    found = {}
    for name in trial.values:
        info = trial.info.get(name, {})
        low, high = interval(info)
        if math.isfinite(low):
            share = info.get("level")
            found[name] = {"low": low, "high": high, "level": float(share) if isinstance(share, (int, float)) else 0.95}
    return found


def _knee(
    members: Sequence[Trial],
    by_id: Mapping[str, Trial],
    columns: Sequence[ObjectiveSpec],
    baselines: Sequence[Mapping[str, Mapping[str, object]]],
    levels: Mapping[str, object] | None,
) -> Trial | None:
    """Baselines that were trained with the budget of the search are compared with what the members were then, those that were trained again
    with what they are now."""
    kept = [t for t in members if not beaten(as_searched(by_id[t.architecture.id], t, columns), columns, baselines)]
    again = [{**b, "values": {**b.get("values", {}), **b["retrained"]}} for b in baselines if b.get("retrained")]
    kept = [t for t in kept if not beaten(t.values, columns, again)]
    return recommended(kept or members, columns, (), levels)


def as_searched(trial: Trial, final: Trial, columns: Sequence[ObjectiveSpec]) -> dict[str, float]:
    """What compares with a baseline: trained values at the budget of the search, all others as they were taken last."""
    return {c.name: (trial if c.cost == "trained" else final).values[c.name] for c in columns}


def _violated(trial: Trial, columns: Sequence[ObjectiveSpec], final: Mapping[str, float]) -> dict[str, float]:
    """The violations with those of the objectives' own limits taken of the final values."""
    found = dict(trial.violations)
    for c in columns:
        for name, (sign, bound) in c.limits().items():
            found[name] = max(0.0, sign * (final[c.name] - bound))
    return found
