"""The standard design for a search that has ended, such as one of version 0.1: trained and measured as its front was."""

from __future__ import annotations

from collections.abc import Callable

from nas_bo import foreign_recipe
from nas_bo.errors import SearchError
from nas_bo.execution.executor import Executor, gate_of
from nas_bo.execution.interrupts import uninterrupted
from nas_bo.execution.selection import executor_of
from nas_bo.foreign_recipe import Allow
from nas_bo.optuna.reading import Study
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.strategies.random import Random
from nas_bo.workflows import extra_evaluations
from nas_bo.workflows.baselines import STANDARD
from nas_bo.workflows.progress import Progress
from nas_bo.workflows.result import Result
from nas_bo.workflows.search_run import SearchRun
from nas_bo.workflows.search_settings import SearchSettings
from nas_bo.workflows.stored_result import load_result

FACTOR = 2.0  # at which a front is trained again that never was


def compare_standard(
    study: Study,
    space: type[Space] | None = None,
    *,
    workers: int = 1,
    executor: Executor | None = None,
    timeout: float | None = None,
    allow: Allow = (),
    on_progress: Callable[[Progress], object] | None = None,
) -> Result:
    """Train and measure the plain decoder of the space at sizes that span the front of `study`, keep that in the study, and return its
    `Result`, whose `gain` says what was gained. What is there is not trained twice; a front that was never trained again is, at twice the
    budget.

    Args:
        space: what was searched, with its rules; by default what the study says, without them.
        workers, executor, timeout, on_progress: as in `search`.
        allow: as in `nas_bo.foreign_recipe.rebuild`: the study may be somebody else's.

    Raises:
        SearchError: nas_bo did not make the study, it has no front, its objectives cannot be made again, or there is nothing to compare.
    """
    result = load_result(study, space)
    record = result.record
    recipe = {} if record is None else record.about.get("recipe") or {}
    if record is None or result.space is None or not recipe.get("objectives"):
        raise SearchError(
            f"the study {result.title!r} does not say how its objectives are made, so nothing can be compared with it; search again with "
            "--baseline standard"
        )
    if not result.front:
        raise SearchError(
            f"the study {result.title!r} has no feasible trial, so there is no front to compare with; search first"
        )
    factor = float(record.factor or FACTOR)
    made = {
        kind: [
            foreign_recipe.rebuild(one, allow, f"the study {result.title!r}", factor) for one in recipe.get(kind, ())
        ]
        for kind in ("objectives", "limits")
    }
    problem = Problem(result.space, made["objectives"], made["limits"])
    settings = SearchSettings(
        trials=len(result.trials),
        retrain=factor,
        retrain_others=0,
        baseline=STANDARD,
        timeout=timeout,
        on_progress=on_progress,
    )
    executor = executor_of(executor, workers, problem, "validate", timeout)
    run = SearchRun(problem, Random(), study, executor, settings)
    try:
        with gate_of(executor):
            plain = extra_evaluations.retrain(run, factor, 0)
            extra_evaluations.remeasure(run, plain)
    finally:
        with uninterrupted():
            executor.close()
    found = load_result(study, space)
    if found.gain is None:
        why = found.not_compared or "none of its objectives can be trained again"
        raise SearchError(f"the study {result.title!r} cannot be compared with a standard design: {why}")
    return found
