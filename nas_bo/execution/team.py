"""Evaluations that are handed to workers, each a process of its own; a subclass says what kind of process.

Every worker has a thread here that hands it one evaluation at a time, so it is known whose process died. The others continue. What
was evaluated is a suspect: it is tried once more, and fails only if its process dies then too. What was evaluated on a machine that
died is not a suspect: it is tried elsewhere. One that takes longer than its limit is ended: its process, and whatever that has started.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, Protocol, TypeVar

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.execution import outcome_spool
from nas_bo.execution.executor import failed
from nas_bo.execution.interrupts import uninterrupted
from nas_bo.execution.worker import unpacked
from nas_bo.execution.worker_warnings import Heard, repeat
from nas_bo.objective import Judge
from nas_bo.preemption import GRACE_S, resumable
from nas_bo.problem import Problem
from nas_bo.process import Place
from nas_bo.trial import State, Trial

END_WITHIN_S = 2.0  # before a process that was asked to end is killed
MACHINES = 3  # that may die of one evaluation: more is its own fault
STARTS = 3  # of a worker that fail in a row: nobody can evaluate
AGAIN_AFTER_S = 1.0  # a start that failed is tried again

_log = logging.getLogger(__name__)
_open: weakref.WeakSet[Team] = weakref.WeakSet()  # type: ignore[type-arg]

Work = TypeVar("Work")  # an evaluation, as it is sent
Sent = TypeVar("Sent", contravariant=True)


@dataclass(frozen=True)
class Ending:
    """How a process ended, in words; `of_machine` where the machine died with it."""

    how: str
    of_machine: bool = False


class Overdue(Exception):
    """The limit of an evaluation is over.

    Attributes:
        seconds: that limit.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Child(Protocol[Sent]):
    """A process that evaluates, as it is seen from the thread that hands it work. `terminate` is called by other threads.

    Attributes:
        place: where it is, on a cluster, once it is ready.
    """

    place: Place | None

    def ready(self) -> None:
        """Wait until it has begun to work; raises where it does not."""

    def answer(self, work: Sent, limit: float | None) -> bytes:
        """What it says to an evaluation; raises `Overdue` after `limit` seconds, anything else where it died."""

    def lives(self) -> bool: ...

    def terminate(self, grace_s: float = END_WITHIN_S) -> None:
        """Make it end within so many seconds, without waiting for it: `answer` then raises."""

    def end(self, wait_s: float = END_WITHIN_S) -> Ending:
        """Wait for its end, then bring it about, and that of all it has started."""


@dataclass
class Job(Generic[Work]):
    """An evaluation. `limit` is in seconds; `machines` is how many died with it; `grace_s` is what it gets when it is asked to end."""

    key: Hashable
    arch: Architecture
    work: Work | None
    limit: float | None = None
    suspect: bool = False
    cancelled: bool = False
    machines: int = 0
    grace_s: float = END_WITHIN_S
    place: Place | None = None

    def placed(self, outcome: Trial) -> Trial:
        """The outcome, with where it came from."""
        return outcome if self.place is None else replace(outcome, place=self.place)


@dataclass(frozen=True)
class _Death:
    """The end of a process that did not answer; `begun` is false where no process has ever begun to work."""

    ending: Ending
    begun: bool


@dataclass(frozen=True)
class _Late:
    """An evaluation that was ended since it took longer than its limit."""

    seconds: float

    @property
    def reason(self) -> str:
        return (
            f"it took longer than the {self.seconds:g} s that an evaluation may take (timeout), so its process was ended with all that it "
            "had started"
        )


class _NotBegun:
    """The process had died before it was given the evaluation."""


@dataclass
class _Queues(Generic[Work]):
    waiting: deque[Job[Work]] = field(default_factory=deque)
    suspects: deque[Job[Work]] = field(default_factory=deque)
    ended: deque[tuple[Job[Work], Trial, list[Heard]]] = field(default_factory=deque)


class Team(ABC, Generic[Work]):
    """What the executors with worker processes share: a queue, and a thread for each worker.

    Attributes:
        alone: whether a suspect is evaluated while nothing else is: where all workers share the memory of one machine.
        ahead: whether workers are started before there is work for them, since they may have to wait for their turn.
        begun: whether any worker of this kind has ever begun to work.
    """

    alone: ClassVar[bool] = True
    ahead: ClassVar[bool] = False
    begun: ClassVar[bool] = False

    def __init__(self, timeout: float | None) -> None:
        self._limit = timeout
        self._changed = threading.Condition()  # of all that follows
        self._hands: list[Hand[Work]] = []
        self._queues = _Queues[Work]()
        self._late: list[tuple[Job[Work], Trial, list[Heard]]] = []
        self._running: dict[Hand[Work], Job[Work]] = {}
        self._broken: str = ""
        self._names: dict[Hashable, str] = {}  # of what is submitted next

    # ---- what a kind of worker says -------------------------------------------------------------------------------

    @abstractmethod
    def _count(self) -> int:
        """How many workers there are to be."""

    @abstractmethod
    def _packed(self, problem: Problem, arch: Architecture, judge: Judge | None, name: str) -> Work:
        """An evaluation, as it is sent, with the name under which its outcome is kept; raises where it cannot be."""

    @abstractmethod
    def _started(self, place: int) -> Child[Work]:
        """A new worker, which may not be ready yet. `place` counts workers from 0; one that replaces another has its place."""

    @abstractmethod
    def _cannot_start(self, how: str) -> str:
        """The paragraph that says that workers cannot be started."""

    def _closed(self) -> None:
        """All workers have ended; give back what is left."""

    # ---- the contract -----------------------------------------------------------------------------------------------

    def limit(self, seconds: float | None) -> None:
        self._limit = seconds

    def submit(self, key: Hashable, problem: Problem, arch: Architecture, judge: Judge | None = None) -> None:
        try:
            work = self._packed(problem, arch, judge, self._names.pop(key, ""))
            job = Job(key, arch, work, self._limit, grace_s=_grace(problem))
        except SearchError:
            raise
        except Exception as error:
            with self._changed:
                unsent = failed(arch, f"it cannot be sent to another process: {error}")
                self._queues.ended.append((Job(key, arch, None), unsent, []))
                return
        self._put(job, self._queues.waiting)

    def submit_suspect(self, key: Hashable, problem: Problem, arch: Architecture, judge: Judge | None = None) -> None:
        """The same for what a process has died of before: it fails when its process dies now.

        Raises:
            SearchError: it cannot be sent to another process.
        """
        try:
            work = self._packed(problem, arch, judge, self._names.pop(key, ""))
        except Exception as error:
            raise SearchError(f"it cannot be sent to another process: {error}") from error
        job = Job(key, arch, work, self._limit, suspect=True, grace_s=_grace(problem))
        self._put(job, self._queues.suspects)

    def keep(self, key: Hashable, name: str) -> None:
        self._names[key] = name

    def stored(self, name: str) -> None:
        """What workers of another machine keep stays there until it is old."""
        outcome_spool.remove(name)

    def _put(self, job: Job[Work], queue: deque[Job[Work]]) -> None:
        with self._changed:
            queue.append(job)
            if not self._hands:
                _open.add(self)
                self._hands = [Hand(self, place) for place in range(self._count())]
            self._changed.notify_all()

    def take(self) -> tuple[Hashable, Trial]:
        with self._changed:
            while not self._queues.ended:
                if self._broken:
                    raise SearchError(self._broken)
                if not (self._queues.waiting or self._queues.suspects or self._running):
                    raise LookupError("nothing was submitted")
                self._changed.wait()
            job, outcome, heard = self._queues.ended.popleft()
        repeat(heard)
        return job.key, job.placed(outcome)

    def ended(self) -> list[tuple[Hashable, Trial]]:
        found = []
        while self._queues.ended or self._broken:
            found.append(self.take())
        return found

    def cancel(self, key: Hashable) -> None:
        with self._changed:
            for some in (self._queues.waiting, self._queues.suspects):
                for job in [job for job in some if job.key == key]:
                    some.remove(job)
            for hand, job in self._running.items():
                if job.key == key:
                    job.cancelled = True
                    hand.terminate(job.grace_s)

    def close(self) -> None:
        self._end()

    def stop(self) -> list[tuple[Hashable, Trial]]:
        found = []
        for job, outcome, heard in self._end():
            repeat(heard)
            found.append((job.key, job.placed(outcome)))
        return found

    def places(self) -> dict[Hashable, Place]:
        with self._changed:
            return {job.key: job.place for job in self._running.values() if job.place is not None}

    def _end(self) -> list[tuple[Job[Work], Trial, list[Heard]]]:
        """End everything; what had ended before, or came to its end while it was asked to."""
        with self._changed:
            found, self._late = list(self._queues.ended), []
            hands, self._hands = self._hands, []
            for hand in hands:
                hand.closed = True
            graces = {hand: job.grace_s for hand, job in self._running.items()}
            for some in (self._queues.waiting, self._queues.suspects, self._queues.ended):
                some.clear()
            self._broken = ""
            self._changed.notify_all()
        for hand in hands:
            hand.terminate(graces.get(hand, END_WITHIN_S))
        for hand in hands:
            hand.thread.join(graces.get(hand, END_WITHIN_S) + END_WITHIN_S)
        self._closed()
        _open.discard(self)
        return found + self._late

    # ---- called by the threads of the workers ---------------------------------------------------------------------

    def next_for(self, hand: Hand[Work]) -> Job[Work] | None:
        """What this worker evaluates next; None when it is to end."""
        with self._changed:
            while not hand.closed:
                job = self._taken()
                if job is not None:
                    self._running[hand] = job
                    return job
                self._changed.wait()
        return None

    def _taken(self) -> Job[Work] | None:
        waiting, suspects = self._queues.waiting, self._queues.suspects
        if not self.alone:
            return suspects.popleft() if suspects else waiting.popleft() if waiting else None
        if suspects:
            return None if self._running else suspects.popleft()
        return waiting.popleft() if waiting and not any(job.suspect for job in self._running.values()) else None

    def answered(self, hand: Hand[Work], job: Job[Work], answer: bytes | _Death | _Late | _NotBegun) -> None:
        with self._changed:
            del self._running[hand]
            self._changed.notify_all()
            if hand.closed or job.cancelled:
                if isinstance(answer, bytes) and not job.cancelled:
                    self._keep(job, answer)
                return
            if isinstance(answer, _NotBegun):
                (self._queues.suspects if job.suspect else self._queues.waiting).appendleft(job)
            elif isinstance(answer, _Late):
                late = failed(job.arch, answer.reason)
                self._queues.ended.append((job, replace(late, seconds=answer.seconds), []))
            elif isinstance(answer, bytes):
                try:
                    self._queues.ended.append((job, *unpacked(answer)))
                except Exception as error:
                    self._queues.ended.append((job, failed(job.arch, f"what it gave cannot be read: {error}"), []))
            elif not answer.begun:
                self._broken = self._cannot_start(answer.ending.how)
            else:
                self._died(job, answer.ending)

    def _keep(self, job: Job[Work], answer: bytes) -> None:
        """What ended while everything ends; a failure may come of that, so it is none."""
        with suppress(Exception):
            outcome, heard = unpacked(answer)
            if outcome.state is not State.FAILED:
                self._late.append((job, outcome, heard))

    def _died(self, job: Job[Work], ending: Ending) -> None:
        reason = ""
        if ending.of_machine:
            job.machines += 1
            if job.machines >= MACHINES:
                reason = (
                    f"{job.machines} machines died while they evaluated it, so it is not tried again ({ending.how})"
                )
        elif job.suspect:
            how = ", the second time while nothing else was evaluated" if self.alone else ""
            reason = f"its process died twice{how} ({ending.how})"
        if reason:
            self._queues.ended.append((job, failed(job.arch, reason), []))
        elif ending.of_machine:
            (self._queues.suspects if job.suspect else self._queues.waiting).appendleft(job)
            _log.warning("the machine that evaluated %s died (%s); it is evaluated elsewhere", job.key, ending.how)
        else:
            job.suspect = True
            self._queues.suspects.append(job)
            how = "once more, alone" if self.alone else "once more"
            _log.warning("the process that evaluated %s died (%s); it is evaluated %s", job.key, ending.how, how)

    def cannot_start(self, hand: Hand[Work], how: str) -> None:
        """A worker could not be started several times in a row; where none is left, whoever waits gets an error."""
        with self._changed:
            if not hand.closed:
                hand.lost = True
                if all(one.lost for one in self._hands):
                    self._broken = self._cannot_start(how)
                    self._changed.notify_all()
                else:
                    _log.warning("a worker cannot be started (%s); the others continue", how)


def _grace(problem: Problem) -> float:
    return GRACE_S if resumable(problem.evaluated()) else END_WITHIN_S


class Hand(Generic[Work]):
    """A thread that hands evaluations to a process of its own; one that is gone is replaced before the next evaluation."""

    def __init__(self, owner: Team[Work], place: int) -> None:
        self.closed = False
        self.lost = False  # its worker cannot be started
        self.child: Child[Work] | None = None
        self._owner, self._place = owner, place
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def terminate(self, grace_s: float) -> None:
        if self.child is not None:
            self.child.terminate(grace_s)

    def _serve(self) -> None:
        with uninterrupted():  # inherited by what is started here
            while self._is_ready() and (job := self._owner.next_for(self)) is not None:
                self._owner.answered(self, job, self._evaluate(job))
            if self.child is not None:
                self.child.end(0.0)

    def _is_ready(self) -> bool:
        """Whether there is a worker, where workers are started ahead; else it is started when it has something to do."""
        failures = 0
        while self._owner.ahead and not self.closed and (self.child is None or not self.child.lives()):
            try:
                self.child = self._owner._started(self._place)
                if not self.closed:
                    self.child.ready()
                    type(self._owner).begun = True
            except Exception as error:
                how = f"it cannot be started: {error}" if self.child is None else self.child.end().how
                self.child = None
                failures += 1
                if failures >= STARTS and not self.closed:
                    self._owner.cannot_start(self, how)
                    return False
                time.sleep(0.0 if self.closed else AGAIN_AFTER_S)
        return True

    def _evaluate(self, job: Job[Work]) -> bytes | _Death | _Late | _NotBegun:
        if self.child is not None and not self.child.lives():
            self.child = None  # it was killed while it had nothing to do
        if self.child is None and self._owner.ahead:
            return _NotBegun()
        kind, begun = type(self._owner), self.child is not None
        try:
            if self.child is None:
                self.child = self._owner._started(self._place)
                self.child.ready()
            if self.closed or job.cancelled or job.work is None:  # while there was nothing to end yet
                raise EOFError
            begun = kind.begun = True
            job.place = self.child.place
            return self.child.answer(job.work, job.limit)
        except Overdue as late:
            if self.child is not None:
                self.child.end(0.0)
            self.child = None
            return _Late(late.seconds)
        except Exception as error:  # EOFError or OSError where it died; whatever the start of a process may raise
            ending = Ending(f"it cannot be started: {error}") if self.child is None else self.child.end()
            self.child = None
            return _Death(ending, begun or kind.begun)


@atexit.register  # after this module's imports, so before multiprocessing waits for its children
def _close_all() -> None:
    for one in list(_open):
        one.close()
