"""The front next to what it is to be compared with, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nas_bo.final import as_searched
from nas_bo.report.digits import figure
from nas_bo.report.summary import Summary
from nas_bo.trial import matrix
from nas_bo.wording import plural


def against(summary: Summary) -> list[str]:
    """A sentence for every baseline: its values, and how many of the front are better. What the gain over the standard design is made of needs
    none, unless it failed."""
    found = []
    for base in summary.baselines:
        if base.get("standard") and base.get("state", "complete") == "complete":
            continue
        found.append(_sentence(summary, base))
        if base.get("whole") and (kept := _kept_of(summary, base)):
            found.append(kept)
    return found


def _kept_of(summary: Summary, base: Mapping[str, Any]) -> str:
    """What the front keeps of the trained model that was searched in: losses as differences, all else as shares."""
    values: Mapping[str, float] = base.get("values", {})
    knee = summary.knee()
    best = summary.final.members or summary.front()
    if not best:
        return ""
    loss = next((c for c in summary.columns if c.unit.startswith("bits/") and _known(values, c.name)), None)
    chosen = {"least loss": min(best, key=lambda t: loss.sign * t.values[loss.name])} if loss is not None else {}
    chosen |= {} if knee is None else {"knee": knee}
    told = []
    for name, trial in chosen.items():
        parts = []
        for c in summary.columns:
            if not (_known(values, c.name) and _known(trial.values, c.name)):
                continue
            if c.unit.startswith("bits/"):
                parts.append(f"{c.name} {trial.values[c.name] - values[c.name]:+.3f}")
            elif values[c.name] > 0:
                parts.append(f"{trial.values[c.name] / values[c.name]:.0%} of its {c.name}")
        if parts:
            told.append(f"the {name} (trial {trial.number}) has {', '.join(parts)}")
    return f"Of the trained model, {'; '.join(told)}." if told else ""


def _sentence(summary: Summary, base: Mapping[str, Any]) -> str:
    values, name = base.get("values", {}), f"Baseline {base.get('label', '')}"
    told = ", ".join(
        f"{c.name} {figure(values[c.name])} {c.unit}".rstrip() for c in summary.columns if _known(values, c.name)
    )
    if not all(_known(values, c.name) for c in summary.columns):
        reason = base.get("reason") or "not all objectives were evaluated"
        return f"{name}{f': {told}' if told else ''} ({reason})."
    if base.get("state", "complete") != "complete":
        return f"{name}: {told}; it is {base['state']}{_because(base)}, so it would be on no front."
    final = summary.final
    best = [replace(t, values=as_searched(t, final.best(t), summary.columns)) for t in summary.front()]
    if not best:
        return f"{name}: {told}."
    own = np.array([c.sign * values[c.name] for c in summary.columns])
    points = matrix(best, summary.columns)
    better = int((np.all(points <= own, axis=1) & np.any(points < own, axis=1)).sum())
    if better:
        return f"{name}: {told}; {better} of the front's {len(best)} {plural(better, 'is', 'are')} at least as good in everything and better in something."
    if np.any(np.all(points == own, axis=1)):
        return f"{name}: {told}; it is on the front."
    return f"{name}: {told}; none of the front is as good in everything: it would be on the front."


def _because(base: Mapping[str, object]) -> str:
    return f" ({base['reason']})" if base.get("reason") else ""


def _known(values: Mapping[str, object], name: str) -> bool:
    value = values.get(name)
    return isinstance(value, (int, float)) and math.isfinite(value)
