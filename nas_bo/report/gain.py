"""What a search gained over the design that a person would have taken: at equal cost, and at equal quality.

The front is what it has: at a cost, the best member that costs no more; at a quality, the cheapest member that is no worse. What it is
compared with may lie between its sizes: there it is interpolated in the logarithm of the cost by parabolas that stay between their
neighbours, and how far those are from straight lines counts as uncertainty. There is no claim beyond the largest
and the smallest of its sizes. Members of the front were chosen by the search and have the values of their re-training, so that no winner is
shown with its luck. A baseline that the search proposed itself, and that is on the front, is one point of both: it has the values of the front,
and where all baselines are such points the search gained nothing over them.

Intervals are of 95 %, from draws of what is not known: the noise of a training (from how far searched and re-trained values of the same
architectures are from one straight line; none where nothing is trained), the intervals of measured costs, and the interpolation.

Notation: n members of the front, m baselines, D draws, G points at which both are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nas_bo.knee import interval
from nas_bo.report.digits import bare, figure
from nas_bo.report.ranks import Interval
from nas_bo.trial import ObjectiveSpec
from nas_bo.validated import is_number
from nas_bo.wording import counted, plural

if TYPE_CHECKING:
    from nas_bo.report.summary import Record, Summary

DRAWS = 400  # D
POINTS = 33  # G
FEWEST_PAIRS = 5  # architectures trained twice, from which the noise of a training is estimated
LEVEL = 0.9  # of an interval that does not say its own
UNKNOWN = Interval()
_Told: TypeAlias = "tuple[Mapping[str, float], Mapping[str, Record]]"
"""Values, and how each was obtained."""
TIMES = ("ns", "us", "ms", "s")  # units of what is faster where it is less


@dataclass(frozen=True)
class Gain:
    """What the front is better than its baselines, in one quality and one cost.

    Attributes:
        quality: what was trained.
        cost: what it is weighed against; None where the search had no cost.
        better: by how much the front is better at equal cost, in the unit of the quality, averaged over the logarithm of the cost.
        factor: how many times less the front costs at equal quality (of what is maximised: how many times more it has), averaged over
            the quality; nan where no member is as good as a baseline.
        low, high: the range of the cost that was compared, in its own unit; nan without a cost.
        labels: what it was compared with.
        standard: whether that is the standard design of the space.
        members: of the front that are compared: where it was trained again, those of the front of the search that were.
        front: of the front of the search.
        again: at how many times the budget of the search both were trained.
        noise: standard deviation of the quality between two trainings of one architecture; nan where it is not known.
        pairs: architectures that were trained twice, from which the noise is.
        trained: whether the quality is that of a training; False of parts of a trained model that are judged as they are.
        same: which of `labels` are on the front themselves.
        seconds: of processor time that the baselines took; nan where it was not noted.
        why: why there are no numbers; "" where there are.
    """

    quality: ObjectiveSpec
    cost: ObjectiveSpec | None
    better: Interval = UNKNOWN
    factor: Interval = UNKNOWN
    low: float = math.nan
    high: float = math.nan
    labels: tuple[str, ...] = ()
    standard: bool = True
    members: int = 0
    front: int = 0
    again: float = 1.0
    noise: float = math.nan
    pairs: int = 0
    trained: bool = True
    same: tuple[str, ...] = ()
    seconds: float = math.nan
    why: str = ""

    @property
    def known(self) -> bool:
        return self.better.known

    @property
    def shown(self) -> bool:
        """Whether the front is shown to be better: the interval lies above zero."""
        return bool(self.better.bounded and self.better.low > 0)

    @property
    def name(self) -> str:
        """What it was compared with, in words."""
        return "the plain decoder" if self.standard else "the baseline" if len(self.labels) == 1 else "the baselines"

    @property
    def sentence(self) -> str:
        """The first line of a report."""
        if not self.known:
            return f"Gain: not known, {self.why}." if self.why else f"Gain: none, {self._nothing_better()}."
        parts = [part for part in (self._at_cost(), self._at_quality()) if part]
        text = f"Gain: {'; '.join(parts)}"
        if self.better.bounded and self.better.low <= 0 <= self.better.high:
            text += f". That is not shown to be {'better' if self.better.value >= 0 else 'worse'} than {self.name}"
        elif not self.better.bounded:
            text += f". No interval is known, since {self._no_interval()}"
        return text + "."

    def _nothing_better(self) -> str:
        names = " and ".join(one.removeprefix("plain ") for one in self.same)
        return f"the search found nothing better than {self.name}: {names} {plural(len(self.same), 'is', 'are')} on its front"

    def _no_interval(self) -> str:
        """Why there is none, and what one would take."""
        if not self.trained:
            return "nothing is trained, and no cost has an interval"
        if not math.isnan(self.noise):
            return "equal trainings differ in nothing"
        if self.again == 1.0:
            return "nothing was trained twice (--retrain 2)"
        enough = f"the noise of a training is estimated from {FEWEST_PAIRS}"
        return f"{counted(self.pairs, 'architecture')} {plural(self.pairs, 'was', 'were')} trained twice, and {enough}"

    def __str__(self) -> str:
        return f"{self.sentence} {self.basis}".strip()

    @property
    def short(self) -> str:
        """The sentence without its intervals, for a line of a picture."""
        if not self.known:
            return ""
        plain = replace(self, better=Interval(self.better.value), factor=Interval(self.factor.value))
        parts = [part for part in (plain._at_cost(), plain._at_quality()) if part]
        unsure = "" if self.shown or not self.better.bounded else " (not shown)"
        return f"Gain{unsure}: {'; '.join(parts)}"

    @property
    def basis(self) -> str:
        """What the figures rest on: with what, over which range, how trained, and what that took."""
        if not self.known:
            return ""
        what = (
            f"{counted(len(self.labels), 'plain decoder')} with all layers alike"
            if self.standard
            else counted(len(self.labels), "baseline")
        )
        where = ""
        if self.cost is not None:
            unit = f" {self.cost.unit}" if self.cost.unit else ""
            ends = f"{figure(self.low)} to {figure(self.high)}" if self.high > self.low else figure(self.low)
            where = (
                f", over {self.cost.name} from {ends}{unit}"
                if self.high > self.low
                else f", at {self.cost.name} {ends}{unit}"
            )
        ours = f"{counted(self.members, 'architecture')} of the front"
        if self.members < self.front:
            ours += f" of the search ({self.front} are on it, {self.members} were trained again)"
        text = f"Compared: {ours} with {what} ({', '.join(one.removeprefix('plain ') for one in self.labels)}){where}"
        if self.again != 1.0:
            text += f", all trained at {self.again:g} times the budget of the search with another seed"
        if math.isfinite(self.seconds):
            what = "training" if self.trained else "evaluation"
            text += f"; the baselines took {counted(len(self.labels), what)}, {self.seconds:.3g} s"
        if self.same:
            names = " and ".join(one.removeprefix("plain ") for one in self.same)
            text += f"; {names} {plural(len(self.same), 'is', 'are')} on the front"
        return text + "."

    def _at_cost(self) -> str:
        value, ends = self.better.value, _ends(self.better, abs(self.better.value) or 1.0)
        unit = _unit_words(self.quality)
        where = f"at equal {_plain_name(self.cost)} " if self.cost is not None else "the best of the search is "
        word = "better" if value >= 0 else "worse"
        return f"{where}{_digits(abs(value))}{unit} {word}{ends} than {self.name}"

    def _at_quality(self) -> str:
        value = self.factor.value
        if self.cost is None or math.isnan(value):
            return ""
        equal = "loss" if self.quality.unit.startswith(("bits", "nats")) else self.quality.name
        ends = f" (95 % interval {self.factor.low:.2g} to {self.factor.high:.2g})" if self.factor.bounded else ""
        if self.cost.unit in TIMES:
            told = f"{value:.2g} times as fast" if value >= 1 else f"{1 / value:.2g} times as slow"
            if value < 1 and self.factor.bounded:
                ends = f" (95 % interval {1 / self.factor.high:.2g} to {1 / self.factor.low:.2g})"
            return f"at equal {equal} {told}{ends}"
        if self.cost.direction == "maximize":
            return f"at equal {equal} {value:.2g} times the {_plain_name(self.cost)}{ends}"
        if self.factor.bounded:
            ends = f" (95 % interval {100 / self.factor.high:.0f} to {100 / self.factor.low:.0f} %)"
        return f"at equal {equal} {100 / value:.0f} % of the {_plain_name(self.cost)}{ends}"

    def to_dict(self) -> dict[str, object]:
        """As JSON-safe data, nan as None."""
        return {
            "sentence": self.sentence,
            "quality": self.quality.name,
            "unit": self.quality.unit,
            "cost": None if self.cost is None else self.cost.name,
            "cost_unit": None if self.cost is None else self.cost.unit,
            "better": bare(asdict(self.better)),
            "factor": bare(asdict(self.factor)),
            "shown": self.shown,
            "from": bare(self.low),
            "to": bare(self.high),
            "baselines": list(self.labels),
            "standard": self.standard,
            "members": self.members,
            "budgets": self.again,
            "noise": bare(self.noise),
            "trained_twice": self.pairs,
            "on_the_front": list(self.same),
            "seconds": bare(self.seconds),
            "why": self.why,
        }


def gains_of(summary: Summary) -> list[Gain]:
    """The gains of a search, the one that counts most first: over what the user named before the standard design, in a measured cost before
    one that is counted. Empty where nothing was compared with, or nothing is trained."""
    quality = next((c for c in summary.columns if c.cost == "trained"), None)
    if quality is None or not summary.baselines:
        return []
    costs: list[ObjectiveSpec | None] = [c for c in summary.columns if c.cost == "measured"]
    costs += [c for c in summary.columns if c.cost == "analytic"]
    if not costs and len(summary.columns) == 1:
        costs = [None]
    found = []
    for standard in (False, True):
        group = [b for b in summary.baselines if bool(b.get("standard")) is standard]
        if standard and not any(b.get("retrained") or b.get("reason") for b in group):
            continue  # the head of a study, without what was trained again
        found += [_gain(summary, quality, cost, group, standard) for cost in costs if group]
    return sorted(found, key=lambda one: not one.known)


def training_noise(pairs: Sequence[tuple[float, float]]) -> tuple[float, int]:
    """The standard deviation of one training, from values of the same architectures in two trainings: what a straight line leaves of the
    second, shared by both. With the degrees of freedom; (nan, 0) where the pairs are too few."""
    if len(pairs) < FEWEST_PAIRS:
        return math.nan, 0
    x, y = np.array(pairs, dtype=float).T
    x = x - x.mean()
    spread = float((x * x).sum())
    slope = float((x * y).sum()) / spread if spread > 0 else 0.0
    left = y - y.mean() - slope * x
    return math.sqrt(float((left * left).sum()) / (len(pairs) - 2) / 2), len(pairs) - 2


# ---- the points ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Points:
    """Architectures, to be minimised: quality (n,), cost (n,) and the standard deviation of each cost (n,)."""

    quality: np.ndarray
    cost: np.ndarray
    unsure: np.ndarray


def _gain(
    summary: Summary,
    quality: ObjectiveSpec,
    cost: ObjectiveSpec | None,
    group: Sequence[Record],
    standard: bool,
) -> Gain:
    final = summary.final
    again = quality.name in final.again
    found = Gain(quality, cost, standard=standard, again=final.factor if again else 1.0)
    on_front = {t.architecture.id: t for t in final.members}
    base: list[_Told] = []
    labels, ids, seconds = [], [], 0.0
    # nothing within the limits can cost as much as a trained model beyond them: it counts where there is nothing else
    beyond = not any(_complete(one) for one in group)
    for one in group:
        values = {**one.get("values", {}), **(one.get("retrained", {}) if again else {})}
        whole = all(is_number(values.get(c.name)) for c in (quality, cost) if c is not None)
        fits = _complete(one) or (bool(one.get("whole")) and beyond)
        if whole and fits and (not again or quality.name in one.get("retrained", {})):
            own = on_front.get(str(one.get("id", "")))
            noted = {**one.get("info", {}), **one.get("retrained_info", {})}
            base.append((values, noted) if own is None else (own.values, own.info))
            labels.append(str(one.get("label", "")))
            ids.append(str(one.get("id", "")))
            seconds += _seconds(one, quality)
    members = [final.best(t) for t in summary.front()]
    members = [t for t in members if t.feasible and (not again or t.architecture.id in final.known)]
    same = tuple(label for label, key in zip(labels, ids, strict=True) if key in on_front)
    trained = not (base and all(_untrained(info.get(quality.name) or {}) for _, info in base))
    found = replace(
        found,
        labels=tuple(labels),
        same=same,
        trained=trained,
        seconds=seconds,
        members=len(members),
        front=len(summary.front()),
    )
    if not base:
        reasons = "; ".join(dict.fromkeys(str(one.get("reason")) for one in group if one.get("reason")))
        return replace(found, why=f"no baseline has all values{f' ({reasons})' if reasons else ''}")
    if not members:
        return replace(
            found, why="no trial is feasible" if not summary.front() else "no member of the front was trained again"
        )
    if len(same) == len(labels):
        return found
    noise, freedom, twice = math.nan, 0, 0
    if again:
        before = summary.by_id()
        pairs = [(before[k].values, t.values) for k, t in final.known.items() if k in before]
        known = [(a[quality.name], b[quality.name]) for a, b in pairs if quality.name in a and quality.name in b]
        noise, freedom = training_noise(known)
        twice = len(known)
    rng = np.random.default_rng(0)
    draws = np.zeros(0 if trained else DRAWS)
    if freedom and noise > 0:
        draws = noise * np.sqrt(freedom / rng.chisquare(freedom, DRAWS))
    found = replace(found, noise=noise, pairs=twice)
    if cost is None:
        chosen = min(summary.front(), key=lambda t: quality.sign * t.values[quality.name])
        best = min(quality.sign * values[quality.name] for values, _ in base)
        better = best - quality.sign * final.best(chosen).values[quality.name]
        return replace(found, better=_bounded(better, better + draws * math.sqrt(2) * rng.standard_normal(len(draws))))
    told = [(t.values, t.info) for t in members]
    log = all(values[cost.name] > 0 for values, _ in (*told, *base))
    front, theirs = (_points(some, quality, cost, log) for some in (told, base))
    places = {t.architecture.id: i for i, t in enumerate(members)}
    return _compared(found, front, theirs, [places.get(key, -1) for key in ids], draws, rng, log)


def _complete(one: Record) -> bool:
    return bool(one.get("state", "complete") == "complete")


def _points(
    told: Sequence[tuple[Mapping[str, float], Mapping[str, Record]]],
    quality: ObjectiveSpec,
    cost: ObjectiveSpec,
    log: bool,
) -> _Points:
    """Costs as logarithms where all are positive."""
    at, unsure = [], []
    for values, info in told:
        value, noted = float(values[cost.name]), info.get(cost.name) or {}
        low, high = interval(noted)
        level = noted.get("level")
        share = float(level) if is_number(level) and 0 < level < 1 else LEVEL
        wide = (math.log(high / low) if low > 0 else 0.0) if log else high - low
        at.append(cost.sign * (math.log(value) if log else value))
        unsure.append(wide / 2 / _normal(share) if math.isfinite(wide) else 0.0)
    return _Points(
        np.array([quality.sign * values[quality.name] for values, _ in told]), np.array(at), np.array(unsure)
    )


def _normal(share: float) -> float:
    """How many standard deviations around the mean hold this share of a normal distribution."""
    from scipy.stats import norm

    return float(norm.ppf(0.5 + share / 2))


# ---- the comparison --------------------------------------------------------------------------------------------------


def _compared(
    found: Gain,
    front: _Points,
    theirs: _Points,
    same: Sequence[int],
    draws: np.ndarray,
    rng: np.random.Generator,
    log: bool,
) -> Gain:
    """`same`: for each of `theirs` the place of the same architecture in `front`, -1 where it is none of it."""
    cost = found.cost
    assert cost is not None
    nodes = _own_front(theirs)
    shared = [same[node] for node in nodes]
    low, high = max(float(theirs.cost.min()), float(front.cost.min())), float(theirs.cost.max())
    if low > high:
        what = "less" if cost.direction == "minimize" else "more"
        return replace(
            found, why=f"{found.name} costs {what} than all of the front ({cost.name}), so nothing is at equal cost"
        )
    at = np.linspace(low, high, POINTS) if high > low else np.array([low])
    wide = np.linspace(float(theirs.cost[nodes].min()), float(theirs.cost.max()), 2 * POINTS)
    level = _levels(front, theirs, nodes)
    curve = _Curve(theirs.cost[nodes], theirs.quality[nodes])
    best, cheapest = np.argsort(front.quality, kind="stable"), np.argsort(front.cost, kind="stable")

    def both(sd: float, z: np.random.Generator | None) -> tuple[float, float]:
        """The gain and the logarithm of the factor: as they are, or in one draw."""
        fq, fc, bq, bc, bend = front.quality, front.cost, theirs.quality[nodes], theirs.cost[nodes], 0.0
        if z is not None:
            fq, bq = fq + sd * z.standard_normal(len(fq)), bq + sd * z.standard_normal(len(bq))
            fc, bc = (
                fc + front.unsure * z.standard_normal(len(fc)),
                bc + theirs.unsure[nodes] * z.standard_normal(len(bc)),
            )
            bend = float(z.standard_normal())
            for k, i in enumerate(shared):
                if i >= 0:
                    bq[k], bc[k] = fq[i], fc[i]
        there = curve.at(at, bc, bq, bend)
        gained = there - _first(fc[best], fq[best], at)
        if not len(level):
            return _mean(gained), math.nan
        falling = np.minimum.accumulate(curve.at(wide, bc, bq, bend))
        costs = np.interp(-level, -falling, wide) if len(bc) > 1 else np.full(len(level), bc[0])
        return _mean(gained), _mean(costs - _first(fq[cheapest], fc[cheapest], level))

    better, factor = both(0.0, None)
    drawn = np.array([both(float(sd), rng) for sd in draws]).reshape(len(draws), 2)
    ends = sorted(cost.sign * x for x in (low, high))
    ends = [math.exp(x) for x in ends] if log else ends
    return replace(
        found,
        better=_bounded(better, drawn[:, 0]),
        factor=_exponential(_bounded(factor, drawn[:, 1])) if log else Interval(),
        low=ends[0],
        high=ends[1],
    )


def _own_front(points: _Points) -> np.ndarray:
    """The places of those that nothing cheaper is as good as, the cheapest first: a size that is worse than a smaller one is not taken."""
    kept: list[int] = []
    for i in np.lexsort((points.quality, points.cost)):
        if not kept or points.quality[i] < points.quality[kept[-1]]:
            kept.append(int(i))
    return np.array(kept)


def _levels(front: _Points, theirs: _Points, nodes: np.ndarray) -> np.ndarray:
    """The qualities that both have, from the best to the worst of the baselines; empty where the front is worse than all of them."""
    worst = float(theirs.quality[nodes].max())
    best = max(float(theirs.quality.min()), float(front.quality.min()))
    if best > worst:
        return np.zeros(0)
    return np.linspace(best, worst, POINTS) if worst > best else np.array([best])


class _Curve:
    """What the baselines would have between their sizes."""

    def __init__(self, cost: np.ndarray, quality: np.ndarray) -> None:
        """cost rises (k,), quality falls (k,)."""
        self.cost, self.quality = cost, quality

    def at(self, x: np.ndarray, cost: np.ndarray, quality: np.ndarray, bend: float) -> np.ndarray:
        """At x (G,), of sizes with these costs and qualities (k,).

        Args:
            bend: how many standard deviations the curve between two sizes is away from what is expected of it. One of them is how far the
                parabola through the sizes as they are is from straight lines; of two sizes, which have none, half of what one with its lowest
                point at the larger size would be away.
        """
        order = np.argsort(cost, kind="stable")
        cost, quality = cost[order], quality[order]
        straight: np.ndarray = np.interp(x, cost, quality)
        if len(cost) < 2:
            return straight
        if len(cost) == 2:
            share = (np.clip(x, cost[0], cost[1]) - cost[0]) / (cost[1] - cost[0])
            curved: np.ndarray = straight - bend * (self.quality[0] - self.quality[-1]) / 2 * share * (1 - share)
            return curved
        at = np.clip(np.searchsorted(cost, x, side="right") - 1, 0, len(cost) - 2)
        found = straight + _bow(x, cost, quality, at) + bend * _bow(x, self.cost, self.quality)
        ends = quality[at], quality[at + 1]
        bounded: np.ndarray = np.clip(found, np.minimum(*ends), np.maximum(*ends))
        whole: np.ndarray = np.where(x > cost[-1], straight, bounded)
        return whole


def _bow(x: np.ndarray, cost: np.ndarray, quality: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
    """How far parabolas through three points of (k,) are from the straight line between two, at x (G,): the mean of the two in whose reach a
    segment lies, of the first and the last segment one."""
    x = np.clip(x, cost[0], cost[-1])
    at = np.clip(np.searchsorted(cost, x, side="right") - 1, 0, len(cost) - 2) if at is None else at
    slope = np.diff(quality) / np.diff(cost)
    curved = np.diff(slope) / (cost[2:] - cost[:-2])  # second divided differences, (k - 2,)
    before, after = curved[np.clip(at - 1, 0, len(curved) - 1)], curved[np.clip(at, 0, len(curved) - 1)]
    found: np.ndarray = 0.5 * (before + after) * (x - cost[at]) * (x - cost[at + 1])
    return found


def _first(bound: np.ndarray, value: np.ndarray, at: np.ndarray) -> np.ndarray:
    """For every point of `at` (G,) the value of the first one whose bound is not above it; nan where there is none."""
    there = bound[None, :] <= at[:, None] + 1e-9
    return np.where(there.any(1), value[there.argmax(1)], np.nan)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _bounded(value: float, draws: np.ndarray) -> Interval:
    """The value with the interval of its draws, which holds the value."""
    value = float(value)
    known = draws[np.isfinite(draws)]
    if len(known) < max(20, len(draws) // 2) or math.isnan(value):
        return Interval(value)
    low, high = (float(end) for end in np.percentile(known, [2.5, 97.5]))
    return Interval(value, min(value, low), max(value, high)) if high - low > 1e-9 else Interval(value)


def _exponential(one: Interval) -> Interval:
    return Interval(*(math.exp(v) if math.isfinite(v) else math.nan for v in (one.value, one.low, one.high)))


# ---- words -----------------------------------------------------------------------------------------------------------


def _untrained(info: Record) -> bool:
    """Whether a value says that it is of a part of a trained model as it is."""
    return "held_out_tokens" in info and "tokens" not in info


def _seconds(base: Record, quality: ObjectiveSpec) -> float:
    info = (base.get("retrained_info") or base.get("info") or {}).get(quality.name) or {}
    found = next((info[name] for name in ("cpu_seconds", "seconds") if is_number(info.get(name))), math.nan)
    return float(found)


def _plain_name(cost: ObjectiveSpec | None) -> str:
    """``latency`` of ``latency_ms``: the name without its unit, with spaces."""
    if cost is None:
        return ""
    name = cost.name.removesuffix(f"_{cost.unit}") if cost.unit else cost.name
    return name.replace("_", " ")


def _unit_words(quality: ObjectiveSpec) -> str:
    unit = quality.unit.replace("/", " per ") or quality.name
    return f" {unit}"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value >= 0.0995 else f"{value:.2g}"


def _ends(figure_: Interval, scale: float) -> str:
    """`` (95 % interval 0.16 to 0.20)`` in the direction of the word before it."""
    if not figure_.bounded:
        return ""
    low, high = (figure_.low, figure_.high) if figure_.value >= 0 else (-figure_.high, -figure_.low)
    digits = 2 if scale >= 0.0995 else 3
    return f" (95 % interval {low:.{digits}f} to {high:.{digits}f})"
