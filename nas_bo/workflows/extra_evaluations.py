"""What a search evaluates next to its trials: the baselines before, the front once more after. Each is kept in the study."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError
from nas_bo.execution.executor import limit
from nas_bo.model.spec import check
from nas_bo.objective import Retrainable
from nas_bo.optuna import studies
from nas_bo.problem import Problem
from nas_bo.study import BASELINES, RETRAINED, baseline, retrained
from nas_bo.trial import State, Trial, front
from nas_bo.workflows import baselines as compared
from nas_bo.workflows import final_measurement as session
from nas_bo.workflows import retraining_check
from nas_bo.workflows.evaluation_store import OfStudy, Watch
from nas_bo.workflows.search_run import SearchRun
from nas_bo.workflows.stored_result import baselines_of, scale_of

if TYPE_CHECKING:
    from nas_bo.pretrained import SubModelLoss


def compare(run: SearchRun, others: Mapping[str, Architecture]) -> None:
    """Evaluate the baselines that the study does not have yet."""
    if not others:
        return
    study = run.study
    asked = studies.head(study).asked_baselines
    studies.keep(study, BASELINES, {**asked, **{label: arch.id for label, arch in others.items()}})
    known = {one["id"] for one in studies.head(study).baselines}
    todo = {a.id: (label, a) for label, a in others.items() if a.id not in known}
    watch = Watch(OfStudy(study), run.executor, list(todo))
    for arch_id, (_, arch) in todo.items():
        run.executor.submit(arch_id, run.problem, arch)
    for ended in range(1, len(todo) + 1):
        watch.begin(list(todo)[ended - 1])
        key, outcome = run.executor.take()
        label = todo[str(key)][0]
        whole = whole_of(run.problem, outcome.architecture)
        kept = compared.record(label, outcome if whole is None else with_own_loss(outcome, run.problem, whole))
        studies.keep(study, baseline(str(key)), kept if whole is None else {**kept, "whole": True})
        run.tell_progress("baseline", ended, len(todo), outcome, label)


def whole_of(problem: Problem, arch: Architecture) -> SubModelLoss | None:
    """The loss of a search inside a trained model of which `arch` is the whole; None for all else."""
    from nas_bo.pretrained import SubModelLoss

    for one in problem.objectives:
        if isinstance(one, SubModelLoss) and check(arch, one.ignore).layers == one.teacher.spec.layers:
            return one
    return None


def with_own_loss(outcome: Trial, problem: Problem, loss: SubModelLoss) -> Trial:
    """The whole trained model is what all is compared with, also where it is beyond the limits: its loss, as it is, and what is known
    without measuring are there in any case."""
    values = dict(outcome.values)
    values |= {name: value for name, value in problem.analytic(outcome.architecture).items() if name not in values}
    if loss.name not in values:
        with suppress(NasBoError):
            values[loss.name] = float(replace(loss, tokens=0.0, at_most=None, at_least=None)(outcome.architecture))
    return replace(outcome, values={c.name: values[c.name] for c in problem.columns if c.name in values})


def retrain(run: SearchRun, factor: float, others: int) -> None:
    """Train the front and at most `others` architectures off it at `factor` times the budget."""
    study, problem = run.study, run.problem
    grown = [o.larger(factor) for o in problem.objectives if isinstance(o, Retrainable)]
    bigger = [o for o in grown if o is not None]
    known = [t for t in run.history() if t.state is not State.RUNNING]
    best = front(known, problem.columns)
    head = studies.head(study)
    there = baselines_of(head, scale_of(head, known))
    chosen = retraining_check.of_front(best, problem.columns, baselines=there, levels=run.levels)
    if not bigger or not chosen:
        return
    first = next((c for c in problem.columns if c.name == bigger[0].name), problem.columns[0])
    chosen += retraining_check.others(known, best, first, min(others, retraining_check.MAX_CHECKED - len(chosen)))
    again = Problem(problem.space, bigger)
    archs = [t.architecture for t in chosen]
    studies.keep(study, RETRAINED, factor)
    before = studies.head(study).retrained
    todo = [arch for arch in archs if arch.id not in before]
    run.seconds = [s * factor for s in run.seconds]
    done = len(chosen) - len(todo)
    run.tell_progress("retrain", done, len(chosen))
    if run.settings.timeout is not None:
        limit(run.executor, run.settings.timeout * max(1.0, factor), "search")
    watch = Watch(OfStudy(study), run.executor, [arch.id for arch in todo])
    for arch in todo:
        run.executor.submit(arch.id, again, arch)
    for ended in range(done + 1, len(chosen) + 1):
        watch.begin(todo[ended - done - 1].id)
        _, outcome = run.executor.take()
        kept = {
            "values": dict(outcome.values),
            "reason": outcome.reason,
            "info": outcome.info,
            "factor": factor,
            "conditions": again.conditions(),
        }
        studies.keep(study, retrained(factor, outcome.architecture.id), kept)
        run.tell_progress("retrain", ended, len(chosen), outcome, run.label(outcome.architecture))


def remeasure(run: SearchRun, others: Mapping[str, Architecture]) -> None:
    """Measure the front, what was re-trained with it, and the baselines, in one session."""
    known = [t for t in run.history() if t.state is not State.RUNNING]
    there = studies.head(run.study).retrained
    again = [t for t in known if t.architecture.id in there]
    archs = [t.architecture for t in (*front(known, run.problem.columns), *again)]
    if known:
        session.remeasure(run.study, run.problem, [*others.values(), *archs], session.saying(run.tell_progress))


__all__ = ["compare", "remeasure", "retrain"]
