"""Where what a search finds is logged, while it runs and at its end: a tracker, made from what a user gave as `track`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from nas_bo import database_url
from nas_bo.errors import SearchError
from nas_bo.report.summary import Summary


@runtime_checkable
class Tracking(Protocol):
    """What a tracker does with every trial of a study. `nas_bo.mlflow.Tracker` is one; no base class is needed.

    Nothing that it does may stop a search: what it cannot log now it keeps, or says in a warning.
    """

    def check(self) -> None:
        """Raises NasBoError before anything is evaluated, where nothing could be logged."""

    def log(self, study: object, trial: object) -> None:
        """A trial has ended."""

    def log_study(self, study: object) -> object:
        """A study continues: whatever of it is not reported yet."""

    def finish(
        self, study: object, files: Mapping[str, str | bytes | Path] = ..., *, summary: Summary | None = ...
    ) -> object:
        """A study, or its validation, is complete: `files` by name, and what is drawn from `summary`."""

    def url(self, study: object) -> str:
        """Where it is shown."""


@runtime_checkable
class Warmed(Protocol):
    """A tracker that takes seconds to begin, which it may do while the search continues."""

    def warm(self) -> object: ...


@runtime_checkable
class Counting(Protocol):
    """A tracker that shows while a search lasts how many of its trials have ended, failed, run, are queued, wait, and are lost."""

    def count(self, study: object, counts: Mapping[str, int]) -> object:
        """How many there are now, by these words; a later call replaces an earlier one."""


def tracker_of(track: object, storage: object, who: str) -> Tracking | None:
    """The tracker of a call, checked; None where nothing is tracked.

    What is not logged yet waits next to the study, where the study is a file.

    Args:
        track: None, a tracker, or the tracking URI of MLflow.
        storage: of the study, as the user gave it.
        who: the call that messages name.

    Raises:
        SearchError: it is none of these, or the file of the study.
        NasBoError: the tracker cannot tell anything.
    """
    if track is None:
        return None
    if isinstance(track, Tracking) and not isinstance(track, type):
        track.check()
        return track
    if not isinstance(track, (str, Path)):
        raise SearchError(
            f"{who}(track={track!r:.80}): it is the tracking URI of MLflow, such as 'sqlite:///mlflow.db', or a tracker with check(), "
            "log(study, trial), log_study(study), finish(study, files, summary=...) and url(study)"
        )
    from nas_bo.mlflow import Tracker, beside

    file = database_url.file_of(storage)
    if file is not None and file == database_url.file_of(track):
        raise SearchError(
            f"the study and MLflow are both to be kept in {str(file)!r}: each has tables of its own, and neither opens those of the "
            "other; give MLflow another file, such as mlflow.db"
        )
    tracker = Tracker(uri=str(track), spool=beside(storage))
    tracker.check()
    return tracker
