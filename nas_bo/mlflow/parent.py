"""Finding or making a study's experiment and parent run, also when several processes begin at the same moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from nas_bo.errors import HostError
from nas_bo.mlflow import artifacts, content, tracking_uri
from nas_bo.mlflow import tags as names
from nas_bo.mlflow.session import TERMINAL, Session
from nas_bo.process import owner
from nas_bo.study import StudyRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

YIELDS_S = 5.0  # within which another process that made a parent at the same moment deletes it
KIND = "mlflow.experimentKind"  # the UI opens on its pages for training instead of those for agents


def open_session(
    client: MlflowClient,
    uri: str,
    subject: StudyRecord,
    experiment: str,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    parent: str | None = None,
) -> Session:
    """The study's session: its experiment and parent run are found, or made.

    Args:
        parent: the id of a run of the user that is to be the parent; its experiment counts, `experiment` does not.
    """
    tags = dict(tags or {})
    if parent is not None:
        run = client.get_run(parent)
        if run.info.lifecycle_stage != "active":
            raise HostError(
                f"the MLflow run {parent!r} that is to be the parent was deleted; restore it, or name another"
            )
        made = _content(subject, name)
        for tag, value in made.tags.items():
            if names.value(run.data.tags, tag) != value and tag != "nas.kind":
                client.set_tag(parent, tag, value)
        _log_facts(client, run, subject, made, set(run.data.params))
        session = Session(client, subject, str(run.info.experiment_id), parent, tags, guest=True)
        session.key_tag = names.key_tag(run.data.tags)
    else:
        experiment_id = _experiment(client, uri, experiment)
        found = _parents(client, experiment_id, subject.key)
        if not found:
            found = _one_parent(client, experiment_id, subject, _new_parent(client, experiment_id, subject, name, tags))
        run_id, status = found[0].info.run_id, found[0].info.status
        session = Session(client, subject, experiment_id, run_id, tags, reopen=status in TERMINAL)
        session.key_tag = names.key_tag(found[0].data.tags)
    session.load()
    return session


def _one_parent(client: MlflowClient, experiment: str, subject: StudyRecord, own: str) -> list[Run]:
    """The parent that is left where several processes have made one at the same moment; this one made `own`.

    The first by order stays, and the others delete theirs. One of them may have looked before the first was there, and stays as
    well: the first waits for it to go, and goes itself when it does not.
    """
    found = _parents(client, experiment, subject.key)

    def wait(open_: Callable[[], bool], seconds: float) -> None:
        nonlocal found
        until = time.monotonic() + seconds
        while open_() and time.monotonic() < until:
            time.sleep(0.1)
            found = _parents(client, experiment, subject.key)

    wait(lambda: len(found) > 1 and found[0].info.run_id == own, YIELDS_S)
    if any(run.info.run_id != own for run in found):
        client.delete_run(own)
        found = _parents(client, experiment, subject.key)
        wait(lambda: len(found) != 1, 2 * YIELDS_S)  # the first of the others may itself yield to one of them
    return found or [client.get_run(own)]


def _parents(client: MlflowClient, experiment: str, key: str) -> list[Run]:
    runs: list[Run] = []
    for name in (names.KEY, names.before(names.KEY)):
        query = f"tags.`{name}` = '{key}' AND tags.`nas.kind` = 'study'"
        runs = runs or list(client.search_runs([experiment], query, max_results=10))
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            root = tracking_uri.artifact_root(uri, name)
            return str(client.create_experiment(name, artifact_location=root, tags={KIND: "custom_model_development"}))
        except Exception:  # another process made it a moment ago
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise HostError(
            f"the MLflow experiment {name!r} was deleted; restore it with 'mlflow experiments restore -x "
            f"{found.experiment_id}', or give Tracker(experiment=...) another name"
        )
    return str(found.experiment_id)


def _new_parent(
    client: MlflowClient, experiment: str, subject: StudyRecord, name: str | None, tags: Mapping[str, str]
) -> str:
    made, started = _content(subject, name), subject.about.get("started")
    begin = content.milliseconds(datetime.fromisoformat(started)) if started else None
    run = client.create_run(experiment, start_time=begin, tags={**tags, **made.tags}, run_name=made.name[:250])
    _log_facts(client, run, subject, made, set())
    return str(run.info.run_id)


def _log_facts(client: MlflowClient, run: Run, subject: StudyRecord, made: content.Content, known: set[str]) -> None:
    from mlflow.entities import Param

    client.log_batch(run.info.run_id, params=[Param(k, v) for k, v in made.params.items() if k not in known])
    if subject.about:
        artifacts.put(client, run, {"study.json": json.dumps(subject.about, indent=1)})


def _content(subject: StudyRecord, name: str | None) -> content.Content:
    about = subject.about
    made = content.Content(name or subject.name, "RUNNING")
    for tag, value in (
        ("nas.kind", "study"),
        ("nas.study", subject.name),
        (names.KEY, subject.key),
        (names.UID, subject.name),
        (names.WRITER, owner()),
        ("nas.space", about.get("space", {}).get("title")),
        (names.SPACE, about.get("fingerprint")),
        ("nas.hw", about.get("device")),
        ("nas.git", _git(about.get("git") or {})),
        ("nas.sampler", about.get("strategy") or subject.sampler),
    ):
        if value:
            made.tag(tag, value)
    for column in subject.columns:
        limits = [
            f"{op} {bound:g}" for op, bound in (("<=", column.at_most), (">=", column.at_least)) if bound is not None
        ]
        made.param(f"objective/{column.name}", " ".join(filter(None, [column.direction, column.unit, *limits])))
    for fact in ("strategy", "seed", "device", "stopping"):
        if about.get(fact) is not None:
            made.param(f"study/{fact}", about[fact])
    for objective, conditions in (about.get("conditions") or {}).items():
        for what, value in conditions.items():
            made.param(f"study/{objective}.{what}", value)
    for objective, remarks in (about.get("remarks") or {}).items():
        for what, value in remarks.items():
            made.param(f"study/{objective}.{what}", value)
    for package, installed in (about.get("versions") or {}).items():
        made.param(f"version/{package}", installed)
    return made


def _git(state: Mapping[str, object]) -> str:
    """The commit that the search ran from, and whether files differed from it."""
    return f"{state['commit']}{' with changes' if state.get('dirty') else ''}" if state.get("commit") else ""
