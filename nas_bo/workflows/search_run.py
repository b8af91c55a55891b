"""The trials of one search: proposed, evaluated, recorded. Everything that must outlive the process is in the study."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress

from nas_bo import chance, measurement_lock
from nas_bo.architecture import Architecture
from nas_bo.errors import EverythingFailed, SearchError, SpaceError, StorageUnavailable
from nas_bo.execution.executor import (
    Executor,
    Isolating,
    Keeping,
    Placing,
    Polled,
    Stopping,
    workers_of,
)
from nas_bo.execution.interrupts import whole
from nas_bo.execution.outcome_spool import Names
from nas_bo.objective import Judge
from nas_bo.optuna import running, studies
from nas_bo.optuna.reading import Study
from nas_bo.patience import duration
from nas_bo.problem import Problem
from nas_bo.process import Place
from nas_bo.report.labels import label_of
from nas_bo.strategies import Strategy
from nas_bo.study import architecture_of
from nas_bo.trial import State, Trial
from nas_bo.wording import counted, plural
from nas_bo.workflows.progress import Progress
from nas_bo.workflows.run_history import RunHistory
from nas_bo.workflows.search_settings import SearchSettings
from nas_bo.workflows.stored_result import unfinished
from nas_bo.workflows.tracking import Counting, Tracking

_log = logging.getLogger("nas_bo.workflows.search")
_of_trials = logging.getLogger("nas_bo.workflows.search.trials")  # for whoever shows every trial anyway

clock = time.monotonic
GIVE_UP_AFTER = 5  # trials that all failed
STARTING_S = 120.0  # that another process may take from the number of a trial to its architecture


class SearchRun:
    """The state of one call of `search`.

    Attributes:
        own: numbers of the trials that this call has evaluated.
        exhausted: whether the space has no other architecture.
    """

    def __init__(
        self,
        problem: Problem,
        strategy: Strategy,
        study: Study,
        executor: Executor,
        settings: SearchSettings,
        tracker: Tracking | None = None,
    ) -> None:
        self.problem, self.strategy, self.study, self.executor = problem, strategy, study, executor
        self.settings, self.stopping, self.total, self.tracker = settings, settings.stopping, settings.trials, tracker
        self.workers = workers_of(executor)
        # A trial is proposed from the outcomes of all trials but the last `window`, in whatever order those end: so
        # the search does not depend on which worker is faster. Twice the workers, so that hardly any waits for another.
        # An asynchronous search knows all that has ended, and begins a trial when a worker is free.
        self.ordered = self.workers > 1 and not settings.asynchronous
        self.window = 2 * self.workers if self.ordered else 1
        # trials that run or wait for their turn: none waits where time runs out
        self.most = self.window if self.ordered and settings.hours is None else self.workers
        self.until = math.inf if settings.hours is None else clock() + 3600 * settings.hours
        self.own: list[int] = []
        self.exhausted = False
        self.levels = chance.stated(problem.objectives)
        self.seconds: list[float] = []  # that evaluations took
        # how many evaluations come after the search, in budgets of it, if so many more trials join the front
        self.later: Callable[[int], float] = lambda more: 0.0
        self.left_out = 0  # of these, begun no more since the time was over
        self._running: dict[int, studies.HostTrial] = {}
        self._labels: dict[str, str] = {}
        self._passed_over: set[int] = set()
        self._looked = False
        self.past = RunHistory(study, problem)
        self._names: Names | None = None  # made when it is first asked for
        self._kept: dict[tuple[str, Hashable], str] = {}

    def search(self, queue: Sequence[Architecture]) -> None:
        """Propose, evaluate and tell, until the study has its trials; `queue` comes first."""
        after = self.settings.adopt_after
        self.past.look()
        seen = {t.architecture.id for t in self.past.trials}
        for arch in queue:
            if arch.id not in seen:
                self.study.enqueue_trial(dict(arch.flat), skip_if_exists=True)
        self.tell_progress("search", self.past.finished, self.total)
        self._adopt(after)
        if others := self._of_others():
            _log.warning("%s", unfinished(others, begins=True))
        while True:
            while self._wants_more():
                self._ask()
            if not self._running:
                self._adopt(after)  # what has become old meanwhile
            if not self._running:
                break
            self._take()
        if self.exhausted:
            _log.warning(
                "the space is exhausted after %s: no other architecture within its rules and the limits was found",
                counted(self.past.finished, "trial"),
            )

    # ---- a trial begins --------------------------------------------------------------------------------------------

    def _wants_more(self) -> bool:
        if self.exhausted or len(self._running) >= self.most or self.is_over():
            return False
        if not self._looked:  # else nothing was done since the last outcome was read back
            self.past.look()
        self._looked = False
        number = self.past.count
        if self.past.waiting:
            # as below: what is stopped must not depend on which worker is faster
            waits = self.stopping is not None and self._is_too_far(self.past.waiting[0])
            return not waits and self.past.finished + len(self._running) < self.total
        return number < self.total and not self._is_too_far(number)

    def _is_too_far(self, number: int) -> bool:
        """Whether a trial may not begin yet, since one runs whose outcome it has to know."""
        return self.ordered and min(self._running, default=number) <= number - self.window

    def evaluating(self) -> list[studies.HostTrial]:
        """The trials that this process evaluates now; other threads may ask."""
        return list(self._running.values())

    def is_over(self) -> bool:
        """Whether no trial is to be begun in this call: one that begins must come to its end before what comes after the search, which has
        its part of the time, at most half of it."""
        if self.settings.hours is None:
            return False
        if not self.seconds:
            return self.time_is_up()
        mean = sum(self.seconds) / len(self.seconds)
        after = min(mean * self.later(0) / self.workers, 1800 * self.settings.hours)
        return clock() + mean * (1 + len(self._running) // self.workers) > self.until - after

    def time_is_up(self) -> bool:
        """Whether nothing at all is to be begun in this call."""
        return clock() >= self.until

    def too_late(self) -> bool:
        """Whether what takes as long as the others would be at most half done when the time of this call is over."""
        mean = sum(self.seconds) / len(self.seconds) if self.seconds else 0.0
        return self.time_is_up() or clock() + mean / 2 > self.until

    def cut(self) -> str:
        """What the time of this call did not suffice for; "" where it did."""
        trials = self.total - self.past.finished if not self.exhausted else 0
        if self.settings.hours is None or not (trials > 0 or self.left_out):
            return ""
        again = (
            f", {counted(self.left_out, 're-training')} {plural(self.left_out, 'was', 'were')} left out"
            if self.left_out
            else ""
        )
        return (
            f"The time of {duration(3600 * self.settings.hours)} is over after {self.past.finished} of {counted(self.total, 'trial')}{again}. "
            "The same call continues."
        )

    def _ask(self) -> None:
        if not self.past.waiting:
            number = self.past.count
            arch = self._proposal(number)
            if arch is None:
                self.exhausted = True
                return
            with whole():
                trial, pair = studies.claim_as(self.study, self.problem, arch, number)
                if trial.number == number:
                    self._started(pair)
                    return
                self._running[trial.number] = trial  # released with the others, should we be interrupted now
            self.past.look()  # other processes have begun some in between
            if trial.number >= self.total:
                reason = f"another process began the last of {counted(self.total, 'trial')} at the same time"
                studies.tell(self.study, self._running.pop(trial.number), "pruned", reason)
                return
            arch = self._proposal(trial.number)
            if arch is None:
                studies.tell(self.study, self._running.pop(trial.number), "pruned", "the space is exhausted")
                self.exhausted = True
                return
            with whole():
                pair = studies.begin(self.study, self.problem, trial, arch)
                self._running.pop(trial.number)
                self._started(pair)
        else:
            with whole():
                self._started(studies.ask(self.study, self.problem, None))

    def _started(self, pair: tuple[studies.HostTrial, Architecture] | None) -> None:
        if pair is not None:
            self._start(*pair)
        else:  # it breaks a rule, or the rule raises: its trial has ended
            self._stop_if_hopeless()

    def _proposal(self, number: int) -> Architecture | None:
        """What the strategy proposes for trial `number`, or None where nothing is left.

        Trials that other processes have just begun are waited for until their architecture is known; one that
        takes longer than `STARTING_S` is taken for dead.
        """
        until = time.monotonic() + STARTING_S
        ours = {*self._running, *self._passed_over}
        if any(t.number not in ours for t in self.past.running):
            while waits := studies.starting(self.study, self.problem, STARTING_S, number, ours):
                if time.monotonic() > until:
                    _log.warning("trials %s have begun and say nothing; they are skipped", waits)
                    self._passed_over.update(waits)
                    ours.update(waits)
                time.sleep(0.02)
            self.past.look()  # with the architectures that were waited for
        with measurement_lock.working():  # nobody measures during a fit, and no fit begins during a measurement
            proposed = self.strategy.suggest(self.problem, self._seen_by(number), 1)
        if not proposed:
            return None
        try:
            found = architecture_of(self.problem.space, proposed[0].flat)  # once: it is read back from the study
            if len(found.flat) != len(proposed[0].flat):
                self.problem.space.architecture(proposed[0])
        except SpaceError as error:
            raise SearchError(
                f"the strategy {type(self.strategy).__name__} proposed an architecture outside the space: {error}"
            ) from error
        return proposed[0]

    def _adopt(self, after: float | None) -> None:
        for trial, arch in () if self.is_over() else studies.adopt(self.study, self.problem, after):
            if trial.number not in self._running:
                if isinstance(self.executor, Isolating) and (deaths := studies.deaths(trial)):
                    _log.warning(
                        "trial %s was being evaluated when the process of its search died; it is evaluated in a process of its own, and "
                        "fails when that dies too",
                        trial.number,
                    )
                    self.executor.isolate(trial.number, deaths)
                self._start(trial, arch)

    def _of_others(self) -> list[running.Running]:
        """The running trials that somebody else evaluates, as far as anybody does."""
        found = running.running(self.study)
        return [one for one in found if one.number not in self._running and one.by in ("process", "unknown")]

    def _seen_by(self, number: int) -> list[Trial]:
        """The history as the trial `number` may know it: the last trials before it count as running even if they ended."""
        return self.past.before(number, self.window)

    def _start(self, trial: studies.HostTrial, arch: Architecture) -> None:
        self._running[trial.number] = trial
        judge: Judge | None = None
        if self.stopping is not None:
            before = self._seen_by(trial.number)
            # one that is proposed again after it was stopped is wanted to the end
            if not any(t.state is State.STOPPED and t.architecture.id == arch.id for t in before):
                judge = self.stopping.judge(self.problem, before, arch)
        self.name_outcome("trial", trial.number, self.problem, arch)
        self.executor.submit(trial.number, self.problem, arch, judge)

    def name_outcome(self, phase: str, key: Hashable, problem: Problem, arch: Architecture) -> None:
        """What is submitted next under this key is kept by its worker until `outcome_stored`; `phase` is what it is for."""
        if not isinstance(self.executor, Keeping):
            return
        if self._names is None:
            stopping = re.sub(" at 0x[0-9a-fA-F]+", "", repr(self.stopping))  # another one in every process
            self._names = Names(studies.identity(self.study), stopping)
        if name := self._names.of(phase, key, problem, arch):
            self._kept[phase, key] = name
            self.executor.keep(key, name)

    def outcome_stored(self, phase: str, key: Hashable) -> None:
        name = self._kept.pop((phase, key), "")
        if name and isinstance(self.executor, Keeping):
            self.executor.stored(name)

    # ---- a trial ends ----------------------------------------------------------------------------------------------

    def _take(self) -> None:
        key, outcome = self.executor.take()
        with measurement_lock.working(), whole():  # what ended is stored, counted and tracked, or nothing of it
            self._tell(next(number for number in self._running if number == key), outcome)

    def stop(self) -> list[tuple[Hashable, Trial]]:
        """End what is evaluated; what has ended and was not taken yet, as where the search was interrupted while a strategy was fitted."""
        if isinstance(self.executor, Stopping):
            return self.executor.stop()
        return self.executor.ended() if isinstance(self.executor, Polled) else []

    def keep(self, ended: Sequence[tuple[Hashable, Trial]]) -> None:
        """Store what `stop` gave."""
        for key, outcome in ended:
            if key in self._running:  # else it is of what comes before or after the search
                with measurement_lock.working(), whole():
                    self._tell(int(str(key)), outcome)

    def _tell(self, number: int, outcome: Trial) -> None:
        name = self.label(outcome.architecture)
        frozen = studies.tell_outcome(self.study, self._running[number], outcome, name)
        self.outcome_stored("trial", number)
        del self._running[number]
        self.past.look()
        self._looked = True
        self.seconds.append(outcome.seconds)
        self.own.append(int(frozen.number))
        if outcome.state is State.FAILED:
            _of_trials.warning("trial %s failed: %s", number, outcome.reason)
        if self.tracker is not None:
            self.tracker.log(self.study, frozen)
        if isinstance(self.tracker, Counting):
            self.tracker.count(self.study, self.counts())
        self.tell_progress("search", self.past.finished, self.total, outcome, name)
        self._stop_if_hopeless()

    def _stop_if_hopeless(self) -> None:
        if self.past.hopeful or self.past.finished < GIVE_UP_AFTER:
            return
        ended = [t for t in self.history() if t.state is not State.RUNNING]
        if len(ended) >= GIVE_UP_AFTER and all(t.state is State.FAILED for t in ended):
            raise EverythingFailed(
                f"all of the first {counted(len(ended), 'trial')} failed, so the search was stopped; the last one because of: "
                f"{ended[-1].reason}. Everything is kept in the study; fix the cause and use another study name"
            )

    def release(self) -> None:
        """What was stopped in the middle may be continued by anyone, this process included."""
        for trial in self._running.values():
            with suppress(StorageUnavailable):  # reported already; this process is dead when somebody continues
                studies.release(trial)

    def counts(self) -> dict[str, int]:
        """How many trials of the study have ended, failed, run, are queued (begun, and no worker of this process is free), wait, and are
        lost."""
        found, queued = self.past.counts(), max(0, len(self._running) - self.workers)
        return found | {"running": max(0, found["running"] - queued), "queued": queued}

    def places(self) -> Mapping[Hashable, Place]:
        """Where this process has trials evaluated now, on a cluster; other threads may ask."""
        return self.executor.places() if isinstance(self.executor, Placing) else {}

    # ---- telling ---------------------------------------------------------------------------------------------------

    def history(self) -> list[Trial]:
        self.past.look()
        return self.past.trials

    def label(self, arch: Architecture) -> str:
        if arch.id not in self._labels:
            self._labels[arch.id] = label_of(arch, self.problem.space)
        return self._labels[arch.id]

    def tell_progress(self, phase: str, done: int, total: int, trial: Trial | None = None, label: str = "") -> None:
        if phase != "search":  # there it was looked a moment ago
            self.past.look()
        left = None
        if self.seconds:
            mean = sum(self.seconds) / len(self.seconds)
            rest = max(0.0, total - done)
            rest += max(0, self.total - self.past.finished) if phase == "baseline" else 0
            rest += self.later(max(0, self.total - self.past.finished)) if phase in ("baseline", "search") else 0
            left = None if self.time_is_up() else min(mean * rest / self.workers, self.until - clock())
        nodes = self.past.nodes.rows((place, False) for place in self.places().values())
        self.settings.notify(Progress(phase, done, total, left, trial, label, self.past.front, self.counts(), nodes))
