"""The shipped suite on every executor of ours."""

from __future__ import annotations

from nas_bo.execution import InProcess, Processes
from nas_bo.testing import ExecutorTests


class TestInProcess(ExecutorTests):
    def executor(self):
        return InProcess()


class TestProcesses(ExecutorTests):
    survives = True

    def executor(self):
        return Processes(2)


class Minimal:
    """Nothing but the contract, by somebody who read only that."""

    def __init__(self):
        self.todo = []

    def submit(self, key, problem, arch, judge=None):
        self.todo.append((key, problem, arch, judge))

    def take(self):
        from nas_bo.execution.executor import evaluate

        key, problem, arch, judge = self.todo.pop()  # in an order of its own
        return key, evaluate(problem, arch, judge)

    def close(self):
        self.todo.clear()


class TestMinimal(ExecutorTests):
    def executor(self):
        return Minimal()
