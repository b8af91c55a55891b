"""Evaluations in local processes that share nothing but what is sent to them.

Every process has a thread here that hands it one evaluation at a time, so it is known whose process died. The others continue.
What was evaluated is a suspect: it is tried once more when nothing else runs, and fails only if its process dies then too.
So an evaluation that takes all the memory costs its siblings nothing, whichever process the system kills for it.

One that takes longer than its limit is ended: its process, and whatever that has started. The others do not notice.
"""

from __future__ import annotations

import atexit
import logging
import math
import multiprocessing
import pickle
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from tempfile import TemporaryDirectory

from nas_bo import temporary
from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.execution.executor import check_not_importing, failed
from nas_bo.execution.interrupts import uninterrupted
from nas_bo.execution.process_tree import Tree
from nas_bo.execution.worker import packed, unpacked, work
from nas_bo.execution.worker_warnings import Heard, repeat
from nas_bo.objective import Judge
from nas_bo.problem import Problem
from nas_bo.trial import Trial
from nas_bo.validated import check_values, number, whole_number

TIMEOUT = number(above=0).or_none()
LOOK_EVERY_S = 1.0  # whether a silent process lives: a child of its own may hold its pipe open
END_WITHIN_S = 2.0  # before a process that was asked to end is killed

clock = time.monotonic
_log = logging.getLogger(__name__)
_open: weakref.WeakSet[Processes] = weakref.WeakSet()
_starting = threading.Lock()  # processes are started, and their ends noted, by one thread at a time


@dataclass
class _Job:
    """An evaluation, as it is sent; a suspect runs alone. `limit` is in seconds."""

    key: Hashable
    arch: Architecture
    work: bytes
    limit: float | None = None
    suspect: bool = False
    cancelled: bool = False


class Processes:
    """Evaluations in `workers` processes, started when they are needed.

    Space and objectives must be importable, and the script that asks must have its ``if __name__ == "__main__":``.

    Args:
        timeout: seconds that an evaluation may take; None for any time. A search with a `timeout` of its own sets it.

    Raises:
        SearchError: `workers` is not a whole number of at least 1, or `timeout` not a number above 0.
    """

    def __init__(self, workers: int, timeout: float | None = None) -> None:
        check_values("Processes", SearchError, whole_number(1), workers=workers)
        check_values("Processes", SearchError, TIMEOUT, timeout=timeout)
        check_not_importing("Processes")
        self.workers = workers
        self._limit = timeout
        self._folder: TemporaryDirectory[str] | None = None
        self._changed = threading.Condition()  # of all that follows
        self._hands: list[_Hand] = []
        self._waiting: deque[_Job] = deque()
        self._suspects: deque[_Job] = deque()
        self._running: dict[_Hand, _Job] = {}
        self._ended: deque[tuple[_Job, Trial, list[Heard]]] = deque()
        self._broken: str = ""

    def __repr__(self) -> str:
        return f"Processes({self.workers})"

    def check_problem(self, problem: Problem) -> None:
        """Raises SearchError where the problem cannot be sent to another process."""
        try:
            sent = pickle.dumps(problem)
        except Exception as error:
            raise SearchError(
                f"{self._asked} needs a space and objectives that can be sent to other processes, but {error}; define "
                f"them at the top level of a module, or {self._instead}"
            ) from error
        if b"__main__" in sent and "__file__" not in vars(sys.modules["__main__"]):
            raise SearchError(
                f"{self._asked}: the space or an objective is defined interactively, where other processes cannot "
                f"import it; put it into a module, or {self._instead}"
            )

    @property
    def _asked(self) -> str:
        return "an evaluation in a process of its own" if self.workers == 1 else f"workers={self.workers}"

    @property
    def _instead(self) -> str:
        return "leave timeout out" if self.workers == 1 else "use workers=1"

    @property
    def gate(self) -> str:
        if self._folder is None:
            self._folder = temporary.made("quiet")
        return self._folder.name

    def limit(self, seconds: float | None) -> None:
        self._limit = seconds

    def submit(self, key: Hashable, problem: Problem, arch: Architecture, judge: Judge | None = None) -> None:
        try:
            job = _Job(key, arch, packed(problem, arch, judge), self._limit)
        except Exception as error:
            with self._changed:
                unsent = failed(arch, f"it cannot be sent to another process: {error}")
                self._ended.append((_Job(key, arch, b""), unsent, []))
                return
        self._put(job, self._waiting)

    def submit_suspect(self, key: Hashable, problem: Problem, arch: Architecture, judge: Judge | None = None) -> None:
        """The same for what a process has died of before: it is evaluated alone, and fails when its process dies now.

        Raises:
            SearchError: it cannot be sent to another process.
        """
        try:
            work = packed(problem, arch, judge)
        except Exception as error:
            raise SearchError(f"it cannot be sent to another process: {error}") from error
        self._put(_Job(key, arch, work, self._limit, suspect=True), self._suspects)

    def _put(self, job: _Job, queue: deque[_Job]) -> None:
        with self._changed:
            queue.append(job)
            if not self._hands:
                _open.add(self)
                self._hands = [_Hand(self, self.gate) for _ in range(self.workers)]
            self._changed.notify_all()

    def take(self) -> tuple[Hashable, Trial]:
        with self._changed:
            while not self._ended:
                if self._broken:
                    raise SearchError(self._broken)
                if not (self._waiting or self._suspects or self._running):
                    raise LookupError("nothing was submitted")
                self._changed.wait()
            job, outcome, heard = self._ended.popleft()
        repeat(heard)
        return job.key, outcome

    def ended(self) -> list[tuple[Hashable, Trial]]:
        found = []
        while self._ended or self._broken:
            found.append(self.take())
        return found

    def cancel(self, key: Hashable) -> None:
        with self._changed:
            for some in (self._waiting, self._suspects):
                for job in [job for job in some if job.key == key]:
                    some.remove(job)
            for hand, job in self._running.items():
                if job.key == key:
                    job.cancelled = True
                    hand.terminate()

    def close(self) -> None:
        with self._changed:
            hands, self._hands = self._hands, []
            for hand in hands:
                hand.closed = True
            for some in (self._waiting, self._suspects, self._ended):
                some.clear()
            self._broken = ""
            self._changed.notify_all()
        for hand in hands:
            hand.terminate()
        for hand in hands:
            hand.thread.join(2 * END_WITHIN_S)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        _open.discard(self)

    # ---- called by the threads of the processes -------------------------------------------------------------------

    def _next(self, hand: _Hand) -> _Job | None:
        """What this process evaluates next; None when it is to end."""
        with self._changed:
            while not hand.closed:
                job = None
                if self._suspects:
                    job = None if self._running else self._suspects.popleft()
                elif self._waiting and not any(job.suspect for job in self._running.values()):
                    job = self._waiting.popleft()
                if job is not None:
                    self._running[hand] = job
                    return job
                self._changed.wait()
        return None

    def _answered(self, hand: _Hand, job: _Job, answer: bytes | _Death | _Late) -> None:
        with self._changed:
            del self._running[hand]
            self._changed.notify_all()
            if hand.closed or job.cancelled:
                return
            if isinstance(answer, _Late):
                late = failed(job.arch, answer.reason)
                self._ended.append((job, replace(late, seconds=answer.seconds), []))
            elif isinstance(answer, bytes):
                try:
                    self._ended.append((job, *unpacked(answer)))
                except Exception as error:
                    self._ended.append((job, failed(job.arch, f"what it gave cannot be read: {error}"), []))
            elif not answer.begun:
                self._broken = (
                    f"worker processes cannot be started ({answer.how}); what they said is above. The script that asks for "
                    "them must call it below `if __name__ == '__main__':`"
                )
            elif job.suspect:
                reason = f"its process died twice, the second time while nothing else was evaluated ({answer.how})"
                self._ended.append((job, failed(job.arch, reason), []))
            else:
                job.suspect = True
                self._suspects.append(job)
                _log.warning(
                    "the process that evaluated %s died (%s); it is evaluated once more, alone", job.key, answer.how
                )


@dataclass(frozen=True)
class _Death:
    """The end of a process that did not answer, in words; `begun` is false where no process has ever begun to work."""

    how: str
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


class _Overdue(Exception):
    """The limit of an evaluation is over.

    Attributes:
        seconds: that limit.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Hand:
    """A thread that hands evaluations to a process of its own; one that is gone is replaced before the next evaluation."""

    begun = False  # whether any process has ever begun to work

    def __init__(self, owner: Processes, gate: str) -> None:
        self.closed = False
        self.child: _Child | None = None
        self._owner, self._gate = owner, gate
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def terminate(self) -> None:
        if self.child is not None:
            self.child.terminate()

    def _serve(self) -> None:
        with uninterrupted():  # inherited by what is started here
            while (job := self._owner._next(self)) is not None:
                self._owner._answered(self, job, self._evaluate(job))
            if self.child is not None:
                self.child.end(0.0)

    def _evaluate(self, job: _Job) -> bytes | _Death | _Late:
        if self.child is not None and not self.child.lives():
            self.child = None  # it was killed while it had nothing to do
        begun = self.child is not None
        try:
            if self.child is None:
                self.child = _Child(self._gate)
                self.child.answer()
            if self.closed or job.cancelled:  # while there was nothing to end yet
                raise EOFError
            begun = _Hand.begun = True
            self.child.connection.send_bytes(job.work)
            return self.child.answer(job.limit)
        except _Overdue as late:
            if self.child is not None:
                self.child.end(0.0)
            self.child = None
            return _Late(late.seconds)
        except Exception as error:  # EOFError or OSError where it died; whatever the start of a process may raise
            how = f"it cannot be started: {error}" if self.child is None else _how(self.child.end())
            self.child = None
            return _Death(how, begun or _Hand.begun)


class _Child:
    """A worker process, as it is seen from here."""

    def __init__(self, gate: str) -> None:
        context = multiprocessing.get_context("spawn")  # not fork: torch's threads and CUDA do not survive one
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, gate))
        self._then: Tree | None = None  # when it was asked to end
        self._kill_at = math.inf  # when it was asked to end and does not
        with _starting:
            self._process.start()
        theirs.close()

    def answer(self, limit: float | None = None) -> bytes:
        """What it says next. Raises EOFError or OSError where it has died, `_Overdue` after `limit` seconds."""
        until = math.inf if limit is None else clock() + limit
        while True:
            left = min(until, self._kill_at) - clock()
            ready = wait([self.connection, self._process.sentinel], max(0.0, min(LOOK_EVERY_S, left)))
            if ready or not self.lives():
                break
            if clock() >= self._kill_at:
                self._tree().kill()
                self._kill_at = math.inf
            if limit is not None and clock() >= until:
                raise _Overdue(limit)
        if not self.connection.poll():
            raise EOFError
        return self.connection.recv_bytes()

    def lives(self) -> bool:
        with _starting:
            return self._process.is_alive()

    def terminate(self) -> None:
        """Ask it to end; whoever waits for its answer kills it when it does not."""
        self._then = self._tree()  # what it has started cannot be found when it is gone
        with _starting:
            self._process.terminate()
        self._kill_at = clock() + END_WITHIN_S

    def end(self, wait_s: float = END_WITHIN_S) -> int:
        """Wait for its end, then bring it about, and that of all it has started. Returns the exit code."""
        self.connection.close()
        tree = self._then or self._tree()
        for bring_about in (tree.terminate, tree.kill):
            if not self._ended(wait_s):
                bring_about()
                wait_s = END_WITHIN_S
        self._ended(END_WITHIN_S)
        tree.kill()  # what it had started and left behind
        if self._process.exitcode is None:
            _log.warning("process %s does not end, though it was killed: a device or a file system holds it", tree.pid)
        return int(self._process.exitcode or 0)

    def _ended(self, within_s: float) -> bool:
        """Whether it ends within so many seconds; nobody else waits meanwhile."""
        until = clock() + within_s
        while self.lives():
            left = until - clock()
            if left <= 0:
                return False
            wait([self._process.sentinel], min(LOOK_EVERY_S / 5, left))
        return True

    def _tree(self) -> Tree:
        return Tree.of(int(self._process.pid or 0))


def _how(code: int) -> str:
    """What an exit code says, in words."""
    if code == -9:
        return "it ran out of memory, or was killed from outside: SIGKILL"
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}, a crash in native code or a signal from outside"
    return f"it ended itself with exit code {code}"


@atexit.register  # after this module's imports, so before multiprocessing waits for its children
def _close_all() -> None:
    for one in list(_open):
        one.close()


__all__ = ["Processes"]
