"""Many architectures measured together: round after round in random order, until each is known well enough.

One round visits every model that is not settled: one run that does not count, then a few that do. What two models were
measured in differs by the luck of the draw only, and what is common to a round (another clock rate, a busy neighbour)
is found and divided out (`drift`). The unit of evidence is the visit, since the repeats within one are not independent.
"""

from __future__ import annotations

import hashlib
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nas_bo import measurement_lock
from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError, Unsupported
from nas_bo.hardware.measuring.clock import Asked, Clock, clock_for, visited
from nas_bo.hardware.measuring.drift import Drift, drift_of
from nas_bo.hardware.measuring.measure import check_idle, interval
from nas_bo.hardware.measuring.measurement import Measurement
from nas_bo.hardware.runtimes.interface import Prepared, Runtime, held_together
from nas_bo.hardware.workload import Setting
from nas_bo.model.counts import Arch
from nas_bo.model.device import named
from nas_bo.validated import check_fields, checked, number, whole_number

LEAST = 6  # visits: the fewest whose smallest and largest enclose a median with 95 %
KEPT_EVERY = 1.0  # seconds


class Visit(NamedTuple):
    """One visit of one model: medians of its repeats. `ratio` is wall time over CPU time."""

    key: str
    round: int
    ms: float
    ratio: float


def said(setting: Setting) -> str:
    """A setting in a few words, such as ``decode 1x128 float32``."""
    return f"{setting.phase} {setting.batch}x{setting.context} {setting.dtype}"


def name_of(arch: Arch) -> str:
    """The id of an architecture; a digest for what has none."""
    return arch.id if isinstance(arch, Architecture) else hashlib.sha256(repr(arch).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Wanted:
    """One architecture in one setting. `key` is how visits and results call it."""

    arch: Arch
    setting: Setting

    @property
    def key(self) -> str:
        return f"{name_of(self.arch)} {said(self.setting)} {self.setting.vocab_size}"


@dataclass(frozen=True)
class Outcome:
    """What a session found out.

    Attributes:
        measured: by key of `Wanted`.
        unsupported: by key, why the runtime cannot run it.
        drift: what was divided out.
        seconds: it took.
    """

    measured: Mapping[str, Measurement]
    unsupported: Mapping[str, str]
    drift: Drift
    seconds: float


@dataclass
class _Item:
    wanted: Wanted
    prepared: Prepared
    spent: float = 0.0  # seconds of its visits
    open: bool = True


@dataclass
class Session:
    """Measures with one runtime.

    Args:
        runtime: one of `nas_bo.hardware.runtimes`.
        anchors: architectures that are measured in every round whether settled or not; they tie together what does not
            fit into memory at once, and sessions.
        clock: "auto", "cpu" or "wall"; CUDA has its own.
        precision: half width of the 95 % interval of the median at which a model is settled, as a share of the median.
        max_visits, max_seconds: per model; one that reaches either is reported with the interval it has.
        repeats: that count, per visit.
        hold_bytes: memory for the weights of models that are measured together.
        seed: of the order.
    """

    runtime: Runtime
    anchors: Sequence[Arch] = ()
    clock: Asked = "auto"
    precision: float = checked(0.02, number(above=0))
    max_visits: int = checked(60, whole_number(LEAST))
    max_seconds: float = checked(2.0, number(above=0))
    repeats: int = checked(3, whole_number(1))
    hold_bytes: float = checked(2e9, number(above=0))
    seed: int = 0
    before: Iterable[Visit] = ()
    sessions: Sequence[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)
        self._visits: dict[str, list[Visit]] = {}
        self._rounds: list[int] = list(self.sessions)
        self._session = max(self._rounds, default=-1) + 1
        for visit in self.before:
            self._visits.setdefault(visit.key, []).append(visit)

    def measure(
        self,
        wanted: Sequence[Wanted],
        keep: Callable[[int, Sequence[Visit]], None] = lambda session, visits: None,
        progress: Callable[[int, int], None] = lambda settled, of: None,
        waiting: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Measure all of `wanted`, continuing from `before` (visits of a session that was interrupted).

        Args:
            keep: called with the number of this session and new visits, at least once a round.
            progress: called once a round with how many are settled, and of how many.
            waiting: called before it waits for another session on this machine: there is one at a time.

        Raises:
            ObjectiveError: the clock is too coarse for these models, or the device is absent or busy.
            ModelError: an architecture cannot be built.
        """
        start = time.perf_counter()
        runtime = self.runtime
        device = str(runtime.device)
        unsupported: dict[str, str] = {}
        todo = [w for w in wanted if not self._settled(w.key)]
        done = len(wanted) - len(todo)
        settings = list(dict.fromkeys(w.setting for w in todo))
        rng = random.Random(f"{self.seed} {self._session}")
        with measurement_lock.machine(waiting), runtime.running():
            with measurement_lock.alone():
                check_idle(device)
                clock = clock_for(self.clock, device, runtime.inside, runtime.threads)
            anchors = self._prepare([Wanted(a, s) for a in self.anchors for s in settings], unsupported) if todo else []
            named_anchors = {item.wanted.key for item in anchors}
            for block in self._blocks([w for w in todo if w.key not in named_anchors], anchors):
                items = [*anchors, *self._prepare(block, unsupported)]
                while any(item.open for item in items):
                    self._round(items, clock, rng, keep)
                    for item in items:
                        item.open = item.open and not self._ended(item)
                    # anchors continue as long as anything does
                    closed = sum(not item.open for item in items if item not in anchors)
                    progress(done + closed, len(wanted))
                done += len(items) - len(anchors)
            if todo:
                progress(len(wanted), len(wanted))
        drift = self.drift()
        measured = {w.key: self._result(w.key, clock, drift) for w in wanted if w.key in self._visits}
        return Outcome(measured, unsupported, drift, time.perf_counter() - start)

    def drift(self) -> Drift:
        return drift_of({key: [(v.round, v.ms) for v in found] for key, found in self._visits.items()}, self._rounds)

    # ---- rounds ---------------------------------------------------------------------------------------------------

    def _round(
        self, items: list[_Item], clock: Clock, rng: random.Random, keep: Callable[[int, Sequence[Visit]], None]
    ) -> None:
        anchored = {name_of(a) for a in self.anchors}
        going = [item for item in items if item.open or name_of(item.wanted.arch) in anchored]
        rng.shuffle(going)
        number = len(self._rounds)
        self._rounds.append(self._session)
        fresh: list[Visit] = []
        last = time.perf_counter()
        for item in going:
            begun = time.perf_counter()
            with measurement_lock.alone():
                fresh.append(self._visit(item, number, clock))
            item.spent += time.perf_counter() - begun
            if time.perf_counter() - last > KEPT_EVERY:
                keep(self._session, fresh)
                fresh, last = [], time.perf_counter()
        if fresh:
            keep(self._session, fresh)

    def _visit(self, item: _Item, number: int, clock: Clock) -> Visit:
        ms, ratio = visited(item.prepared, clock, 1, self.repeats)
        if not ms > 0:
            raise ObjectiveError(
                f"the clock ({clock.said}) is too coarse: {item.wanted.setting.phase} took no time on it; measure a larger "
                "batch or context, or with clock='wall'"
            )
        visit = Visit(item.wanted.key, number, ms, ratio)
        self._visits.setdefault(visit.key, []).append(visit)
        return visit

    def _ended(self, item: _Item) -> bool:
        visits = self._visits[item.wanted.key]
        if len(visits) < LEAST:
            return False
        return len(visits) >= self.max_visits or item.spent > self.max_seconds or self._settled(item.wanted.key)

    def _settled(self, key: str) -> bool:
        visits = self._visits.get(key, [])
        if len(visits) < LEAST:
            return False
        times = [v.ms for v in visits]
        low, high = interval(times)
        return (high - low) / 2 <= self.precision * statistics.median(times)

    def _result(self, key: str, clock: Clock, drift: Drift) -> Measurement:
        visits = self._visits[key]
        times = [v.ms / drift.factors[v.round] for v in visits]
        low, high = interval(times) if len(times) >= LEAST else (0.0, math.inf)
        median = statistics.median(times)
        quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [median] * 3
        return Measurement(
            median_ms=median,
            low_ms=low,
            high_ms=high,
            spread=(quartiles[2] - quartiles[0]) / median,
            repeats=len(times) * self.repeats,
            settled=(high - low) / 2 <= self.precision * median,
            wall_ratio=statistics.median(v.ratio for v in visits),
            clock=clock.said,
            device=named(str(self.runtime.device)),
        )

    # ---- what is in memory ----------------------------------------------------------------------------------------

    def _prepare(self, wanted: Sequence[Wanted], unsupported: dict[str, str]) -> list[_Item]:
        items = []
        for one in wanted:
            try:
                items.append(_Item(one, self.runtime.prepare(one.arch, one.setting)))
            except Unsupported as error:
                unsupported[one.key] = str(error)
        return items

    def _blocks(self, wanted: Sequence[Wanted], anchors: Sequence[_Item]) -> Iterable[list[Wanted]]:
        """`wanted` in the order given, cut where the weights no longer fit."""
        room = self.hold_bytes - sum(item.prepared.held_bytes for item in anchors)
        blocks = held_together(self.runtime, [(one.arch, one.setting) for one in wanted], room)
        return [[wanted[at] for at in block] for block in blocks] or [[]]
