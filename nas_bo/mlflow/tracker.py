"""Tracker: the one object people hold. It never raises into a search, and it loses nothing.

A finished trial is put on disk before anything else (`spool`), and a thread logs it from there (`writer`).
"""

from __future__ import annotations

import atexit
import os
import shlex
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from nas_bo.errors import HostError
from nas_bo.mlflow import content, lineage, presentation, records, server, spool, tracking_uri
from nas_bo.mlflow.session import Session
from nas_bo.mlflow.spool import Record, Spool, Target
from nas_bo.mlflow.writer import Open, Writer, refusal
from nas_bo.report import Summary
from nas_bo.study import Source, StudyRecord, TrialRecord, source
from nas_bo.validated import check_values, number
from nas_bo.wording import counted

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

AT_EXIT = 60.0  # seconds for which the end of a process waits while trials are being logged


@dataclass(frozen=True)
class Behind:
    """What a tracker has been given and could not log.

    Attributes:
        trials: how many of them.
        report: the report of the study is missing or old.
        why: the last cause that is known, "" for none.
    """

    trials: int
    report: bool
    why: str


class Tracker:
    """Logs the trials of Optuna studies and Ax experiments into MLflow: a parent run per study, a child run per trial.

    Use it as a callback (``study.optimize(..., callbacks=[Tracker()])``), or call `log` after ``study.tell``; call
    `finish` at the end for the report. With Ax, `watch` the client. Wherever a `study` is wanted, a study of Optuna, a
    client of Ax or an experiment of Ax will do, also one that is finished and never heard of nas_bo. Runs are found again
    by study and trial, so nothing is logged twice: not after a restart, not by `log_study`, not by several processes. May
    be pickled, and shared by threads.

    `log` writes the trial into the spool, a folder, and returns; a thread logs it and removes the file. While the store
    cannot be reached, trials wait there: an attempt is made after 5 s, then after up to 60 s, and each gives up after
    `timeout`. What is left when the process ends, or is killed, is logged by the next Tracker of the same study, or by
    ``nas-bo mlflow sync``. While a search runs, ``nas.pareto`` of its trials and the parent's best values, front size and
    hypervolume are brought up to date every 10 s.

    Args:
        name: of the parent run; default the study's name.
        uri: ``sqlite:///mlflow.db``, the path of a database file, or the address of a server; default
            ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the current folder. Artifacts go next to the file.
        experiment: name of the experiment; default ``MLFLOW_EXPERIMENT_NAME``, else the space's title, else `name`,
            else the study's name.
        tags: for the parent and for every child.
        timeout: seconds per request to a server.
        parent: the id of a run of yours under which the trials are nested; you end it yourself, and `experiment` does
            not count. MLflow's UI shows one level of nesting: it should be no child itself.
        metric_names: names for the values of a study of Optuna that has none (without ``study.set_metric_names`` they are
            called value, or value_0, value_1 and so on); they are used here only, the study stays as it is.
        patience: seconds for which `finish`, and the end of the process, wait for a server that is slow or silent; a database in a
            file is waited for as long as it takes what it is given. What is not logged then stays in the spool.
        spool: a folder for trials that are not logged yet; default ``NAS_BO_SPOOL``, else ``mlflow_spool`` next to the
            database of MLflow, else in the current folder. It is there only while something is in it.

    Raises:
        HostError: the URI is malformed (whether it can be reached says `check`), or the metric names are not different
            texts.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        uri: str | Path | None = None,
        experiment: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        parent: str | None = None,
        spool: str | Path | None = None,
        metric_names: Sequence[str] | None = None,
        patience: float = 30.0,
    ) -> None:
        check_values("Tracker", HostError, number(above=0), patience=patience)
        self.patience = patience
        self.name, self.experiment, self.timeout, self.parent = name, experiment, timeout, parent
        self.uri = tracking_uri.resolve(uri)
        self.spool = _spool(spool, self.uri)
        self.metric_names = records.checked_names(metric_names)
        self.tags = {content.clean(str(k)): str(v) for k, v in (tags or {}).items()}
        reserved = [k for k in self.tags if k.startswith(("mlflow.", "nas."))]
        if reserved:
            raise HostError(f"the tag {reserved[0]!r} is written by MLflow or nas_bo; use another name for yours")
        self._clear()

    def _clear(self) -> None:
        self._process = os.getpid()
        self._writer = Writer(self.uri, self.timeout, Spool(self.spool))
        self._known: dict[int, tuple[weakref.ref[object], StudyRecord]] = {}
        self._seen: dict[str, set[int]] = {}
        self._untaken = 0
        self._finished: bool | None = None  # whether the last `finish` wrote the report
        self._gave_up = False  # since the server was too slow: nobody waits for it again
        _living.add(self)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in vars(self).items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update({"patience": 30.0, **state})
        self._clear()

    def __repr__(self) -> str:
        return f"Tracker({self.name!r}, uri={tracking_uri.redact(self.uri)!r}, experiment={self.experiment!r})"

    # ---- entrances: none of them raises, except check ------------------------------------------------------

    def check(self) -> None:
        """Before a search: whether the store can be reached and written. Quick; a new database is not made yet.

        Raises:
            HostError: it cannot; the message says what to do.
        """
        tracking_uri.check(self.uri, min(self.timeout, 5.0))

    def warm(self) -> threading.Thread:
        """Import mlflow and open the store in a thread (about six CPU seconds for a new database)."""
        thread = threading.Thread(
            target=lambda: self._writer.guarded(self._writer.connect), name="nas_bo.mlflow", daemon=True
        )
        thread.start()
        return thread

    def __call__(self, study: object, trial: object) -> None:
        """The Optuna callback; the same as `log`."""
        self.log(study, trial)

    def log(self, study: object, trial: object) -> None:
        """Take a finished trial (as ``study.tell`` returns it); it is on disk when this returns, and soon in MLflow.

        Unfinished ones are left alone. Of Ax the arguments are the client and the index of the trial; `watch` spares
        the calls.
        """
        self._safely(self._take, study, trial)

    def count(self, study: object, counts: Mapping[str, int]) -> None:
        """Show how many trials have ended, run, ...: metrics ``system/trials_NAME`` of the parent run, over the time of the search, some
        seconds later. `search` calls it after each trial."""
        self._safely(self._count, study, counts)

    def log_study(self, study: object, *, finish: bool = False) -> int:
        """Bring in every finished trial that is not there yet and repair what a killed process left half done.

        Args:
            finish: also write the report and end the parent run.

        Returns:
            How many trials were brought in or repaired; -1 when the store failed (a warning says why).
        """
        done = self._guarded(self._back_fill, study)
        if finish and done is not None:
            self.finish(study)
        return -1 if done is None else done

    def flush(self, timeout: float = 60.0) -> bool:
        """Wait until what was logged is in MLflow; False when it is not after `timeout` seconds, or the store fails."""
        return self._own().flush(timeout)

    def finish(
        self,
        study: object,
        files: Mapping[str, Path | bytes | str] | None = None,
        description: str | None = None,
        *,
        summary: Summary | None = None,
    ) -> None:
        """Log what waits, mark the Pareto front, write the report into the parent run and end it.

        Waits as long as the store takes what is given to it, a server no longer than `patience`, and gives up when it fails.

        Args:
            files: artifact name -> a file, bytes or text; names without a folder go into ``report/`` and replace
                what is written there by default (pareto.png, pareto.html, pareto_table.json, trials.csv, README.md).
            description: Markdown for the parent; default one that leads with the result.
            summary: what the report tells; default what the study itself says.
        """

        def work() -> bool | None:
            return self._guarded(self._finish, study, dict(files or {}), description, summary)

        self._finished = bool(work() if tracking_uri.database(self.uri) else self._in_time(work))
        self._tell_left()

    def url(self, study: object, base: str | None = None) -> str:
        """The address that opens the UI on the study's front.

        Args:
            base: the address of the UI; default the server tracked to, else that of ``nas-bo ui``: port 5000 of this machine, or
                the next one that is free.
        """
        base = base or (tracking_uri.public(self.uri) if self.uri.startswith("http") else "")
        if self._gave_up and base:
            return base
        opened = self._guarded(self._open, study)
        if not base:
            at = server.port_of(opened.session.experiment, opened.session.key) if opened else server.FIRST_PORT
            base = f"http://127.0.0.1:{at}"
        return presentation.address(base, opened.session.experiment, opened.session.key) if opened else base

    @contextmanager
    def opened(self, study: object) -> Iterator[Session]:
        """The study's `Session`, its trials logged, for runs next to them.

        Raises:
            HostError: the store fails, or no trial of the study has begun.
        """
        if self.log_study(study) < 0:
            raise HostError(
                f"the store {tracking_uri.redact(self.uri)} could not be written; see the warning, fix it, try again"
            )
        found = self._guarded(self._open, study)
        if found is None:
            raise HostError(f"no trial of {source(study).head().name!r} has begun, so it has no run in MLflow")
        with tracking_uri.patience(self.uri, self.timeout):
            yield found.session

    @contextmanager
    def watch(self, client: C, every: float = 5.0) -> Iterator[C]:
        """Log the trials of an Ax client as they end, for as long as this lasts: whatever the loop is.

        ``with tracker.watch(client): ...`` works with ``complete_trial``, ``mark_trial_failed`` and the like, and with
        ``run_trials``, of which the trials are looked at every so many seconds. The client is the same afterwards.
        """
        self._safely(self._new, client)
        with source(client).follow(lambda: self._safely(self._new, client), every):
            try:
                yield client
            finally:
                self._safely(self._new, client, True)

    @property
    def pending(self) -> list[tuple[str, int]]:
        """(study, trial number) of what waits to be logged."""
        return [(job.study, job.number) for job in self._writer.pending]

    def behind(self) -> Behind | None:
        """What is not in MLflow now although it was given to this tracker; None when all is there."""
        waiting = self.pending
        if not (waiting or self._untaken or self._finished is False):
            return None
        reasons = self._writer.reasons
        why = next((reasons[one] for one in waiting if one in reasons), "") or self._writer.cause
        return Behind(len(waiting) + self._untaken, self._finished is not True, why)

    # ---- the work -------------------------------------------------------------------------------------------------

    def _take(self, study: object, trial: object) -> None:
        subject = self._subject(study)
        one = None if subject is None else source(study).trial(trial)
        if subject is not None and one is not None:
            self._put(subject, one)

    def _count(self, study: object, counts: Mapping[str, int]) -> None:
        subject = self._subject(study)
        if subject is not None:
            self._own().counted[self._target(subject).folder(subject)] = dict(counts)

    def _put(self, subject: StudyRecord, one: TrialRecord) -> None:
        self._own().put(Record(self._target(subject), subject, content.of_trial(subject, one)))

    def _new(self, client: object, all_: bool = False) -> None:
        """Take the trials of an Ax client that have ended since this was asked."""
        subject = self._subject(client)
        if subject is not None:
            seen = self._seen.setdefault(subject.key, set())
            for one in source(client).ended(seen):
                if all_ or one.whole:  # Ax may mark a trial before it has attached its data
                    seen.add(one.number)
                    self._put(subject, one)

    def _back_fill(self, study: object) -> int:
        of, subject = source(study), self._subject(study)
        if subject is None:
            return 0
        target, done = self._target(subject), 0
        self._writer.adopt(target.folder(subject), living=True)
        self._drained(of, subject)
        opened = self._writer.session(target, subject)
        opened.session.load()
        made = [content.of_trial(subject, one) for one in of.ended()]
        for one in made:
            opened.standing.add(one.number, one.point)
        for one in made:
            try:
                done += opened.session.log(one, one.number in opened.standing.front, look=False)
            except Exception as error:
                if not refusal(error):
                    raise
                self._writer.put(Record(target, subject, one))  # it is refused again, reported, and kept
        if done:
            opened.changed = True
            opened.session.load()  # another machine may have done the same in this moment
        return done

    def _in_time(self, work: Callable[[], object]) -> object:
        """What `work` gives; None when it has waited for longer than `patience`. What it computes meanwhile does not count."""
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.append(work()), name="nas_bo.mlflow.end", daemon=True)
        thread.start()
        begun = time.monotonic()
        while thread.is_alive() and time.monotonic() - begun - _cpu_seconds(thread) < self.patience:
            thread.join(0.1)
        if not thread.is_alive():
            return found[0] if found else None
        self._gave_up = True
        self._writer.cause = f"it did not take what it was given within {self.patience:g} s"
        self._writer.warn("slow", f"MLflow at {self.uri} is not waited for any longer: {self._writer.cause}")
        return None

    def _finish(
        self, study: object, files: Mapping[str, str | bytes | Path], description: str | None, summary: Summary | None
    ) -> bool:
        of, subject = source(study), self._subject(study)
        self._drained(of, subject)
        if subject is not None:
            opened = self._writer.session(self._target(subject), subject)
            opened.session.load()
            told = summary or self._summary(of, subject)
            lineage.log_relatives(opened.session, told)
            opened.session.count(self._writer.counted.pop(opened.folder, {}))
            opened.session.finish(told, files, description)
            opened.changed = False
        return True

    def _summary(self, of: Source, subject: StudyRecord) -> Summary:
        now = replace(of.head(), columns=subject.columns)  # baselines may have come since it was opened
        return records.summary(now, of.ended(), self.name or subject.name)

    def _drained(self, of: Source, subject: StudyRecord | None) -> None:
        """Everything that waits is logged; raises when the store is still down. What was refused is made again."""
        if subject is not None and (aside := [job for job in self._writer.refused if job.study == subject.name]):
            numbers = {job.number for job in aside}
            for one in of.ended():
                if one.number in numbers:
                    self._put(subject, one)
        if not self._writer.drain():
            raise _StillDown

    def _open(self, study: object) -> Open | None:
        subject = self._subject(study)
        return None if subject is None else self._writer.session(self._target(subject), subject)

    def _subject(self, study: object) -> StudyRecord | None:
        found = self._known.get(id(study))  # spares reading the study again for every trial
        if found is None or found[0]() is not study:
            subject = source(study).head()
            if not subject.key:  # before its first trial, or its objective
                return None
            subject = records.named(subject, self.metric_names)
            found = self._known[id(study)] = (weakref.ref(study), subject)
            self._own().others[subject.key] = _others(study, subject)
        return found[1]

    def _target(self, subject: StudyRecord) -> Target:
        experiment = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        experiment = experiment or subject.about.get("space", {}).get("title") or self.name or records.title(subject)
        return Target(self.uri, experiment, self.name, self.tags, self.parent)

    # ---- failures -------------------------------------------------------------------------------------------------

    def _own(self) -> Writer:
        """The writer of this process; after a fork connections and locks belong to the parent process."""
        if self._process != os.getpid():
            self._clear()
        return self._writer

    def _safely(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except Exception as error:
            self._untaken += 1
            self._writer.warn(
                f"take {type(error).__name__}",
                f"a trial could not be taken for MLflow ({type(error).__name__}: {error}); the search continues, and "
                "Tracker(...).log_study(study) tries it again",
            )

    def _guarded(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The result of `work`, or None after a warning."""
        try:
            return self._own().guarded(work, *args, **kwargs)
        except _StillDown:
            return None

    def _tell_left(self) -> None:
        if left := self.pending:
            self._writer.warn(
                f"left {len(left)}",
                f"{counted(len(left), 'trial')} could not be logged to {self.uri}; they are kept in {self.spool}: call "
                f"`nas-bo mlflow sync {shlex.quote(str(self.spool))} --mlflow {shlex.quote(tracking_uri.redact(self.uri))}`, or "
                "Tracker(...).log_study(study), when the store can be reached",
            )


class _StillDown(BaseException):
    """The store was tried a moment ago and failed; that was warned of."""


def _cpu_seconds(thread: threading.Thread) -> float:
    """The processor time of a thread, where the system says it; else 0."""
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))
    except (AttributeError, OSError):  # Windows, macOS; it has just ended
        return 0.0


def _spool(folder: str | Path | None, uri: str) -> Path:
    return Path(folder).expanduser().absolute() if folder is not None else spool.default(uri)


def _others(study: object, subject: StudyRecord) -> Callable[[set[int]], Iterable[tuple[int, list[float] | None]]]:
    """See `Writer.others`."""
    there = weakref.ref(study)

    def look(known: set[int]) -> Iterable[tuple[int, list[float] | None]]:
        alive = there()
        if alive is None:
            return ()
        return [(one.number, content.of_trial(subject, one).point) for one in source(alive).ended(known)]

    return look


_living: weakref.WeakSet[Tracker] = weakref.WeakSet()
_hurried = threading.Event()


def hurry() -> None:
    """Let the end of this process wait no longer for what is on the disk anyway."""
    _hurried.set()


@atexit.register
def _at_exit() -> None:
    for tracker in list(_living):
        if tracker._process == os.getpid():
            if not (_hurried.is_set() or tracker._gave_up):
                tracker._writer.flush(AT_EXIT if tracking_uri.database(tracker.uri) else min(AT_EXIT, tracker.patience))
                tracker._writer.tell_last()
            tracker._tell_left()
