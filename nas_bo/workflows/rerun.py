"""Evaluate again what a run in MLflow says, from what was logged alone, and say whether the figures agree.

Trained and counted values must be bit for bit the same where versions and device are; measured ones must have intervals that
overlap. What cannot be built again is reported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo import foreign_recipe, provenance, serialization
from nas_bo.architecture import Architecture
from nas_bo.errors import HostError, NasBoError, SearchError
from nas_bo.foreign_document import reading
from nas_bo.mlflow import artifacts, content, lineage, tracking_uri
from nas_bo.mlflow import tags as names
from nas_bo.mlflow.session import PARENT, Session
from nas_bo.objective import Conditioned, Objective, Retrainable, Say
from nas_bo.objectives.measuring import silent
from nas_bo.problem import Problem
from nas_bo.report import figure, vocabulary
from nas_bo.report.digits import aligned
from nas_bo.space import Space
from nas_bo.study import StudyRecord, columns_of, plain_architecture
from nas_bo.trial import State, Trial, knee
from nas_bo.wording import counted
from nas_bo.workflows.register import check_size

if TYPE_CHECKING:
    from nas_bo.mlflow.session import MlflowClient, Run

KINDS = ("trial", "baseline", "retrain", "rerun")  # of runs that have an architecture and values
NOT_COMPARED = ("python", "nas_bo", "optuna", "mlflow", "scipy")  # versions on which no trained value depends


@dataclass(frozen=True)
class Compared:
    """One objective, then and now.

    Attributes:
        before, now: None where there is no value.
        agrees: None where that cannot be decided.
        words: why.
    """

    name: str
    unit: str
    cost: str
    before: float | None
    now: float | None
    agrees: bool | None
    words: str


@dataclass(frozen=True)
class Again:
    """What came of a second evaluation.

    Attributes:
        run_id: of the run that was evaluated again, and its name.
        compared: one for every objective of the study.
        changed: what is not as it was: versions, device, corpus.
        logged: the id of the new run; None where it was not logged.
    """

    run_id: str
    name: str
    compared: Sequence[Compared]
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    logged: str | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether all figures agree; None where one cannot be compared and none differs."""
        said = [c.agrees for c in self.compared]
        return False if False in said else None if None in said or not said else True

    def __str__(self) -> str:
        verdict = {
            True: "All figures agree.",
            False: "Not all figures agree.",
            None: "Not all figures could be compared.",
        }
        rows = [("objective", "then", "now", "")]
        rows += [(f"{c.name} [{c.unit}]" if c.unit else c.name, figure(c.before), figure(c.now), c.words) for c in self.compared]  # fmt: skip
        changes = [f"{what}: {was} then, {now} now" for what, (was, now) in self.changed.items()]
        return "\n".join(
            [
                f"{self.name}: {verdict[self.agrees]}",
                "",
                *aligned(rows, right=(1, 2)),
                *([""] if changes else []),
                *changes,
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "run": self.run_id,
            "agrees": self.agrees,
            "objectives": [vars(c) for c in self.compared],
            "changed": {what: list(pair) for what, pair in self.changed.items()},
            "logged": self.logged,
        }


def rerun(
    run_id: str,
    *,
    track: str | Path | None = None,
    allow: Collection[str] = (),
    log: bool = True,
    allow_path: Collection[str | PathLike[str]] = (),
    budget_limit: float = foreign_recipe.BUDGET,
    say: Say = silent,
) -> Again:
    """Evaluate the architecture of a run again. The run may be somebody else's: see `allow`, `allow_path` and `budget_limit`.

    Args:
        run_id: of a trial, a baseline or a re-training; of a study it is the knee of its front.
        track: the tracking URI, as for `search`.
        allow: packages and modules other than nas_bo that may be imported; see `nas_bo.serialization.rebuild`.
        log: as a run of kind ``rerun`` next to the other, linked both ways.
        allow_path: files and folders outside of the current folder that the run may name: data, checkpoints, profiles.
        budget_limit: the largest number of tokens, steps or repeats that the run may ask for.
        say: called with what is evaluated again.

    Raises:
        HostError: the store cannot be read, or there is no such run.
        SearchError: the run does not say enough: it is not a run of a search of nas_bo, or of one before recipes were kept; or it
            asks for a file or a budget that is not allowed, before anything is opened.
    """
    where = tracking_uri.resolve(track)
    tracking_uri.there(where)
    tracking_uri.check(where, 5)
    with tracking_uri.patience(where, 60), tracking_uri.quietly():
        client = tracking_uri.connect(where)
        run, parent, about = _find(client, where, run_id)
        arch, space, factor = _asked(client, run, about)
        subject = StudyRecord(
            parent.data.tags.get("nas.study", parent.info.run_name), names.value(parent.data.tags, names.KEY),
            columns_of(about), about,
        )  # fmt: skip
        foreign_recipe.check(about["recipe"], allow_path, budget_limit / max(1.0, factor or 1.0))
        check_size(arch, vocabulary(about))
        say(f"evaluating {run.info.run_name} again", 0, 1)
        compared, trial = _evaluate(run, arch, space, about, allow, factor)
        made = Again(run.info.run_id, run.info.run_name, compared, _changed(about))
        if log:
            session = Session(client, subject, run.info.experiment_id, parent.info.run_id, {}, guest=True)
            session.key_tag = names.key_tag(parent.data.tags)
            made = Again(made.run_id, made.name, compared, made.changed, _log(session, run, trial, made))
        return made


def _find(client: MlflowClient, where: str, run_id: str) -> tuple[Run, Run, dict[str, Any]]:
    """The run to evaluate, its study's run, and what that kept about itself."""
    try:
        run = client.get_run(run_id)
    except Exception as error:
        raise HostError(
            f"there is no run {run_id!r} in {tracking_uri.redact(where)} ({type(error).__name__}); copy its id from the run's page"
        ) from error
    kind = run.data.tags.get("nas.kind")
    if kind not in (*KINDS, "study"):
        raise SearchError(f"the run {run_id} is not a trial of a search of nas_bo (its tag nas.kind is {kind!r})")
    parent = run if kind == "study" else client.get_run(run.data.tags[PARENT])
    about = _about(_text(client, parent, "study.json"))
    if not about.get("recipe"):
        raise SearchError(
            f"the study of the run {run_id} did not keep how its objectives are made: evaluate it in the program that did"
        )
    return (_knee(client, parent, about) if kind == "study" else run), parent, about


@reading("what a study of nas_bo keeps in MLflow about itself", SearchError)
def _about(text: str) -> dict[str, Any]:
    """The content of ``study.json``, of the form that `search` gives it."""
    about: dict[str, Any] = json.loads(text)
    about.get("recipe")
    columns = columns_of(about)
    if about.get("recipe") and len(columns) != len(about["recipe"]["objectives"]):
        raise SearchError(
            f"it has {counted(len(columns), 'column')}, and recipes of {len(about['recipe']['objectives'])}"
        )
    texts = [text for c in columns for text in (c.name, c.unit, c.direction, c.cost)]
    for part in ("versions", "conditions", "chance"):
        texts += list(about.get(part) or {})
    if not all(isinstance(text, str) for text in texts):
        raise SearchError("a name in it is not a text")
    if not all(isinstance(told, Mapping) for told in (about.get("conditions") or {}).values()):
        raise SearchError("the conditions of an objective are not names and values")
    return about


def _knee(client: MlflowClient, parent: Run, about: Mapping[str, Any]) -> Run:
    columns, runs, token = columns_of(about), {}, None
    own = parent.data.tags
    query = f"tags.`{names.key_tag(own)}` = '{names.value(own, names.KEY)}' AND tags.`nas.kind` = 'trial'"
    while True:
        found = client.search_runs([parent.info.experiment_id], query, max_results=1000, page_token=token)
        for run in found:
            values = {c.name: run.data.metrics.get(content.clean(f"obj/{c.name}")) for c in columns}
            if run.data.tags.get("nas.state") == "complete" and all(v is not None for v in values.values()):
                number = int(run.data.tags["nas.trial"])
                runs[number] = (run, Trial(plain_architecture({"number": number}), values, number=number))
        token = found.token
        if not token:
            break
    noted = _noted_knee(client, parent)
    if noted in runs:
        return runs[noted][0]
    middle = knee([trial for _, trial in runs.values()], columns, levels=about.get("chance") or {})
    if middle is None or middle.number is None:
        raise SearchError(
            f"no trial of the study {parent.info.run_name!r} is feasible, so there is nothing to evaluate again"
        )
    return runs[middle.number][0]


def _noted_knee(client: MlflowClient, parent: Run) -> int | None:
    """The knee of the final front, as the search reported it at its end; None where it did not come so far."""
    try:
        told = json.loads(_text(client, parent, "report/result.json"))
    except (SearchError, ValueError):
        return None
    number = told.get("knee") if isinstance(told, dict) else None
    return number if isinstance(number, int) else None


def _text(client: MlflowClient, run: Run, name: str) -> str:
    try:
        return artifacts.text(client, run, name)
    except HostError:
        raise
    except Exception as error:
        raise SearchError(
            f"the run {run.info.run_id} has no file {name} that can be read ({type(error).__name__})"
        ) from error


@reading("a run of a search of nas_bo", SearchError)
def _asked(client: MlflowClient, run: Run, about: Mapping[str, Any]) -> tuple[Architecture, type[Space], float | None]:
    """What is evaluated: the architecture, its space, and the factor of the budget of a re-training (None of a trial)."""
    arch = Architecture.from_json(_text(client, run, "arch.json"))
    space = Space.from_dict(about["space"], {name: lambda _arch: True for name in about["space"].get("rules", {})})
    factor = float(run.data.tags["nas.factor"]) if "nas.factor" in run.data.tags else None
    if factor is not None and not 0 < factor < math.inf:
        raise SearchError(f"its tag nas.factor is {factor!r}, which is not a multiple of a budget")
    return arch, space, factor


def _evaluate(
    run: Run,
    arch: Architecture,
    space: type[Space],
    about: Mapping[str, Any],
    allow: Collection[str],
    factor: float | None,
) -> tuple[list[Compared], Trial]:
    """Every objective by itself, so that a limit or a failure of one hides no other."""
    values: dict[str, float] = {}
    info: dict[str, Mapping[str, Any]] = {}
    made, seconds = [], 0.0
    changed = _changed(about)
    bigger = factor is not None  # a re-training, or one that was evaluated again
    for column, described in zip(columns_of(about), about["recipe"]["objectives"], strict=True):
        before = run.data.metrics.get(content.clean(f"obj/{column.name}"))
        if before is None and bigger:
            continue  # a re-training has the trained objectives only
        try:
            objective = serialization.rebuild(described, allow)
            if factor is not None and isinstance(objective, Retrainable):
                objective = objective.larger(factor)
            one = Problem(space, [objective]).evaluate(arch)
        except NasBoError as error:
            made.append(Compared(column.name, column.unit, column.cost, before, None, None, str(error)))
            continue
        seconds += one.seconds
        now = one.values.get(column.name)
        values |= one.values
        info |= one.info
        agrees, words = _verdict(column.name, column.cost, before, now, run.data.metrics, one, changed)
        made.append(Compared(column.name, column.unit, column.cost, before, now, agrees, words))
    failed = [c.words for c in made if c.now is None]
    state = State.COMPLETE if not failed else State.FAILED
    return made, Trial(arch, values, state=state, reason="; ".join(failed), info=info, seconds=seconds)


def _verdict(
    name: str, cost: str, before: float | None, now: float | None, metrics: Mapping[str, float], again: Trial,
    changed: Mapping[str, tuple[str, str]],
) -> tuple[bool | None, str]:  # fmt: skip
    if before is None and now is None:
        return None, f"no value then, none now: {again.reason}"
    if now is None:
        return False, f"it failed: {again.reason}"
    if before is None:
        return None, "there was no value then"
    low, high = (metrics.get(content.clean(f"hw/{name}.{end}")) for end in ("low", "high"))
    own = again.info.get(name, {})
    if cost == "measured":
        if low is None or high is None or "low" not in own or "high" not in own:
            return None, f"measured, without an interval; it differs by {_share(before, now)}"
        told = f"{figure(low)} to {figure(high)} then, {figure(own['low'])} to {figure(own['high'])} now"
        if own["low"] <= high and low <= own["high"]:
            return True, f"intervals overlap: {told}"
        if "device" in changed:
            return None, f"another device: {told}"
        return False, f"intervals do not overlap: {told}"
    if before == now:
        return True, "the same bit for bit"
    reasons = [what for what in changed if what not in NOT_COMPARED and (cost == "trained" or what != "device")]
    if reasons:
        return None, f"it differs by {_share(before, now)}, and so does {', '.join(reasons)}"
    return False, f"it differs by {_share(before, now)}, with the same versions, device and corpus"


def _share(before: float, now: float) -> str:
    return (
        f"{abs(now - before) / abs(before):.3g} of it" if before and math.isfinite(now) else f"{abs(now - before):.3g}"
    )


def _changed(about: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What is not as it was when the study was made."""
    now = provenance.versions()
    found = {
        what: (str(was), now[what])
        for what, was in about.get("versions", {}).items()
        if what in now and now[what] != was
    }
    conditions = {}
    for described in about["recipe"]["objectives"]:
        try:
            objective = serialization.rebuild(described)
            if isinstance(objective, Objective) and isinstance(objective, Conditioned):
                conditions[objective.name] = dict(objective.conditions())
        except NasBoError:
            continue
    for name, told in conditions.items():
        for what, value in told.items():
            was = about.get("conditions", {}).get(name, {}).get(what)
            if was is not None and what in ("sha256", "device") and was != value:
                # what was read here goes into no log, not even as a digest: the log may be somebody else's
                now_read = "another text" if what == "sha256" else str(value)[:40]
                found["corpus" if what == "sha256" else what] = (str(was)[:40], now_read)
    machine = provenance.device(conditions)
    if about.get("device") and about["device"] != machine:
        found.setdefault("device", (str(about["device"]), machine))
    return found


def _log(session: Session, run: Run, trial: Trial, made: Again) -> str:
    label = run.data.tags.get("nas.label", "")
    uid = f"{session.subject.name}/rerun/{run.info.run_id}"
    again = lineage.beside(session, f"{run.info.run_name} again", "rerun", uid, trial, label)
    again.tag("nas.of", run.info.run_id)
    if "nas.factor" in run.data.tags:
        again.tag("nas.factor", run.data.tags["nas.factor"])
    again.tag("nas.agrees", {True: "true", False: "false", None: "unknown"}[made.agrees])
    address = lineage.link(session.experiment, run.info.run_id)
    lines = "\n".join(
        f"* {content.escaped(c.name)}: {figure(c.before)} then, {figure(c.now)} now; {content.escaped(c.words)}"
        for c in made.compared
    )
    again.tag(content.NOTE, f"[{content.escaped(run.info.run_name)}]({address}) evaluated again.\n\n{lines}")
    again.files["rerun.json"] = json.dumps({**made.to_dict(), "git": provenance.git()}, indent=1)
    run_id = lineage.create(session, again)
    verdict = {True: "all figures agree", False: "not all figures agree", None: "not all figures could be compared"}
    link = lineage.link(session.experiment, run_id)
    lineage.attach(
        session.client, run.info.run_id, "nas.rerun", run_id, f"[Evaluated again]({link}): {verdict[made.agrees]}"
    )
    return run_id


__all__ = ["Again", "Compared", "SearchError", "rerun"]
