"""Where evaluations run: in this process, or in local processes that share nothing but what is sent to them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Hashable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.execution.interrupts import uninterrupted
from nas_bo.execution.worker_warnings import Ear, Heard, hearing, repeat, sendable
from nas_bo.measurement_lock import join
from nas_bo.problem import Judge, Problem
from nas_bo.trial import State, Trial

DIED = (
    "its process died twice: it ran out of memory, was killed from outside, or cannot be started because the script that "
    "searches has no `if __name__ == '__main__':`"
)
ATTEMPTS = 2  # of an evaluation whose process died


class Workers(Protocol):
    """`submit` evaluations under keys, `take` outcomes in the order in which they end, `close` in the end.

    Attributes:
        gate: the folder that keeps those apart who measure and who work (`nas_bo.measurement_lock`); the driver joins it.
    """

    @property
    def gate(self) -> str: ...

    def submit(self, key: Hashable, problem: Problem, arch: Architecture, judge: Judge | None = None) -> None: ...

    def take(self) -> tuple[Hashable, Trial]: ...

    def close(self) -> None: ...


class Here:
    """Evaluations in this process, one after the other."""

    def __init__(self) -> None:
        self._quiet = _gate_folder()
        self._waiting: list[tuple[Hashable, Problem, Architecture, Judge | None]] = []

    def submit(self, key: Hashable, problem: Problem, arch: Architecture, judge: Judge | None = None) -> None:
        self._waiting.append((key, problem, arch, judge))

    def take(self) -> tuple[Hashable, Trial]:
        key, problem, arch, judge = self._waiting.pop(0)
        return key, problem.evaluate(arch, judge)

    def close(self) -> None:
        self._waiting.clear()
        self._quiet.cleanup()

    @property
    def gate(self) -> str:
        return self._quiet.name


class Processes:
    """Evaluations in `count` processes. One that dies is started again, and what it was evaluating is tried once more.

    Raises:
        SearchError: the problem cannot be sent to another process.
    """

    def __init__(self, count: int, problem: Problem) -> None:
        try:
            sent = pickle.dumps(problem)
        except Exception as error:
            raise SearchError(
                f"workers={count} needs a space and objectives that can be sent to other processes, but {error}; define them "
                "at the top level of a module, or use workers=1"
            ) from error
        main = sys.modules.get("__main__")
        if b"__main__" in sent and not hasattr(main, "__file__"):
            raise SearchError(
                f"workers={count}: the space or an objective is defined interactively, where other processes cannot import "
                "it; put it into a module, or use workers=1"
            )
        self._count = count
        self._quiet = _gate_folder()
        self._pool = self._start()
        self._running: dict[
            Future[tuple[Trial, list[Heard]]], tuple[Hashable, Problem, Architecture, Judge | None, int]
        ] = {}

    def _start(self) -> ProcessPoolExecutor:
        # spawn, not fork: torch's threads and CUDA do not survive a fork
        return ProcessPoolExecutor(self._count, multiprocessing.get_context("spawn"), _begin, (self._quiet.name,))

    def submit(
        self, key: Hashable, problem: Problem, arch: Architecture, judge: Judge | None = None, attempt: int = 1
    ) -> None:
        try:
            with uninterrupted():  # a process that is being started would print a traceback
                future = self._pool.submit(_evaluate, pickle.dumps(problem), arch, judge)
        except BrokenProcessPool as broken:  # a process died since; `take` starts new ones
            future = Future()
            future.set_exception(broken)
        self._running[future] = (key, problem, arch, judge, attempt)

    def take(self) -> tuple[Hashable, Trial]:
        while True:
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            future = min(done, key=list(self._running).index)
            key, _, arch, _, _ = self._running[future]
            try:
                outcome, heard = future.result()
                repeat(heard)
            except BrokenProcessPool:
                lost = self._recover()
                if lost is not None:
                    return lost
                continue
            except Exception as error:  # it could not be sent, or not be sent back
                outcome = Trial(arch, state=State.FAILED, reason=f"{type(error).__name__}: {error}")
            del self._running[future]
            return key, outcome

    def _recover(self) -> tuple[Hashable, Trial] | None:
        """Start new processes and submit again what was running; the outcome of one that has had its attempts."""
        again = list(self._running.values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool, self._running = self._start(), {}
        lost: tuple[Hashable, Trial] | None = None
        for at, (key, problem, arch, judge, attempt) in enumerate(again):
            # Of those that were running, `count` at most, one killed its process: which is not known, so each counts.
            suspect = at < self._count
            if suspect and attempt >= ATTEMPTS and lost is None:
                reason = DIED
                lost = key, Trial(arch, state=State.FAILED, reason=reason)
            else:
                self.submit(key, problem, arch, judge, attempt + suspect)
        return lost

    def close(self) -> None:
        """End the processes at once, whatever they are doing."""
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        self._quiet.cleanup()

    @property
    def gate(self) -> str:
        return self._quiet.name


def _gate_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="nas-bo-quiet-", ignore_cleanup_errors=True)


def _begin(quiet: str) -> None:
    """Ctrl-C goes to the whole process group, but only the driver decides what to do; when it is killed, so are we.
    With more than one worker none measures while another trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    join(quiet)


def _follow() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _evaluate(problem: bytes, arch: Architecture, judge: Judge | None) -> tuple[Trial, list[Heard]]:
    """The trial, and what it warned of."""
    with hearing(ear := Ear()):
        return _evaluated(problem, arch, judge), sendable(ear.heard)


def _evaluated(problem: bytes, arch: Architecture, judge: Judge | None) -> Trial:
    """`problem` comes pickled, so that one that cannot be read here is a failed trial with the reason."""
    try:
        read: Problem = pickle.loads(problem)
    except Exception as error:
        text = f"{type(error).__name__}: {error}; define space and objectives at the top level of a module"
        return Trial(arch, state=State.FAILED, reason=f"the problem cannot be read in a worker process: {text}")
    return read.evaluate(arch, judge)
