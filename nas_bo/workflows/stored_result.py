"""The result of a study from the study alone: of one that `search` made, and of any other study of Optuna."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from nas_bo import optuna as door
from nas_bo import study_name as named
from nas_bo.architecture import Architecture
from nas_bo.errors import HostError
from nas_bo.hardware.measuring import scale as scales
from nas_bo.optuna import foreign, running, studies
from nas_bo.report import TrustReport, vocabulary
from nas_bo.report.digits import count
from nas_bo.report.labels import labels_of
from nas_bo.space import Space
from nas_bo.spelling import answering
from nas_bo.trial import Column, State, Trial, front
from nas_bo.workflows import final_measurement as session
from nas_bo.workflows import retraining_check
from nas_bo.workflows.result import Result, Retrained, spent


def load_result(
    study: Any,
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
    about = studies.kept(study, "study") or {}
    if not about:
        return _foreign(study, space)
    if space is None:
        space = Space.from_dict(about["space"], Unchecked())
    elif space.fingerprint() != about["fingerprint"]:
        raise HostError(
            f"the study {study.study_name!r} is of the space {about['space']['title']!r} with schema {about['fingerprint']}, not "
            f"of {space.title!r} with schema {space.fingerprint()}; leave the space out (--space): the study says it itself"
        )
    columns = [Column(**c) for c in about["columns"]]
    ended = [t for t in door.history(study, space, columns) if t.state is not State.RUNNING]
    scale = scale_of(study, ended)
    ended, changed = scales.trials_on_scale(ended, scale)
    factor = studies.kept(study, "retrained")
    again: dict[str, dict[str, Any]] = {}
    for t in ended:
        kept = studies.kept(study, f"retrained:{factor:g}:{t.architecture.id}") if factor else None
        if kept is not None:
            again[t.architecture.id] = kept
    retrained = [
        Retrained(arch_id, kept["values"], kept["reason"], kept.get("info", {}), kept.get("factor", 1.0))
        for arch_id, kept in again.items()
    ]
    told_apart = (
        "space",
        "columns",
        "conditions",
        "remarks",
        "fingerprint",
        "constraints",
        "proxies",
        "recipe",
        "chance",
    )
    facts = {k: v for k, v in about.items() if k not in told_apart}
    for objective, conditions in about.get("conditions", {}).items():
        facts |= {f"{objective}: {what}": value for what, value in conditions.items()}
    for objective, remarks in about.get("remarks", {}).items():
        facts |= {f"{objective}: {what}": value for what, value in remarks.items()}
    if factor:
        facts["front re-trained at"] = f"{factor:g} times the budget, another seed"
    proxies = [Column(**c) for c in about.get("proxies", ())]
    trust = retraining_check.of_search(ended, columns, front(ended, columns), again, factor, proxies) if again else None
    validated = studies.kept(study, "validated")
    return Result(
        title=named.printable(study.study_name),
        columns=columns,
        trials=ended,
        labels=labels_of(ended, space),
        retrained=_final(ended, retrained, session.Session.kept(study).on(scale), columns),
        trust=trust,
        validation=TrustReport.from_dict(validated) if validated else None,
        notes=[*_notes(ended, columns, interrupted, exhausted), *scales.said(changed), *_of_others(study)],
        facts=facts,
        study=study,
        interrupted=interrupted,
        baselines=baselines_of(study, scale),
        chance=about.get("chance") or {},
        space=space,
        vocab_size=vocabulary(about),
    )


def baselines_of(study: Any, scale: Mapping[str, scales.Known] | None = None) -> list[dict[str, Any]]:
    """What the search was compared with, as far as that was evaluated: ``{"label", "values", ...}``; measured values on the
    scale of `scale_of`."""
    last = session.Session.kept(study).on(scale or {})
    found = []
    for label, kept in _baselines(study):
        values, info, _ = scales.rescaled(kept.get("values", {}), kept.get("info", {}), scale or {})
        found.append(last.of_baseline({**kept, "label": label, "values": values, "info": info}))
    return found


def _baselines(study: Any) -> list[tuple[str, Mapping[str, Any]]]:
    asked = (studies.kept(study, "baselines") or {}).items()
    found = [(label, studies.kept(study, f"baseline:{arch_id}")) for label, arch_id in asked]
    return [(label, kept) for label, kept in found if kept]


def scale_of(study: Any, trials: Sequence[Trial]) -> dict[str, scales.Known]:
    """The scale of the measured values of a study: the fastest under which one of them was reported."""
    told = [t.info for t in trials] + [kept.get("info", {}) for _, kept in _baselines(study)]
    told += session.Session.kept(study).info.values()
    return scales.fastest(info for infos in told for info in infos.values())


def _final(
    trials: Sequence[Trial], retrained: Sequence[Retrained], last: session.Session, columns: Sequence[Column]
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


def _foreign(study: Any, space: type[Space] | None) -> Result:
    columns = foreign.objectives(study)
    ended = foreign.trials(study, columns, space)
    there = sum(t.state.is_finished() for t in study.get_trials(deepcopy=False))
    notes = _notes(ended, columns, False, False)
    if not ended:
        notes.append("No trial has ended yet.")
    if there > len(ended):
        notes.append(
            f"{there - len(ended)} of {count(there, 'trial')} are not architectures of {space.title if space else ''} and left out."
        )
    return Result(
        title=named.printable(study.study_name),
        columns=columns,
        trials=ended,
        labels={key: named.printable(name) for key, name in labels_of(ended, space).items()},
        notes=[*notes, *_rounded(study), *_of_others(study)],
        facts=foreign.facts(study),
        study=study,
        space=space,
    )


class Unchecked(dict[str, Callable[[Architecture], Any]]):
    """Rules are code and so not in a storage; what was stored has passed them."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Callable[[Architecture], Any]:
        return lambda arch: True


def _notes(trials: Sequence[Trial], columns: Sequence[Any], interrupted: bool, exhausted: bool) -> list[str]:
    notes = []
    if interrupted:
        notes.append("The search was interrupted; the same call continues it.")
    if exhausted:
        notes.append("The space is exhausted: every architecture that it admits was tried.")
    if trials and not front(trials, columns):
        broken = [t.reason for t in trials if t.reason]
        notes.append("No trial is feasible" + (f"; for example, {broken[-1]}" if broken else "") + ".")
    failed = [t for t in trials if t.state is State.FAILED]
    if failed:
        notes.append(f"{len(failed)} of {count(len(trials), 'trial')} failed; the last one: {failed[-1].reason}.")
    total = spent(trials)
    if total.stopped:
        notes.append(
            f"{total.stopped} of {count(total.begun, 'training')} {'was' if total.stopped == 1 else 'were'} stopped early; what the search trained adds up to "
            f"{total.trainings:.4g} whole trainings."
        )
    unsettled = sum(not i.get("settled", True) for t in trials for i in t.info.values())
    if unsettled:
        notes.append(
            f"{count(unsettled, 'measurement')} did not settle within the time given; the intervals are wider than asked."
        )
    return notes


def _rounded(study: Any) -> list[str]:
    """Whole numbers of which the storage has lost the last digits."""
    dists = [(name, d) for t in study.get_trials(deepcopy=False) for name, d in t.distributions.items()]
    large = {name for name, d in dists if type(d).__name__ == "IntDistribution" and max(-d.low, d.high) > 2**53}
    return (
        [
            f"Optuna keeps whole numbers as floats: beyond 2**53 the last digits of {', '.join(sorted(large))} may differ from those "
            "that the trial was run with. Where every digit matters, suggest a smaller range, or keep the number with set_user_attr."
        ]
        if large
        else []
    )


def _of_others(study: Any) -> list[str]:
    found = [one for one in running.running(study) if one.by == "process" and one.alive is not True]
    return [unfinished(found)] if found else []


def unfinished(others: Sequence[running.Running], begins: bool = False) -> str:
    """What a reader must know about trials that somebody else evaluates, or has left forever.

    Args:
        begins: the warning is given when a search begins, and may be read when it ends, as they may have as well.
    """
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    those = count(len(others), "trial")
    was = ("was" if len(others) == 1 else "were") if begins else ("is" if len(others) == 1 else "are") + " still"
    when = f"when this search began ({now})" if begins else f"(as of {now})"
    return (
        f"{those} {was} being evaluated elsewhere {when}: {running.listed(others)}. If that process is dead, --adopt-after 30m "
        "(adopt_after=1800) evaluates what is older than that again; `nas-bo status` lists them."
    )
