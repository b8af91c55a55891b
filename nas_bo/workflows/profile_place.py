"""Where `profile` measures: in this process, or on a node of a Ray cluster (`nas_bo.elsewhere`).

A session on another machine runs in a thread of the worker there. What it finds is fetched from here every second or two and kept here, so
that an interrupted profile continues as one of this machine does.
"""

from __future__ import annotations

import platform
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar, cast

from nas_bo import elsewhere, measurement_lock, provenance
from nas_bo.architecture import Architecture
from nas_bo.errors import ProfileError
from nas_bo.execution.selection import executor_of
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.measuring.clock import check_timed, clock_for
from nas_bo.hardware.measuring.session import Outcome, Visit, Wanted
from nas_bo.hardware.workload import Setting
from nas_bo.problem import Problem
from nas_bo.space import Space

if TYPE_CHECKING:
    from nas_bo.workflows.profile import ProfileSettings, Progress

T = TypeVar("T")
FETCHED_S = 2.0  # at least so often one knows here how far a session is


@dataclass(frozen=True)
class Runs:
    """A runtime, as it is where it runs: its name, what its times depend on, and its torch device."""

    name: str
    conditions: Mapping[str, object]
    device: str


@dataclass(frozen=True)
class Asked:
    """A session: what is measured, next to what, and what is there of sessions before."""

    todo: Sequence[Wanted]
    anchors: Sequence[Architecture]
    visits: Sequence[Visit]
    sessions: Sequence[int]


@dataclass(frozen=True)
class Hears:
    """Who hears of a session: new visits, how far it is, and that it waits for another one."""

    keep: Callable[[int, Sequence[Visit]], None]
    say: Callable[[int, int], None]
    waiting: Callable[[], None]


class Place:
    """This process, or a node of a cluster by the name of its resource."""

    def __init__(self, how: ProfileSettings, on: str | None = None) -> None:
        alone = replace(how, executor=None, on=None, anchors=None, on_progress=_nothing)
        self._how, self._on = how if on is None else alone, on

    def _call(self, function: Callable[..., T], *arguments: object) -> T:
        return function(*arguments) if self._on is None else cast("T", elsewhere.call(self._on, function, *arguments))

    def runs(self) -> Runs:
        """Raises MissingExtra, ObjectiveError: see `profile`."""
        return self._call(_runs, self._how)

    def device(self, torch_device: str, waiting: Callable[[], None]) -> Device:
        """What `torch_device` can do; `waiting` is called where another session is measured on that machine, as far as that is known."""
        return self._call(_device, self._how, torch_device, *([waiting] if self._on is None else []))

    def versions(self) -> dict[str, str]:
        return self._call(_versions)

    def measure(self, asked: Asked, hears: Hears) -> Outcome:
        if self._on is None:
            return _measure(self._how, asked, hears)
        name = self._call(_begin, self._how, asked)
        while True:
            for what, *arguments in self._call(_fetch, name):
                if what == "outcome":
                    return cast("Outcome", arguments[0])
                if what == "error":
                    raise cast("Exception", arguments[0])
                vars(hears)[str(what)](*arguments)


@contextmanager
def place_of(how: ProfileSettings, space: type[Space], setting: Setting) -> Iterator[Place]:
    """Where a profile measures; the executor is closed in the end.

    Raises:
        ProfileError: only one of `executor` and `on` is given.
        SearchError: as of a search on that executor: no such node, other versions there, no cluster.
    """
    if how.executor is None and how.on is None:
        yield Place(how)
        return
    if how.executor is None:
        raise ProfileError(
            f"profile(on={how.on!r}): it is the name of a resource that a node of a Ray cluster was started with; give executor=Ray(...) too, or "
            "leave it out to measure this machine"
        )
    if how.on is None:
        raise ProfileError(
            "profile(executor=...): a profile is of one machine; give on=, a resource that its node was started with, such as on='pi5' "
            "(ray start --address=... --resources='{\"pi5\": 1}'), or leave the executor out to measure this machine"
        )
    from nas_bo.objectives.latency import Latency

    executor = executor_of(how.executor, 1, Problem(space, [Latency(on=how.on, ignore=setting.ignore)]), "profile")
    try:
        yield Place(how, how.on)
    finally:
        executor.close()


# ---- what runs there --------------------------------------------------------------------------------------------------


def _runs(how: ProfileSettings) -> Runs:
    """Says what is wrong with the settings there, before a file is made."""
    made = how.runtime()
    check_timed(str(made.device))
    if how.clock != "auto":
        clock_for(how.clock, str(made.device), threads=how.threads)
    how.session(made)
    return Runs(made.name, made.conditions(), str(made.device))


def _device(how: ProfileSettings, device: str, waiting: Callable[[], None] = lambda: None) -> Device:
    with measurement_lock.machine(waiting):
        return Device.here(device, threads=how.threads)


def _versions() -> dict[str, str]:
    known = provenance.versions(("nas_bo", "torch") if "torch" in sys.modules else ("nas_bo",))
    return {**known, "system": f"{platform.system()} {platform.machine()}"}


def _measure(how: ProfileSettings, asked: Asked, hears: Hears) -> Outcome:
    session = how.session(how.runtime(), asked.anchors, asked.visits, asked.sessions)
    return session.measure(asked.todo, hears.keep, hears.say, hears.waiting)


_running: dict[str, SimpleQueue[tuple[object, ...]]] = {}  # sessions of this process, by name


def _begin(how: ProfileSettings, asked: Asked) -> str:
    """Start a session in a thread; gives its name."""
    name, heard = uuid.uuid4().hex, SimpleQueue[tuple[object, ...]]()
    _running[name] = heard
    hears = Hears(
        lambda session, visits: heard.put(("keep", session, list(visits))),
        lambda done, of: heard.put(("say", done, of)),
        lambda: heard.put(("waiting",)),
    )

    def work() -> None:
        try:
            heard.put(("outcome", _measure(how, asked, hears)))
        except Exception as error:
            heard.put(("error", error))

    threading.Thread(target=work, daemon=True).start()
    return name


def _fetch(name: str) -> list[tuple[object, ...]]:
    """What is new of a session; where nothing is, after `FETCHED_S`."""
    if name not in _running:
        raise ProfileError(
            "the worker that measured there died, and was started again; what was measured before is kept here, and the same call continues"
        )
    found = []
    try:
        found.append(_running[name].get(timeout=FETCHED_S))
        while True:
            found.append(_running[name].get_nowait())
    except Empty:
        return found


def _nothing(progress: Progress) -> None:
    """Only the process that asked reports."""
