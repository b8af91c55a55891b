"""Finding or making a study's experiment and parent run, also when several processes begin at the same moment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nas_bo.errors import HostError
from nas_bo.mlflow import content, records, store
from nas_bo.mlflow.session import TERMINAL, Session, milliseconds
from nas_bo.trial import Column

KIND = "mlflow.experimentKind"  # the UI opens on its pages for training instead of those for agents


def open_session(
    client: Any,
    uri: str,
    study: Any,
    key: str,
    about: dict[str, Any],
    experiment: str,
    name: str | None,
    tags: Mapping[str, str],
) -> Session:
    """The study's session: its experiment and parent run are found, or made."""
    columns = records.columns(study, about)
    experiment_id = _experiment(client, uri, experiment)
    found = _parents(client, experiment_id, key)
    if not found:
        made = _new_parent(client, experiment_id, study, key, about, columns, name, tags)
        found = _parents(client, experiment_id, key)
        if found and found[0].info.run_id != made:
            client.delete_run(made)  # another process opened the study at the same moment, and was first
    parent, status = (found[0].info.run_id, found[0].info.status) if found else (made, "RUNNING")
    session = Session(client, key, about, columns, experiment_id, parent, tags, study.study_name, status in TERMINAL)
    session.load()
    return session


def _parents(client: Any, experiment: str, key: str) -> list[Any]:
    query = f"tags.`nas.study_key` = '{key}' AND tags.`nas.kind` = 'study'"
    runs = client.search_runs([experiment], query, max_results=10)
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def _experiment(client: Any, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            root = store.artifact_root(uri, name)
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
    client: Any,
    experiment: str,
    study: Any,
    key: str,
    about: dict[str, Any],
    columns: Sequence[Column],
    name: str | None,
    tags: Mapping[str, str],
) -> str:
    made = content.Content(name or study.study_name, "RUNNING")
    for tag, value in (
        ("nas.kind", "study"),
        ("nas.study", study.study_name),
        ("nas.study_key", key),
        ("nas.uid", study.study_name),
        ("nas.space", about.get("space", {}).get("title")),
        ("nas.space_hash", about.get("fingerprint")),
        ("nas.hw", about.get("device")),
        ("nas.sampler", about.get("strategy") or type(getattr(study, "sampler", None)).__name__),
    ):
        if value:
            made.tag(tag, value)
    for column in columns:
        limits = [
            f"{op} {bound:g}" for op, bound in (("<=", column.at_most), (">=", column.at_least)) if bound is not None
        ]
        made.param(f"objective/{column.name}", " ".join([column.direction, column.unit, *limits]).strip())
    for fact in ("strategy", "seed", "device"):
        if about.get(fact) is not None:
            made.param(f"study/{fact}", about[fact])
    begin = milliseconds(datetime.fromisoformat(about["started"])) if about.get("started") else None
    run = client.create_run(experiment, start_time=begin, tags={**tags, **made.tags}, run_name=made.name[:250])
    run_id = str(run.info.run_id)
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(k, v) for k, v in made.params.items()])
    if about:
        client.log_text(run_id, json.dumps(about, indent=1), "study.json")
    return run_id
