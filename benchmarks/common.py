"""What the result of every benchmark says beside its figures, and where it is written."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]


def envelope(what: str, *packages: str, device: str = "cpu", **more: Any) -> dict[str, Any]:
    """The head of a result.

    Args:
        what: is measured, with units.
        packages: whose versions matter.
        device: on which it was measured.
        more: repeats, spread, figures, and what else the question has; `machine` adds to what is said of the machine.
    """
    from nas_bo.hardware.measuring.measure import device_name

    machine = {
        "processor": device_name(device),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return {"what": what, "machine": {**machine, **more.pop("machine", {})}, "versions": versions, **more}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation and the ends of what was repeated."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    figures = {"mean": statistics.mean(values), "sd": deviation, "worst": max(values), "least": min(values)}
    return {name: round(value, 4) for name, value in figures.items()}


def write(document: dict[str, Any], name: str | Path, keep: bool = True) -> None:
    """Print a result, and keep it as `benchmarks/results/NAME` unless it is of a quick run."""
    text = json.dumps(document, indent=1) + "\n"
    sys.stdout.write(text)
    if keep:
        path = RESULTS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
