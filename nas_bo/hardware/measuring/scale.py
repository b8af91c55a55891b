"""The scale on which times are told: what the anchors of a machine are taken to need at its undisturbed speed.

A measured value is a ratio to anchors times what these need, and notes that next to itself (`noted`). The ratio repeats; what
the anchors need may have been found in a slow minute. So a bench continues comparing (`Speeds`), and whoever shows values
side by side first brings those of one machine to the fastest speed that was believed of it (`fastest`, `on_scale`).
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nas_bo.trial import Trial

UNDISTURBED = 0.1  # quantile of the rounds' speeds; a median moves with what share of the time was disturbed
FASTER = (
    0.1  # below what is believed, as a logarithm: quantiles over a few seconds differ by .03 to .05 on a quiet machine
)
ROUNDS = 24  # at least, before the scale is lowered
SECONDS = 3  # different ones in which such rounds were seen
KEPT = 5000  # rounds
NOTED = "anchors"  # the key in the info of a value

Known = dict[int, float]
"""Rung of the ladder of anchors -> milliseconds."""


@dataclass
class Speeds:
    """How much longer rounds took than the anchors are taken to need: logarithms, and the second of each."""

    rounds: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, second: float, shift: float) -> None:
        self.rounds.append((int(second), shift))

    def faster(self) -> float:
        """The logarithm of the undisturbed speed against what is believed, where it was repeatedly and clearly faster; else 0."""
        if len(self.rounds) < ROUNDS:
            return 0.0
        undisturbed = float(np.quantile([shift for _, shift in self.rounds], UNDISTURBED))
        seconds = {second for second, shift in self.rounds if shift < -FASTER}
        return undisturbed if undisturbed < -FASTER and len(seconds) >= SECONDS else 0.0


def ratio(one: Mapping[int, float], other: Mapping[int, float]) -> float | None:
    """How many times longer `other` takes the anchors to need; None without a common one."""
    logs = [math.log(other[rung] / ms) for rung, ms in one.items() if rung in other]
    return math.exp(statistics.median(logs)) if logs else None


def noted(machine: str, known: Mapping[int, float], milliseconds: float) -> dict[str, Any]:
    """What a value keeps of its scale, JSON-safe.

    Args:
        machine: a digest of machine, versions and setting: only under the same one are two scales comparable.
        milliseconds: the part of the value that was measured in this setting.
    """
    return {
        "of": machine,
        "known": {str(rung): float(f"{ms:.5g}") for rung, ms in known.items()},
        "ms": round(milliseconds, 6),
    }


def _parts(info: Mapping[str, Any]) -> list[tuple[str, Known, float]]:
    """(machine, anchors, milliseconds) of every setting that a value is measured in; [] of what has no scale, or a damaged one."""
    rows = info.get(NOTED)
    try:
        found = [(str(r["of"]), {int(k): float(v) for k, v in r["known"].items()}, float(r["ms"])) for r in rows or ()]
    except (TypeError, ValueError, KeyError, AttributeError):
        return []
    return found if all(ms > 0 and min(known.values(), default=0.0) > 0 for _, known, ms in found) else []


def seen_on(info: Mapping[str, object]) -> list[tuple[str, tuple[tuple[int, float], ...]]]:
    """(machine, anchors) of each setting that a value was reported under: values with equal ones are on one scale already."""
    return [(machine, tuple(sorted(known.items()))) for machine, known, _ in _parts(info)]


def fastest(infos: Iterable[Mapping[str, object]]) -> dict[str, Known]:
    """Machine -> its anchors at the fastest speed under which one of the values was reported."""
    seen: dict[str, dict[tuple[tuple[int, float], ...], Known]] = {}
    for info in infos:
        for machine, known, _ in _parts(info):
            seen.setdefault(machine, {}).setdefault(tuple(sorted(known.items())), known)
    return {machine: _joined(list(ones.values())) for machine, ones in seen.items()}


def _joined(ones: list[Known]) -> Known:
    joined, left = dict(ones[0]), ones[1:]
    while True:
        near = [(one, found) for one in left if (found := ratio(joined, one)) is not None]
        if not near:
            return joined  # what has no anchor in common with these stays as it is
        for one, factor in near:
            left.remove(one)
            if factor < 1:
                joined = {rung: ms * factor for rung, ms in joined.items()} | one
            else:
                joined = {rung: ms / factor for rung, ms in one.items()} | joined


def on_scale(
    value: float, info: Mapping[str, Any], scale: Mapping[str, Known]
) -> tuple[float, Mapping[str, object], float]:
    """A value and its info on `scale` (of `fastest`), and by how much its milliseconds were multiplied: 1 of all that has no
    scale."""
    parts = _parts(info)
    if not parts:
        return value, info, 1.0
    factors = [ratio(known, scale.get(machine, known)) or 1.0 for machine, known, _ in parts]
    factor = sum(ms * f for (_, _, ms), f in zip(parts, factors, strict=True)) / sum(ms for _, _, ms in parts)
    if abs(math.log(factor)) < 1e-4:
        return value, info, 1.0
    rate = "batch_ms" in info  # a throughput
    of_value = 1 / factor if rate else factor
    changed: dict[str, Any] = {**info}
    for keys, by in (
        (("low", "high", "value"), of_value),
        (("measured_ms", "model_ms", "batch_ms"), factor),
        (("slower",), 1 / factor),
    ):
        changed |= {key: info[key] * by for key in keys if isinstance(info.get(key), (int, float))}
    changed[NOTED] = [
        noted(machine, scale.get(machine, known), ms * f)
        for (machine, known, ms), f in zip(parts, factors, strict=True)
    ]
    return value * of_value, changed, factor


def rescaled(
    values: Mapping[str, float], infos: Mapping[str, Mapping[str, object]], scale: Mapping[str, Known]
) -> tuple[Mapping[str, float], Mapping[str, Mapping[str, object]], list[float]]:
    """Values and infos by objective on `scale`, and the factors other than 1."""
    found, told, factors = {**values}, {**infos}, []
    for name, info in infos.items():
        value, info, factor = on_scale(values.get(name, math.nan), info, scale)
        if factor != 1.0:
            told[name] = info
            factors.append(factor)
            if name in values:
                found[name] = value
    if not factors:
        return values, infos, factors
    return type(values)(found) if isinstance(values, dict) else found, told, factors


def trials_on_scale(trials: Sequence[Trial], scale: Mapping[str, Known]) -> tuple[list[Trial], list[float]]:
    """Trials with their values on `scale`, and the factors other than 1. Whether a limit is broken stays as it was found."""
    found, factors = [], []
    for trial in trials:
        values, info, by = rescaled(trial.values, trial.info, scale)
        found.append(replace(trial, values=values, info=info) if by else trial)
        factors += by
    return found, factors


def said(factors: Sequence[float]) -> list[str]:
    """A sentence on what was changed; none where nothing was."""
    if not factors:
        return []
    low, high = min(factors), max(factors)
    by = f"{low:.2f}" if round(low, 2) == round(high, 2) else f"{low:.2f} to {high:.2f}"
    return [
        f"This machine proved to be faster than it was taken to be when {len(factors)} of the measurements were made: their "
        f"milliseconds are multiplied by {by} here, so that all are on one scale. Limits were applied before that."
    ]
