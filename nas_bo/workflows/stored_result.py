"""The result of a study from the study alone: of one that `search` made, and of any other study of Optuna."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nas_bo.errors import HostError, SpaceError
from nas_bo.foreign_document import reading
from nas_bo.hardware.measuring import scale as scales
from nas_bo.optuna import running, studies
from nas_bo.report import TrustReport, vocabulary
from nas_bo.report.labels import labels_of
from nas_bo.safe_text import lines, printable
from nas_bo.space import Space
from nas_bo.spelling import answering
from nas_bo.study import StudyRecord, TrialRecord
from nas_bo.trial import ObjectiveSpec, State, Trial, front
from nas_bo.wording import counted, plural
from nas_bo.workflows import final_measurement as session
from nas_bo.workflows import retraining_check
from nas_bo.workflows.result import Result, Retrained, spent

if TYPE_CHECKING:
    from nas_bo.optuna.reading import Study

TOLD_APART = (
    "space", "columns", "conditions", "remarks", "fingerprint", "constraints", "proxies", "recipe", "chance",
)  # fmt: skip


@reading("a study that can be read", HostError)
def load_result(
    study: Study | str | os.PathLike[str],
    space: type[Space] | None = None,
    *,
    study_name: str | None = None,
    interrupted: bool = False,
    exhausted: bool = False,
) -> Result:
    """The `Result` of a study, from the study alone: of one that `search` made, and of any other study of Optuna.

    Args:
        study: an Optuna study, or the storage it is in: a path or a URL.
        space: what was searched; by default what the study says. In a study that nas_bo did not make its parameters, as
            they are, stand for architectures where no space is given.
        study_name: where `study` is a storage of several.

    Raises:
        HostError: no such storage or study, or `space` is not that of the study.
    """
    if isinstance(study, (str, os.PathLike)):
        study = studies.load(study, study_name, reading=True)
    record = studies.read(study)
    if not record.about:
        return replace(_foreign(record, space), study=study)
    about = record.about
    if space is None:
        space = record.space
        if space is None:
            raise HostError(
                f"the study {record.name!r} is of the space {about['space'].get('title')!r}, which this version cannot read from the "
                "study; give the space itself (--space)"
            )
    elif space.fingerprint() != about["fingerprint"]:
        raise HostError(
            f"the study {record.name!r} is of the space {about['space']['title']!r} with schema {about['fingerprint']}, not "
            f"of {space.title!r} with schema {space.fingerprint()}; leave the space out (--space): the study says it itself"
        )
    columns = list(record.columns)
    ended = [t for one in record.ended if (t := one.within(space)) is not None]
    scale = scale_of(record, ended)
    ended, changed = scales.trials_on_scale(ended, scale)
    again = {
        t.architecture.id: record.retrained[t.architecture.id] for t in ended if t.architecture.id in record.retrained
    }
    retrained = [
        Retrained(arch_id, kept["values"], kept["reason"], kept.get("info", {}), kept.get("factor", 1.0))
        for arch_id, kept in again.items()
    ]
    facts = {k: v for k, v in about.items() if k not in TOLD_APART}
    for told in (record.conditions, about.get("remarks", {})):
        for objective, those in told.items():
            facts |= {f"{objective}: {what}": value for what, value in those.items()}
    if record.factor:
        facts["front re-trained at"] = f"{record.factor:g} times the budget, another seed"
    trust = None
    if again and record.factor:
        trust = retraining_check.of_search(ended, columns, front(ended, columns), again, record.factor, record.proxies)
    else:
        trust = retraining_check.of_estimates(ended, columns, record.proxies)
    return Result(
        title=printable(record.name),
        columns=columns,
        trials=ended,
        labels=labels_of(ended, space),
        retrained=_final(ended, retrained, session.Session.of(record).on(scale), columns),
        trust=trust,
        validation=TrustReport.from_dict(record.validated) if record.validated else None,
        notes=[
            *_notes(ended, columns, interrupted, exhausted),
            *scales.said(changed),
            *_of_part(record),
            *_of_others(record),
        ],
        facts=facts,
        study=study,
        record=record,
        interrupted=interrupted,
        baselines=baselines_of(record, scale),
        not_compared=_not_compared(record, bool(again)),
        chance=about.get("chance") or {},
        space=space,
        vocab_size=vocabulary(about),
    )


def _not_compared(record: StudyRecord, retrained: bool) -> str:
    """Why the search was compared with no standard design; "" where it was, or where nobody asked."""
    told = record.compared.get("why")
    if isinstance(told, str) and told:
        return lines(told)
    if record.baselines or not retrained or record.compared:
        return ""
    return "the search was compared with no standard design; `nas-bo validate --storage STUDY --baseline standard` adds one"


def baselines_of(record: StudyRecord, scale: Mapping[str, scales.Known]) -> list[dict[str, object]]:
    """What the search was compared with, as far as that was evaluated: ``{"label", "values", ...}``; measured values on the
    scale of `scale_of`."""
    last = session.Session.of(record).on(scale)
    found = []
    for kept in record.baselines:
        values, info, _ = scales.rescaled(kept.get("values", {}), kept.get("info", {}), scale)
        found.append(last.of_baseline({**kept, "values": values, "info": info, **_trained_again(record, kept)}))
    return found


def scale_of(record: StudyRecord, trials: Sequence[Trial]) -> dict[str, scales.Known]:
    """The scale of the measured values of a study: the fastest under which one of them was reported."""
    told = [t.info for t in trials] + [kept.get("info", {}) for kept in record.baselines]
    told += session.Session.of(record).info.values()
    return scales.fastest(info for infos in told for info in infos.values())


def _trained_again(record: StudyRecord, kept: Mapping[str, object]) -> dict[str, object]:
    """What a baseline has of the budget at which the front was trained again."""
    again = record.retrained.get(str(kept.get("id")))
    if again is None or not again["values"]:
        return {}
    return {"retrained": dict(again["values"]), "retrained_info": again["info"]}


def _final(
    trials: Sequence[Trial], retrained: Sequence[Retrained], last: session.Session, columns: Sequence[ObjectiveSpec]
) -> list[Retrained]:
    """What was re-trained, with what the last session measured of it; and what was only measured again."""
    known = {r.id: r for r in retrained}
    ids = dict.fromkeys([*known, *(t.architecture.id for t in trials if t.architecture.id in last.values)])
    found = []
    for one in ids:
        r = known.get(one, Retrained(one, {}))
        values, info = {**r.values, **last.values.get(one, {})}, {**r.info, **last.info.get(one, {})}
        found.append(replace(r, values=answering(values, columns), info=info))
    return found


def _foreign(record: StudyRecord, space: type[Space] | None) -> Result:
    """Of a study that nas_bo did not make: its trials of `space`; without one its parameters as they are.

    Raises:
        HostError: no trial is an architecture of `space`.
    """
    columns, there = list(record.columns), record.ended
    if space is None:
        ended = [_as_it_is(one) for one in there]
    else:
        ended = [t for one in there if (t := one.within(space)) is not None]
        if there and not ended:
            raise HostError(
                f"none of the {counted(len(there), 'trial')} of the study {record.name!r} is an architecture of {space.title} "
                f"({_why(there[0], space)}); leave --space out for a report of its parameters as they are"
            )
    notes = _notes(ended, columns, False, False)
    if not ended:
        notes.append("No trial has ended yet.")
    if len(there) > len(ended):
        notes.append(
            f"{len(there) - len(ended)} of {counted(len(there), 'trial')} are not architectures of {space.title if space else ''} and left out."
        )
    return Result(
        title=printable(record.name),
        columns=columns,
        trials=ended,
        labels={key: printable(name) for key, name in labels_of(ended, space).items()},
        notes=[*notes, *_rounded(record), *_of_others(record)],
        facts=_facts(record),
        record=record,
        space=space,
    )


def _as_it_is(one: TrialRecord) -> Trial:
    """Its parameters stand for an architecture; what a pruner ended was stopped, as nothing is violated."""
    broken = [name for name, amount in one.violations.items() if amount > 0]
    state, reason = one.state, one.reason
    if one.ended == "pruned" and not broken:
        state = State.STOPPED
        reason = reason or (f"pruned at step {max(one.reported)}" if one.reported else "pruned")
    elif one.ended == "pruned":
        reason = reason or f"violates {', '.join(broken)}"
    elif state is State.FAILED:
        reason = reason or "Optuna kept no reason"
    return replace(one, state=state, reason=reason).of(None)


def _facts(record: StudyRecord) -> dict[str, object]:
    """What a reader should know about where a report is from; the user's own attributes of the study among it."""
    starts = [t.started for t in record.trials if t.started is not None]
    plain = {
        k: v for k, v in record.attributes.items() if isinstance(v, (str, int, float, bool)) and len(str(v)) <= 200
    }
    own = {printable(k): lines(v) if isinstance(v, str) else v for k, v in plain.items()}
    began = {"started": min(starts).isoformat(timespec="seconds")} if starts else {}
    told = ", ".join(f"{n} {name}" for name, n in record.counts().items() if n)
    return {"study": f"of Optuna, not made by nas_bo: {told or 'no trials'}", **began, **own}


def _why(one: TrialRecord, space: type[Space]) -> str:
    try:
        space.architecture(one.params, strict=False)
    except SpaceError as error:
        return f"trial {one.number}: {error}"
    return "none has values"


def _notes(trials: Sequence[Trial], columns: Sequence[ObjectiveSpec], interrupted: bool, exhausted: bool) -> list[str]:
    notes = []
    if interrupted:
        notes.append("The search was interrupted; the same call continues it.")
    if exhausted:
        notes.append("The space is exhausted: no other architecture within its rules and the limits was found.")
    if trials and not front(trials, columns):
        broken = [t.reason for t in trials if t.reason]
        notes.append("No trial is feasible" + (f"; for example, {broken[-1]}" if broken else "") + ".")
    failed = [t for t in trials if t.state is State.FAILED]
    if failed:
        notes.append(f"{len(failed)} of {counted(len(trials), 'trial')} failed; the last one: {failed[-1].reason}.")
    total = spent(trials)
    if total.stopped:
        notes.append(
            f"{total.stopped} of {counted(total.begun, 'training')} {plural(total.stopped, 'was', 'were')} stopped early; what the search trained adds up to "
            f"{total.trainings:.4g} whole trainings."
        )
    unsettled = sum(not i.get("settled", True) for t in trials for i in t.info.values())
    if unsettled:
        notes.append(
            f"{counted(unsettled, 'measurement')} did not settle within the time given; the intervals are wider than asked."
        )
    return notes


def _rounded(record: StudyRecord) -> list[str]:
    """Whole numbers of which the storage has lost the last digits."""
    if not record.rounded:
        return []
    return [
        f"Optuna keeps whole numbers as floats: beyond 2**53 the last digits of {', '.join(record.rounded)} may differ from those "
        "that the trial was run with. Where every digit matters, suggest a smaller range, or keep the number with set_user_attr."
    ]


def _of_part(record: StudyRecord) -> list[str]:
    """Of a search inside a trained model: of which text its losses are."""
    return [
        f"{name} is of {counted(int(said['held_out_tokens']), 'held-out token')} in windows of {said['sequence']}, of the whole model as of its parts; on "
        "other text, as `nas-bo train` may have taken for the whole, it is another number."
        for name, said in record.conditions.items()
        if "held_out_tokens" in said and "calibration" in said
    ]


def _of_others(record: StudyRecord) -> list[str]:
    found = [running.of(one) for one in record.trials if one.state is State.RUNNING]
    found = [one for one in found if one.by == "process" and one.alive is not True]
    return [unfinished(found)] if found else []


def unfinished(others: Sequence[running.Running], begins: bool = False) -> str:
    """What a reader must know about trials that somebody else evaluates, or has left forever.

    Args:
        begins: the warning is given when a search begins, and may be read when it ends, as they may have as well.
    """
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    those = counted(len(others), "trial")
    was = ("was" if len(others) == 1 else "were") if begins else ("is" if len(others) == 1 else "are") + " still"
    when = f"when this search began ({now})" if begins else f"(as of {now})"
    return (
        f"{those} {was} being evaluated elsewhere {when}: {running.listed(others)}. If that process is dead, --adopt-after 30m "
        "(adopt_after=1800) evaluates what is older than that again; `nas-bo status` lists them."
    )
