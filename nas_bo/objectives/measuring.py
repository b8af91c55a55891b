"""What objectives that are measured on this machine offer a search beyond their value: to make ready, and to measure again.

`search` calls `Ready.ready` before the first trial, and at the end `Remeasured.remeasure` with the front and the baselines, so
that what is drawn side by side was measured side by side. An objective of your own may offer either.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError, Unsupported
from nas_bo.hardware.workload import Setting
from nas_bo.objective import Ready, Say, Value
from nas_bo.space.space import Space

if TYPE_CHECKING:
    from nas_bo.hardware.measuring.bench import Timing
    from nas_bo.hardware.runtimes.interface import Prepared, Runtime

_log = logging.getLogger(__name__)
HELD = 2e9  # bytes of weights that are measured together


def make_ready(space: type[Space], objectives: Iterable[object], profile: object, say: Say) -> None:
    """Let every measured objective find out what it needs to know about this machine. What goes wrong here costs
    precision, no search: it is a warning."""
    for objective in objectives:
        if isinstance(objective, Ready):
            try:
                objective.ready(space, profile, say)
            except (NasBoError, OSError) as error:
                _log.warning("%r could not be made ready, and is measured without: %s", objective, error)


def silent(what: str, done: int, of: int) -> None:
    """A `Say` that says nothing."""


def measured(
    archs: Sequence[Architecture],
    steps: Sequence[tuple[Setting, float]],
    runtime: Runtime,
    profiles: Sequence[Path | None],
    precision: float,
    max_seconds: float,
    say: Say = silent,
) -> list[Value | Unsupported]:
    """Milliseconds of architectures: the sum over `steps` of how often times how long, each measured on its bench.

    Args:
        runtime: what runs them, a `nas_bo.hardware.runtimes.interface.Runtime`.
        profiles: for each step the file of this machine's profile, if there is one.
        max_seconds: for each architecture, all steps together.
    """
    from nas_bo.hardware.latency.machine_profile import combined
    from nas_bo.hardware.measuring.bench import bench, next_session
    from nas_bo.hardware.measuring.scale import NOTED, noted
    from nas_bo.hardware.runtimes.interface import held_together

    device = str(runtime.device)
    found: dict[int, list[tuple[Timing, Timing, dict[str, float]]]] = {at: [] for at in range(len(archs))}
    refused: dict[int, Unsupported] = {}
    for number, ((setting, _), path) in enumerate(zip(steps, profiles, strict=True)):
        here = bench(device, setting)
        for block in held_together(runtime, [(arch, setting) for arch in archs], HELD):
            ready: dict[int, Prepared] = {}
            for at in block:
                if at in refused:
                    continue
                try:
                    ready[at] = runtime.prepare(archs[at], setting)
                except Unsupported as error:
                    refused[at] = error

            def progress(settled: int, of: int, number: int = number, before: int = block[0]) -> None:
                say("measure", number * len(archs) + before + settled, len(steps) * len(archs))

            timings = here.measure(list(ready.values()), runtime, precision, max_seconds / len(steps), progress)
            for at, timing in zip(ready, timings, strict=True):
                found[at].append((timing, *combined(timing, archs[at], path)))
    values: list[Value | Unsupported] = []
    for at in range(len(archs)):
        if at in refused:
            values.append(refused[at])
            continue
        parts = [(raw, surer, told, often) for (raw, surer, told), (_, often) in zip(found[at], steps, strict=True)]
        ms = sum(surer.ms * often for _, surer, _, often in parts)
        doubt = sum((surer.sd * surer.ms * often) ** 2 for _, surer, _, often in parts) ** 0.5 / ms
        low, high = next_session(ms, doubt)
        first, _, told, _ = parts[0]
        marks = [bench(device, setting).mark for setting, _ in steps]
        values.append(
            Value(
                ms,
                how="measured",
                device=first.device,
                runtime=runtime.name,
                clock=first.clock,
                repeats=min(raw.repeats for raw, *_ in parts),
                spread=round(max(raw.spread for raw, *_ in parts), 4),
                low=round(low, 6),
                high=round(high, 6),
                level=0.9,
                settled=all(raw.settled for raw, *_ in parts),
                wall_ratio=round(max(raw.wall_ratio for raw, *_ in parts), 3),
                slower=round(max(raw.slower for raw, *_ in parts), 3),
                **(told if len(parts) == 1 else {}),
                **{
                    NOTED: [
                        noted(m, raw.scale, surer.ms * n) for m, (raw, surer, _, n) in zip(marks, parts, strict=True)
                    ]
                },
            )
        )
    return values
