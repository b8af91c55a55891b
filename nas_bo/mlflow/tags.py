"""Tags that are for this package and not for people: MLflow shows none whose name begins with ``mlflow.``.

Runs of version 0.1 have them without that; both are read, and a study that began so continues so.
"""

from __future__ import annotations

from collections.abc import Mapping

KEY = "mlflow.nas.study_key"  # tells studies of one name apart
UID = "mlflow.nas.uid"  # of a run, so that nothing is logged twice
WRITER = "mlflow.nas.writer"  # which process wrote a run: says whether one that is left running is being written still
PROGRESS = "mlflow.nas.progress"  # how far the step metrics of a study have come
SPACE = "mlflow.nas.space_hash"
COLOR = "mlflow.runColor"  # MLflow's own: of a run in its charts

ON_FRONT, BESIDE, COMPARED = "#d9480f", "#9fb0c3", "#862e9c"  # colours: the front, other trials, baselines


def before(name: str) -> str:
    """The name of a tag in version 0.1."""
    return name.removeprefix("mlflow.")


def value(tags: Mapping[str, str], name: str) -> str:
    """What is in a tag, or was in version 0.1; "" where there is none."""
    return tags.get(name) or tags.get(before(name), "")


def key_tag(tags: Mapping[str, str]) -> str:
    """Under which name the runs of a study have its key; `tags` are those of its own run."""
    return before(KEY) if KEY not in tags and before(KEY) in tags else KEY


def color(on_front: bool) -> str:
    """Of a trial in MLflow's charts."""
    return ON_FRONT if on_front else BESIDE
