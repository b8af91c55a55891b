"""Synthetic tasks that small decoders learn, or fail to learn, within seconds: a task per file, each a recipe for
batches. `ProxyTask` makes an objective of one, `TaskSuite` of several. Names load lazily.

A task of your own is any object with the attributes of `Task`. An objective of your own that trains on something else
needs nothing from here: any callable with a name is one (`nas_bo.problem.as_objective`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_bo.objectives.proxy_task.copying import SelectiveCopying as SelectiveCopying
    from nas_bo.objectives.proxy_task.induction import InductionHeads as InductionHeads
    from nas_bo.objectives.proxy_task.markov import MarkovSource as MarkovSource
    from nas_bo.objectives.proxy_task.memorisation import Memorisation as Memorisation
    from nas_bo.objectives.proxy_task.objective import ProxyTask as ProxyTask
    from nas_bo.objectives.proxy_task.recall import AssociativeRecall as AssociativeRecall
    from nas_bo.objectives.proxy_task.suite import TaskSuite as TaskSuite
    from nas_bo.objectives.proxy_task.task import Task as Task

_HOME = {
    "AssociativeRecall": "recall",
    "InductionHeads": "induction",
    "MarkovSource": "markov",
    "Memorisation": "memorisation",
    "ProxyTask": "objective",
    "SelectiveCopying": "copying",
    "Task": "task",
    "TaskSuite": "suite",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
