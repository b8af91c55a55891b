"""profile(): measure a device once, so that latencies on it can be predicted anywhere. Needs nothing but the package's core."""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError, ProfileError
from nas_bo.execution import preflight
from nas_bo.execution.executor import Executor
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.lookup import Lookup
from nas_bo.hardware.latency.profile import Profile, space_mark
from nas_bo.hardware.latency.profile_design import informative, pool
from nas_bo.hardware.latency.profile_file import Record
from nas_bo.hardware.latency.quality import cross_validated
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.measuring.clock import Asked as AskedClock
from nas_bo.hardware.measuring.session import Outcome, Session, Visit, Wanted
from nas_bo.hardware.runtimes import Runtime, runtime
from nas_bo.hardware.workload import Setting
from nas_bo.seeds import Seed, whole_seed
from nas_bo.settings import settings_of, takes
from nas_bo.space import Space
from nas_bo.space.space import is_space
from nas_bo.validated import check_fields, checked, whole_number
from nas_bo.wording import counted
from nas_bo.workflows.evaluation_store import Lines
from nas_bo.workflows.profile_place import Asked, Hears, Place, place_of

ANCHORS = 3
LEAST = 5  # architectures: the models need three, and something to be judged by
TABLED = 200  # architectures of the space whose parts a lookup table is made for


@dataclass(frozen=True)
class Progress:
    """Where a profile is: what it does, how many measurements are settled, of how many, seconds so far."""

    phase: str
    done: int
    total: int
    seconds: float


class ProfileOptions(TypedDict, total=False):
    """What `profile` takes by name, see there."""

    runtime_name: str | Runtime
    device: str | None
    threads: int
    architectures: int
    lookup: bool
    clock: AskedClock
    precision: float
    max_seconds: float
    name: str | None
    seed: Seed
    anchors: Mapping[Architecture, float] | None
    executor: Executor | None
    on: str | None
    on_progress: Callable[[Progress], None]


@dataclass(frozen=True)
class ProfileSettings:
    """How `profile` was asked to measure, checked; its fields are described there. The seed is a whole number.

    Raises:
        ProfileError: a value that is not what it must be.
    """

    runtime_name: str | Runtime = "eager"
    device: str | None = None
    threads: int = 1
    architectures: int = checked(30, whole_number(LEAST).advise("the default is 30"))
    lookup: bool = False
    clock: AskedClock = "auto"
    precision: float = 0.02
    max_seconds: float = 2.0
    name: str | None = None
    seed: int = 0
    anchors: Mapping[Architecture, float] | None = None
    executor: Executor | None = None
    on: str | None = None
    on_progress: Callable[[Progress], None] = lambda progress: None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", whole_seed(self.seed, "profile", ProfileError))
        check_fields(self, ProfileError, "profile")

    def runtime(self) -> Runtime:
        """Raises MissingExtra, ObjectiveError."""
        if isinstance(self.runtime_name, str):
            return runtime(self.runtime_name, self.device, self.threads)
        return self.runtime_name

    def session(
        self,
        runs: Runtime,
        anchors: Sequence[Architecture] = (),
        before: Sequence[Visit] = (),
        sessions: Sequence[int] = (),
    ) -> Session:
        """A session of these settings that continues after the visits `before`."""
        return Session(
            runs, anchors, self.clock, self.precision,
            max_seconds=self.max_seconds, seed=self.seed, before=before, sessions=sessions,
        )  # fmt: skip


@takes(ProfileSettings)
def profile(
    space: type[Space],
    out: str | Path,
    settings: Sequence[Setting] = (Setting(), Setting("decode")),
    **options: Unpack[ProfileOptions],
) -> Profile:
    """Measure the most informative architectures of a space here, fit and judge latency models, and write the file.

    Every visit of a model is kept next to `out` (``.part``) within a second; the same call continues from there after a
    kill, and the file goes away in the end.

    Args:
        space: whose architectures are measured.
        out: the file.
        settings: what is run; all are measured in one session.
        runtime_name: one of `nas_bo.hardware.runtimes.NAMES`, or a runtime of your own.
        device: a torch device; None is the best there is for the runtime.
        threads: of a CPU.
        architectures: how many.
        lookup: measure all single parts as well, for lookup models; takes as long again or longer.
        clock, precision, max_seconds: as in `Session`; `max_seconds` is for one architecture in one setting.
        name: of the device in names of objectives; by default made from what the device calls itself.
        seed: of the choice and the order.
        anchors: architectures that are measured in every round and what they take in the first setting, in milliseconds: the
            profile is then on their scale. By default three of the space, on the scale of this session.
        executor, on: measure another machine: a `nas_bo.execution.Ray`, which is closed in the end, and a resource that the node was
            started with. The file, and what is kept of an interrupted profile, are here.

    Raises:
        ProfileError: too few architectures, the file cannot be written, or the kept part is of another profile.
        MissingExtra, ObjectiveError: the runtime is not installed, the device absent or busy, no such clock.
        SearchError: the kept part cannot be written, or the node cannot be reached or used.
    """
    begun = time.perf_counter()
    how = settings_of(ProfileSettings, "profile", options)
    if not is_space(space):
        raise ProfileError(f"profile({space!r:.60}): it must be a search space, such as TinyGPT")
    if not settings:
        raise ProfileError("profile(settings=()): give at least one Setting")
    preflight.check_space(space, "profile", settings[0].ignore)
    path = Path(out)
    if path.is_dir():
        raise ProfileError(f"{str(path)!r} is a folder; give the name of a file, such as device.json")
    if path.exists() and path.stat().st_size:
        try:
            Profile.load(path)
        except ProfileError as error:
            raise ProfileError(
                f"the file {str(path)!r} holds no profile and is not overwritten; give another name, or remove it"
            ) from error
    with place_of(how, space, settings[0]) as place:
        return _profiled(space, path, settings, how, place, begun)


def _profiled(
    space: type[Space], path: Path, settings: Sequence[Setting], how: ProfileSettings, place: Place, begun: float
) -> Profile:
    runs = place.runs()  # says what is wrong, before a file is made
    part = path.with_name(path.name + ".part")
    kept = Lines(part)
    asked = {
        "space": space_mark(space),
        "runtime": runs.name,
        "conditions": runs.conditions,
        "settings": [asdict(s) for s in settings],
        "architectures": how.architectures,
        "device": runs.device,
        "clock": how.clock,
        "seed": how.seed,
    }
    _same(kept.get("asked"), asked, part)
    kept.put("asked", asked)
    with _worth_keeping(kept, part):
        measured_on = _device(how, kept, place, runs.device, len(settings))
        base = measured_on if all(s.dtype in measured_on.gflops for s in settings) else Roofline()
        rooflines = base if isinstance(base, Roofline) else Roofline.of(base, settings[0].dtype)
        archs = informative(pool(space, seed=how.seed), how.architectures, settings, rooflines)
        wanted = [Wanted(arch, setting) for setting in settings for arch in archs]

        def measure(what: str, todo: Sequence[Wanted], anchors: Sequence[Architecture]) -> Outcome:
            visits, sessions, count = _read(kept, what)

            def keep(session: int, fresh: Sequence[Visit]) -> None:
                nonlocal count
                kept.put(f"{what} {count}", {"session": session, "visits": [list(v) for v in fresh]})
                count += 1

            def say(done: int, of: int) -> None:
                how.on_progress(Progress(what, done, of, time.perf_counter() - begun))

            hears = Hears(keep, say, lambda: how.on_progress(Progress("waiting", 0, len(todo), 0.0)))
            return place.measure(Asked(todo, anchors, visits, sessions), hears)

        tied = list(how.anchors) if how.anchors else _anchors(archs, settings[0], rooflines)
        known = [(Wanted(arch, settings[0]), ms) for arch, ms in (how.anchors or {}).items()]
        outcome = measure("architectures", [*wanted, *(one for one, _ in known)], tied)
        factor = _factor(outcome, known)
        number = {setting: at for at, setting in enumerate(settings)}
        found = Profile(
            device=measured_on,
            runtime=runs.name,
            space=space.title,
            fingerprint_of_space=space_mark(space),
            settings=tuple(settings),
            records=tuple(
                Record(w.arch, number[w.setting], outcome.measured[w.key].times(factor))
                for w in wanted
                if w.key in outcome.measured and isinstance(w.arch, Architecture)
            ),
            unsupported=tuple(
                (w.arch.id, number[w.setting], outcome.unsupported[w.key])
                for w in wanted
                if w.key in outcome.unsupported and isinstance(w.arch, Architecture)
            ),
            drift=outcome.drift,
            tables=_tables(space, settings, measure, how.seed) if how.lookup else {},
            conditions=runs.conditions,
        )
        _enough(found)
    found = replace(found, quality=cross_validated(found, how.seed))
    clocks = sorted({r.measurement.clock for r in found.records})
    about = {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.perf_counter() - begun, 1),
        "clock": ", ".join(clocks),
        "versions": place.versions(),
        "anchors": list(dict.fromkeys(a.id for a in tied)),
    }
    found = replace(found, about=about)
    found.save(path)
    part.unlink(missing_ok=True)
    return found


def _device(how: ProfileSettings, kept: Lines, place: Place, device: str, settings: int) -> Device:
    """What is measured on, the same when a profile is continued."""
    told = kept.get("device")
    if told is None:
        total = how.architectures * settings
        how.on_progress(Progress("device", 0, total, 0.0))
        here = place.device(device, lambda: how.on_progress(Progress("waiting", 0, total, 0.0)))
        told = (here if how.name is None else replace(here, name=_name(how.name))).to_dict()
        kept.put("device", told)
    return Device.from_dict(told)


def _same(before: Any, asked: dict[str, object], part: Path) -> None:
    import json

    if before is None:
        return
    now = json.loads(json.dumps(asked))
    for what, value in now.items():
        if before.get(what) != value:
            raise ProfileError(
                f"{str(part)!r} keeps an interrupted profile with {what}={before.get(what)!r}, this one has {value!r}; repeat "
                "that command to continue, delete the file to begin again, or choose another --out"
            )


@contextmanager
def _worth_keeping(kept: Lines, part: Path) -> Iterator[None]:
    """What ends with an error before anything is measured leaves no file that would be in the way of the next try."""
    try:
        yield
    except NasBoError:
        if kept.get("architectures 0") is None:
            part.unlink(missing_ok=True)
        raise


def _read(kept: Lines, what: str) -> tuple[list[Visit], list[int], int]:
    """Visits of sessions before, the session of each round, and how many records they were in."""
    visits: list[Visit] = []
    of: dict[int, int] = {}
    count = 0
    while (row := kept.get(f"{what} {count}")) is not None:
        for key, at, ms, ratio in row["visits"]:
            visits.append(Visit(key, at, ms, ratio))
            of[at] = row["session"]
        count += 1
    sessions: list[int] = []
    for at in range(max(of, default=-1) + 1):
        sessions.append(of.get(at, sessions[-1] if sessions else 0))
    return visits, sessions, count


def _anchors(archs: Sequence[Architecture], setting: Setting, base: Roofline) -> list[Architecture]:
    """A fast, a middling and a slow one."""
    size = (setting.vocab_size, setting.phase, setting.context, setting.batch, setting.ignore)
    ordered = sorted(archs, key=lambda a: base.milliseconds(a, *size))
    n = len(ordered)
    return [ordered[n // 10], ordered[n // 2], ordered[n - 1 - n // 10]]


def _factor(outcome: Outcome, known: Sequence[tuple[Wanted, float]]) -> float:
    """What measured times are multiplied by, so that the anchors take what is known about them."""
    there = [(outcome.measured[one.key].median_ms, ms) for one, ms in known if one.key in outcome.measured]
    return math.exp(statistics.median(math.log(ms / got) for got, ms in there)) if there else 1.0


def _tables(
    space: type[Space], settings: Sequence[Setting], measure: Callable[..., Outcome], seed: int
) -> dict[int, dict[Any, float]]:
    found: dict[int, dict[Any, float]] = {}
    many = pool(space, TABLED, seed + 1)
    for at, setting in enumerate(settings):

        def timer(models: Sequence[Any], setting: Setting = setting, at: int = at) -> list[float]:
            wanted = [Wanted(model, setting) for model in models]
            outcome = measure(f"parts of setting {at}", wanted, models[:ANCHORS])
            refused = next(iter(outcome.unsupported.values()), None)
            if refused is not None:
                raise ProfileError(f"a part cannot be measured: {refused}; leave --lookup out")
            return [outcome.measured[w.key].median_ms for w in wanted]

        found[at] = Lookup.build(many, setting, timer).table
    return found


def _enough(found: Profile) -> None:
    for at, setting in enumerate(found.settings):
        measured = sum(r.setting == at for r in found.records)
        if measured < LEAST:
            why = next((reason for _, s, reason in found.unsupported if s == at), "the space has no more")
            raise ProfileError(
                f"only {counted(measured, 'architecture')} could be measured for {setting.phase}, and {LEAST} are needed: {why}"
            )


def _name(name: str) -> str:
    made = re.sub(r"[^A-Za-z0-9_.\-]+", "-", name).strip("-.")
    if not made:
        raise ProfileError(f"the name {name!r} of the device has no letter or digit; give one such as 'pi5'")
    return made
