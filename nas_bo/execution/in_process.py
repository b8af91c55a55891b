"""Evaluations in the process that asks for them, one after the other."""

from __future__ import annotations

import logging
import pickle
from collections import deque
from collections.abc import Hashable
from contextlib import suppress

from nas_bo import temporary
from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.execution import outcome_spool
from nas_bo.execution.executor import evaluate, failed
from nas_bo.execution.worker import unpacked
from nas_bo.objective import Judge
from nas_bo.problem import Problem
from nas_bo.trial import Trial

_log = logging.getLogger(__name__)


class InProcess:
    """Evaluations in this process. `take` evaluates what was submitted first.

    An evaluation that ends its process (a crash in native code, no memory left, `os._exit`) ends this one. Whoever continues then
    isolates it: it is evaluated in a process of its own.
    """

    def __init__(self) -> None:
        self._deaths: dict[Hashable, int] = {}  # of what is to be isolated
        self._names: dict[Hashable, str] = {}  # of what is submitted next
        self._waiting: deque[tuple[Hashable, Problem, Architecture, Judge | None, str]] = deque()
        self._folder = temporary.Late("quiet")

    def submit(self, key: Hashable, problem: Problem, arch: Architecture, judge: Judge | None = None) -> None:
        self._waiting.append((key, problem, arch, judge, self._names.pop(key, "")))

    def take(self) -> tuple[Hashable, Trial]:
        key, problem, arch, judge, name = self._waiting.popleft()
        deaths = self._deaths.pop(key, None)
        if (before := outcome_spool.found(name, arch)) is not None:
            return key, unpacked(before)[0]
        outcome = evaluate(problem, arch, judge) if deaths is None else _apart(key, problem, arch, judge, deaths)
        if name:
            with suppress(Exception):  # an objective's `info` may hold anything
                outcome_spool.keep(name, outcome, pickle.dumps((outcome, [])))
        return key, outcome

    def keep(self, key: Hashable, name: str) -> None:
        self._names[key] = name

    def stored(self, name: str) -> None:
        outcome_spool.remove(name)

    def isolate(self, key: Hashable, deaths: int) -> None:
        self._deaths[key] = deaths

    def close(self) -> None:
        self._waiting.clear()
        self._deaths.clear()
        self._names.clear()
        self._folder.remove()

    @property
    def gate(self) -> str:
        """Of the threads of this process: a tracker's waits while something is measured."""
        return self._folder.name


def _apart(key: Hashable, problem: Problem, arch: Architecture, judge: Judge | None, deaths: int) -> Trial:
    """The outcome of an evaluation during which `deaths` processes have died."""
    from nas_bo.execution.processes import Processes

    executor = None
    try:
        executor = Processes(1)
        executor.check_problem(problem)
        (executor.submit_suspect if deaths else executor.submit)(key, problem, arch, judge)
        return executor.take()[1]
    except SearchError as error:
        if deaths > 1:
            return failed(
                arch,
                f"{deaths} processes that evaluated it died, and it cannot be evaluated in one of its own: {error}",
            )
        _log.warning("%s cannot be evaluated in a process of its own, so it may end this one: %s", key, error)
    finally:
        if executor is not None:
            executor.close()
    return evaluate(problem, arch, judge)
