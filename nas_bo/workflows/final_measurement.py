"""What a search measures after its last trial: the front and the baselines, side by side.

In a trial an architecture is measured once, at whatever moment its turn comes. At the end all that is shown side by side is
measured side by side, in one session in which they take turns; those values are what tables and pictures show.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError, Unsupported
from nas_bo.hardware.measuring.scale import Known, rescaled
from nas_bo.objective import Remeasured, Say
from nas_bo.optuna import studies
from nas_bo.problem import Problem
from nas_bo.study import REMEASURED, StudyRecord

if TYPE_CHECKING:
    from nas_bo.optuna.reading import Study

_log = logging.getLogger(__name__)

SAID_EVERY_S = 0.5
MOST = 40  # architectures in the last session


@dataclass(frozen=True)
class Session:
    """The last session of a study: architecture id -> objective -> value, and how it was obtained."""

    values: Mapping[str, Mapping[str, float]]
    info: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, record: StudyRecord) -> Session:
        return cls(record.remeasured.get("values", {}), record.remeasured.get("info", {}))

    def of_baseline(self, record: Mapping[str, Any]) -> dict[str, object]:
        """The record of a baseline with what was measured of it next to the front."""
        values, info = self.values.get(record["id"], {}), self.info.get(record["id"], {})
        return {
            **record,
            "values": {**record.get("values", {}), **values},
            "info": {**record.get("info", {}), **info},
        }

    def on(self, scale: Mapping[str, Known]) -> Session:
        """With its values on a scale of `fastest`."""
        both = {key: rescaled(values, self.info.get(key, {}), scale) for key, values in self.values.items()}
        return Session({k: v for k, (v, _, _) in both.items()}, {k: i for k, (_, i, _) in both.items()})


def remeasure(study: Study, problem: Problem, archs: Sequence[Architecture], say: Say) -> None:
    """Measure `archs` once more, in turn, under every measured objective of the problem, and keep it in the study."""
    objectives = [o for o in problem.objectives if isinstance(o, Remeasured)]
    archs = list({arch.id: arch for arch in archs}.values())[:MOST]
    known = (studies.kept(study, REMEASURED) or {}).get("values", {})
    if not objectives or len(archs) < 2 or all(arch.id in known for arch in archs):
        return
    values: dict[str, dict[str, float]] = {arch.id: {} for arch in archs}
    info: dict[str, dict[str, Any]] = {arch.id: {} for arch in archs}
    for objective in objectives:
        try:
            found = objective.remeasure(archs, say)
        except (NasBoError, OSError) as error:
            _log.warning(
                "%s could not be measured again, so its values are those of the trials: %s", objective.name, error
            )
            continue
        for arch, value in zip(archs, found, strict=False):  # nothing where it is predicted
            if not isinstance(value, Unsupported):
                values[arch.id][objective.name] = float(value)
                info[arch.id][objective.name] = dict(value.info)
    if any(values.values()):
        studies.keep(study, REMEASURED, {"values": values, "info": info})


def saying(notify: Callable[[str, int, int], None]) -> Say:
    """The phases of the objectives under the names that a search shows: "profile" and "block scores" before, "measure" after.
    At most twice a second, and at the end of each."""
    last = [0.0]

    def say(what: str, done: int, of: int) -> None:
        if done < of and time.monotonic() - last[0] < SAID_EVERY_S:
            return
        last[0] = time.monotonic()
        notify(what if what in ("block scores", "measure") else "profile", done, of)

    return say
