"""Source: where trials come from. Optuna studies are read here, Ax experiments in `experiment`; neither is imported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from nas_bo.errors import HostError
from nas_bo.mlflow import content, records
from nas_bo.mlflow.experiment import AxSource
from nas_bo.mlflow.records import Subject
from nas_bo.report import Summary


class Source(Protocol):
    """What a tracker asks of a study or an experiment."""

    def subject(self) -> Subject | None:
        """What the study is; None while that is not certain, which is before its first trial."""

    def finished(self) -> list[Any]:
        """The trials that have ended, each with its `number` or `index`."""

    def running(self) -> int:
        """How many trials have not ended."""

    def content(self, trial: Any, subject: Subject) -> content.Content:
        """A finished trial as a run."""

    def summary(self, subject: Subject, title: str) -> Summary:
        """What the study itself says, for a report."""


class OptunaSource:
    """An Optuna study."""

    def __init__(self, study: Any) -> None:
        self.study = study

    def subject(self) -> Subject | None:
        return records.subject(self.study)

    def finished(self) -> list[Any]:
        return records.finished(self.study)

    def running(self) -> int:
        return sum(t.state.name == "RUNNING" for t in self.study.get_trials(deepcopy=False))

    def content(self, trial: Any, subject: Subject) -> content.Content:
        return content.of_study(trial, subject)

    def summary(self, subject: Subject, title: str) -> Summary:
        return records.summary(self.study, subject.about, subject.columns, title)


def source(study: Any) -> Source:
    """The source that `study` is: an Optuna study, an Ax client, or an Ax experiment.

    Raises:
        HostError: it is none of them.
    """
    if hasattr(study, "get_trials") and hasattr(study, "study_name"):
        return OptunaSource(study)
    experiment = getattr(study, "_experiment", None) or study
    if hasattr(experiment, "optimization_config") and hasattr(experiment, "lookup_data"):
        return AxSource(experiment)
    raise HostError(f"{type(study).__name__} is not a study: give an Optuna study, an Ax client or an Ax experiment")


def points(of: Source, known: set[int], subject: Subject) -> Iterable[tuple[int, list[float] | None]]:
    """Number and point (see `content.Content`) of the finished trials but for the known ones."""
    for trial in of.finished():
        if number(trial) not in known:
            yield number(trial), of.content(trial, subject).point


def number(trial: Any) -> int:
    return int(trial.number if hasattr(trial, "number") else trial.index)
