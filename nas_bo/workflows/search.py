"""search(): the loop that closes the circle of data: space -> strategy -> objectives -> trials -> strategy.

Runs on an Optuna study, so that everything made for Optuna works on it while it runs and afterwards. The only file,
beside the command line, that sees every room and every door.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from nas_bo import chance, database_url, measurement_lock, provenance, serialization
from nas_bo import optuna as door
from nas_bo import study_name as named
from nas_bo.architecture import Architecture
from nas_bo.errors import EverythingFailed, SearchError, SpaceError
from nas_bo.execution import preflight
from nas_bo.execution.executor import Executor, executor_of, gate_of, workers_of
from nas_bo.execution.interrupts import uninterrupted
from nas_bo.hardware.measuring.scale import fastest, trials_on_scale
from nas_bo.objectives.measuring import make_ready
from nas_bo.optuna import running, studies
from nas_bo.problem import Judge, Objective, Problem, column
from nas_bo.report.labels import label_of
from nas_bo.seeds import Seed, whole_seed
from nas_bo.space import Space
from nas_bo.trial import State, Trial, front
from nas_bo.workflows import baselines as compared
from nas_bo.workflows import final_measurement as session
from nas_bo.workflows import retraining_check
from nas_bo.workflows.profile import profile
from nas_bo.workflows.result import Result
from nas_bo.workflows.stored_result import Unchecked, baselines_of, load_result, scale_of, unfinished

_log = logging.getLogger(__name__)
_of_trials = logging.getLogger(f"{__name__}.trials")  # for whoever shows every trial anyway

PROFILE_FROM = 20  # trials: a shorter search does not earn the fifteen seconds of a profile of this machine
GIVE_UP_AFTER = 5  # trials that all failed
STARTING = 120.0  # seconds that another process may take from the number of a trial to its architecture


@dataclass(frozen=True)
class Progress:
    """What the search tells while it runs, after every trial.

    Attributes:
        phase: "profile" (of this machine), "baseline", "search", "retrain", or "measure" (the front, side by side).
        done, total: trials (or re-trainings) ended, and wanted.
        seconds_left: estimate from what the others took; None before the first.
        trial: the one that just ended; None at the start of a phase.
        label: its short name.
        front: the front so far.
    """

    phase: str
    done: int
    total: int
    seconds_left: float | None
    trial: Trial | None = None
    label: str = ""
    front: Sequence[Trial] = field(default_factory=list)


def search(
    space: type[Space],
    objectives: Sequence[Objective | Callable[[Architecture], float]] | None = None,
    *,
    limits: Sequence[Objective | Callable[[Architecture], float]] = (),
    proxies: Sequence[Objective | Callable[[Architecture], float]] = (),
    strategy: Any = None,
    stopping: Any = None,
    trials: int = 40,
    workers: int = 1,
    executor: Executor | None = None,
    storage: Any = None,
    study_name: str | None = None,
    track: Any = None,
    seed: Seed = 0,
    baseline: Any = None,
    retrain: float = 2.0,
    retrain_others: int = 4,
    enqueue: Sequence[Architecture | Mapping[str, Any]] = (),
    adopt_after: float | None = None,
    on_progress: Callable[[Progress], Any] | None = None,
) -> Result:
    """Search `space` for architectures that are good in all `objectives` at once.

    The same call with the same storage continues a search that was stopped or killed: finished trials are kept, those
    that were running are evaluated again under their own numbers, and the search goes on to `trials` in all.
    The same seed gives the same architectures and the same trained values, whatever the number of interruptions;
    measured values differ as measurements do, but nothing is steered by their noise.

    Args:
        space: a subclass of `Space`.
        objectives: objectives or functions of the architecture; by default `ValidationLoss` and `Latency`.
        limits: objectives that are not optimised, only kept within their ``at_most`` / ``at_least``.
        proxies: cheap objectives that are evaluated in every trial before anything is trained, for the strategy to learn
            from; they are on no front (see `Problem`).
        strategy: any object with ``suggest(problem, trials, n)``; by default `Bayes`.
        stopping: any object with ``judge(problem, trials, arch)``, such as `SuccessiveHalving()`: it ends evaluations at the
            rungs of objectives with `stages`. None trains everything to the end.
        trials: how many trials the study should have when done, failed and infeasible ones included.
        workers: local processes; 1 evaluates in this process. Objectives and space must then be importable.
        executor: where evaluations run instead (`nas_bo.execution.Executor`). The search closes it in the end.
        storage: an Optuna storage, its URL, or the path of a `.db` or `.log` file; None keeps the study in memory.
        study_name: by default the space's name, with the seed where it is not 0.
        seed: of the default strategy and of the sampler that the study is left with; an objective's own seed is its own.
        track: an MLflow tracking URI or a `nas_bo.mlflow.Tracker`; None tracks nothing.
        baseline: what to compare with, evaluated first with the same objectives, drawn and tabulated beside the front and no
            trial: "largest" or "smallest" of the space, an architecture or its flat values, a list of these, or a mapping of
            labels to these.
        retrain: train the front again at this multiple of the budget, with another seed; 0 does not.
        retrain_others: and with it this many architectures off the front, across the range, so that `Result.trust` rests not
            on winners alone; at most a tenth of the trials. Each costs `retrain` budgets; 0 leaves them out.
        enqueue: known architectures to try first.
        adopt_after: seconds, more than an evaluation takes: trials that other processes, of whatever machine, have been
            evaluating for longer are evaluated again under their own numbers. None waits for them for ever, except for those
            of dead processes of this machine.
        on_progress: called with a `Progress` after every trial.

    Returns:
        The `Result`. After Ctrl-C it holds what had ended, and `interrupted` is true.

    Raises:
        NasBoError: before anything is trained, for whatever is wrong with the arguments, the corpus, the storage or
            the tracker; later only when every trial fails.
    """
    seed = whole_seed(seed, "search")
    for name, value, least in (("trials", trials, 1), ("workers", workers, 1), ("retrain_others", retrain_others, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise SearchError(f"search({name}={value!r}): it must be a whole number of at least {least}")
    if (
        isinstance(retrain, bool)
        or not isinstance(retrain, (int, float))
        or not (retrain == 0 or 0.1 <= retrain <= 1000)
    ):
        raise SearchError(f"search(retrain={retrain!r}): it is a multiple of the budget such as 2, or 0 for none")
    if adopt_after is not None and (
        isinstance(adopt_after, bool) or not isinstance(adopt_after, (int, float)) or not adopt_after > 0
    ):
        raise SearchError(f"search(adopt_after={adopt_after!r}): it is a number of seconds above 0, or None")
    problem = Problem(
        space, default_objectives() if objectives is None else objectives, limits, proxies, stopping is not None
    )
    if strategy is None:
        strategy = default_strategy(seed)
    if not hasattr(strategy, "suggest"):
        raise SearchError(f"search(strategy={strategy!r}): a strategy is an object with suggest(problem, trials, n)")
    _check_stopping(problem, stopping)
    preflight.check(problem, "search")
    _check_reachable(problem)
    name = named.check(space.title + (f"-seed{seed}" if seed else "") if study_name is None else study_name)
    problem = studies.as_begun(storage, name, problem)
    queue = [space.architecture(a) for a in enqueue]
    others = compared.baselines(baseline, problem, partial(label_of, space=space))
    about = _about(problem, strategy, seed) | ({} if stopping is None else {"stopping": repr(stopping)})
    tracker = _tracker(track, storage)
    if tracker is not None:
        tracker.check()
        if hasattr(tracker, "warm"):
            tracker.warm()  # a new database takes seconds; what comes before it is ready waits
    sampler = door.Sampler(space, strategy, seed=seed, objectives=problem.objectives)
    team = executor_of(executor, workers, problem, "search")
    study = studies.open_study(storage, name, problem.columns, about, sampler, space)
    run = _Run(problem, strategy, stopping, study, team, workers_of(team), trials, tracker, on_progress, about)
    interrupted = False
    try:
        with gate_of(team):
            if tracker is not None and studies.finished(study):
                tracker.log_study(study)  # what ended before a kill and was not told to the tracker
            run.make_ready()
            run.compare(others)
            run.search(queue, adopt_after)
            if retrain:
                run.retrain(float(retrain), retrain_others)
            run.remeasure(others)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        with uninterrupted():
            team.close()
            run.release()
    return run.result(interrupted)


def default_objectives() -> list[Objective]:
    from nas_bo.objectives import Latency, ValidationLoss

    return [ValidationLoss(), Latency()]


def default_strategy(seed: int) -> Any:
    """The best at every budget that was measured (`benchmarks/search_efficiency.py`, `benchmarks/against_random.py`)."""
    from nas_bo.strategies import Bayes

    return Bayes(seed=seed)


class _Run:
    """The state of one call of `search`; everything that must outlive it is in the study."""

    def __init__(
        self,
        problem: Problem,
        strategy: Any,
        stopping: Any,
        study: Any,
        team: Executor,
        workers: int,
        total: int,
        tracker: Any,
        on_progress: Callable[[Progress], Any] | None,
        about: Mapping[str, Any],
    ) -> None:
        self.problem, self.strategy, self.study, self.team = problem, strategy, study, team
        self.stopping, self.total, self.tracker, self.about = stopping, total, tracker, about
        self.notify = on_progress or (lambda _: None)
        # A trial is proposed from the outcomes of all trials but the last `window`, in whatever order those end: so
        # the search does not depend on which worker is faster. Twice the workers, so that none waits for another.
        self.window = 1 if workers == 1 else 2 * workers
        self.workers = workers
        self.running: dict[int, Any] = {}
        self.labels: dict[str, str] = {}
        self.exhausted = False
        self.own_seconds: list[float] = []
        self.own: list[int] = []  # the trials that this call has evaluated
        self.passed_over: set[int] = set()
        self.remembered: dict[int, Trial] = {}
        self.levels = chance.stated(problem.objectives)

    def make_ready(self) -> None:
        if studies.finished(self.study) < self.total:
            made = profile if self.total >= PROFILE_FROM else None
            make_ready(self.problem.space, self.problem.evaluated(), made, session.saying(self.tell_progress))

    # ---- what to compare with ----------------------------------------------------------------------------------

    def compare(self, others: Mapping[str, Architecture]) -> None:
        """Evaluate the baselines that the study does not have yet."""
        if not others:
            return
        known = dict(studies.kept(self.study, "baselines") or {})
        studies.keep(self.study, "baselines", {**known, **{label: arch.id for label, arch in others.items()}})
        todo = {
            arch.id: (label, arch)
            for label, arch in others.items()
            if studies.kept(self.study, f"baseline:{arch.id}") is None
        }
        for arch_id, (_, arch) in todo.items():
            self.team.submit(arch_id, self.problem, arch)
        for ended in range(1, len(todo) + 1):
            key, outcome = self.team.take()
            label = todo[str(key)][0]
            studies.keep(self.study, f"baseline:{key}", compared.record(label, outcome))
            self.tell_progress("baseline", ended, len(todo), outcome, label)

    # ---- searching ---------------------------------------------------------------------------------------------

    def search(self, queue: list[Architecture], adopt_after: float | None = None) -> None:
        seen = {t.architecture.id for t in self.history()}
        for arch in queue:
            if arch.id not in seen:
                self.study.enqueue_trial(dict(arch.flat), skip_if_exists=True)
        self.tell_progress("search", studies.finished(self.study), self.total)
        self.adopt(adopt_after)
        if others := self.of_others():
            _log.warning("%s", unfinished(others, begins=True))
        while True:
            while self.wants_more():
                self.ask()
            if not self.running:
                self.adopt(adopt_after)  # what has become old meanwhile
            if not self.running:
                break
            self.take()
        if self.exhausted:
            _log.warning(
                "the space is exhausted after %d trials: there is no other architecture left",
                studies.finished(self.study),
            )

    def wants_more(self) -> bool:
        if self.exhausted or len(self.running) >= self.window:
            return False
        number = len(self.study.get_trials(deepcopy=False))
        if studies.waiting(self.study):
            if self.stopping is not None:  # as below: what is stopped must not depend on which worker is faster
                number = studies.waiting(self.study)[0]
                if min(self.running, default=number) <= number - self.window:
                    return False
            return studies.finished(self.study) + len(self.running) < self.total
        return number < self.total and min(self.running, default=number) > number - self.window

    def ask(self) -> None:
        if not studies.waiting(self.study):
            number = len(self.study.get_trials(deepcopy=False))
            arch = self.proposal(number)
            if arch is None:
                self.exhausted = True
                return
            trial = studies.claim(self.study, arch)
            self.running[trial.number] = trial  # released with the others, should we be interrupted now
            if trial.number != number:  # other processes have begun some in between
                arch = self.proposal(trial.number)
                if arch is None:
                    studies.tell(self.study, self.running.pop(trial.number), "pruned", "the space is exhausted")
                    self.exhausted = True
                    return
            pair = studies.begin(self.study, self.problem, trial, arch)
            self.running.pop(trial.number)
        else:
            pair = studies.ask(self.study, self.problem, None)
        if pair is not None:
            self.start(*pair)
        else:  # it breaks a rule, or the rule raises: its trial has ended
            self.stop_if_hopeless()

    def proposal(self, number: int) -> Architecture | None:
        """What the strategy proposes for trial `number`, or None where nothing is left.

        Trials that other processes have just begun are waited for until it is known of which architecture they are; one that
        takes longer than `STARTING` is taken for dead.
        """
        until = time.monotonic() + STARTING
        while waits := studies.starting(self.study, self.problem, STARTING, number, {*self.running, *self.passed_over}):
            if time.monotonic() > until:
                _log.warning("trials %s have begun and say nothing; they are passed over", waits)
                self.passed_over.update(waits)
            time.sleep(0.02)
        with measurement_lock.working():  # nobody measures beside a fit, and none begins beside a measurement
            proposed = self.strategy.suggest(self.problem, self.seen_by(number), 1)
        if not proposed:
            return None
        try:
            self.problem.space.architecture(proposed[0])
        except SpaceError as error:
            raise SearchError(
                f"the strategy {type(self.strategy).__name__} proposed an architecture outside the space: {error}"
            ) from error
        return proposed[0]  # type: ignore[no-any-return]

    def adopt(self, after: float | None) -> None:
        for trial, arch in studies.adopt(self.study, self.problem, after):
            if trial.number not in self.running:
                self.start(trial, arch)

    def of_others(self) -> list[running.Running]:
        """The running trials that somebody else evaluates, as far as anybody does."""
        found = running.running(self.study)
        return [one for one in found if one.number not in self.running and one.by in ("process", "unknown")]

    def seen_by(self, number: int) -> list[Trial]:
        """The history as the trial `number` may know it."""
        return [self.masked(t, number) for t in self.history() if t.number is None or t.number < number]

    def masked(self, trial: Trial, number: int) -> Trial:
        """`trial` as the proposal of trial `number` may see it: the last ones count as running even if they ended."""
        if trial.number is not None and trial.number > number - self.window and self.window > 1:
            return Trial(trial.architecture, state=State.RUNNING, number=trial.number)
        return trial

    def start(self, trial: Any, arch: Architecture) -> None:
        self.running[trial.number] = trial
        judge: Judge | None = None
        if self.stopping is not None:
            before = self.seen_by(trial.number)
            # one that is proposed again after it was stopped is wanted to the end
            if not any(t.state is State.STOPPED and t.architecture.id == arch.id for t in before):
                judge = self.stopping.judge(self.problem, before, arch)
        self.team.submit(trial.number, self.problem, arch, judge)

    def take(self) -> None:
        number, outcome = self.team.take()
        with measurement_lock.working():
            self.tell(number, outcome)

    def tell(self, number: Any, outcome: Trial) -> None:
        trial = self.running.pop(number)
        name = self.label(outcome.architecture)
        frozen = studies.tell_outcome(self.study, trial, outcome, name)
        self.own_seconds.append(outcome.seconds)
        self.own.append(int(frozen.number))
        if outcome.state is State.FAILED:
            _of_trials.warning("trial %s failed: %s", number, outcome.reason)
        if self.tracker is not None:
            self.tracker.log(self.study, frozen)
        self.tell_progress("search", studies.finished(self.study), self.total, outcome, name)
        self.stop_if_hopeless()

    def stop_if_hopeless(self) -> None:
        ended = [t for t in self.history() if t.state is not State.RUNNING]
        if len(ended) >= GIVE_UP_AFTER and all(t.state is State.FAILED for t in ended):
            raise EverythingFailed(
                f"all of the first {len(ended)} trials failed, so the search was stopped; the last one because of: "
                f"{ended[-1].reason}. Everything is kept in the study; mend the cause and use another study name"
            )

    def history(self) -> list[Trial]:
        found = door.history(self.study, self.problem.space, self.problem.columns, remembered=self.remembered)
        return trials_on_scale(found, fastest(info for t in found for info in t.info.values()))[0]

    def release(self) -> None:
        """What was stopped in the middle may be continued by anyone, this process included."""
        for trial in self.running.values():
            studies.release(trial)

    # ---- re-training the front ---------------------------------------------------------------------------------

    def retrain(self, factor: float, others: int) -> None:
        bigger = [o.larger(factor) for o in self.problem.objectives if hasattr(o, "larger")]
        bigger = [o for o in bigger if o is not None]
        known = [t for t in self.history() if t.state is not State.RUNNING]
        best = front(known, self.problem.columns)
        chosen = retraining_check.of_front(
            best,
            self.problem.columns,
            baselines=baselines_of(self.study, scale_of(self.study, known)),
            levels=self.levels,
        )
        if not bigger or not chosen:
            return
        first = next((c for c in self.problem.columns if c.name == bigger[0].name), self.problem.columns[0])
        chosen += retraining_check.others(known, best, first, min(others, retraining_check.MAX_CHECKED - len(chosen)))
        again = Problem(self.problem.space, bigger)
        todo = [
            t.architecture
            for t in chosen
            if studies.kept(self.study, f"retrained:{factor:g}:{t.architecture.id}") is None
        ]
        self.own_seconds = [s * factor for s in self.own_seconds]
        studies.keep(self.study, "retrained", factor)
        done = len(chosen) - len(todo)
        self.tell_progress("retrain", done, len(chosen))
        for arch in todo:
            self.team.submit(arch.id, again, arch)
        for ended in range(done + 1, len(chosen) + 1):
            _, outcome = self.team.take()
            kept = {"values": dict(outcome.values), "reason": outcome.reason, "info": outcome.info, "factor": factor,
                    "conditions": again.conditions()}  # fmt: skip
            studies.keep(self.study, f"retrained:{factor:g}:{outcome.architecture.id}", kept)
            self.tell_progress("retrain", ended, len(chosen), outcome, self.label(outcome.architecture))

    def remeasure(self, others: Mapping[str, Architecture]) -> None:
        """The front, what was re-trained with it, and the baselines, in one session."""
        known = [t for t in self.history() if t.state is not State.RUNNING]
        factor = studies.kept(self.study, "retrained")
        again = [t for t in known if factor and studies.kept(self.study, f"retrained:{factor:g}:{t.architecture.id}")]
        archs = [t.architecture for t in (*front(known, self.problem.columns), *again)]
        if known:
            session.remeasure(self.study, self.problem, [*others.values(), *archs], session.saying(self.tell_progress))

    # ---- telling -----------------------------------------------------------------------------------------------

    def label(self, arch: Architecture) -> str:
        if arch.id not in self.labels:
            self.labels[arch.id] = short_name(arch, self.problem.space)
        return self.labels[arch.id]

    def tell_progress(self, phase: str, done: int, total: int, trial: Trial | None = None, label: str = "") -> None:
        left = None
        if self.own_seconds:
            mean = sum(self.own_seconds) / len(self.own_seconds)
            left = mean * max(0, total - done) / self.workers
        best = front(self.history(), self.problem.columns)
        self.notify(Progress(phase, done, total, left, trial, label, best))

    def result(self, interrupted: bool) -> Result:
        made = load_result(self.study, self.problem.space, interrupted=interrupted, exhausted=self.exhausted)
        made = replace(made, own=tuple(self.own))
        if self.tracker is None:
            return made
        self.tracker.finish(self.study, {"result.json": json.dumps(made.to_dict(), indent=1)}, summary=made.summary())
        ended = replace(made, url=self.tracker.url(self.study))
        vars(ended).update(_summary=made.summary())  # with what was drawn for the tracker
        return ended


def short_name(arch: Architecture, space: type[Space] | None = None) -> str:
    """What an architecture is called alone (`nas_bo.report.labels`)."""
    return label_of(arch, space)


def _tracker(track: Any, storage: Any) -> Any:
    """What is not logged yet waits beside the study, where the study is a file."""
    if track is None or hasattr(track, "log"):
        return track
    from nas_bo.mlflow import Tracker, beside

    file = database_url.file_of(storage)
    if file is not None and file == database_url.file_of(track):
        raise SearchError(
            f"the study and MLflow are both to be kept in {str(file)!r}: each has tables of its own, and neither opens those of the "
            "other; give MLflow another file, such as mlflow.db"
        )
    return Tracker(uri=str(track), spool=beside(storage))


def _check_stopping(problem: Problem, stopping: Any) -> None:
    """Raise SearchError when `stopping` cannot stop anything."""
    if stopping is None:
        return
    if isinstance(stopping, type) or not hasattr(stopping, "judge"):
        raise SearchError(
            f"search(stopping={stopping!r}): it is an object with judge(problem, trials, arch), such as SuccessiveHalving()"
        )
    if not any(hasattr(o, "stages") for o in (*problem.objectives, *problem.limits)):
        names = ", ".join(c.name for c in problem.columns)
        raise SearchError(
            f"search(stopping={stopping!r}): none of the objectives ({names}) is evaluated in stages, so nothing could be "
            "stopped; ValidationLoss is, and an objective of your own where it has a method stages(arch). Leave stopping out"
        )


def _check_reachable(problem: Problem, draws: int = 300) -> None:
    """Raise SearchError when limits on analytic objectives leave (almost) nothing of the space."""
    import random

    rng = random.Random(0)
    closest: dict[str, float] = {}
    for _ in range(draws):
        arch = problem.space.sample(rng)
        if problem.admissible(arch):
            return
        for limit, amount in problem.violations(arch, problem.analytic(arch)).items():
            if amount > 0:
                closest[limit] = min(closest.get(limit, amount), amount)
    far = "; ".join(f"the nearest misses {limit} by {amount:g}" for limit, amount in closest.items())
    raise SearchError(
        f"none of {draws} random architectures of {problem.space.title} is within the limits: {far}. Loosen the limit, or choose "
        "a space with such architectures"
    )


def _about(problem: Problem, strategy: Any, seed: int) -> dict[str, Any]:
    conditions = problem.conditions()
    rebuilt = {name: [serialization.describe(o) for o in getattr(problem, name)] for name in ("objectives", "limits")}
    return {
        "space": problem.space.to_dict(),
        "fingerprint": problem.space.fingerprint(),
        "columns": [asdict(c) for c in problem.columns],
        "constraints": list(problem.constraint_names),
        "conditions": conditions,
        **({"remarks": remarks} if (remarks := problem.remarks()) else {}),
        "recipe": rebuilt,
        "chance": chance.stated(problem.objectives),
        **({"proxies": [asdict(column(p)) for p in problem.proxies]} if problem.proxies else {}),
        "strategy": repr(strategy),
        "seed": seed,
        "versions": provenance.versions(),
        "machine": platform.machine(),
        "device": provenance.device(conditions),
        "git": provenance.git(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


__all__ = ["Progress", "Result", "Unchecked", "default_objectives", "default_strategy", "load_result", "search"]
