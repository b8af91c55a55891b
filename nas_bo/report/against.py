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
    """A sentence for every baseline: its values, and how many of the front are better."""
    return [_sentence(summary, base) for base in summary.baselines]


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
