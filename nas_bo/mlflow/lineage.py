"""The runs of a study in addition to its trials: baselines and re-trainings, each linked to what it belongs to, and back.

The UI shows one level of nesting, so all of them are children of the study's run; ``nas.of`` and links in the descriptions say
the rest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo.mlflow import artifacts, content
from nas_bo.mlflow import tags as names
from nas_bo.mlflow.session import PARENT, TERMINAL, Session
from nas_bo.process import is_dead, owner
from nas_bo.report import Summary, figure, vocabulary
from nas_bo.study import TrialRecord
from nas_bo.trial import State, Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient


def link(experiment: str, run_id: str) -> str:
    """The address of a run inside the UI, wherever that is."""
    return f"#/experiments/{experiment}/runs/{run_id}"


def log_relatives(session: Session, summary: Summary) -> None:
    """Make the runs of baselines and re-trainings that are not there yet."""
    if not (summary.baselines or summary.retrained):
        return
    there = known(session, "baseline") | known(session, "retrain")
    for base in summary.baselines:
        uid = f"{session.subject.name}/baseline/{base.get('label', '')}"
        if base.get("id") and uid not in there:
            trial = _as_trial(session, base)
            made = beside(session, f"baseline {base['label']}", "baseline", uid, trial, str(base["label"]))
            if base.get("standard"):
                made.tag("nas.factor", f"{summary.final.factor:g}")
            create(session, made)
    by_id = summary.by_id()
    trained = {
        c.name for c in summary.columns if c.cost == "trained"
    }  # what was only measured again is not a re-training
    for again in summary.retrained:
        before = by_id.get(again.get("id", ""))
        child = session.children.get(before.number) if before is not None and before.number is not None else None
        factor = again.get("factor", 1.0)
        uid = f"{session.subject.name}/retrain/{again.get('id', '')}@{factor:g}"
        if before is None or child is None or uid in there or not trained & set(again.get("values", ())):
            continue
        new = {name: value for name, value in again["values"].items() if name in trained}
        trial = Trial(before.architecture, new, info={n: i for n, i in (again.get("info") or {}).items() if n in new})
        made = beside(
            session, f"{before.number:03d} re-trained x{factor:g}", "retrain", uid, trial, summary.label(before)
        )
        made.tag("nas.of", child.run_id)
        made.tag("nas.factor", f"{factor:g}")
        address = link(session.experiment, child.run_id)
        lead = f"Trial [{before.number}]({address}) trained again at {factor:g} times the budget with another seed."
        made.tag(content.NOTE, f"{lead}\n\n{made.tags.get(content.NOTE, '')}")
        run_id = create(session, made)
        values = ", ".join(f"{k} {figure(v)}" for k, v in new.items())
        attach(
            session.client, child.run_id, "nas.retrained", run_id,
            f"[Re-trained]({link(session.experiment, run_id)}) at {factor:g} times the budget: {content.escaped(values)}",
        )  # fmt: skip


def known(session: Session, kind: str) -> dict[str, str]:
    """`tags.UID` -> run id of the study's runs of this kind; one that a killed process left half written is deleted."""
    query = f"tags.`{session.key_tag}` = '{session.key}' AND tags.`nas.kind` = '{kind}'"
    found = {}
    for run in session.client.search_runs([session.experiment], query, max_results=1000):
        if run.info.status not in TERMINAL and is_dead(names.value(run.data.tags, names.WRITER)):
            session.client.delete_run(run.info.run_id)
        else:
            found[names.value(run.data.tags, names.UID)] = str(run.info.run_id)
    return found


def beside(session: Session, name: str, kind: str, uid: str, trial: Trial, label: str) -> content.Content:
    """A run that is not a trial, with the numbers of one."""
    made = content.Content(name[:120], "FINISHED" if trial.state is State.COMPLETE else "FAILED")
    content.objective_metrics(made, trial, session.columns)
    if trial.seconds:
        made.metric("cost/seconds", round(trial.seconds, 3))
    content.numbers(made, trial)
    made.param("arch/code", label)
    for tag, value in (
        ("nas.kind", kind),
        (names.UID, uid),
        ("nas.study", session.subject.name),
        (session.key_tag, session.key),
        ("nas.state", trial.state.value),
        ("nas.arch", trial.architecture.id),
        ("nas.label", label),
        (names.COLOR, names.COMPARED if kind == "baseline" else names.BESIDE),
    ):
        made.tag(tag, value)
    if trial.reason:
        made.tag("nas.error", trial.reason)
    content.hows(made, trial, session.columns)
    content.described(made, trial, [c for c in session.columns if c.name in trial.values] or session.columns)
    made.files = content.architecture_files(trial.architecture, label, vocabulary(session.about))
    return made


def create(session: Session, made: content.Content, files: Mapping[str, str | bytes | Path] | None = None) -> str:
    """Write the run, as a child of the study's; returns its id."""
    now = int(time.time() * 1000)
    tags = {**session.tags, **made.tags, PARENT: session.parent, names.WRITER: owner()}
    run = session.client.create_run(session.experiment, tags=tags, run_name=made.name)
    session.batch(run.info.run_id, made.metrics, made.params, now)
    artifacts.put(session.client, run, {**made.files, **(files or {})})
    session.client.set_terminated(run.info.run_id, status=made.status)
    return str(run.info.run_id)


def attach(client: MlflowClient, run_id: str, tag: str, value: str, sentence: str) -> None:
    """Link from a run: a tag, and a line in its description."""
    note = client.get_run(run_id).data.tags.get(content.NOTE, "")
    client.set_tag(run_id, tag, value)
    if sentence not in note and len(note) + len(sentence) + 2 <= content.TAG_LENGTH:
        client.set_tag(run_id, content.NOTE, f"{note}\n\n{sentence}" if note else sentence)


def _as_trial(session: Session, kept: Mapping[str, Any]) -> Trial:
    again, told = (
        ({}, {}) if not kept.get("standard") else (kept.get("retrained") or {}, kept.get("retrained_info") or {})
    )
    state = State(kept["state"]) if kept.get("state") in {s.value for s in State} else State.COMPLETE
    return TrialRecord(
        -1, state, params=kept.get("flat") or {}, values={**(kept.get("values") or {}), **again}, reason=kept.get("reason") or "",
        info={**(kept.get("info") or {}), **told}, seconds=kept.get("seconds") or 0.0,
    ).of(session.subject.space)  # fmt: skip
