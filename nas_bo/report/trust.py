"""The trust report: how far each cheap estimate of quality orders architectures as the reference training does.

Every figure is next to those of the parameter count, of FLOPs and, with two seeds or more, of another seed of the
reference, which is the ceiling. Needs numpy and scipy only; where the numbers come from is the caller's affair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypedDict, Unpack

import numpy as np

from nas_bo.errors import SearchError
from nas_bo.foreign_document import reading
from nas_bo.report import verdict
from nas_bo.report.digits import bare
from nas_bo.report.ranks import (
    FEWEST,
    FEWEST_PAIRS,
    Interval,
    Pair,
    Statistic,
    count_places,
    difference,
    interval,
    pairs_within,
    recall,
    regret,
    residual,
    rho,
    tau,
    tau_size_removed,
    tau_within,
    together,
)
from nas_bo.settings import settings_of, takes
from nas_bo.trial import Direction
from nas_bo.wording import counted

DRAWS = 1000  # of the bootstrap
UNKNOWN = Interval()
CEILING = "another seed"


@dataclass(frozen=True)
class Proxy:
    """A cheap estimate of quality on the architectures of a report.

    Attributes:
        values: one per architecture, or one per architecture and seed of the reference; nan where there is none.
        direction: whether smaller or larger values promise quality.
        share: its cost as a share of one reference evaluation; nan when not known.
        same_run: ``values[i][s]`` was read on the way of the reference training of seed s: it is judged against the
            mean of the other seeds, since it shares the luck of its own run.
        note: what a reader should know about it.
    """

    name: str
    values: Sequence[float] | Sequence[Sequence[float]]
    direction: Direction = "minimize"
    share: float = math.nan
    same_run: bool = False
    note: str = ""


@dataclass(frozen=True)
class Judged:
    """What the reference says about one proxy.

    Attributes:
        n: architectures with the proxy and the reference.
        tau, spearman: rank agreement with the reference; 1 is the same order.
        size_removed: tau of what is left after regressing log(parameters) out of both: overall tau mostly repeats size.
        equal_size: tau over the pairs of about equal size (parameters within 10 %) alone; `pairs` is how many there are. Counting parameters
            says next to nothing about these.
        equal_against_size: the same minus that of the parameter count (paired bootstrap).
        k, recall: share of the k best by reference that are among the k best by proxy.
        regret: reference value of the architecture that the proxy would have chosen, minus the best one; in the
            reference's unit. The best is the best of noisy values, so zero is out of reach even for a good proxy.
        against_size: its tau minus that of the parameter count on the same architectures (paired bootstrap).
        combined: tau of a straight line in log(parameters) and the proxy, each architecture left out of its own fit.
        combined_gain: that minus the tau of the parameter count (paired bootstrap): what the proxy adds to size.
        useless: why nothing can be ordered by it; "" when something can.
    """

    name: str
    n: int
    tau: Interval = UNKNOWN
    spearman: Interval = UNKNOWN
    size_removed: Interval = UNKNOWN
    k: int = 0
    recall: float = math.nan
    regret: float = math.nan
    share: float = math.nan
    against_size: Interval = UNKNOWN
    combined: Interval = UNKNOWN
    combined_gain: Interval = UNKNOWN
    useless: str = ""
    note: str = ""
    direction: Direction = "minimize"
    equal_size: Interval = UNKNOWN
    pairs: int = 0
    equal_against_size: Interval = UNKNOWN

    def __str__(self) -> str:
        if self.useless:
            return f"{self.name}: {self.useless}"
        return (
            f"{self.name}: tau {self.tau}, size removed {self.size_removed}, of about equal size {verdict.equal(self)}"
        )

    @property
    def beats_size(self) -> bool:
        """Whether it is shown to order better than the parameter count."""
        return self.against_size.bounded and self.against_size.low > 0

    @property
    def beats_equal_size(self) -> bool:
        """Whether it is shown to order architectures of about equal size, and better than the parameter count does."""
        gap = self.equal_against_size
        return self.equal_size.bounded and self.equal_size.low > 0 and (not gap.known or gap.value > 0)

    @property
    def beyond_size(self) -> bool:
        """Whether it is shown to order what size does not."""
        return self.size_removed.bounded and self.size_removed.low > 0


@dataclass(frozen=True)
class Row:
    """One architecture: what the pictures draw. `values` are the proxies' means over seeds, in their own units."""

    id: str
    label: str
    parameters: float
    reference: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class TrustReport:
    """How far the proxies can be trusted on one space, corpus and budget.

    Attributes:
        reference, unit: name of the reference and its unit.
        seeds: of the reference.
        noise: standard deviation between seeds of one architecture, pooled; nan with one seed.
        spread: standard deviation between architectures.
        proxies: what was asked about; `parameters`, `flops` and `ceiling` are what it is compared with.
        rows: the architectures that have a reference.
        chosen: how they were chosen, in a sentence.
        notes: what else a reader should know.
    """

    reference: str
    unit: str
    seeds: int
    noise: float
    spread: float
    proxies: tuple[Judged, ...]
    parameters: Judged | None
    flops: Judged | None
    ceiling: Judged | None
    rows: tuple[Row, ...] = field(repr=False)
    direction: Direction = "minimize"
    chosen: str = ""
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.rows)

    @property
    def judged(self) -> list[Judged]:
        """Everything that has figures, the proxies first."""
        return [*self.proxies, *(j for j in (self.parameters, self.flops, self.ceiling) if j is not None)]

    @property
    def first_line(self) -> str:
        """What a hurried reader must know: above all, which proxies do no better than counting parameters."""
        return verdict.first_line(self)

    def recommendation(self) -> str:
        """What to do about it."""
        return verdict.recommendation(self)

    def table(self) -> str:
        """The figures as aligned text."""
        return verdict.table(self)

    def markdown(self) -> str:
        """The first line, the table and what to do, as Markdown."""
        return verdict.markdown(self)

    def text(self) -> str:
        """The whole report as text; the first line comes first. Of too few architectures for a ranking there is no table."""
        figures = [self.table(), verdict.footing(self)] if verdict.ranked(self) else list(self.notes)
        return "\n\n".join([self.first_line, *figures, self.recommendation()])

    def __str__(self) -> str:
        return self.text()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-safe data, nan as None; `from_dict` is its inverse."""
        told: dict[str, Any] = {"first_line": self.first_line, "recommendation": self.recommendation()}
        return told | {name: bare(value) for name, value in asdict(self).items()}

    @staticmethod
    @reading("the data of a trust report", SearchError)
    def from_dict(data: Mapping[str, Any]) -> TrustReport:
        """Raises SearchError when `data` is not what `to_dict` made."""
        try:
            rows = tuple(Row(**{**row, **_numbers(row, "parameters", "reference")}) for row in data["rows"])
            rows = tuple(replace(r, values={k: _number(v) for k, v in r.values.items()}) for r in rows)
            compared = {k: None if data[k] is None else _judged(data[k]) for k in ("parameters", "flops", "ceiling")}
            return TrustReport(
                reference=data["reference"],
                unit=data["unit"],
                seeds=data["seeds"],
                noise=_number(data["noise"]),
                spread=_number(data["spread"]),
                proxies=tuple(_judged(j) for j in data["proxies"]),
                rows=rows,
                direction=data["direction"],
                chosen=data["chosen"],
                notes=tuple(data["notes"]),
                **compared,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise SearchError(
                f"this is not the data of a trust report ({type(error).__name__}: {error}); give what to_dict() made"
            ) from error


class TrustOptions(TypedDict, total=False):
    """What `trust` takes by name, see there."""

    name: str
    unit: str
    direction: Direction
    ids: Sequence[str]
    labels: Sequence[str]
    chosen: str
    notes: Sequence[str]
    k: int | None
    draws: int
    seed: int


@dataclass(frozen=True)
class TrustSettings:
    """How `trust` judges and what the report calls things; its fields are described there."""

    name: str = "bits_per_byte"
    unit: str = "bits/byte"
    direction: Direction = "minimize"
    ids: Sequence[str] = ()
    labels: Sequence[str] = ()
    chosen: str = ""
    notes: Sequence[str] = ()
    k: int | None = None
    draws: int = DRAWS
    seed: int = 0


@takes(TrustSettings)
def trust(
    proxies: Sequence[Proxy],
    reference: Sequence[float] | Sequence[Sequence[float]],
    parameters: Sequence[float] | None = None,
    flops: Sequence[float] | None = None,
    **options: Unpack[TrustOptions],
) -> TrustReport:
    """Judge `proxies` by `reference`, on the same architectures in the same order.

    A constant proxy, one without numbers, or too few architectures make figures that say so; nothing is raised for them.

    Args:
        reference: the true quality: one per architecture, or one per architecture and seed; nan where there is none.
        parameters, flops: of every architecture; more promises quality. None where they are not known.
        name, unit, direction: of the reference.
        ids, labels: of the architectures; chosen: how they were chosen; notes: for the reader.
        k: how many count as "the best"; default a quarter.
        draws, seed: of the bootstrap over architectures.

    Raises:
        SearchError: lengths differ, two proxies share a name, or a size is not above zero.
    """
    settings = settings_of(TrustSettings, "trust", options)
    ids, labels, direction = settings.ids, settings.labels, settings.direction
    values = _table(reference, "the reference", None)
    n = len(values)
    names = [p.name for p in proxies]
    if len(set(names)) < len(names):
        raise SearchError(f"trust(): two proxies have the same name among {', '.join(names)}; give each its own")
    columns = {p.name: _table(p.values, f"the proxy {p.name!r}", n) for p in proxies}
    sizes = _sizes(parameters, "parameters", n)
    work = _sizes(flops, "flops", n)
    sign = 1.0 if direction == "minimize" else -1.0
    there = np.isfinite(values).any(1)
    bench = _Bench(
        sign * values[there], None if sizes is None else sizes[there], settings.k, settings.draws, settings.seed
    )
    judged = tuple(bench.judge(p, columns[p.name][there]) for p in proxies)
    own_size = (
        None if sizes is None else bench.judge(Proxy("parameters", (), "maximize", 0.0), np.log(sizes[there])[:, None])
    )
    own_work = None if work is None else bench.judge(Proxy("flops", (), "maximize", 0.0), np.log(work[there])[:, None])
    ceiling = None
    if values.shape[1] > 1:
        ceiling = bench.judge(Proxy(CEILING, (), direction, 1.0, same_run=True), values[there])
    kept = [int(i) for i in np.flatnonzero(there)]
    rows = tuple(
        Row(
            str(ids[i]) if ids else "",
            str(labels[i]) if labels else f"#{i}",
            math.nan if sizes is None else float(sizes[i]),
            float(np.nanmean(values[i])),
            {name: _mean(column[i]) for name, column in columns.items()},
        )
        for i in kept
    )
    told = list(settings.notes)
    if len(kept) < n:
        told.append(f"{n - len(kept)} of {counted(n, 'architecture')} left out, without a reference value.")
    means = np.array([r.reference for r in rows])
    return TrustReport(
        settings.name, settings.unit, values.shape[1], _noise(values), float(means.std(ddof=1)) if len(means) > 1 else math.nan,
        judged, own_size, own_work, ceiling, rows, direction, settings.chosen, tuple(told),
    )  # fmt: skip


class _Bench:
    """The reference against which everything is judged: (n, seeds), smaller is better, with the sizes (n,)."""

    def __init__(self, reference: np.ndarray, sizes: np.ndarray | None, k: int | None, draws: int, seed: int) -> None:
        self.reference, self.sizes, self.k, self.draws, self.seed = reference, sizes, k, draws, seed

    def judge(self, proxy: Proxy, values: np.ndarray) -> Judged:
        sign = 1.0 if proxy.direction == "minimize" else -1.0
        values, note = sign * values, proxy.note
        if proxy.same_run and self.reference.shape[1] > 1 and values.shape[1] == self.reference.shape[1]:
            rows = np.isfinite(values).all(1) & np.isfinite(self.reference).all(1)
            views = [(values[rows, s], self._others(rows, s)) for s in range(values.shape[1])]
        else:
            if proxy.same_run:
                note = f"{note} read on the way of the only reference run: looks better than it is".strip()
            means = np.array([_mean(row) for row in values])
            rows = np.isfinite(means)
            views = [(means[rows], np.array([_mean(row) for row in self.reference[rows]]))]
        n = int(rows.sum())
        made = Judged(proxy.name, n, share=proxy.share, note=note, direction=proxy.direction)
        why = self._useless(views, n, len(rows))
        if why:
            return replace(made, useless=why)
        sizes = None if self.sizes is None else self.sizes[rows]
        both, gain = self._combined(views, sizes)
        k = count_places(n, self.k)
        return replace(
            made,
            tau=self._figure(tau, views, None),
            spearman=self._figure(rho, views, None),
            size_removed=self._figure(tau_size_removed, views, sizes),
            k=k,
            recall=recall(views, k),
            regret=regret(views),
            against_size=self._against(views, sizes),
            combined=both,
            combined_gain=gain,
            equal_size=self._figure(tau_within, views, sizes)
            if sizes is not None and pairs_within(sizes) >= FEWEST_PAIRS
            else UNKNOWN,
            pairs=0 if sizes is None else pairs_within(sizes),
            equal_against_size=self._against_equal(views, sizes),
        )

    def _others(self, rows: np.ndarray, seed: int) -> np.ndarray:
        mean: np.ndarray = np.delete(self.reference[rows], seed, axis=1).mean(1)
        return mean

    def _useless(self, views: Sequence[Pair], n: int, asked: int) -> str:
        if asked and not n:
            return f"it gave no number for any of the {counted(asked, 'architecture')}"
        if n >= FEWEST and all(np.ptp(p) == 0 for p, _ in views):
            return f"it gave the same value for all {counted(n, 'architecture')}"
        return ""

    def _figure(self, statistic: Statistic, views: Sequence[Pair], sizes: np.ndarray | None) -> Interval:
        return interval(statistic, views, sizes, self.draws, self.seed)

    def _combined(self, views: Sequence[Pair], sizes: np.ndarray | None) -> tuple[Interval, Interval]:
        if sizes is None or len(sizes) < FEWEST or np.ptp(sizes) == 0:
            return UNKNOWN, UNKNOWN
        made = [pair for pair in (together(view, sizes) for view in views) if pair is not None]
        if len(made) < len(views):
            return UNKNOWN, UNKNOWN
        return self._figure(tau, made, None), self._against(made, sizes)

    def _against_equal(self, views: Sequence[Pair], sizes: np.ndarray | None) -> Interval:
        if sizes is None or pairs_within(sizes) < FEWEST_PAIRS:
            return UNKNOWN
        by_size = [(-sizes, truth) for _, truth in views]
        return difference(views, by_size, self.draws, self.seed, tau_within, sizes)

    def _against(self, views: Sequence[Pair], sizes: np.ndarray | None) -> Interval:
        if sizes is None or len(sizes) < FEWEST or np.ptp(sizes) == 0:
            return Interval()
        by_size = [(-sizes, truth) for _, truth in views]
        return difference(views, by_size, self.draws, self.seed)


def kendall(prediction: Sequence[float], truth: Sequence[float], *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Kendall's tau-b of two sequences over the same architectures, with its interval."""
    return _of_two(tau, prediction, truth, None, draws, seed)


def spearman(prediction: Sequence[float], truth: Sequence[float], *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Spearman's rho of two sequences over the same architectures, with its interval."""
    return _of_two(rho, prediction, truth, None, draws, seed)


def kendall_size_removed(
    prediction: Sequence[float],
    truth: Sequence[float],
    parameters: Sequence[float],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Kendall's tau-b after regressing log(parameters) out of both, with its interval."""
    return _of_two(tau_size_removed, prediction, truth, parameters, draws, seed)


def _of_two(
    statistic: Statistic,
    prediction: Sequence[float],
    truth: Sequence[float],
    parameters: Sequence[float] | None,
    draws: int,
    seed: int,
) -> Interval:
    if len(prediction) != len(truth) or (parameters is not None and len(parameters) != len(truth)):
        sizes = "" if parameters is None else f" and {counted(len(parameters), 'size')}"
        raise SearchError(
            f"a rank correlation compares the same architectures, but got {counted(len(prediction), 'prediction')}, {counted(len(truth), 'true value')}"
            f"{sizes}: give one of each per architecture"
        )
    a, b = np.asarray(prediction, dtype=float), np.asarray(truth, dtype=float)
    size = None if parameters is None else _sizes(parameters, "parameters", len(a))
    rows = np.isfinite(a) & np.isfinite(b)
    pairs = [(a[rows], b[rows])]
    size = None if size is None else size[rows]
    return interval(statistic, pairs, size, draws, seed)


def _table(values: object, what: str, n: int | None) -> np.ndarray:
    """(architectures, seeds); a plain sequence is one seed."""
    try:
        made = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise SearchError(f"trust(): {what} is not numbers, one per architecture (and seed): {error}") from error
    made = made[:, None] if made.ndim == 1 else made
    if made.ndim != 2 or (n is not None and len(made) != n):
        asked = "" if n is None else f" of {counted(n, 'row')}, as the reference has"
        raise SearchError(
            f"trust(): {what} has the shape {made.shape}; give one value per architecture (and seed){asked}"
        )
    return made if made.shape[1] else np.full((len(made), 1), math.nan)


def _sizes(values: Sequence[float] | None, what: str, n: int) -> np.ndarray | None:
    if values is None:
        return None
    made = np.asarray(values, dtype=float)
    if made.shape != (n,) or not (np.isfinite(made) & (made > 0)).all():
        raise SearchError(
            f"trust({what}=...): give one number above 0 for each of the {counted(n, 'architecture')}, or None; got {made.tolist()}"
        )
    return made


def _noise(values: np.ndarray) -> float:
    """Standard deviation between the seeds of one architecture, pooled over those with two or more."""
    squares, degrees = 0.0, 0
    for row in values:
        seen = row[np.isfinite(row)]
        if len(seen) > 1:
            squares += float(((seen - seen.mean()) ** 2).sum())
            degrees += len(seen) - 1
    return math.sqrt(squares / degrees) if degrees else math.nan


def _mean(row: np.ndarray) -> float:
    seen = row[np.isfinite(row)]
    return float(seen.mean()) if len(seen) else math.nan


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _numbers(data: Mapping[str, object], *names: str) -> dict[str, float]:
    return {name: _number(data[name]) for name in names}


def _judged(data: Mapping[str, Any]) -> Judged:
    figures: tuple[str, ...] = ("tau", "spearman", "size_removed", "against_size", "combined", "combined_gain")
    figures += tuple(
        name for name in ("equal_size", "equal_against_size") if name in data
    )  # not there in reports of version 0.1
    intervals = {f: Interval(**_numbers(data[f], "value", "low", "high")) for f in figures}
    return Judged(**{**data, **_numbers(data, "recall", "regret", "share"), **intervals})


__all__ = [
    "CEILING", "DRAWS", "Interval", "Judged", "Proxy", "Row", "TrustReport", "kendall", "kendall_size_removed",
    "residual", "spearman", "trust",
]  # fmt: skip
