"""Where a search of the command is tracked, and what is reported about it at the end: the address, or what is not there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nas_bo.wording import counted
from nas_bo.workflows.result import Result

if TYPE_CHECKING:
    from nas_bo.mlflow import Tracker


@dataclass(frozen=True)
class Tracking:
    """The tracker of one search.

    Attributes:
        word: what `--mlflow` said.
        storage: of the study.
        tracker: a `nas_bo.mlflow.Tracker`.
    """

    word: str
    storage: str
    tracker: Tracker

    @property
    def mend(self) -> str:
        """The command that logs what is missing."""
        return f"nas-bo mlflow sync {shlex.quote(self.storage)} --mlflow {shlex.quote(self.word)}"

    def missing(self) -> str:
        """What is not in MLflow, why, and what fixes it; "" when everything is there."""
        behind = self.tracker.behind()
        if behind is None:
            return ""
        trials = counted(behind.trials, "trial")
        what = trials if behind.trials and not behind.report else f"{trials} and the report" if behind.trials else ""
        verb = "are" if behind.trials and (behind.report or behind.trials != 1) else "is"
        why = f" ({behind.why.rstrip('.')})" if behind.why else ""
        return (
            f"{what or 'the report'} {verb} not in MLflow at {self.word}{why}. They are kept; when that is fixed, this logs them: "
            f"{self.mend}"
        )

    def address(self, result: Result) -> str:
        """How the study is seen in MLflow: the address on a server, else the command that starts one and prints it."""
        port = urlsplit(result.url or "").port
        other = f" --port {port}" if port not in (None, 5000) else ""
        if self.word.startswith("http"):
            return str(result.url)
        return f"{self.word}   (nas-bo ui --mlflow {shlex.quote(self.word)}{other})"


def store(word: str | None) -> str | None:
    """What an optional `--mlflow` names; None for 'none' too."""
    return None if word is None or word.lower() == "none" else word


def tracking(word: str, storage: str, patience: float = 30.0) -> Tracking | None:
    """The tracker that `--mlflow` means; None for 'none'.

    Args:
        patience: seconds for which the end waits for a server.

    Raises:
        HostError: the URI is malformed.
    """
    if store(word) is None:
        return None
    from nas_bo.mlflow import Tracker, beside

    return Tracking(word, storage, Tracker(uri=word, spool=beside(storage), patience=patience))
