"""The trainings of a ladder in MLflow: runs next to the trials of the study, linked with the trial that they are larger copies of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.report.digits import figure
from nas_bo.report.ladder import Ladder
from nas_bo.trial import State, Trial
from nas_bo.workflows.ladder_plan import LadderPlan, Member
from nas_bo.workflows.ladder_settings import LadderSettings
from nas_bo.workflows.result import Result

if TYPE_CHECKING:
    from nas_bo.mlflow import Tracker

Outcome = tuple[Member, int, int, Mapping[str, Any]]
"""(architecture, rung from 0, seed from 0, what is kept of the training)."""


class InMlflow:
    """Runs of kind "ladder", and the report with the study's run."""

    def __init__(self, tracker: Tracker, result: Result) -> None:
        self._tracker, self._study = tracker, result.study

    def rung(self, plan: LadderPlan, outcomes: Sequence[Outcome]) -> None:
        """All trainings of a rung have ended; some of them may be logged already."""
        from nas_bo.mlflow import content, lineage

        with self._tracker.opened(self._study) as session:
            there = lineage.known(session, "ladder")
            for member, rung, seed, kept in outcomes:
                arch, size = member.rungs[rung], plan.rungs[rung]
                uid = f"{session.subject.name}/ladder/{arch.id}@{size.tokens}/{plan.loss.seed + seed}"
                if uid in there:
                    continue
                label = plan.labels[member.architecture.id]
                made = lineage.beside(
                    session,
                    f"rung {rung + 1} {label} seed {seed + 1}",
                    "ladder",
                    uid,
                    _as_trial(plan, arch, kept),
                    label,
                )
                made.tag("nas.rung", str(rung + 1))
                made.tag("nas.climbs", member.kind)
                made.tag("nas.base", member.architecture.id)
                child = None if member.trial is None else session.children.get(member.trial)
                lead = f"Grown to {figure(kept.get('parameters') or size.middle)} parameters, {figure(size.tokens)} tokens, seed {seed + 1}."
                if child is not None:
                    made.tag("nas.of", child.run_id)
                    lead = f"Trial [{member.trial}]({lineage.link(session.experiment, child.run_id)}). {lead}"
                made.tag(content.NOTE, f"{lead}\n\n{made.tags.get(content.NOTE, '')}")
                run_id = lineage.create(session, made)
                if child is not None:
                    said = f"[Rung {rung + 1}]({lineage.link(session.experiment, run_id)}): {content.escaped(lead.split('). ')[-1])}"
                    lineage.attach(session.client, child.run_id, f"nas.ladder.{rung + 1}.{seed + 1}", run_id, said)

    def finish(self, ladder: Ladder) -> None:
        """The ladder is complete."""
        from nas_bo.mlflow import artifacts

        with self._tracker.opened(self._study) as session:
            files = {f"report/{name}": data for name, data in ladder.files().items()}
            artifacts.put(session.client, session.client.get_run(session.parent), files)
            for decision in ladder.decisions:
                for what, one in (("overall", decision.overall), ("equal", decision.equal)):
                    if one.known:
                        session.client.log_metric(session.parent, f"ladder/{what}.rung{decision.rung + 1}", one.value)
            session.client.set_tag(session.parent, "nas.ladder", ladder.first_line[:4000])


def _as_trial(plan: LadderPlan, arch: Architecture, kept: Mapping[str, Any]) -> Trial:
    value = kept.get("value")
    values = {} if value is None or not math.isfinite(value) else {plan.loss.name: float(value)}
    told = {name: one for name, one in kept.items() if name not in ("name", "value", "reason") and one is not None}
    return Trial(
        arch,
        values,
        state=State.COMPLETE if values else State.FAILED,
        reason=str(kept.get("reason") or ""),
        info={plan.loss.name: {"how": "trained", **told}},
        seconds=float(kept.get("seconds") or 0.0),
    )


def tracking_of(settings: LadderSettings, result: Result, plan: LadderPlan) -> InMlflow | None:
    """Where the trainings of a call are logged, checked; None where they are not (raises SearchError, HostError)."""
    track = settings.track
    if track is None:
        return None
    if result.study is None:
        raise SearchError(
            "ladder(track=...): trainings are logged next to the trials of a study, and this result has none; load it from its storage"
        )
    from nas_bo.mlflow import Tracker

    if isinstance(track, (str, Path)):
        tracker = Tracker(uri=str(track))
    elif isinstance(track, Tracker):
        tracker = track
    else:
        raise SearchError(
            f"ladder(track={track!r:.80}): it is the tracking URI of MLflow, such as 'sqlite:///mlflow.db', or a nas_bo.mlflow.Tracker"
        )
    tracker.check()
    return InMlflow(tracker, result)
