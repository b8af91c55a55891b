"""The contract `Executor`: where evaluations run. What an executor may offer beyond it is next to it, each as a protocol."""

from __future__ import annotations

import multiprocessing
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable

from nas_bo import measurement_lock
from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.objective import Judge
from nas_bo.problem import Problem
from nas_bo.process import Place
from nas_bo.safe_text import lines, told
from nas_bo.trial import State, Trial


@runtime_checkable
class Executor(Protocol):
    """Where evaluations run. No base class is needed; `nas_bo.testing.ExecutorTests` checks one.

    A search submits what it wants to know under keys of its own, takes outcomes in the order in which they end, and closes
    the executor in the end. Whatever goes wrong with one evaluation is a failed trial with its reason, never an exception:
    `evaluate` does that for what an objective does, the executor for what happens to a process or a machine.
    """

    def submit(self, key: Hashable, problem: Problem, arch: Architecture, judge: Judge | None = None) -> None:
        """Start ``problem.evaluate(arch, judge)``, or queue it. No two of one key are submitted before the first is taken."""

    def take(self) -> tuple[Hashable, Trial]:
        """Wait for the next outcome, and give it with its key.

        Raises:
            LookupError: nothing is left to wait for.
        """

    def close(self) -> None:
        """End at once whatever runs, forget what was submitted, and give everything back. It may be called twice; what is
        submitted later may start everything again (those of nas_bo do)."""


@runtime_checkable
class Concurrent(Protocol):
    """An executor that runs several evaluations at a time; without it a search submits one after the other.

    Attributes:
        workers: how many. It is part of the seed: a proposal sees all trials but the last ``2 * workers``.
    """

    workers: int


@runtime_checkable
class Checking(Protocol):
    """An executor that can say before the first trial that it cannot evaluate a problem."""

    def check_problem(self, problem: Problem) -> None:
        """Raises SearchError, with the reason."""


@runtime_checkable
class Gated(Protocol):
    """An executor on whose machine nobody trains while somebody measures (`nas_bo.measurement_lock`).

    Attributes:
        gate: the folder that its processes have joined; whoever drives the executor joins it too.
    """

    @property
    def gate(self) -> str: ...


@runtime_checkable
class Polled(Protocol):
    """An executor for drivers that do not wait, such as Ax's."""

    def ended(self) -> list[tuple[Hashable, Trial]]:
        """What `take` would give at once."""

    def cancel(self, key: Hashable) -> None:
        """End the evaluation of this key, whatever it is doing; it has no outcome. Nothing happens where there is none."""


@runtime_checkable
class Stopping(Protocol):
    """An executor from which nothing that ended is lost when its driver is interrupted."""

    def stop(self) -> list[tuple[Hashable, Trial]]:
        """As `close`, and what had ended and was not taken, or came to its end while it was asked to."""


@runtime_checkable
class Limited(Protocol):
    """An executor that can end an evaluation, whatever it is doing: its process, and all that this has started."""

    def limit(self, seconds: float | None) -> None:
        """What is submitted from now on fails when it takes longer, in seconds of wall time from its own begin; None for no
        limit."""


@runtime_checkable
class Keeping(Protocol):
    """An executor whose workers keep what came of an evaluation until it is stored: a later search that submits it under the same name is
    given that, and nothing is evaluated twice because its driver was killed (`nas_bo.execution.outcome_spool`)."""

    def keep(self, key: Hashable, name: str) -> None:
        """What is submitted next under this key has this name, which no other evaluation of whatever study has."""

    def stored(self, name: str) -> None:
        """What was kept under this name may go."""


@runtime_checkable
class Placing(Protocol):
    """An executor on several machines, whose outcomes say on which (`Trial.place`)."""

    def places(self) -> Mapping[Hashable, Place]:
        """Where what is evaluated now is evaluated; other threads may ask."""


@runtime_checkable
class Isolating(Protocol):
    """An executor whose evaluations may end the process that drives it; it can evaluate one of them elsewhere."""

    def isolate(self, key: Hashable, deaths: int) -> None:
        """What is submitted next under this key is evaluated in a process of its own, and fails when that dies too.

        Args:
            deaths: how many processes have died that evaluated it; 0 where one died of a similar evaluation. Where it cannot be evaluated
                elsewhere, one was bad luck; from the second on it fails.
        """


def evaluate(problem: Problem, arch: Architecture, judge: Judge | None = None) -> Trial:
    """`Problem.evaluate`, where an exit that is called for inside an objective fails its trial and nothing else."""
    try:
        return problem.evaluate(arch, judge)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return failed(arch, told(error))


def failed(arch: Architecture, reason: str) -> Trial:
    return Trial(arch, state=State.FAILED, reason=lines(reason))


def check_not_importing(who: str) -> None:
    """Raises SearchError in a worker process that imports the script of its driver, where nothing may be started."""
    if "_inheriting" in vars(
        multiprocessing.current_process()
    ):  # Python's own mark of a process that imports its script
        raise SearchError(
            f"{who}() was called while a worker process was importing the script that called it; put the call below "
            "`if __name__ == '__main__':`, as every program that starts processes must"
        )


def workers_of(executor: Executor) -> int:
    """How many evaluations it runs at a time."""
    return executor.workers if isinstance(executor, Concurrent) else 1


def gate_of(executor: Executor) -> AbstractContextManager[None]:
    """Within this the process that drives `executor` keeps still while it measures, where it has a gate."""
    return measurement_lock.joined(executor.gate) if isinstance(executor, Gated) else nullcontext()


def limit(executor: Executor, seconds: float | None, who: str) -> None:
    """`Limited.limit`; raises SearchError where there is a limit and the executor cannot keep it."""
    if isinstance(executor, Limited):
        executor.limit(seconds)
    elif seconds is not None:
        raise SearchError(
            f"{who}(timeout={seconds:g}): {type(executor).__name__} cannot end an evaluation (it has no method limit(seconds)); use "
            "workers=1 or more, Processes(1), or leave timeout out"
        )
