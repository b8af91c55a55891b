"""Several synthetic tasks as one objective, as MAD averages its tasks (Poli et al. 2024, arXiv 2403.17844, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.objective import Value
from nas_bo.objectives.proxy_task.objective import ProxyTask
from nas_bo.trial import Direction


@dataclass(frozen=True)
class TaskSuite:
    """The mean of the tasks' scores: 0 is guessing, 1 knows every answer. Each task is set against its own chance, so
    that tasks with many answers do not outweigh the others.

    Args:
        tasks: objectives `ProxyTask`, each with its own budget.
        at_most, at_least: hard limits on the mean.

    The value's `info` keeps the score of every task in `scores`, and all of it in `of`.

    Raises:
        ObjectiveError: no task, something else than a `ProxyTask`, or two of the same name.
    """

    tasks: Sequence[ProxyTask]
    at_most: float | None = None
    at_least: float | None = None
    name: str = "task_suite"
    unit: str = ""
    direction: Direction = "maximize"
    cost: Literal["trained"] = "trained"

    def __post_init__(self) -> None:
        if isinstance(self.tasks, (ProxyTask, str)) or not isinstance(self.tasks, Sequence) or not self.tasks:
            raise ObjectiveError(
                "TaskSuite needs a list of at least one ProxyTask, as in TaskSuite([ProxyTask(InductionHeads())])"
            )
        for task in self.tasks:
            if not isinstance(task, ProxyTask):
                raise ObjectiveError(
                    f"TaskSuite: {task!r:.60} is not a ProxyTask; write ProxyTask({task!r:.40}, steps=...)"
                )
        names = [task.name for task in self.tasks]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ObjectiveError(f"TaskSuite: two tasks are named {twice[0]!r}; give one ProxyTask(..., name=...)")
        object.__setattr__(self, "tasks", tuple(self.tasks))

    def conditions(self) -> dict[str, object]:
        return {task.name: task.conditions() for task in self.tasks}

    def larger(self, factor: float) -> TaskSuite:
        """The same suite with `factor` times the steps of every task and other seeds."""
        tasks = [task.larger(factor) for task in self.tasks]
        return replace(self, tasks=tasks, at_most=None, at_least=None)

    def __call__(self, arch: Architecture, /) -> Value:
        values = {task.name: task(arch) for task in self.tasks}
        scores = {name: value.info["score"] for name, value in values.items()}
        return Value(
            sum(scores.values()) / len(scores),
            how="proxy-task",
            scores=scores,
            of={name: {"value": float(value), **value.info} for name, value in values.items()},
            cpu_seconds=round(sum(value.info["cpu_seconds"] for value in values.values()), 4),
        )
