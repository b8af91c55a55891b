"""Trials as parallel coordinates: an axis per choice and per objective. The numbers behind a picture and a page."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.report.digits import figure, logarithmic
from nas_bo.report.summary import Summary
from nas_bo.report.table import parameters
from nas_bo.space.neighbours import pattern
from nas_bo.trial import ObjectiveSpec, State, Trial
from nas_bo.validated import is_number

MOST_CHOICES = 6  # axes of choices; more are not read
ACTIVE = 0.6  # of the trials must have a choice for it to get an axis
MOST_LINES = 200  # trials off the front that are drawn, spread evenly


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        values: of every trial drawn, in plot units; None where the trial has none.
        ticks: (value, text), lowest first.
        log: whether it is logarithmic.
        better: "low", "high" or "" for a choice.
    """

    title: str
    values: tuple[float | None, ...]
    ticks: tuple[tuple[float, str], ...]
    log: bool = False
    better: str = ""

    def at(self, value: float) -> float:
        """Where `value` lies, from 0 (lowest of the axis) to 1."""
        known = [v for v in self.values if v is not None] + [v for v, _ in self.ticks]
        f = math.log if self.log else float
        low, high = f(min(known)), f(max(known))
        return 0.5 if high <= low else (f(value) - low) / (high - low)


def drawn(summary: Summary) -> list[Trial]:
    """The trials that are drawn: those with every objective, the front last."""
    best = {id(t) for t in summary.front()}
    known = [t for t in summary.trials if t.state is State.COMPLETE and _all(t, summary.columns)]
    rest = [t for t in known if id(t) not in best]
    if len(rest) > MOST_LINES:
        rest = [rest[round(i * (len(rest) - 1) / (MOST_LINES - 1))] for i in range(MOST_LINES)]
    return [*rest, *(t for t in known if id(t) in best)]


def axes(summary: Summary, trials: Sequence[Trial], important: Sequence[str] = ()) -> list[Axis]:
    """The axes of `trials`: choices, then the parameter count if it is noted, then the objectives.

    Choices of layers are given by their mean, unordered ones by the share of the layers that have the option most common.

    Args:
        important: names of choices (patterns such as ``layers.*.mixer``), most important first; others come after.
    """
    names = list(dict.fromkeys(pattern(p) for t in trials for p in t.architecture.flat))
    names.sort(key=lambda n: (important.index(n) if n in important else len(important), "*" in n))
    choices = [a for n in names if (a := _choice(n, trials)) is not None][:MOST_CHOICES]
    counted = [parameters(t) for t in trials]
    if any(v is not None for v in counted) and all(c.name != "parameters" for c in summary.columns):
        choices.append(_numeric("parameters", counted, log=_spans(counted)))
    return [*choices, *(objective_axis(c, trials) for c in summary.columns)]


def objective_axis(c: ObjectiveSpec, trials: Sequence[Trial]) -> Axis:
    """The axis of an objective, of trials that all have it."""
    values = [t.values[c.name] for t in trials]
    made = _numeric(c.title, values, log=logarithmic(values, c))
    return Axis(made.title, made.values, made.ticks, made.log, "low" if c.sign > 0 else "high")


def _choice(name: str, trials: Sequence[Trial]) -> Axis | None:
    """The axis of one kind of choice; None where all trials are alike in it."""
    match = re.compile("^" + re.escape(name).replace(r"\*", r"\d+") + "$")
    found = [[v for p, v in t.architecture.flat.items() if match.match(p)] for t in trials]
    every = [v for one in found for v in one]
    if len(set(map(repr, found))) < 2 or sum(map(bool, found)) < ACTIVE * len(found):
        return None
    short = name.removeprefix("layers.*.") if name.startswith("layers.*.") else name
    if all(is_number(v) for v in every):
        means = [float(np.mean(np.asarray(one, dtype=float))) if one else None for one in found]
        if "*" in name:
            return _numeric(f"mean {short}", means, log=False, exact=False)
        return _numeric(short, means, log=_spans(means))
    if "*" in name:
        common = Counter(map(str, every)).most_common(1)[0][0]
        shares: list[float | None] = [
            100 * sum(str(v) == common for v in one) / len(one) if one else None for one in found
        ]
        return _numeric(f"{short} = {common} [% of layers]", shares, log=False, exact=False)
    options = list(dict.fromkeys(map(str, every)))
    ticks = tuple((float(i), option) for i, option in enumerate(options))
    return Axis(short, tuple(float(options.index(str(one[0]))) if one else None for one in found), ticks)


def _numeric(title: str, values: Sequence[float | None], *, log: bool, exact: bool = True) -> Axis:
    """Ticks at the values themselves where they are few and `exact`."""
    known = sorted({v for v in values if v is not None})
    if len(known) <= 6 and (exact or len(known) < 3):
        at = known
    else:
        low, high = known[0], known[-1]
        at = [low * (high / low) ** (i / 4) if log else low + (high - low) * i / 4 for i in range(5)]
    return Axis(title, tuple(values), tuple((v, figure(v)) for v in at), log)


def _spans(values: Sequence[float | None]) -> bool:
    known = [v for v in values if v is not None]
    return bool(known) and min(known) > 0 and max(known) > 20 * min(known)


def _all(trial: Trial, columns: Sequence[ObjectiveSpec]) -> bool:
    return all(math.isfinite(trial.values.get(c.name, math.nan)) for c in columns)
