"""Which architecture to take from a result, in one line of text.

=============================================  ===========================================================================
``knee``                                       see `Result.knee`
``best:NAME``, or only ``NAME``                the best in an objective
``NAME where OTHER<=X and THIRD>=Y``           the best among those that keep the bounds; ``knee where ...`` likewise
``17``                                         the trial of that number
=============================================  ===========================================================================

Bounds are on objectives, on limits and proxies of the search, on ``parameters``, and on the constraints of a study that nas_bo did not make
(what Optuna's `Trial.set_constraint` was given, at most 0 where it is kept); comparisons are ``<= >= < >``, numbers
may end in k, M, G or T, or in the unit of what they bound (``latency_ms<=2ms``). Where the front was re-trained, the final
values count, and the choice is among what was re-trained; what only the search has seen is taken where nothing of that
keeps the bounds.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas_bo.errors import SearchError, near
from nas_bo.final import intervals
from nas_bo.knee import recommended
from nas_bo.report.summary import figure
from nas_bo.report.table import parameters
from nas_bo.spelling import spelled
from nas_bo.trial import ObjectiveSpec, Trial, front
from nas_bo.validated import is_number

if TYPE_CHECKING:
    from nas_bo.workflows.result import Result

GRAMMAR = "a pick is knee, best:NAME, NAME where OTHER<=X [and ...], or the number of a trial"
COMPARED: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Bound:
    """One condition, such as ``latency_ms<=2``."""

    name: str
    sign: str
    value: float

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{self.value:g}"

    def kept(self, value: float | None) -> bool:
        return value is not None and COMPARED[self.sign](value, self.value)

    def missed(self, value: float | None) -> float:
        """By how much of the bound; 0 where it is kept."""
        if value is None:
            return math.inf
        return 0.0 if self.kept(value) else abs(value - self.value) / (abs(self.value) or 1.0)


def pick(result: Result, text: str) -> Trial:
    """The trial that `text` asks for, with its final values; see the module.

    Raises:
        SearchError: the text cannot be read, names what is not known, or nothing meets it.
    """
    words = " ".join(str(text).split())
    if words.lstrip("+-").isdigit():
        return _numbered(result, words)
    wanted, _, conditions = (part.strip() for part in _parted(words))
    if not wanted:
        raise SearchError(f"the pick {text!r} says nothing to choose by: {GRAMMAR}")
    every = [result.final.best(t) for t in result.trials if t.feasible]
    every = [t for t in every if t.feasible]
    known = _names(result.columns, every)
    name = spelled(wanted.removeprefix("best:").strip(), result.columns)
    column = next((c for c in result.columns if c.name == name), None)
    if column is None and wanted != "knee":
        raise SearchError(_unknown(text, name, [c.name for c in result.columns], "knee" if ":" not in wanted else ""))
    bounds = [_bound(text, one, result.columns, known) for one in re.split(r"\s+and\s+", conditions) if conditions]
    if not every:
        raise SearchError(f"no trial of {result.title!r} is feasible, so {text!r} picks nothing")
    again = result.final.known
    pools = [[t for t in every if t.architecture.id in again], every] if again else [every]
    for pool in pools:
        within = [t for t in pool if all(b.kept(value_of(t, b.name)) for b in bounds)]
        if not within:
            continue
        if column is None:
            chosen = result.final.knee if not bounds else None
            if chosen is not None:
                return chosen
            chosen = recommended(front(within, result.columns), result.columns, (), result.chance)
        else:
            least = min(column.sign * t.values[column.name] for t in within)
            equal = [t for t in within if column.sign * t.values[column.name] == least]
            chosen = front(equal, result.columns)[0]  # of equal ones none that another dominates
        if chosen is not None:
            return chosen
    near = min(every, key=lambda t: sum(b.missed(value_of(t, b.name)) for b in bounds))
    told = ", ".join(f"{b.name} {figure(value_of(near, b.name)) or 'unknown'}" for b in bounds)
    raise SearchError(
        f"no trial of {result.title!r} keeps {' and '.join(map(str, bounds))}; the nearest is trial {near.number} "
        f"({result.label(near)}) with {told}. Loosen the bound, or search on with that limit"
    )


def value_of(trial: Trial, name: str) -> float | None:
    """The value of an objective, of a limit or a proxy, the parameter count, or by how much a constraint of another study is violated; None where
    the trial has none."""
    if name in trial.values:
        return float(trial.values[name])
    noted = trial.info.get(name, {}).get("value")
    if is_number(noted):
        return float(noted)
    if name == "parameters":
        return parameters(trial)
    return trial.violations.get(name)


def described(result: Result, trial: Trial) -> dict[str, Any]:
    """One architecture of a result as JSON-safe data: what it is, its values, and how far those go."""
    searched = next((t for t in result.trials if t.number == trial.number), trial)
    again = next((r.values for r in result.retrained if r.id == trial.architecture.id), {})
    trained = {c.name for c in result.columns if c.cost == "trained"}
    return {
        "trial": trial.number,
        "id": trial.architecture.id,
        "label": result.label(trial),
        "values": dict(trial.values),
        "searched": dict(searched.values),
        "trained": bool(trained) and (result.record is None or bool(result.record.about)),
        "retrained": bool(trained & set(again)),
        "intervals": intervals(trial),
        "units": {c.name: c.unit for c in result.columns},
        "parameters": value_of(trial, "parameters"),
        "architecture": dict(trial.architecture.flat),
    }


def _parted(words: str) -> tuple[str, str, str]:
    found = re.split(r"(?:^|\s+)where(?:\s+|$)", words, maxsplit=1)
    if len(found) == 2 and not found[1]:
        raise SearchError(f"the pick {words!r} ends at 'where': {GRAMMAR}")
    return found[0], "", found[1] if len(found) == 2 else ""


def _numbered(result: Result, words: str) -> Trial:
    trial = next((t for t in result.trials if t.number == int(words)), None)
    if trial is not None and trial.feasible:
        return result.final.best(trial)
    numbers = [t.number for t in result.front if t.number is not None]
    those = f"; on the front are {', '.join(map(str, numbers[:12]))}" if numbers else ""
    if trial is None:
        raise SearchError(f"there is no trial {words} among the {len(result.trials)} of {result.title!r}{those}")
    why = f": {trial.reason}" if trial.reason else ""
    raise SearchError(f"the trial {words} of {result.title!r} is {trial.state.value} and not feasible{why}{those}")


def _bound(text: str, condition: str, columns: Sequence[ObjectiveSpec], known: Sequence[str]) -> Bound:
    found = re.fullmatch(r"(.+?)\s*(<=|>=|≤|≥|<|>)\s*(\S.*)", condition)
    if found is None:
        raise SearchError(
            f"the pick {text!r} has the condition {condition!r}, which is not a comparison such as latency_ms<=2: {GRAMMAR}"
        )
    name, sign, number = (
        spelled(found[1].strip(), [*known, *columns]),
        found[2].replace("≤", "<=").replace("≥", ">="),
        found[3].strip(),
    )
    if name not in known:
        raise SearchError(_unknown(text, name, known))
    unit = next((c.unit for c in columns if c.name == name), "")
    split = re.fullmatch(r"([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)", number)
    if split is None or not (split[2] in SUFFIXES or split[2].lower() in ("", unit.lower())):
        of = f", in {unit}" if unit else ""
        raise SearchError(f"the pick {text!r} bounds {name} by {number!r}; a bound is a number{of}, such as {name}<=2")
    scale = 1.0 if split[2].lower() in ("", unit.lower()) else SUFFIXES[split[2]]
    return Bound(name, sign, float(split[1]) * scale)


def _names(columns: Sequence[ObjectiveSpec], trials: Sequence[Trial]) -> list[str]:
    noted = (name for t in trials for name, info in t.info.items() if "value" in info)
    counted = ["parameters"] if any(parameters(t) is not None for t in trials) else []
    own = (
        name for t in trials for name in t.violations if not re.search("[<>≤≥]=?|^rule:", name)
    )  # the others are limits that have a value
    return list(dict.fromkeys([*(c.name for c in columns), *noted, *counted, *own]))


def _unknown(text: str, name: str, known: Sequence[str], more: str = "") -> str:
    words = [*known, *([more] if more else [])]
    hint = near(name, words, cutoff=0.5)
    what = f"there is no pick {name!r}" if text.strip() == name else f"the pick {text!r} names {name!r}"
    rule = GRAMMAR[0].upper() + GRAMMAR[1:]
    return f"{what}: the study does not have that{hint}; it has {', '.join(words)}. {rule}"
