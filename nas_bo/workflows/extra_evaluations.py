"""What a search evaluates next to its trials: the baselines before; after it the front once more, and with it the baselines and the standard
design of the space. Each is kept in the study."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING

from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError
from nas_bo.execution.executor import limit
from nas_bo.model.spec import check
from nas_bo.objective import Objective, Retrainable, info_of, value_of
from nas_bo.optuna import studies
from nas_bo.problem import Problem
from nas_bo.study import BASELINES, COMPARED, RETRAINED, baseline, retrained
from nas_bo.trial import State, Trial, front
from nas_bo.workflows import baselines as compared
from nas_bo.workflows import final_measurement as session
from nas_bo.workflows import retraining_check
from nas_bo.workflows.evaluation_store import OfStudy, Watch, taken
from nas_bo.workflows.search_run import SearchRun
from nas_bo.workflows.standard import SHORT, SIZES, standard
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
    jobs = {arch_id: (run.problem, arch) for arch_id, (_, arch) in todo.items()}
    for arch_id, job in jobs.items():
        run.name_outcome("baseline", arch_id, *job)
    for ended, (key, outcome) in enumerate(taken(OfStudy(study), run.executor, jobs), 1):
        label = todo[key][0]
        whole = whole_of(run.problem, outcome.architecture)
        run.seconds.append(outcome.seconds)
        kept = compared.record(label, outcome if whole is None else with_own_values(outcome, run.problem, whole))
        studies.keep(study, baseline(key), kept if whole is None else {**kept, "whole": True})
        run.outcome_stored("baseline", key)
        run.tell_progress("baseline", ended, len(todo), outcome, label)


def whole_of(problem: Problem, arch: Architecture) -> SubModelLoss | None:
    """The loss of a search inside a trained model of which `arch` is the whole; None for all else."""
    from nas_bo.pretrained import SubModelLoss

    for one in problem.objectives:
        if isinstance(one, SubModelLoss) and check(arch, one.ignore).layers == one.teacher.spec.layers:
            return one
    return None


def with_own_values(outcome: Trial, problem: Problem, loss: SubModelLoss) -> Trial:
    """The whole trained model is what all is compared with, also where it is beyond the limits: its loss, as it is, and all other
    objectives are there in any case."""
    values, info = dict(outcome.values), dict(outcome.info)
    for one in problem.objectives:
        if one.name in values:
            continue
        free: Objective = replace(loss, tokens=0.0) if one is loss else one
        if is_dataclass(free) and {f.name for f in fields(free)} >= {"at_most", "at_least"}:
            free = replace(free, at_most=None, at_least=None)
        with suppress(NasBoError):
            found = value_of(free, outcome.architecture)
            values[one.name] = float(found)
            info[one.name] = info_of(found)
    return replace(outcome, values={c.name: values[c.name] for c in problem.columns if c.name in values}, info=info)


def retrain(
    run: SearchRun, factor: float, others: int, own: Mapping[str, Architecture] | None = None
) -> dict[str, Architecture]:
    """Train the front and at most `others` architectures off it at `factor` times the budget, and with them the baselines `own` and, where
    the search asks for it, the standard design of the space. Returns label -> architecture of that."""
    study, problem = run.study, run.problem
    grown = {o.name: larger for o in problem.objectives if isinstance(o, Retrainable) and (larger := o.larger(factor))}
    known = [t for t in run.history() if t.state is not State.RUNNING]
    best = front(known, problem.columns)
    head = studies.head(study)
    there = baselines_of(head, scale_of(head, known))
    wanted = compared.wants_standard(run.settings.baseline) and compared.comparable(problem)
    most = retraining_check.WITH_STANDARD if wanted else retraining_check.MAX_RETRAINED
    chosen = retraining_check.of_front(best, problem.columns, most, baselines=there, levels=run.levels)
    if not grown or not chosen:
        return {}
    if run.time_is_up():
        run.left_out = len([t for t in chosen if t.architecture.id not in head.retrained])
        return {}
    first = next((c for c in problem.columns if c.name in grown), problem.columns[0])
    plain = _plain(run, best, chosen[0]) if wanted else {}
    left = retraining_check.MAX_CHECKED - len(chosen)
    chosen += retraining_check.others(known, best, first, min(others, left), chosen)
    again = Problem(problem.space, list(grown.values()))
    whole = Problem(problem.space, [grown.get(o.name, o) for o in problem.objectives])
    studies.keep(study, RETRAINED, factor)
    before = studies.head(study)
    trained = set(before.retrained)
    todo = [t.architecture for t in chosen] + list((own or {}).values())
    todo = [arch for arch in {a.id: a for a in todo}.values() if arch.id not in trained]
    evaluated = {one["id"] for one in before.baselines}
    designs = [arch for arch in plain.values() if arch.id not in trained or arch.id not in evaluated]
    labels = {arch.id: label for label, arch in plain.items()}
    both = {arch.id: (arch, again) for arch in todo} | {arch.id: (arch, whole) for arch in designs}
    at_once = len(both)
    if run.settings.hours is not None:  # first what a gain is made of, and no more than is evaluated at a time
        first_of = [chosen[0].architecture.id, *labels]
        both = {arch_id: both[arch_id] for arch_id in dict.fromkeys([*first_of, *both]) if arch_id in both}
        at_once = run.workers
    total = len({t.architecture.id for t in chosen} | set(labels) | {arch.id for arch in (own or {}).values()})
    run.seconds = [s * factor for s in run.seconds]
    done = total - len(both)
    run.tell_progress("retrain", done, total)
    if run.settings.timeout is not None:
        limit(run.executor, run.settings.timeout * max(1.0, factor), "search")
    watch = Watch(OfStudy(study), run.executor, list(both))
    waiting, submitted = list(both), 0
    for ended in range(done + 1, total + 1):
        while submitted < min(len(waiting), ended - done - 1 + at_once) and not run.too_late():
            arch, asked = both[waiting[submitted]]
            run.name_outcome(f"retrain {factor:g}", arch.id, asked, arch)
            run.executor.submit(arch.id, asked, arch)
            submitted += 1
        if submitted < ended - done:
            run.left_out = len(waiting) - submitted
            break
        watch.begin(waiting[ended - done - 1])
        key, outcome = run.executor.take()
        run.seconds.append(outcome.seconds)
        names = [name for name in grown if name in outcome.values]
        kept = {
            "values": {name: outcome.values[name] for name in names},
            "reason": outcome.reason,
            "info": {name: outcome.info[name] for name in grown if name in outcome.info},
            "factor": factor,
            "conditions": again.conditions(),
        }
        if str(key) not in trained:  # else a plain decoder that is a trial as well: only its costs were missing
            studies.keep(study, retrained(factor, outcome.architecture.id), kept)
        if label := labels.get(str(key), ""):
            studies.keep(study, baseline(str(key)), _of_design(label, outcome, list(grown)))
        run.outcome_stored(f"retrain {factor:g}", key)
        run.tell_progress("retrain", ended, total, outcome, label or run.label(outcome.architecture))
    left_out = waiting[submitted:]
    return {label: arch for label, arch in plain.items() if arch.id not in left_out}


def to_come(run: SearchRun, own: int, trained: Collection[str], more: int) -> float:
    """How many evaluations `retrain` will take as long as, at most; in budgets of the search.

    Args:
        own: how many baselines are trained again.
        trained: the ids of what was trained again before this call.
        more: how many trials may still join the front.
    """
    factor, problem = float(run.settings.retrain or 0), run.problem
    if not factor or not any(_grows(one) for one in problem.objectives):
        return 0.0
    wanted = compared.wants_standard(run.settings.baseline) and compared.comparable(problem)
    most = retraining_check.WITH_STANDARD if wanted else retraining_check.MAX_RETRAINED
    largest = sum(t.architecture.id not in trained for t in run.past.front) + more
    chosen = min(most, 1 if len(problem.columns) == 1 else largest)
    chosen += max(0, min(run.settings.retrain_others, run.total // 10, retraining_check.MAX_CHECKED - chosen))
    return factor * (chosen + (0 if trained else own + wanted * _sizes(run)))


def _of_design(label: str, outcome: Trial, trained: Sequence[str]) -> dict[str, object]:
    """The record of a plain decoder: its trained values are those of the larger budget, and kept with the re-trainings."""
    costs = {name: value for name, value in outcome.values.items() if name not in trained}
    info = {name: told for name, told in outcome.info.items() if name not in trained}
    return {**compared.record(label, replace(outcome, values=costs, info=info)), "standard": True}


def _plain(run: SearchRun, best: Sequence[Trial], knee: Trial) -> dict[str, Architecture]:
    """Label -> plain decoder, noted in the study before they are trained; where there is none, why is noted."""
    study, problem = run.study, run.problem
    costs = [c for kind in ("measured", "analytic") for c in problem.columns if c.cost == kind]
    found = standard(problem, best, knee, costs[0] if costs else None, _sizes(run))
    studies.keep(
        study, COMPARED, {"why": found.why} if found.why else {"standard": [a.id for a in found.architectures]}
    )
    plain = {f"plain {run.label(arch)}": arch for arch in found.architectures}
    if plain:
        asked = studies.head(study).asked_baselines
        studies.keep(study, BASELINES, {**asked, **{label: arch.id for label, arch in plain.items()}})
    return plain


def _sizes(run: SearchRun) -> int:
    """How many plain decoders are compared with."""
    return SIZES if run.total >= SHORT else SIZES - 1


def note_comparison(run: SearchRun) -> None:
    """Keep in the study why there is nothing to compare with, where that is known without a front."""
    if not compared.wants_standard(run.settings.baseline):
        studies.keep(run.study, COMPARED, {"asked": False})
    elif (
        not run.settings.retrain and any(_grows(o) for o in run.problem.objectives) and compared.comparable(run.problem)
    ):
        studies.keep(
            run.study,
            COMPARED,
            {"why": "nothing was trained again, and the standard design is trained with the front (--retrain 2)"},
        )


def _grows(objective: Objective) -> bool:
    return isinstance(objective, Retrainable) and objective.larger(2.0) is not None


def remeasure(run: SearchRun, others: Mapping[str, Architecture]) -> None:
    """Measure the front, what was re-trained with it, and the baselines, in one session."""
    known = [t for t in run.history() if t.state is not State.RUNNING]
    there = studies.head(run.study).retrained
    again = [t for t in known if t.architecture.id in there]
    archs = [t.architecture for t in (*front(known, run.problem.columns), *again)]
    if known:
        session.remeasure(run.study, run.problem, [*others.values(), *archs], session.saying(run.tell_progress))
