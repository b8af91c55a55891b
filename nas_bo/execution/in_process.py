"""Evaluations in the process that asks for them, one after the other."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Hashable

from nas_bo import temporary
from nas_bo.architecture import Architecture
from nas_bo.execution.executor import evaluate
from nas_bo.objective import Judge
from nas_bo.problem import Problem
from nas_bo.trial import Trial


class InProcess:
    """Evaluations in this process. `take` evaluates what was submitted first."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Hashable, Problem, Architecture, Judge | None]] = deque()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def submit(self, key: Hashable, problem: Problem, arch: Architecture, judge: Judge | None = None) -> None:
        self._waiting.append((key, problem, arch, judge))

    def take(self) -> tuple[Hashable, Trial]:
        key, problem, arch, judge = self._waiting.popleft()
        return key, evaluate(problem, arch, judge)

    def close(self) -> None:
        self._waiting.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def gate(self) -> str:
        """Of the threads of this process: a tracker's waits while something is measured."""
        if self._folder is None:
            self._folder = gate_folder()
        return self._folder.name


def gate_folder() -> tempfile.TemporaryDirectory[str]:
    return temporary.made("quiet")


__all__ = ["InProcess"]
