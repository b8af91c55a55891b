"""The problems of `search_efficiency`: published data (from a folder) and synthetic spaces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.search_efficiency.problems import deep, hw_gpt_bench, limits, llmforge, mixed, nas_bench_201, pipeline
from benchmarks.search_efficiency.problems.case import Case

REFERENCE = Path(__file__).parent / "reference.json"
SYNTHETIC = ("deep", "deep-noisy", "limits", "mixed", "pipeline")
NAMES = (*hw_gpt_bench.CASES, *nas_bench_201.CASES, *llmforge.CASES, *SYNTHETIC)
POINTS = {"deep": (3.9, 20.0), "limits": (3.8, 6.0, 25.0)}
NOISE = {"loss": 0.01}


def synthetic(name: str) -> Case:
    """One of `SYNTHETIC`, with the stored reference hypervolume where it was computed for this very problem."""
    if name == "mixed":
        return Case(name, mixed.Boosters, {"loss": mixed.loss}, ("loss",), (mixed.POINT,), mixed.POINT - mixed.LEAST)
    if name == "pipeline":
        reach = pipeline.POINT - pipeline.LEAST
        return Case(name, pipeline.Pipeline, {"error": pipeline.error}, ("error",), (pipeline.POINT,), reach)
    family = name.removesuffix("-noisy")
    stored: dict[str, Any] = json.loads(REFERENCE.read_text()).get(family, {}) if REFERENCE.exists() else {}
    here = POINTS[family]
    hv = stored["hv"] if stored.get("point") == list(here) else float("nan")
    noise = NOISE if name.endswith("-noisy") else {}
    if family == "deep":
        functions = {"loss": deep.loss, "latency_ms": deep.latency_ms}
        return Case(name, deep.Deep, functions, ("loss", "latency_ms"), here, hv, known=("latency_ms",), noise=noise)
    functions = {
        "loss": limits.loss,
        "latency_ms": limits.latency_ms,
        "params_m": limits.params_m,
        "memory_mb": limits.memory_mb,
    }
    objectives, known = ("loss", "latency_ms", "params_m"), ("params_m", "memory_mb")
    return Case(name, limits.Limits, functions, objectives, here, hv, known, limits.LIMITS)


def load(names: Sequence[str], data: Path | None) -> list[Case]:
    """The named problems; those of published data are left out without their folder.

    Raises:
        KeyError: no such problem.
        FileNotFoundError: the folder does not hold the data.
    """
    for name in names:
        if name not in NAMES:
            raise KeyError(f"there is no problem {name!r}; there are: {', '.join(NAMES)}")
    found = []
    for name in names:
        if name in SYNTHETIC:
            found.append(synthetic(name))
        elif data is not None and name in nas_bench_201.CASES:
            found.append(nas_bench_201.case(name, data))
        elif data is not None and name in llmforge.CASES:
            found.append(llmforge.case(name, data))
        elif data is not None:
            found.append(hw_gpt_bench.case(name, data))
    return found


__all__ = ["NAMES", "REFERENCE", "SYNTHETIC", "Case", "load", "synthetic"]
