"""Evaluations in local processes that share nothing but what is sent to them.

They share the memory of one machine: what was evaluated when a process died is tried once more while nothing else runs. So an
evaluation that takes all the memory costs its siblings nothing, whichever process the system kills for it.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import pickle
import signal
import sys
import threading
import time
from multiprocessing.connection import wait

from nas_bo import elsewhere, temporary
from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.execution import gpus
from nas_bo.execution.executor import check_not_importing
from nas_bo.execution.process_tree import Tree
from nas_bo.execution.sendable import why_not
from nas_bo.execution.team import END_WITHIN_S, Ending, Overdue, Team
from nas_bo.execution.worker import packed, work
from nas_bo.objective import Judge
from nas_bo.problem import Problem
from nas_bo.process import Place
from nas_bo.validated import check_values, number, whole_number

TIMEOUT = number(above=0).or_none()
LOOK_EVERY_S = 1.0  # whether a silent process lives: a child of its own may hold its pipe open

clock = time.monotonic
_log = logging.getLogger(__name__)
_starting = threading.Lock()  # processes are started, and their ends noted, by one thread at a time


class Processes(Team[bytes]):
    """Evaluations in `workers` processes, started when they are needed.

    Space and objectives must be importable, and the script that asks must have its ``if __name__ == "__main__":``. Of several GPUs
    (CUDA) each worker sees one, or as many as its objectives need (``gpus_per_trial``), in turn; all of them where an objective names one by its number
    ("cuda:1").

    Args:
        timeout: seconds that an evaluation may take; None for any time. A search with a `timeout` of its own sets it.

    Raises:
        SearchError: `workers` is not a whole number of at least 1, or `timeout` not a number above 0.
    """

    def __init__(self, workers: int, timeout: float | None = None) -> None:
        check_values("Processes", SearchError, whole_number(1), workers=workers)
        check_values("Processes", SearchError, TIMEOUT, timeout=timeout)
        check_not_importing("Processes")
        super().__init__(timeout)
        self.workers = workers
        self._folder = temporary.Late("quiet")
        self._gpus_each, self._gpus_named = 0, False

    def __repr__(self) -> str:
        return f"Processes({self.workers})"

    def check_problem(self, problem: Problem) -> None:
        """Raises SearchError where the problem cannot be sent to another process."""
        objectives = problem.evaluated()
        self._gpus_each, self._gpus_named = elsewhere.gpus_needed(objectives), gpus.names_one(objectives)
        try:
            sent = pickle.dumps(problem)
        except Exception as error:
            raise SearchError(
                f"{self._asked} needs a space and objectives that can be sent to other processes, and this cannot: "
                f"{why_not(problem, pickle.dumps) or error}; define it at the top level of a module, or {self._instead}"
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
        return self._folder.name

    def _count(self) -> int:
        return self.workers

    def _packed(self, problem: Problem, arch: Architecture, judge: Judge | None, name: str) -> bytes:
        return packed(problem, arch, judge, name)

    def _started(self, place: int) -> _Child:
        shared = self.workers == 1 or self._gpus_named
        return _Child(self.gate, None if shared else gpus.of_worker(place, self._gpus_each, gpus.visible()))

    def _cannot_start(self, how: str) -> str:
        return (
            f"worker processes cannot be started ({how}); what they said is above. The script that asks for "
            "them must call it below `if __name__ == '__main__':`"
        )

    def _closed(self) -> None:
        self._folder.remove()


class _Child:
    """A worker process, as it is seen from here."""

    place: Place | None = None  # that of its driver

    def __init__(self, gate: str, sees: str | None) -> None:
        context = multiprocessing.get_context("spawn")  # not fork: torch's threads and CUDA do not survive one
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, gate, sees))
        self._then: Tree | None = None  # when it was asked to end
        self._kill_at = math.inf  # when it was asked to end and does not
        with _starting:
            self._process.start()
        theirs.close()

    def ready(self) -> None:
        self._said()

    def answer(self, work: bytes, limit: float | None) -> bytes:
        self.connection.send_bytes(work)
        return self._said(limit)

    def _said(self, limit: float | None = None) -> bytes:
        """What it says next. Raises EOFError or OSError where it has died, `Overdue` after `limit` seconds."""
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
                raise Overdue(limit)
        if not self.connection.poll():
            raise EOFError
        return self.connection.recv_bytes()

    def lives(self) -> bool:
        with _starting:
            return self._process.is_alive()

    def terminate(self, grace_s: float = END_WITHIN_S) -> None:
        """Ask it to end; whoever waits for its answer kills it when it does not."""
        self._then = self._tree()  # what it has started cannot be found when it is gone
        with _starting:
            self._process.terminate()
        self._kill_at = clock() + grace_s

    def end(self, wait_s: float = END_WITHIN_S) -> Ending:
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
        return Ending(_how(int(self._process.exitcode or 0)))

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
