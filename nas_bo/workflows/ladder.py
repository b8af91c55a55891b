"""ladder(): whether the small winners of a search win at larger sizes too, and which architectures should be trained at the next one.

The front of a study and controls of about the same size, with plain decoders among them, are grown rung by rung (`nas_bo.model.larger`) and
trained on a constant number of tokens per parameter, with learning rates that hold over width and depth (`nas_bo.model.parametrization`). Said is
how many pairs of architectures a small rung decides as the last one does (`nas_bo.report.decisions`).
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from nas_bo import foreign_recipe, serialization
from nas_bo.architecture import Architecture
from nas_bo.errors import EverythingFailed, SearchError
from nas_bo.execution.executor import Executor, workers_of
from nas_bo.execution.selection import executor_of
from nas_bo.objectives.validation_loss import ValidationLoss
from nas_bo.optuna.reading import Study
from nas_bo.problem import Problem
from nas_bo.report.ladder import Ladder, Rung
from nas_bo.settings import settings_of, takes
from nas_bo.space import Space
from nas_bo.trial import State, Trial
from nas_bo.wording import counted
from nas_bo.workflows import evaluation_store
from nas_bo.workflows.ladder_plan import Grown, LadderPlan, Member, flops_of, plan_of, timed
from nas_bo.workflows.ladder_settings import LadderOptions, LadderSettings
from nas_bo.workflows.ladder_tracking import InMlflow, tracking_of
from nas_bo.workflows.progress import Progress
from nas_bo.workflows.result import Result
from nas_bo.workflows.stored_result import load_result

if TYPE_CHECKING:
    from nas_bo.workflows.evaluation_store import Records

Studied = Result | Study | str | os.PathLike[str]


@takes(LadderSettings)
def ladder(study: Studied, space: type[Space] | None = None, **options: Unpack[LadderOptions]) -> Ladder:
    """Train the front of a study and controls at larger and larger sizes. Every finished training is kept at once, and the same call
    continues where a killed one ended.

    Args:
        study: a `Result`, an Optuna study, or the storage of one.
        space: what was searched, with its rules and its own way to grow (`nas_bo.model.larger`); by default what the study says.
        rungs: how many sizes, the searched one among them; or the sizes as multiples of it, such as ``[1, 4, 16]``.
        factor: from one rung to the next, of the parameters of every architecture.
        tokens_per_parameter: of the median architecture of a rung; all architectures of a rung are trained on as many tokens. 20 is near
            the compute-optimal number (arXiv 2203.15556).
        seeds: trainings of each architecture on each rung.
        architectures: at most so many climb: plain decoders are a fifth of them, controls off the front half of the rest, and at least two.
        baseline: the plain decoders: "standard", an architecture of the space or several (as of `search`), or None.
        parametrization: "completep", whose base is each architecture at its searched size, or "standard"; one that the study has counts.
        grow: a growth rule ``grow(arch, parameters)`` in place of that of the space.
        most_repeats: how often a training may read the text of the corpus.
        keep: a file of JSON lines for what was trained; default the study.
        checkpoints: a folder where trainings are continued after a kill; what is finished is removed from it.
        workers, executor, timeout, track, on_progress: as in `validate`. With `track` every training is a run linked with its trial.
        allow: as in `nas_bo.foreign_recipe.rebuild`: the study may be somebody else's.
        seed: of the choice of controls.

    Returns:
        What came of it; ``print`` it, or ``save(folder)``.

    Raises:
        SearchError: before anything is trained: the study has no loss that can be trained again, a growth rule is not known, rungs do not
            grow, the text or the memory does not suffice, a baseline is outside of the space, or too few architectures are of about equal size.
        EverythingFailed: no training of a rung gave a number.
    """
    settings = settings_of(LadderSettings, "ladder", options)
    result, records = _opened(study, space, settings)
    plan = plan_of(result, settings, records)
    foreign_recipe.note(serialization.describe(plan.loss))  # allowed above
    tracking = tracking_of(settings, result, plan)
    executor = _executor(plan)
    try:
        _train(plan, records, executor, tracking)
    finally:
        executor.close()
    made = _ladder(plan, records)
    records.put("ladder", made.to_dict())
    if tracking is not None:
        tracking.finish(made)
    if settings.checkpoints is not None:
        shutil.rmtree(_folder(settings.checkpoints), ignore_errors=True)
    return made


@takes(LadderSettings)
def plan_ladder(study: Studied, space: type[Space] | None = None, **options: Unpack[LadderOptions]) -> LadderPlan:
    """What `ladder` would train: sizes, tokens, memory, and hours by a throughput that is measured here (some seconds). Nothing is kept.

    Raises: as `ladder`.
    """
    settings = settings_of(LadderSettings, "ladder", options)
    result, records = _opened(study, space, settings, reading=True)
    return timed(plan_of(result, settings, _Reading(records)))


class _Reading:
    """Records that are read and not written."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def get(self, key: str) -> Any:
        return self._records.get(key)

    def put(self, key: str, data: object) -> None:
        pass


def _opened(
    study: Studied, space: type[Space] | None, settings: LadderSettings, reading: bool = False
) -> tuple[Result, Records]:
    if isinstance(study, Result):
        if space is not None and study.space is not None and space.fingerprint() != study.space.fingerprint():
            raise SearchError(
                f"the study {study.title!r} is of the space {study.space.title} with schema {study.space.fingerprint()}, ladder() got {space.title} "
                f"with schema {space.fingerprint()}; give the space of the study, or leave it out"
            )
        result = study if space is None else replace(study, space=space)
    elif isinstance(study, (str, os.PathLike)):
        from nas_bo.optuna import storages

        result = load_result(storages.load(study, None, reading=reading), space)
    else:
        result = load_result(study, space)
    keep = None if reading and not (settings.keep and Path(settings.keep).exists()) else settings.keep
    return result, evaluation_store.open_records(keep, result.study, result.record)


def _executor(plan: LadderPlan) -> Executor:
    settings = plan.settings
    first = Problem(Grown, [plan.objective(plan.members[0], 0, 0)])
    return executor_of(settings.executor, settings.workers, first, "ladder", settings.timeout)


# ---- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        key: under which its outcome is kept.
        rung: from 0.
        seed: which of the seeds, from 0.
    """

    key: str
    rung: int
    seed: int
    member: Member
    objective: ValidationLoss

    @property
    def architecture(self) -> Architecture:
        return self.member.rungs[self.rung]


def jobs_of(plan: LadderPlan) -> list[Job]:
    """All trainings, the smallest rung first."""
    return [
        Job(f"ladder:{evaluation_store.key(loss)}:{member.rungs[rung].id}", rung, seed, member, loss)
        for rung in range(len(plan.rungs))
        for member in plan.members
        for seed in range(plan.settings.seeds)
        for loss in (plan.objective(member, rung, seed),)
    ]


def _folder(checkpoints: str | Path) -> Path:
    return Path(checkpoints) / "ladder"


def _train(plan: LadderPlan, records: Records, executor: Executor, tracking: InMlflow | None) -> None:
    """Whatever is not there yet, rung by rung; a rung on which nothing ends well ends the ladder."""
    settings, jobs = plan.settings, jobs_of(plan)
    weights = {job.key: plan.rungs[job.rung].tokens * flops_of(job.architecture, plan.loss) for job in jobs}
    spent: list[tuple[float, float]] = []  # (weight, seconds) of what was trained here
    done = sum(records.get(job.key) is not None for job in jobs)
    settings.notify(Progress("ladder", done, len(jobs), None))
    for rung in range(len(plan.rungs)):
        of_rung = [job for job in jobs if job.rung == rung]
        todo = {job.key: job for job in of_rung if records.get(job.key) is None}
        asked = {
            key: (Problem(Grown, [_with_checkpoints(job.objective, settings)]), job.architecture)
            for key, job in todo.items()
        }
        for key, outcome in evaluation_store.taken(records, executor, asked):
            records.put(key, kept(outcome))
            spent.append((weights[key], outcome.seconds))
            done += 1
            rate = sum(seconds for _, seconds in spent) / sum(weight for weight, _ in spent)
            left = sum(weights[job.key] for job in jobs if records.get(job.key) is None)
            label = f"{plan.labels[todo[key].member.architecture.id]} at {plan.rungs[rung].middle:,}"
            settings.notify(Progress("ladder", done, len(jobs), rate * left / workers_of(executor), outcome, label))
        reasons = [str(records.get(job.key).get("reason") or "") for job in of_rung]
        if all(records.get(job.key).get("value") is None for job in of_rung):
            raise EverythingFailed(
                f"ladder(): no training of rung {rung + 1} ({counted(plan.rungs[rung].middle, 'parameter')}) gave a number; the last one because of: "
                f"{reasons[-1]}. What was trained is kept; fix the cause and give another file with keep="
            )
        if tracking is not None:
            tracking.rung(plan, [(job.member, job.rung, job.seed, records.get(job.key)) for job in of_rung])


def _with_checkpoints(objective: ValidationLoss, settings: LadderSettings) -> ValidationLoss:
    return (
        objective
        if settings.checkpoints is None
        else replace(objective, checkpoints=str(_folder(settings.checkpoints)))
    )


def kept(outcome: Trial) -> dict[str, object]:
    """What is kept of a training: JSON-safe."""
    name, info = next(iter(outcome.info.items()), ("", {}))
    value = next(iter(outcome.values.values()), None) if outcome.state is State.COMPLETE else None
    told = {what: info.get(what) for what in ("tokens", "steps", "seed", "parameters", "cpu_seconds", "curve")}
    return {"name": name, "value": value, "reason": outcome.reason, "seconds": outcome.seconds, **told}


# ---- the report --------------------------------------------------------------------------------------------------------


def _ladder(plan: LadderPlan, records: Records) -> Ladder:
    found: dict[tuple[str, int, int], Mapping[str, Any]] = {
        (job.member.architecture.id, job.rung, job.seed): records.get(job.key) or {} for job in jobs_of(plan)
    }
    count, seeds = range(len(plan.rungs)), range(plan.settings.seeds)
    climbers, notes = [], list(plan.notes)
    for member in plan.members:
        rows = [[found[member.architecture.id, rung, seed] for seed in seeds] for rung in count]
        losses = [[math.nan if row.get("value") is None else float(row["value"]) for row in rung] for rung in rows]
        reasons = [next((str(row["reason"]) for row in rung if row.get("reason")), "") for rung in rows]
        climbers.append(plan.climber(member, losses, reasons))
    failed = sum(row.get("value") is None for row in found.values())
    if failed:
        why = next(str(row.get("reason")) for row in reversed(found.values()) if row.get("value") is None)
        notes.append(f"{failed} of {len(found)} trainings failed; the last one: {why}.")
    for rung in plan.rungs:
        if rung.repeats > 1:
            notes.append(f"At {counted(rung.middle, 'parameter')} the text is read {rung.repeats:.1f} times.")
    rungs = [_spent(rung, [found[m.architecture.id, at, seed] for m in plan.members for seed in seeds]) for at, rung in enumerate(plan.rungs)]  # fmt: skip
    recipe = {
        "parametrization": str(plan.settings.parametrization or "standard"),
        "tokens_per_parameter": plan.settings.tokens_per_parameter,
        "tokens": [rung.tokens for rung in plan.rungs],
        "corpus": plan.loss.corpus().name,
        "first_seed": plan.loss.seed,
    }
    return Ladder(
        plan.title,
        plan.loss.name,
        plan.loss.unit,
        tuple(rungs),
        tuple(climbers),
        plan.settings.seeds,
        recipe,
        tuple(notes),
    )


def _spent(rung: Rung, rows: Sequence[Mapping[str, Any]]) -> Rung:
    """With the seconds that its trainings took."""
    known = [float(row["seconds"]) for row in rows if row.get("seconds") is not None]
    return replace(
        rung, seconds=statistics.fmean(known) * len(rows) if known else math.nan, how="spent" if known else ""
    )


__all__ = ["Ladder", "LadderPlan", "SearchError", "ladder", "plan_ladder"]
