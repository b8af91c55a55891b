"""A bench: models measured in turn with anchors on this machine, so that the next run gives the same.

A round visits the candidate and its two anchors in random order, within milliseconds of each other. The candidate's
logarithm less the anchors' is free of what the machine did meanwhile; the median over rounds, times what the anchors take
(`anchors`), is the time. What the interval covers is what the next measurement will give, in another process and on a
busier or quieter day: in addition to the spread of the rounds it has a part that no number of rounds removes.
"""

from __future__ import annotations

import logging
import math
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from nas_bo import measurement_lock
from nas_bo.architecture import Architecture
from nas_bo.hardware.latency.roofline import GPU, Roofline
from nas_bo.hardware.measuring import anchors as ladder
from nas_bo.hardware.measuring import machine
from nas_bo.hardware.measuring.clock import BUSY, Clock, busy, clock_for, visited
from nas_bo.hardware.measuring.scale import FASTER, UNDISTURBED, Speeds
from nas_bo.hardware.runtimes.eager import Eager
from nas_bo.hardware.runtimes.interface import Prepared, Runtime
from nas_bo.hardware.workload import Setting
from nas_bo.model.counts import Arch
from nas_bo.model.device import named

_log = logging.getLogger(__name__)

LEAST = 8  # rounds
MOST = 400
BETWEEN = (
    0.018  # standard deviation, relative, between two sessions that no number of rounds removes; see docs/decisions.md
)
CORRELATED = 1.15  # by which neighbouring rounds are alike: their median is less sure than of as many independent ones
Z90 = 1.645
CALIBRATE_S = 3.0  # spent on anchors whose times are not known
MOVED = 0.12  # by which the ratio of two anchors may change before all are measured again
CLEAR = 3.0  # standard errors that such a change must have beyond that
SLOWER = 1.3  # and all of them together, on a machine where nobody else is at work,
SLOW_FOR = 3600.0  # seconds: a slow minute is no slower machine
WAITED = 3.0  # times as long it may take on the wall as it was given, on a busy machine
_ONE = threading.RLock()  # threads of one process measure one after the other: they share the anchors
HELD = 2e8  # bytes of anchors that are kept ready
_now = time.perf_counter
_time_of_day = time.time


@dataclass(frozen=True)
class Timing:
    """The time of one model at the machine's undisturbed speed.

    Attributes:
        ms: per prefill, or per decoded token.
        sd: relative standard deviation of what another session gives from the truth.
        spread: interquartile range of the rounds, relative.
        settled: the spread of the rounds fell below what was asked before the cap on time.
        rounds, repeats: how often it was visited, and run.
        slower: how many times its undisturbed time the machine needed meanwhile; it is divided out.
        wall_ratio: wall time over CPU time.
        clock, device: what it was measured with and on.
        scale: what the anchors were taken to need: the scale on which `ms` is given (`scale`).
    """

    ms: float
    sd: float
    spread: float
    settled: bool
    rounds: int
    repeats: int
    slower: float
    wall_ratio: float
    clock: str
    device: str
    scale: Mapping[int, float] = field(default_factory=dict)

    @property
    def interval(self) -> tuple[float, float]:
        """Holds what the next session gives with a probability of 90 %."""
        return next_session(self.ms, self.sd)


def next_session(ms: float, sd: float) -> tuple[float, float]:
    """The 90 % interval of another measurement that is as unsure."""
    reach = math.exp(Z90 * math.sqrt(2) * sd)
    return ms / reach, ms * reach


class Bench:
    """Measures on one torch device in one setting. See `bench`, which keeps one per process.

    Attributes:
        known: rung of the ladder of anchors -> milliseconds at the undisturbed speed.
        guide: the roofline that says, before anything is measured, which anchors are near.
        facts: of machine, versions and setting, under which times are kept.
    """

    def __init__(self, device: str, setting: Setting) -> None:
        self.device, self.setting = device, replace(setting, ignore=())  # anchors have no fields to ignore
        self._ignore = setting.ignore
        self._runtime = Eager(device)
        self._clock = clock_for("cpu", device)
        self.guide = GPU if device.startswith("cuda") else Roofline()
        self.facts = {**machine.machine_facts(device), "setting": asdict(self.setting)}
        self._ready: dict[int, Prepared] = {}
        self._rng = random.Random(0)
        self.mark = machine.digest(self.facts)
        self._seen = 0  # when the kept file was last changed
        self._speeds = Speeds()
        self._slow_since = 0.0  # time of day, while every look finds the machine slower than it was
        self.known: dict[int, float] = {}
        self.refresh()

    # ---- anchors --------------------------------------------------------------------------------------------------

    def anchors(self, ms: float, seconds: float = CALIBRATE_S) -> dict[int, float]:
        """Rungs near a model of so many milliseconds, and what they take; measured for `seconds` where not known."""
        rungs = self._near(ms)
        if not set(rungs) <= set(self.known):
            with measurement_lock.machine(_waiting):
                self.refresh()  # by another process meanwhile
                if not set(rungs) <= set(self.known):
                    self._calibrate([*rungs, *(k for k in list(self.known)[:1] if k not in rungs)], seconds)
        return {rung: self.known[rung] for rung in rungs}

    def check(self, low_ms: float, high_ms: float, seconds: float = 1.5) -> bool:
        """Whether the kept times of the anchors for models in this range still hold; where they do not, or are not there,
        they are measured again, for three times as long."""
        self.refresh()
        rungs = sorted({*self._near(low_ms), *self._near(high_ms)})
        fresh = [rung for rung in rungs if rung not in self.known]
        with _ONE, measurement_lock.machine(_waiting):
            if not fresh:
                slow_since = self._slow_since
                said = self._moved(rungs, seconds)
                if said is None:
                    if not self._lower() and self._slow_since != slow_since:
                        self._keep()
                    return True
                _log.warning(
                    "this machine is not what it was when its reference times were kept (%s): they are measured again, and latencies "
                    "are from now on measured by the new ones",
                    said,
                )
                self.known, self._speeds, self._slow_since = {}, Speeds(), 0.0
            self._calibrate([*rungs, *(k for k in list(self.known)[:1] if k not in rungs)], 3 * seconds)
        return False

    def kept_anchors(self) -> dict[Architecture, float]:
        """The anchors whose times are known."""
        return {ladder.anchor(rung): ms for rung, ms in sorted(self.known.items())}

    def like(self, arch: Arch) -> int:
        """The rung of the anchor that is nearest to an architecture, by the guide."""
        s = self.setting
        ms = self.guide.milliseconds(arch, s.vocab_size, s.phase, s.context, s.batch, self._ignore)
        return self._near(*self.scaled(ms))[-1]

    def scaled(self, *modelled: float) -> list[float]:
        """Milliseconds of the guide on the scale of this machine, as far as that is known."""
        return [ms * self._scale() for ms in modelled]

    def _near(self, ms: float) -> list[int]:
        """The two largest rungs that take no more than three times as long (of slow models: no longer)."""
        most = 3 * ms if ms < 20 else ms
        found = [rung for rung in range(len(ladder.LADDER)) if self._guess(rung) <= max(1.0, most)]
        return found[-2:] or [0]

    def _guess(self, rung: int) -> float:
        if rung in self.known:
            return self.known[rung]
        return self._scale() * self._modelled(rung)

    def _scale(self) -> float:
        return statistics.median(ms / self._modelled(k) for k, ms in self.known.items()) if self.known else 1.0

    @lru_cache  # noqa: B019  benches live as long as the process
    def _modelled(self, rung: int) -> float:
        s = self.setting
        return self.guide.milliseconds(ladder.anchor(rung), s.vocab_size, s.phase, s.context, s.batch)

    def _moved(self, rungs: Sequence[int], seconds: float) -> str | None:
        """In which way the anchors no longer take what is kept of them; None where they do. A first look that says so is made
        sure by a second one, of twice the time, since other work on the machine may have spoilt it. A machine that is only
        slower has to be so for an hour: there are slow minutes."""
        visits = self._rounds(rungs, seconds)
        changed, common = self._differs(rungs, visits)
        slow = common > math.log(SLOWER)
        if changed or slow or common < -FASTER:
            if common >= -FASTER and busy() > BUSY:  # during other work even ratios move, but nothing is faster
                return None
            changed, common = self._differs(rungs, np.hstack([visits, self._rounds(rungs, 2 * seconds)]))
            slow = common > math.log(SLOWER)
        now = _time_of_day()
        self._slow_since = (self._slow_since or now) if slow else 0.0
        if changed or not slow:
            return changed
        said = f"this machine now takes {math.exp(common):.2f} times as long"
        if now - self._slow_since >= SLOW_FOR:
            return f"{said}, and has done so for {(now - self._slow_since) / 3600:.1f} hours"
        _log.warning("%s as it did; latencies are reported at its undisturbed speed, as long as this may pass", said)
        return None

    def _differs(self, rungs: Sequence[int], visits: np.ndarray) -> tuple[str | None, float]:
        """How the ratios of the anchors differ from what is kept, if they do, and the logarithm of what is common to them."""
        level, shift = ladder.levels(visits)
        apart = level - np.log([self.known[rung] for rung in rungs])
        rest = np.log(visits) - level[:, None] - shift
        error = 1.2533 * 1.4826 * np.median(np.abs(rest), axis=1) / math.sqrt(visits.shape[1])
        common = float(np.median(apart) + np.quantile(shift, UNDISTURBED))
        spread = float(np.ptp(apart))
        if len(rungs) > 1 and spread > math.log1p(MOVED) + CLEAR * float(np.hypot(*np.sort(error)[-2:])):
            return f"the ratio of two anchors changed by {math.expm1(spread):.0%}", common
        return None, common

    def _calibrate(self, rungs: Sequence[int], seconds: float) -> None:
        visits = self._rounds(rungs, seconds)
        found = ladder.references(visits, [self.known.get(rung) for rung in rungs])
        self.known |= {rung: float(ms) for rung, ms in zip(rungs, found, strict=True)}
        self._keep()

    def _keep(self) -> None:
        self.known = {rung: float(f"{ms:.5g}") for rung, ms in sorted(self.known.items())}
        kept = {str(rung): ms for rung, ms in self.known.items()}
        path, slow = self._file, {"slow_since": self._slow_since} if self._slow_since else {}
        machine.write(path, {**self.facts, "anchors": kept, **slow})
        with suppress(OSError):
            self._seen = path.stat().st_mtime_ns

    def _lower(self) -> bool:
        """Where rounds were repeatedly faster than the anchors are taken to be, take these to be as fast from now on: they were
        timed in a slow moment."""
        self.refresh()
        faster = self._speeds.faster()
        if not faster:
            return False
        _log.info("this machine is %.2f times as fast as its reference times say; they are lowered", math.exp(-faster))
        self.known = {rung: ms * math.exp(faster) for rung, ms in self.known.items()}
        self._speeds, self._slow_since = Speeds(), 0.0
        self._keep()
        return True

    def _rounds(self, rungs: Sequence[int], seconds: float) -> np.ndarray:
        """(rungs, rounds) milliseconds."""
        until = _now() + seconds
        rows: list[list[float]] = []
        known = [(at, self.known[rung]) for at, rung in enumerate(rungs) if rung in self.known]
        with self._runtime.running(), measurement_lock.alone(), pinned():
            ready = [(rung, self._prepared(rung)) for rung in rungs]
            while len(rows) < LEAST or (_now() < until and len(rows) < 100 * MOST):
                order = self._rng.sample(ready, len(ready))
                got = {rung: _visit(one, self._clock)[0] for rung, one in order}
                rows.append([got[rung] for rung in rungs])
                if known:
                    self._speeds.add(_now(), statistics.fmean(math.log(rows[-1][at] / ms) for at, ms in known))
        return np.array(rows).T

    def _prepared(self, rung: int) -> Prepared:
        if rung not in self._ready:
            self._ready[rung] = self._runtime.prepare(ladder.anchor(rung), self.setting)
        return self._ready[rung]

    def _let_go(self) -> None:
        for rung in sorted(self._ready, reverse=True):
            if sum(one.held_bytes for one in self._ready.values()) > HELD:
                del self._ready[rung]

    @property
    def _file(self) -> Path:
        return machine.path_of("anchors", self.facts)

    def refresh(self) -> None:
        """What other processes found out of this machine meanwhile counts here from now on."""
        path = self._file
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            return
        if changed == self._seen:
            return
        kept, self._seen = machine.read(path), changed
        rows, since = kept.get("anchors"), kept.get("slow_since")
        self._slow_since = float(since) if isinstance(since, (int, float)) else 0.0
        found: dict[int, float] = {}
        for rung, ms in rows.items() if isinstance(rows, dict) else ():
            with suppress(TypeError, ValueError):
                if 0 < float(ms) < math.inf and 0 <= int(rung) < len(ladder.LADDER):
                    found[int(rung)] = float(ms)
        if found and found != self.known:
            self.known, self._speeds = found, Speeds()

    # ---- models ---------------------------------------------------------------------------------------------------

    def measure(
        self,
        models: Sequence[Prepared],
        runtime: Runtime | None = None,
        precision: float = 0.02,
        max_seconds: float = 0.5,
        progress: Callable[[int, int], None] = lambda settled, of: None,
    ) -> list[Timing]:
        """Time prepared models, all in turn. While they are timed no worker of the same search trains (`model.quiet`).

        Args:
            runtime: what they were prepared by; eager torch by default.
            precision: a model is settled when twice the standard error over its rounds is at most this share.
            max_seconds: for each model; after at least 8 rounds it ends then in any case.
            progress: called once a round with how many are settled.
        """
        with _ONE:
            return self._measure(models, runtime, precision, max_seconds, progress)

    def _measure(
        self,
        models: Sequence[Prepared],
        runtime: Runtime | None,
        precision: float,
        max_seconds: float,
        progress: Callable[[int, int], None],
    ) -> list[Timing]:
        runs = runtime or self._runtime
        self.refresh()
        clock = self._clock if runtime is None else clock_for("cpu", str(runs.device), runs.inside)
        with runs.running(), measurement_lock.alone(), pinned():
            guesses = [min(_visit(model, clock)[0] for _ in range(2)) for model in models]
        near = [self.anchors(ms, min(CALIBRATE_S, 6 * max_seconds)) for ms in guesses]
        scale = dict(self.known)
        items = [_Item(m, {r: scale[r] for r in k}, ms) for m, k, ms in zip(models, near, guesses, strict=True)]
        with runs.running(), self._runtime.running(), measurement_lock.alone(), pinned():
            for number in range(1, MOST + 1):
                going = [item for item in items if item.open]
                if not going:
                    break
                for item in self._rng.sample(going, len(going)):
                    self._round(item, clock)
                    if number >= LEAST:
                        item.open = item.error() > precision / 2 and not item.over(max_seconds)
                progress(sum(not item.open for item in items), len(items))
        self._let_go()
        self._lower()
        return [replace(item.timing(clock.said, named(self.device), precision), scale=scale) for item in items]

    def _round(self, item: _Item, clock: Clock) -> None:
        wall, processor = _now(), time.thread_time()
        order: list[int] = [-1, *item.anchors]
        self._rng.shuffle(order)
        shift, own, ratio = [], 0.0, 1.0
        for rung in order:
            if rung < 0:
                own, ratio = _visit(item.prepared, clock, item.guess)
            else:
                ms = _visit(self._prepared(rung), self._clock, item.anchors[rung])[0]
                shift.append(math.log(ms / item.anchors[rung]))
        slower = statistics.fmean(shift)
        item.rows.append((math.log(own) - slower, slower, ratio))
        self._speeds.add(_now(), slower)
        item.wall += _now() - wall
        item.processor += time.thread_time() - processor


@dataclass
class _Item:
    prepared: Prepared
    anchors: dict[int, float]
    guess: float
    wall: float = 0.0  # seconds
    processor: float = 0.0
    open: bool = True

    def __post_init__(self) -> None:
        self.rows: list[tuple[float, float, float]] = []  # logarithm at undisturbed speed, of the machine's, wall ratio

    def over(self, seconds: float) -> bool:
        """Whether it has had its time: of the processor, where others keep it waiting, but not forever."""
        return max(self.processor, self.wall / WAITED) > seconds

    def error(self) -> float:
        """Standard error of the median, from the median absolute deviation."""
        own = [row[0] for row in self.rows]
        middle = statistics.median(own)
        spread = 1.4826 * statistics.median(abs(one - middle) for one in own)
        return CORRELATED * 1.2533 * spread / math.sqrt(len(own))

    def timing(self, clock: str, device: str, precision: float) -> Timing:
        own, slower, ratio = zip(*self.rows, strict=True)
        error, quartiles = self.error(), statistics.quantiles(own, n=4)
        return Timing(
            ms=math.exp(statistics.median(own)),
            sd=math.hypot(error, BETWEEN),
            spread=quartiles[2] - quartiles[0],
            settled=error <= precision,
            rounds=len(own),
            repeats=len(own) * _repeats(self.guess)[1],
            slower=math.exp(statistics.median(slower)),
            wall_ratio=statistics.median(ratio),
            clock=clock,
            device=device,
        )


@lru_cache(maxsize=16)
def bench(device: str, setting: Setting) -> Bench:
    """The bench of a torch device in a setting; one per process."""
    return Bench(device, setting)


def _repeats(ms: float) -> tuple[int, int]:
    """Runs that do not count, and that do, of a visit of a model that takes about so long."""
    return int(ms < 50), 3 if ms < 10 else 1


def _visit(prepared: Prepared, clock: Clock, about: float = 0.0) -> tuple[float, float]:
    """Milliseconds and wall over CPU time: medians."""
    ms, ratio = visited(prepared, clock, *_repeats(about * prepared.steps))
    return max(ms, 1e-6), ratio


def _waiting() -> None:
    _log.warning("something else is measured on this machine; waiting for it to end")


@contextmanager
def pinned() -> Iterator[None]:
    """This thread stays on the core that it is on, where the system knows such a thing."""
    before: set[int] | None = None
    with suppress(OSError, AttributeError, ValueError, IndexError):
        allowed = os.sched_getaffinity(0)
        with open("/proc/thread-self/stat", encoding="ascii") as file:
            core = int(file.read().rpartition(")")[2].split()[36])
        if core in allowed and len(allowed) > 1:
            os.sched_setaffinity(0, {core})
            before = allowed
    try:
        yield
    finally:
        if before is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, before)
