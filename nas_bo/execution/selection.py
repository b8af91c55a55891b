"""The executor of a call: what the user gave, or what stands for a number of workers."""

from __future__ import annotations

from nas_bo import elsewhere
from nas_bo.errors import SearchError
from nas_bo.execution.executor import Checking, Executor, check_not_importing, limit
from nas_bo.execution.in_process import InProcess
from nas_bo.execution.processes import Processes
from nas_bo.problem import Problem


def _check_gpus(asked: int, workers: int, who: str) -> None:
    """Raises SearchError where local processes would train on GPUs that are not there, or that another one uses (each has its own)."""
    if not asked:
        return
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there < workers * asked:
        needs = f", so {workers} local processes need {workers * asked}" if workers > 1 else ""
        raise SearchError(
            f"{who}(): each candidate is trained on {asked} GPUs (gpus_per_trial){needs}, and this process sees {there}; ask for fewer, use fewer "
            f"workers, a cluster that has them (Ray(num_gpus={asked})), or device='cpu' to try it on processors"
        )


def check_executor(executor: Executor | None, workers: int, who: str) -> None:
    """Raises SearchError where it is none, or given next to a number of local processes."""
    if executor is None:
        return
    if workers != 1:
        raise SearchError(
            f"{who}(executor={executor!r}, workers={workers}): give one of them; the executor has workers of its own"
        )
    if isinstance(executor, type) or not isinstance(executor, Executor):
        raise SearchError(
            f"{who}(executor={executor!r}): it is an object with submit(key, problem, arch, judge), take() and close(), such as "
            "Processes(4) or Ray()"
        )


def executor_of(
    executor: Executor | None, workers: int, problem: Problem, who: str, timeout: float | None = None
) -> Executor:
    """The executor of a call that takes either one, or a number of local processes.

    Args:
        who: the call that messages name, such as "search".
        timeout: seconds that an evaluation may take. What can be ended runs in a process of its own, with one worker too.

    Raises:
        SearchError: both are given, it is none, or it cannot evaluate the problem, or not end an evaluation; or the call comes from a
            worker process that imports an unguarded script.
    """
    check_not_importing(who)
    check_executor(executor, workers, who)
    if executor is None:
        _check_gpus(elsewhere.gpus_needed(problem.evaluated()), workers, who)
        executor = InProcess() if workers == 1 and timeout is None else Processes(workers)
    if isinstance(executor, Checking):
        try:
            executor.check_problem(problem)
        except BaseException:
            executor.close()  # it may hold a connection already
            raise
    if timeout is not None:
        limit(executor, timeout, who)
    return executor
