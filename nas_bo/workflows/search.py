"""search(): the loop that closes the circle of data: space -> strategy -> objectives -> trials -> strategy.

Runs on an Optuna study, so that everything made for Optuna works on it while it runs and afterwards. The only file,
except for the command line, that sees every room and every door.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Literal, Unpack

from nas_bo import foreign_recipe
from nas_bo import optuna as door
from nas_bo import study_name as named
from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError, StorageUnavailable
from nas_bo.execution import preflight
from nas_bo.execution.executor import gate_of
from nas_bo.execution.interrupts import terminable, uninterrupted
from nas_bo.execution.selection import executor_of
from nas_bo.objective import ChecksSource, Objective, Staged
from nas_bo.objectives.measuring import make_ready
from nas_bo.optuna import patient, running, studies
from nas_bo.optuna.heartbeat import beating
from nas_bo.optuna.storages import Storage
from nas_bo.problem import Problem
from nas_bo.report.labels import label_of
from nas_bo.settings import settings_of, takes
from nas_bo.space import Space
from nas_bo.stopping import Stopping
from nas_bo.strategies import Strategy
from nas_bo.study import Unchecked
from nas_bo.workflows import baselines as compared
from nas_bo.workflows import extra_evaluations, final_measurement
from nas_bo.workflows.about import about
from nas_bo.workflows.profile import profile
from nas_bo.workflows.progress import Progress
from nas_bo.workflows.reachable import check_reachable
from nas_bo.workflows.result import Result
from nas_bo.workflows.search_run import SearchRun
from nas_bo.workflows.search_settings import SearchOptions, SearchSettings
from nas_bo.workflows.stored_result import load_result
from nas_bo.workflows.tracking import Warmed, tracker_of

_log = logging.getLogger(__name__)

PROFILE_FROM = 20  # trials: a shorter search does not earn the fifteen seconds of a profile of this machine


@takes(SearchSettings)
def search(
    space: type[Space],
    objectives: Sequence[Objective | Callable[[Architecture], float]] | None = None,
    **options: Unpack[SearchOptions],
) -> Result:
    """Search `space` for architectures that are good in all `objectives` at once.

    The same call with the same storage continues a search that was stopped or killed: finished trials are kept, those
    that were running are evaluated again under their own numbers, and the search continues to `trials` in all.
    The same seed gives the same architectures and the same trained values, whatever the number of interruptions;
    measured values differ as measurements do, but nothing is steered by their noise.

    Args:
        space: a subclass of `Space`.
        objectives: objectives or functions of the architecture; by default `ValidationLoss` and `Latency`.
        limits: objectives that are not optimised, only kept within their ``at_most`` / ``at_least``.
        proxies: cheap objectives that are evaluated in every trial before anything is trained, for the strategy to learn
            from; they are on no front (see `Problem`).
        strategy: any object with ``suggest(problem, trials, n)``; by default
            "auto": `Bayes`, beyond some thousands of trials `NSGA2` (see `nas_bo.strategies.auto`); a study that is continued keeps
            the strategy of nas_bo that it was begun with.
        stopping: any object with ``judge(problem, trials, arch)``, such as `SuccessiveHalving()`: it ends evaluations at the
            rungs of objectives with `stages`. None trains everything to the end.
        trials: how many trials the study should have when done, failed and infeasible ones included.
        workers: local processes; 1 evaluates in this process. Objectives and space must then be importable.
        asynchronous: propose from all that has ended, as soon as a worker is free. By default a proposal sees all trials but the last
            ``2 * workers``, whichever worker is faster, so that a seed gives the same search again; with many workers that takes
            more evaluations and leaves some workers idle (docs/concepts/scale.md).
        executor: where evaluations run instead (`nas_bo.execution.Executor`). The search closes it in the end.
        storage: an Optuna storage, its URL, or the path of a `.db` or `.log` file; None keeps the study in memory.
        study_name: by default the space's name, with the seed where it is not 0.
        seed: of the default strategy and of the sampler that the study is left with; an objective's own seed is its own.
        track: an MLflow tracking URI or a `nas_bo.mlflow.Tracker`; None tracks nothing.
        baseline: what to compare with, drawn and tabulated next to the front and no trial; `Result.gain` says what the search gained over
            it. "standard" is the plain decoder of the space, attention and dense MLPs with all layers alike, at two or three sizes that span
            the front: it is trained and measured with the front after the search (where `retrain` is not 0). "largest" or "smallest" of
            the space, an architecture or its flat values, a list of these, or a mapping of labels to these are evaluated first, with the
            same objectives, and trained again with the front. None compares with nothing.
        retrain: train the front again at this multiple of the budget, with another seed; 0 does not.
        retrain_others: and with it this many architectures off the front, across the range, so that `Result.trust` rests not
            on winners alone; at most a tenth of the trials. Each costs `retrain` budgets; 0 leaves them out.
        enqueue: known architectures to try first.
        adopt_after: seconds, more than an evaluation takes: trials that other processes, of whatever machine, have been
            evaluating for longer are evaluated again under their own numbers. None waits for them forever, except for those
            of dead processes of this machine, and of processes of others that gave signs of life and have given none for ten minutes.
        timeout: seconds that one evaluation may take, of trials and baselines; a re-training has `retrain` times as many. One that
            takes longer is ended, with all processes that it has started, and is a failed trial; its siblings do not notice. With one
            worker evaluations run in a process of their own then, which takes a few seconds to start, once.
        hours: of this call: after so many nothing more is begun, neither a trial nor a re-training; what runs comes to its end (give
            `timeout` too). Re-trainings have their part of it, at most half; what was left out is in `Result.notes`. The same call
            continues. None for any time.
        storage_patience: seconds for which a storage that fails in the middle (a full disk, a server that restarts) is tried again
            before the search gives up. What was evaluated is kept meanwhile.
        on_progress: called with a `Progress` after every trial.

    Returns:
        The `Result`. After Ctrl-C or SIGTERM it holds what had ended, and `interrupted` is true.

    Raises:
        NasBoError: before anything is trained, for whatever is wrong with the arguments, the corpus, the storage or
            the tracker; later only when every trial fails, or the storage does (StorageUnavailable).
    """
    settings = settings_of(SearchSettings, "search", options)
    problem = Problem(
        space,
        default_objectives() if objectives is None else objectives,
        settings.limits,
        settings.proxies,
        staged=settings.stopping is not None,
    )
    if settings.stopping is not None:
        _check_staged(problem, settings.stopping)
    preflight.check(problem, "search")
    check_reachable(problem)
    name = settings.study_name
    name = named.check(space.title + (f"-seed{settings.seed}" if settings.seed else "") if name is None else name)
    problem = studies.as_begun(settings.storage, name, problem)
    strategy = begun_strategy(settings.strategy, settings.seed, settings.storage, name)
    queue = [space.architecture(a) for a in settings.enqueue]
    others = compared.baselines(settings.baseline, problem, partial(label_of, space=space))
    if compared.wants_standard(settings.baseline):
        others = compared.inside(problem) | others
    stated = about(problem, strategy, settings.seed)
    stated |= {} if settings.stopping is None else {"stopping": repr(settings.stopping)}
    tracker = tracker_of(settings.track, settings.storage, "search")
    executor = executor_of(settings.executor, settings.workers, problem, "search", settings.timeout)
    if isinstance(tracker, Warmed):
        tracker.warm()  # a new database takes seconds; what comes before it is ready waits
    sampler = door.Sampler(space, strategy, seed=settings.seed, objectives=problem.objectives)
    patience = settings.storage_patience
    study = studies.open_study(settings.storage, name, problem.columns, stated, sampler, space, patience)
    foreign_recipe.note(stated["recipe"], inside=True)  # what comes after this search opens the same files
    run = SearchRun(problem, strategy, study, executor, settings, tracker)
    run.later = partial(extra_evaluations.to_come, run, len(others), frozenset(studies.head(study).retrained))
    interrupted = False
    try:
        with terminable(), gate_of(executor), beating(study, run.evaluating, run.places):
            if tracker is not None and studies.finished(study):
                tracker.log_study(study)  # what ended before a kill and was not given to the tracker
            _make_ready(run)
            extra_evaluations.compare(run, others)
            run.search(queue)
            extra_evaluations.note_comparison(run)
            plain: dict[str, Architecture] = {}
            if settings.retrain:
                plain = extra_evaluations.retrain(run, float(settings.retrain), settings.retrain_others, others)
            extra_evaluations.remeasure(run, {**others, **plain})
    except StorageUnavailable:
        running.abandon(study)
        raise
    except KeyboardInterrupt:
        interrupted = True
        patient.hurry(study)  # who interrupts does not wait for a storage
        with uninterrupted():
            ended = run.stop()
        with suppress(StorageUnavailable, SearchError, KeyboardInterrupt):  # a second one does not wait for this
            run.keep(ended)
    finally:
        with uninterrupted():
            executor.close()
            run.release()
    return _result(run, interrupted)


def default_objectives() -> list[Objective]:
    from nas_bo.objectives import Latency, ValidationLoss

    return [ValidationLoss(), Latency()]


def default_strategy(seed: int) -> Strategy:
    """`Auto`: the best at every budget that was measured (`benchmarks/search_efficiency/run.py`, `benchmarks/against_random/run.py`)."""
    from nas_bo.strategies import Auto

    return Auto(seed=seed)


def begun_strategy(asked: Strategy | Literal["auto"] | None, seed: int, storage: Storage | None, name: str) -> Strategy:
    """The strategy that was asked for, or that a study which is there was begun with, or the default.

    Raises:
        SearchError: the study chooses among given architectures, and they were not given again.
    """
    from nas_bo.strategies.auto import Auto, as_begun

    if isinstance(asked, Strategy) and not isinstance(asked, Auto):
        return asked
    before = studies.begun_by(storage, name)
    chosen = as_begun(before) if before else None
    if before.startswith("Among("):
        raise SearchError(
            f"the study {name!r} chooses among given architectures, {before.partition('<')[2].partition('>')[0]}, and does not keep them: "
            "to continue it, give them again, strategy=Among(architectures, ...)"
        )
    if chosen is None:
        default = asked if isinstance(asked, Auto) else default_strategy(seed)
        if before:
            _log.warning(
                "the study %r was begun with %.200s, which cannot be made again from what is noted; it continues with %r. Give strategy= "
                "to continue with that one",
                name,
                before,
                default,
            )
        return default
    if not isinstance(chosen, Auto):
        _log.info("the study %r continues with the strategy that it was begun with, %r", name, chosen)
    return chosen


def _make_ready(run: SearchRun) -> None:
    if studies.finished(run.study) < run.total:
        for objective in run.problem.evaluated():
            if isinstance(objective, ChecksSource):
                objective.check_source()
        made = profile if run.total >= PROFILE_FROM else None
        say = final_measurement.saying(run.tell_progress)
        make_ready(run.problem.space, run.problem.evaluated(), made, say)


def _result(run: SearchRun, interrupted: bool) -> Result:
    made = load_result(run.study, run.problem.space, interrupted=interrupted, exhausted=run.exhausted)
    made = replace(made, own=tuple(run.own), notes=[*filter(None, [run.cut() if not interrupted else ""]), *made.notes])
    if run.tracker is None:
        return made
    run.tracker.finish(run.study, {"result.json": json.dumps(made.to_dict(), indent=1)}, summary=made.summary())
    ended = replace(made, url=run.tracker.url(run.study))
    vars(ended).update(_summary=made.summary())  # with what was drawn for the tracker
    return ended


def short_name(arch: Architecture, space: type[Space] | None = None) -> str:
    """What an architecture is called alone (`nas_bo.report.labels`)."""
    return label_of(arch, space)


def _check_staged(problem: Problem, stopping: Stopping) -> None:
    """Raise SearchError when `stopping` cannot stop anything."""
    from nas_bo.pretrained import SubModelLoss

    every = (*problem.objectives, *problem.limits)
    if any(isinstance(o, SubModelLoss) and not o.tokens for o in every):
        raise SearchError(
            f"search(stopping={stopping!r}): parts of the trained model are judged as they are (SubModelLoss(tokens=0)), so there is no training "
            "that could be stopped; give the loss tokens, or leave stopping out"
        )
    if not any(isinstance(o, Staged) for o in every):
        names = ", ".join(c.name for c in problem.columns)
        raise SearchError(
            f"search(stopping={stopping!r}): none of the objectives ({names}) is evaluated in stages, so nothing could be "
            "stopped; ValidationLoss is, and an objective of your own where it has a method stages(arch). Leave stopping out"
        )


__all__ = ["Progress", "Result", "Unchecked", "default_objectives", "default_strategy", "load_result", "search"]
