"""Tracker: the one object people hold. It never raises into a search, and it forgets nothing that was not logged."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from nas_bo.errors import HostError
from nas_bo.mlflow import content, records, store, view
from nas_bo.mlflow.parent import open_session
from nas_bo.mlflow.session import Session
from nas_bo.report import Summary

_log = logging.getLogger("nas_bo.mlflow")

LONGEST_PAUSE = 60.0  # seconds between attempts while the store is down


class Tracker:
    """Logs the trials of Optuna studies into MLflow: a parent run per study, a child run per trial.

    Use it as a callback (``study.optimize(..., callbacks=[Tracker()])``), or call `log` after ``study.tell``; call
    `finish` at the end for the report. Runs are found again by study and trial, so nothing is logged twice: not
    after a restart, not by `log_study`. May be pickled, and shared by threads.

    While the store cannot be reached, trials wait in `pending`; an attempt is made after 5 s, then after up to 60 s,
    and each gives up after `timeout`. What still waits when the process ends is in the study: `log_study` brings it in.

    Args:
        name: of the parent run; default the study's name.
        uri: ``sqlite:///mlflow.db``, the path of a database file, or the address of a server; default
            ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the current folder. Artifacts go beside the file.
        experiment: name of the experiment; default ``MLFLOW_EXPERIMENT_NAME``, else the space's title, else `name`,
            else the study's name.
        tags: for the parent and for every child.
        timeout: seconds per request to a server.

    Raises:
        HostError: the URI is malformed; whether it can be reached says `check`.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        uri: str | Path | None = None,
        experiment: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> None:
        self.name, self.experiment, self.timeout = name, experiment, timeout
        self.uri = store.resolve(uri)
        self.tags = {content.clean(str(k)): str(v) for k, v in (tags or {}).items()}
        reserved = [k for k in self.tags if k.startswith(("mlflow.", "nas."))]
        if reserved:
            raise HostError(f"the tag {reserved[0]!r} is written by MLflow or nas_bo; use another name for yours")
        self._clear()

    def _clear(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._queue: deque[tuple[Any, Any]] = deque()
        self._refused: list[tuple[Any, Any]] = []
        self._client: Any = None
        self._sessions: dict[str, Session] = {}
        self._known: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # study object -> key of its session
        self._warned: set[str] = set()
        self._failures, self._closed_until = 0, 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._clear()

    def __repr__(self) -> str:
        return f"Tracker({self.name!r}, uri={store.redact(self.uri)!r}, experiment={self.experiment!r})"

    # ---- entrances: none of them raises, except check ------------------------------------------------------

    def check(self) -> None:
        """Before a search: whether the store can be reached and written. Quick; a new database is not made yet.

        Raises:
            HostError: it cannot; the message says what to do.
        """
        store.check(self.uri, min(self.timeout, 5.0))

    def warm(self) -> threading.Thread:
        """Import mlflow and open the store in a thread (some six CPU seconds for a new database)."""
        thread = threading.Thread(target=lambda: self._guarded(self._connect), name="nas_bo.mlflow", daemon=True)
        thread.start()
        return thread

    def __call__(self, study: Any, trial: Any) -> None:
        """The Optuna callback; the same as `log`."""
        self.log(study, trial)

    def log(self, study: Any, trial: Any) -> None:
        """Log a finished trial (as ``study.tell`` returns it), and what waits. Unfinished ones are left alone.

        A thread that comes while another is logging leaves its trial to that one and goes on.
        """
        self._own_process()
        if getattr(getattr(trial, "state", None), "name", "") in records.FINISHED:
            self._queue.append((study, trial))
        while self._queue and time.monotonic() >= self._closed_until and self._lock.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._lock.release()

    def log_study(self, study: Any, *, finish: bool = False) -> int:
        """Bring in every finished trial that is not there yet and repair what a killed process left half done.

        Args:
            finish: also write the report and end the parent run.

        Returns:
            How many trials were brought in or repaired; -1 when the store failed (a warning says why).
        """
        done = self._locked(self._back_fill, study)
        if finish and done is not None:
            self.finish(study)
        return -1 if done is None else done

    def finish(
        self,
        study: Any,
        files: Mapping[str, Path | bytes | str] | None = None,
        description: str | None = None,
        *,
        summary: Summary | None = None,
    ) -> None:
        """Log what waits, mark the Pareto front, write the report into the parent run and end it.

        Args:
            files: artifact name -> a file, bytes or text; names without a folder go into ``report/`` and replace
                what is written there by default (pareto.png, pareto.html, pareto_table.json, trials.csv, README.md).
            description: Markdown for the parent; default one that leads with the result.
            summary: what the report tells; default what the study itself says.
        """
        self._locked(self._finish, study, dict(files or {}), description, summary)
        if self.pending:
            self._warn(
                f"left {len(self.pending)}",
                f"{len(self.pending)} trials could not be logged to {self.uri}; they are safe in the study: call "
                "Tracker(...).log_study(study) when the store can be reached",
            )

    def url(self, study: Any, base: str | None = None) -> str:
        """The address that opens the UI on the study's front.

        Args:
            base: the address of the UI; default the server tracked to, else that of ``nas-bo ui``.
        """
        base = base or (self.uri if self.uri.startswith("http") else "http://127.0.0.1:5000")
        session = self._locked(self._session, study)
        return view.address(base, session.experiment, session.key) if session else base

    @property
    def pending(self) -> list[tuple[str, int]]:
        """(study, trial number) of what waits to be logged."""
        return [(study.study_name, trial.number) for study, trial in [*self._refused, *self._queue]]

    # ---- the work; all of it under the lock -----------------------------------------------------------------------

    def _drain(self) -> None:
        """Log what waits, until it fails. What MLflow refuses is set aside, so that it does not block the rest."""
        while self._queue:
            study, trial = self._queue[0]
            try:
                with store.patience(self.uri, self.timeout):
                    session = self._session(study)
                    if session is not None:
                        session.log(content.of_study(trial, session.subject))
                self._queue.popleft()
                self._failures, self._closed_until = 0, 0.0
            except Exception as error:
                if _refusal(error):
                    self._refused.append(self._queue.popleft())
                    self._warn(
                        f"refused {error}",
                        f"MLflow refuses trial {trial.number} of {study.study_name!r}: {_line(error)}",
                    )
                else:
                    self._broken(error)
                    return

    def _back_fill(self, study: Any) -> int:
        self._retry()
        session = self._session(study)
        if session is None:
            return 0
        session.load()
        summary = records.summary(study, session.about, session.columns, study.study_name)
        best = {t.number for t in summary.front()}
        return sum(
            session.log(content.of_study(t, session.subject), t.number in best, look=False)
            for t in records.finished(study)
        )

    def _finish(self, study: Any, files: Mapping[str, Any], description: str | None, summary: Summary | None) -> None:
        self._retry()
        session = self._session(study)
        if session is not None:
            if summary is None:
                summary = records.summary(study, session.about, session.columns, self.name or study.study_name)
            session.finish(summary, files, description)

    def _retry(self) -> None:
        """Everything that waits once more, what was refused included; raises when the store is still down."""
        self._closed_until = 0.0
        self._queue.extendleft(reversed(self._refused))
        self._refused.clear()
        self._drain()
        if self._closed_until:
            raise _StillDown

    def _session(self, study: Any) -> Session | None:
        if (known := self._known.get(study)) in self._sessions:  # spares reading the study anew for every trial
            return self._sessions[str(known)]
        subject = records.subject(study)
        if subject is None:
            return None
        self._known[study] = subject.key
        if subject.key not in self._sessions:
            experiment = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
            experiment = experiment or subject.about.get("space", {}).get("title") or self.name or subject.title
            session = open_session(self._connect(), self.uri, subject, experiment, self.name, self.tags)
            session.publish_view([])
            self._sessions[subject.key] = session
        return self._sessions[subject.key]

    def _connect(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = store.connect(self.uri)
            return self._client

    # ---- failures -------------------------------------------------------------------------------------------------

    def _locked(self, work: Callable[..., Any], *args: Any) -> Any:
        self._own_process()
        with self._lock:
            return self._guarded(work, *args)

    def _guarded(self, work: Callable[..., Any], *args: Any) -> Any:
        """The result of `work`, or None after a warning."""
        try:
            with store.patience(self.uri, self.timeout):
                return work(*args)
        except _StillDown:
            return None
        except Exception as error:
            self._broken(error)
            return None

    def _broken(self, error: Exception) -> None:
        """Warn, and leave the store alone for a while."""
        pause = min(LONGEST_PAUSE, 5.0 * 2**self._failures)
        self._failures += 1
        self._closed_until = time.monotonic() + pause
        if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
            self._sessions.clear()  # deleted under our hands: look again, make it again
        self._warn(
            type(error).__name__ + str(getattr(error, "error_code", "")),
            f"MLflow at {self.uri} could not be written ({_line(error)}); the search goes on, trials wait and are "
            "logged later",
        )

    def _warn(self, cause: str, message: str) -> None:
        if cause not in self._warned:
            self._warned.add(cause)
            _log.warning("%s", store.redact(message))

    def _own_process(self) -> None:
        if self._process != os.getpid():  # after a fork: connections and locks belong to the parent process
            self._clear()


class _StillDown(Exception):
    """The store was tried a moment ago and failed; that was warned of."""


def _refusal(error: Exception) -> bool:
    return getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"
