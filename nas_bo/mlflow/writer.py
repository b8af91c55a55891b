"""Writer: the one thread of a process that talks to an MLflow store, so that no search waits for it.

It takes records in their order, tries again when the store fails (after 5 s, then up to 60 s), sets aside what MLflow
refuses and what fails again and again while the store answers, and never raises. All work on the store, also that of
others, is done under `Writer.lock`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, runtime_checkable

from nas_bo import measurement_lock
from nas_bo.errors import HostError
from nas_bo.mlflow import spool, tracking_uri
from nas_bo.mlflow.parent import open_session
from nas_bo.mlflow.session import FilesError, Session
from nas_bo.mlflow.spool import Record, Spool, Target
from nas_bo.mlflow.standing import Standing
from nas_bo.process import is_dead, owner
from nas_bo.study import StudyRecord
from nas_bo.wording import counted

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("nas_bo.mlflow")

LONGEST_PAUSE = 60.0  # seconds between attempts while the store is down
MOST_TRIES = 3  # of one trial while the store answers, before others go first
TELL_EVERY = 10.0  # seconds between reports of the front
LEASE = 120.0  # seconds after which a machine that says nothing no longer reports the front
IDLE = 30.0  # seconds after which the thread ends; the next record starts it again


@dataclass
class Job:
    """A record that waits: its file, or itself where it could not be written.

    Attributes:
        tries: attempts that failed although the store answered.
    """

    study: str
    number: int
    path: Path | None
    record: Record | None = None
    tries: int = 0


@dataclass
class Open:
    """A study whose parent run is open here."""

    folder: str
    session: Session
    standing: Standing
    told: float
    leads: bool = False
    changed: bool = False


class Writer:
    """The thread, what waits for it, and the sessions of one store.

    Args:
        background: False logs only when `drain` is called.

    Attributes:
        lock: held whenever the store is used.
        failures: failed attempts since the last that succeeded.
        open: `Target.folder` -> the open study.
        refused: what is set aside until `drain`.
        counted: `Target.folder` -> how many of the study's trials have ended, run, ..., not logged yet.
        others: key of a study -> a function that gives number and point of its finished trials, but for known ones:
            those of other processes.
        cause: of the last failure of the store, in words.
        reasons: (study, trial number) -> why it is still waiting, as far as it was tried.
    """

    def __init__(self, uri: str, timeout: float, kept: Spool, background: bool = True) -> None:
        self.uri, self.timeout, self.kept, self.background = uri, timeout, kept, background
        self.lock = threading.RLock()
        self.failures, self.closed_until = 0, 0.0
        self.reasons: dict[tuple[str, int], str] = {}
        self.open: dict[str, Open] = {}
        self.counted: dict[str, dict[str, int]] = {}
        self.others: dict[str, Callable[[set[int]], Iterable[tuple[int, list[float] | None]]]] = {}
        self._state = threading.Condition()
        self._queue: deque[Job] = deque()
        self.refused: list[Job] = []
        self._client: MlflowClient | None = None
        self._thread: threading.Thread | None = None
        self._warned: set[str] = set()
        self.cause = ""
        self._most_tries = MOST_TRIES

    # ---- entrances ---------------------------------------------------------------------------------------------

    def put(self, record: Record) -> None:
        """Keep a record on disk, and log it soon."""
        job = Job(record.subject.name, record.made.number, None, record)
        try:
            job.path, job.record = self.kept.put(record), None
        except OSError as error:
            self.warn(
                "spool",
                f"trials cannot be kept in {self.kept.root} ({error.strerror or error}) until MLflow has them; those that "
                "wait are lost if this process is killed. Give Tracker(spool=...) a folder that can be written",
            )
        self.enqueue([job])

    def enqueue(self, jobs: list[Job]) -> None:
        with self._state:
            again = {job.path for job in jobs if job.path is not None}
            self.refused = [job for job in self.refused if job.path not in again]
            there = {job.path for job in self._queue if job.path is not None}
            self._queue.extend(job for job in jobs if job.path is None or job.path not in there)
            if self.background and self._queue and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="nas_bo.mlflow", daemon=True)
                self._thread.start()
            self._state.notify_all()

    @property
    def pending(self) -> list[Job]:
        with self._state:
            return [*self.refused, *self._queue]

    def flush(self, timeout: float) -> bool:
        """Wait until everything is logged; False when the store fails, something is refused, or time is over."""
        until = time.monotonic() + timeout
        with self._state:
            while self._queue:
                left = until - time.monotonic()
                if left <= 0 or self.closed_until > time.monotonic() or not self.background:
                    return False
                self._state.wait(min(left, 0.2))
            return not self.refused

    def drain(self) -> bool:
        """Log everything that waits now, in this thread, what was refused included; False when the store fails.

        Each trial is tried once, and what fails while the store answers holds up no other.
        """
        with self.lock:
            self.closed_until, self._most_tries = 0.0, 1
            with self._state:
                self._queue.extendleft(reversed(self.refused))
                self.refused.clear()
            try:
                while self._one():
                    pass
            finally:
                self._most_tries = MOST_TRIES
            return not self.closed_until

    def guarded(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The result of `work`, done under the lock; None after a warning."""
        with self.lock:
            try:
                with tracking_uri.patience(self.uri, self.timeout):
                    return work(*args, **kwargs)
            except Exception as error:
                self.broken(error)
                return None

    def connect(self) -> MlflowClient:
        with self.lock:
            if self._client is None:
                tracking_uri.reach(self.uri, min(3.0, self.timeout))
                self._client = tracking_uri.connect(self.uri)
            return self._client

    def session(self, target: Target, subject: StudyRecord) -> Open:
        """The open study; it is found or made in the store. What a dead process left of it in the spool waits then.

        Raises:
            Exception: whatever MLflow raises.
        """
        folder = target.folder(subject)
        if folder not in self.open:
            session = open_session(
                self.connect(), self.uri, subject, target.experiment, target.name, target.tags, target.parent
            )
            if not session.reopen:  # the report has published one that fits the trials
                session.publish_view([])
            standing = Standing(subject.columns)
            for number, child in sorted(session.children.items()):
                standing.add(number, child.point)
            self.open[folder] = Open(folder, session, standing, time.monotonic())
            self.adopt(folder)
        return self.open[folder]

    def adopt(self, folder: str, living: bool = False) -> None:
        """Enqueue what is in the spool; what a `living` process wrote only on request."""
        jobs = []
        for path in self.kept.left(folder):
            try:
                record, by = spool.read(path)
            except (OSError, HostError) as error:
                if path.exists():  # not just finished by another process
                    self.warn(f"unreadable {path}", str(error))
                continue
            if living or is_dead(by):
                jobs.append(Job(record.subject.name, record.made.number, path))
        self.enqueue(jobs)

    # ---- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        last = time.monotonic()
        while True:
            with self._state:
                now = time.monotonic()
                if not self._queue and now - last > IDLE and not any(o.changed for o in self.open.values()):
                    self._thread = None
                    return
                if not self._queue or now < self.closed_until:
                    self._state.wait(min(1.0, max(0.05, self.closed_until - now)))
                    self._state.notify_all()
            if self._queue and time.monotonic() >= self.closed_until:
                last = time.monotonic()
                measurement_lock.pause()
                with self.lock:
                    if time.monotonic() >= self.closed_until:
                        self._one()
            self._tell_all()

    def _one(self) -> bool:
        """Log the first of what waits; False when there is nothing, or the store failed."""
        with self._state:
            if not self._queue:
                return False
            job = self._queue[0]
        with nullcontext(True) if job.path is None else spool.claim(job.path) as mine:
            try:
                if mine:
                    self._log(job)
                self.failures, self.closed_until = 0, 0.0
            except Exception as error:
                if not self._set_aside(job, error):
                    self.reasons[job.study, job.number] = self.broken(error)
                    return False
        with self._state:
            if self._queue and self._queue[0] is job:
                self._queue.popleft()
            self._state.notify_all()
        return True

    def _log(self, job: Job) -> None:
        record = job.record or spool.read(job.path)[0]  # type: ignore[arg-type]
        begun = time.monotonic()
        with tracking_uri.patience(self.uri, self.timeout):
            try:
                self._log_record(record)
            except Exception as error:
                # the server may have closed a connection that was idle; it is seen at the next request only
                if self.failures or refusal(error) or isinstance(error, FilesError) or time.monotonic() - begun > 1:
                    raise
                self._log_record(record)
        if job.path is not None:
            self.kept.done(job.path)
        self.reasons.pop((job.study, job.number), None)

    def _log_record(self, record: Record) -> None:
        study, made = self.session(record.target, record.subject), record.made
        study.session.log(made, study.standing.admits(made.point))
        study.standing.add(made.number, made.point)
        study.changed = True

    def _set_aside(self, job: Job, error: Exception) -> bool:
        """Whether the error is the trial's own, so that others need not wait for it."""
        if isinstance(error, FilesError):
            message = (
                f"the files of trial {job.number} of {job.study!r} could not be written: {line(error)}; its numbers "
                "are logged, its run stays open, and the files wait"
            )
        elif refusal(error):
            message = f"MLflow refuses trial {job.number} of {job.study!r}: {line(error)}"
        elif isinstance(error, HostError) and job.path is not None and str(job.path) in str(error):
            message = str(error)
        elif self._tried(job):
            message = (
                f"trial {job.number} of {job.study!r} could not be logged in {counted(job.tries, 'attempt')}, although "
                f"MLflow answers: {line(error)}; it waits, and others go first"
            )
        else:
            return False
        self.reasons[job.study, job.number] = line(error)
        self.refused.append(job)
        self.warn(f"{type(error).__name__} {str(error)[:60]}", message)
        return True

    def _tried(self, job: Job) -> bool:
        """Whether it is this trial that fails, and not the store: tried several times while the store answered."""
        try:
            tracking_uri.check(self.uri, min(3.0, self.timeout))
        except HostError:
            return False
        job.tries += 1
        return job.tries >= self._most_tries

    # ---- the front, while it grows -----------------------------------------------------------------------------

    def _tell_all(self) -> None:
        for study in list(self.open.values()):
            if study.changed and time.monotonic() - study.told >= TELL_EVERY and self.closed_until <= time.monotonic():
                self.guarded(self.tell, study)

    def tell(self, study: Open, last: bool = False) -> None:
        """Rewrite ``nas.pareto`` of the trials that came to the front or left it, and add steps to the parent's metrics.

        Of several processes one does it: that whose name is in the parent's tag `tags.PROGRESS`.

        Args:
            last: nothing will follow: tell all there is, and leave the place.
        """
        study.told = time.monotonic()
        session, me = study.session, owner()
        known = session.progress()
        other = known.get("by", me) != me and time.time() - float(known.get("at", 0)) < LEASE
        if other and not is_dead(str(known["by"])):
            study.leads = study.changed = False
            return
        study.standing.resume(int(known.get("after", -1)), known.get("reference"))
        if known.get("by") == me or last:
            study.leads = True
        if study.leads and len(study.standing.known) <= max(study.standing.known, default=-1):
            for number, point in self.others.get(session.key, _nobody)(study.standing.known):
                study.standing.add(number, point)
        with study.standing.telling():
            metrics = study.standing.steps(last) if study.leads else []  # the first time only the name is left there
            session.tell_progress(metrics, study.standing.reference, study.standing.after, "" if last else me)
        if study.leads:
            session.count(self.counted.pop(study.folder, {}))
        with study.standing.telling():
            for number, on_front in study.standing.marks().items():
                child = session.child(number)
                if child is not None:
                    session.mark(number, child, on_front)
        study.changed = not study.leads

    def tell_last(self) -> None:
        """What `tell` would tell later, now."""
        for study in list(self.open.values()):
            if study.changed and self.closed_until <= time.monotonic():
                self.guarded(self.tell, study, last=True)

    # ---- failures ----------------------------------------------------------------------------------------------

    def broken(self, error: Exception) -> str:
        """Warn, and leave the store alone for a while; returns the cause in words."""
        self.closed_until = time.monotonic() + min(LONGEST_PAUSE, 5.0 * 2**self.failures)
        if _gone(error):
            self.open.clear()  # deleted under our hands: look again, make it again
        cause = self.cause = self._cause(error)
        self.warn(
            type(error).__name__ + _code(error),
            f"MLflow at {self.uri} could not be written ({cause}); the search continues, trials wait and are "
            "logged later",
        )
        self.failures += 1  # last: whoever waits for it may end the program
        return cause

    def _cause(self, error: Exception) -> str:
        """What is wrong, in words that say what to do where that is known."""
        if isinstance(error, HostError) or self.failures:
            return line(error)
        try:
            tracking_uri.check(self.uri, min(3.0, self.timeout))
        except HostError as told:
            return line(told)
        return line(error)

    def warn(self, cause: str, message: str) -> None:
        if cause not in self._warned:
            self._warned.add(cause)
            _log.warning("%s", tracking_uri.redact(message))


def _nobody(_known: set[int]) -> Iterable[tuple[int, list[float] | None]]:
    return ()


@runtime_checkable
class Coded(Protocol):
    """An error of MLflow, by its attribute: MLflow is not loaded for a server that is down."""

    error_code: str


def _code(error: Exception) -> str:
    """What MLflow calls the error; nothing of any other."""
    return str(error.error_code) if isinstance(error, Coded) else ""


def refusal(error: Exception) -> bool:
    return _code(error) == "INVALID_PARAMETER_VALUE" and not _gone(error)


def _gone(error: Exception) -> bool:
    """Whether the experiment, the parent or the run has been deleted."""
    code = _code(error)
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "'active' state" in str(error))


def line(error: Exception) -> str:
    text = " ".join(tracking_uri.redact(str(error)).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"
