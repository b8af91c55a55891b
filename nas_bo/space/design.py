"""Help with the design of a space: how large it is, what its rules cut, which choices are dead, what decides its sizes and costs; and after a
search, which values the front never uses, which bounds it leans on, and a next space as Python.

Nothing is trained. Shares come from draws, uniform over the choices; counts are exact.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import SpaceError
from nas_bo.space.domain import Choice, Domain, Integer
from nas_bo.space.neighbours import pattern
from nas_bo.space.space import MAX_ENUMERATED, Space
from nas_bo.wording import counted, plural

DRAWS = 400
ENOUGH = 20  # draws with a value that all break a rule, from which it is called dead
FEWEST = 4  # members of a front whose common values mean something
SEEN_RARELY = 0.02  # share of the draws below which a value is so rare that its absence says nothing

Measure = Callable[[Architecture], float]


@dataclass(frozen=True)
class Inspection:
    """What a space is like.

    Attributes:
        size: architectures before rules, exact; real choices count as one.
        admitted: after rules, exact; None where the space is too large to be walked.
        share: of the draws, that keep the rules.
        rules: rule -> the share of the draws that it rejects, the one that cuts most first.
        dead: decisions with a value that no draw with it kept the rules, and how many draws that were: "width = 48" -> 93.
        same: share of the draws that build the same network as another draw with other choices.
        ranges: measure -> its 5, 50 and 95 % quantiles over the draws that keep the rules.
        decided_by: measure -> decision -> share of the variance of its logarithm that the decision alone explains, the largest first.
        untried: decisions with the values that no architecture seen so far has; empty where none was given.
    """

    title: str
    size: int
    admitted: int | None
    share: float
    rules: Mapping[str, float]
    dead: Mapping[str, int]
    same: float
    ranges: Mapping[str, tuple[float, float, float]]
    decided_by: Mapping[str, Mapping[str, float]]
    untried: Mapping[str, Sequence[Primitive]] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = f"{self.size:,}" if self.size < 10**12 else f"about 10^{math.log10(self.size):.1f}"
        lines = [f"{self.title}: {shown} architectures before rules"]
        if self.rules:
            kept = f"exactly {self.admitted:,}" if self.admitted is not None else f"about {self.share:.1%} of the draws"
            lines.append(f"Rules leave {kept}:")
            lines += [f"  {name} rejects {cut:.1%}" for name, cut in self.rules.items()]
        for what, n in self.dead.items():
            lines.append(f"Dead: {what} never keeps the rules ({counted(n, 'draw')}); leave it out")
        lines.append(
            f"Redundancy: {self.same:.1%} of the draws build the same network as another draw with other choices"
        )
        for name, (low, middle, high) in self.ranges.items():
            lines.append(
                f"{name}: {_four(low)} to {_four(high)} in nine of ten, half above {_four(middle)}; decided by"
            )
            lines += [
                f"  {what} {share:.0%}" for what, share in list(self.decided_by[name].items())[:5] if share >= 0.01
            ]
        for what, values in self.untried.items():
            lines.append(f"Never tried: {what} = {', '.join(map(str, values))}")
        return "\n".join(lines)


def _four(value: float) -> str:
    """A number in four digits, without an exponent."""
    return f"{float(f'{value:.4g}'):,.15g}"


def inspect(
    space: type[Space],
    measures: Mapping[str, Measure] | None = None,
    *,
    seen: Sequence[Architecture] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> Inspection:
    """Look at a space.

    Args:
        measures: name -> a positive number of an architecture that costs nothing, such as its parameters; one that raises for an
            architecture says nothing about it.
        seen: architectures of a search, whose coverage is reported.
        draws, seed: of random architectures.

    Raises:
        SpaceError: `draws` is not a whole number of at least 10, or the space has nothing to decide.
    """
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 10:
        raise SpaceError(f"inspect(draws={draws!r}): it is a whole number of at least 10; leave it out for {DRAWS}")
    if not space.decisions():
        raise SpaceError(f"inspect({space.title}): the space has nothing to decide; give a field a choice")
    rng = random.Random(seed)
    drawn = [space.decide_canonical(lambda _path, one: one.domain.sample(rng)) for _ in range(draws)]
    broken = [space.violations(arch) for arch in drawn]
    kept = [arch for arch, names in zip(drawn, broken, strict=True) if not names]
    cut = Counter(name for names in broken for name in set(names))
    rules = {rule.name: cut[rule.name] / draws for rule in space.rules()}
    admitted = None
    if space.size(rules=False) <= MAX_ENUMERATED // 10 and space.is_finite():
        admitted = space.size()
    flats = {tuple(sorted(arch.flat.items(), key=str)): arch.id for arch in drawn}
    ranges: dict[str, tuple[float, float, float]] = {}
    decided: dict[str, dict[str, float]] = {}
    for name, measure in (measures or {}).items():
        pairs = [(arch, value) for arch in kept if (value := _measured(measure, arch)) is not None]
        if len(pairs) < 3:
            continue
        low, middle, high = (float(q) for q in np.quantile([v for _, v in pairs], [0.05, 0.5, 0.95]))
        ranges[name] = low, middle, high
        decided[name] = _decided_by(pairs)
    return Inspection(
        space.title,
        space.size(rules=False),
        admitted,
        len(kept) / draws,
        dict(sorted(rules.items(), key=lambda pair: -pair[1])),
        _dead(drawn, kept) if space.rules() else {},
        1 - len(set(flats.values())) / len(flats),
        ranges,
        decided,
        _untried(space, seen) if seen else {},
    )


def _measured(measure: Measure, arch: Architecture) -> float | None:
    try:
        value = float(measure(arch))
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _dead(drawn: Sequence[Architecture], kept: Sequence[Architecture]) -> dict[str, int]:
    tried = Counter(pair for arch in drawn for pair in _pairs(arch))
    alive = {pair for arch in kept for pair in _pairs(arch)}
    return {f"{what} = {value}": n for (what, value), n in tried.items() if n >= ENOUGH and (what, value) not in alive}


def _pairs(arch: Architecture) -> set[tuple[str, Primitive]]:
    return {(pattern(path), value) for path, value in arch.flat.items()}


def _decided_by(pairs: Sequence[tuple[Architecture, float]]) -> dict[str, float]:
    """The squared correlation of the logarithm with the best description of each decision: its mean, where it is a number, or how often it
    has each of its values."""
    y = np.log([value for _, value in pairs])
    y = y - y.mean()
    rows = [_described(arch) for arch, _ in pairs]
    best: dict[str, float] = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        x = np.array([row.get(name, 0.0) for row in rows])
        x = x - x.mean()
        spread = float((x * x).sum() * (y * y).sum())
        share = float((x * y).sum()) ** 2 / spread if spread > 1e-12 else 0.0
        what = name.partition("=")[0]
        best[what] = max(best.get(what, 0.0), share)
    return dict(sorted(best.items(), key=lambda pair: -pair[1]))


def _described(arch: Architecture) -> dict[str, float]:
    numbers: dict[str, list[float]] = {}
    found: Counter[str] = Counter()
    for path, value in arch.flat.items():
        what = pattern(path)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers.setdefault(what, []).append(float(value))
        else:
            found[f"{what}={value}"] += 1
    return {**{k: float(n) for k, n in found.items()}, **{k: sum(v) / len(v) for k, v in numbers.items()}}


def _untried(space: type[Space], seen: Sequence[Architecture]) -> dict[str, list[Primitive]]:
    had = {pair for arch in seen for pair in _pairs(arch)}
    found: dict[str, list[Primitive]] = {}
    for path, domain in space.domains().items():
        if domain.size is not None and domain.size <= 64:
            left = [v for v in domain.values if (pattern(path), v) not in had]
            if left and pattern(path) not in found:
                found[pattern(path)] = left
    return found


# ---- after a search ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Advice:
    """What a front says about its space.

    Attributes:
        unused: decision -> values that no member has, though the trials had them.
        leaning: decision -> "largest" or "smallest": the bound that all members have.
        code: a next space as Python, to be read and run; "" where nothing is to be changed.
    """

    members: int
    unused: Mapping[str, Sequence[Primitive]]
    leaning: Mapping[str, str]
    code: str

    def __str__(self) -> str:
        if self.members < FEWEST:
            return f"The front has {counted(self.members, 'member')}, too few to say what the space should be; search longer."
        lines = [
            f"All {self.members} members of the front have {what} at its {end}: widen it there"
            for what, end in self.leaning.items()
        ]
        lines += [
            f"No member of the front has {what} = {' or '.join(map(str, values))}: {plural(len(values), 'it', 'they')} may go"
            for what, values in self.unused.items()
        ]
        return "\n".join(
            [*(lines or ["The front uses every value and leans on no bound."]), *([self.code] if self.code else [])]
        )


def advise(space: type[Space], front: Sequence[Architecture], trials: Sequence[Architecture]) -> Advice:
    """What the front of a search says about the space that was searched.

    Args:
        front: its members; trials: all architectures that were tried, the front among them.
    """
    if len(front) < FEWEST:
        return Advice(len(front), {}, {}, "")
    ours = Counter(pair for arch in front for pair in _pairs(arch))
    theirs = Counter(pair for arch in trials for pair in _pairs(arch))
    unused: dict[str, list[Primitive]] = {}
    leaning: dict[str, str] = {}
    known: dict[str, Domain] = {}
    for path, domain in space.domains().items():
        known.setdefault(pattern(path), domain)
    for what, domain in known.items():
        if domain.size is None or domain.size < 2 or domain.size > 64:
            continue
        values = list(domain.values)
        has = [v for v in values if ours[what, v]]
        often = [v for v in values if theirs[what, v] >= max(FEWEST, SEEN_RARELY * len(trials))]
        if (
            len(has) == 1
            and domain.ordered
            and has[0] in (values[0], values[-1])
            and all((what, has[0]) in _pairs(a) for a in front)
        ):
            leaning[what] = f"{'largest' if has[0] == values[-1] else 'smallest'} value, {has[0]}"
        gone = [v for v in often if v not in has]
        if has and gone:
            unused[what] = gone
    return Advice(len(front), unused, leaning, _next(space, known, unused, leaning))


def _next(
    space: type[Space],
    known: Mapping[str, Domain],
    unused: Mapping[str, Sequence[Primitive]],
    leaning: Mapping[str, str],
) -> str:
    """A subclass with the fields at the top changed: it keeps all else, and its rules."""
    lines = []
    for what, domain in known.items():
        if "." in what or (what not in unused and what not in leaning):
            continue
        count = any(slot.records is not None and slot.parent == what for slot in space.decisions().values())
        if count:
            continue  # its list holds the domain itself: it is changed where the list is written
        values = [v for v in domain.values if v not in unused.get(what, ())] if domain.size is not None else []
        end = leaning.get(what, "")
        if end and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            whole = [v for v in (domain.values if domain.size is not None else ()) if isinstance(v, (int, float))]
            up = end.startswith("largest")
            values = list(sorted({*(whole[-2:] if up else whole[:2]), _beyond(whole, up=up)}))
        if values and isinstance(domain, (Choice, Integer)) and not (isinstance(domain, Choice) and domain.options):
            why = f"all members have the {end}" if end else f"no member has {', '.join(map(str, unused[what]))}"
            lines.append(f"    {what} = choice({', '.join(map(repr, values))})  # {why}")
    if not lines:
        return ""
    head = f"from {space.__module__} import {space.__name__}\nfrom nas_bo.space import choice\n"
    return f"{head}\n\nclass {space.__name__}Next({space.__name__}):\n" + "\n".join(lines) + "\n"


def _beyond(values: Sequence[float], *, up: bool) -> float:
    """The next value after the last one, or before the first, at the distance of the last two; never below the half of the smallest."""
    if up:
        return values[-1] + (values[-1] - values[-2])
    lower = values[0] - (values[1] - values[0])
    half = values[0] // 2 if isinstance(values[0], int) else values[0] / 2
    return lower if lower > 0 else max(half, 1) if isinstance(values[0], int) else half
