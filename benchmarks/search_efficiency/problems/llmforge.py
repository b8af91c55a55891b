"""The decoders of LLMForge in table mode: a searcher chooses among 1,161 architectures that were trained, and each can be looked at once.

Validation loss against parameters and key-value cache; the latter two follow from the architecture, so our strategies may compute them.
`llmforge-loss`: the loss alone. The front of the table is exact. The reference point is the worst of the table, its loss at most the median.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.predictors import llmforge
from benchmarks.search_efficiency.problems.case import Case
from nas_bo.architecture import Architecture
from nas_bo.pareto import hypervolume

CASES = ("llmforge", "llmforge-loss")


def case(name: str, folder: Path) -> Case:
    """One of `CASES`.

    Raises:
        FileNotFoundError: `folder` does not hold the table.
    """
    table = llmforge.read(folder)
    at = {arch.id: i for i, arch in enumerate(table.archs)}
    every = {"loss": table.loss, "params_m": table.params_m, "kv_cache_mb": table.kv_cache_mb}
    objectives = ("loss",) if name == "llmforge-loss" else tuple(every)

    def function(values: np.ndarray):  # type: ignore[no-untyped-def]
        return lambda arch: float(values[at[arch.id]])

    rows = np.column_stack([every[name] for name in objectives])
    point = rows.max(0)
    point[0] = np.median(rows[:, 0])
    return Case(
        name,
        llmforge.LLMForge,
        {name: function(every[name]) for name in objectives},
        objectives,
        tuple(point.tolist()),
        hypervolume(rows, point),
        known=objectives[1:],
        among=table.archs,
    )


def nearest(case: Case, arch: Architecture, seen: set[str]) -> Architecture:
    """The architecture of the table that is most like `arch` and was not looked at: what `nas_bo.strategies.Among` does for evolution."""
    from nas_bo.strategies.among import nearest as of

    left = [one for one in case.among if one.id not in seen]
    return left[of(case.space, left, arch)]
