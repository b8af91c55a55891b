"""The model registry: weights as safetensors next to ``arch.json``, under aliases, and loaded again without pickle.

A version is the folder ``model`` of a run: ``arch.json`` (the architecture), ``model.json`` (vocabulary and where the weights
come from), ``model.safetensors``, and ``tokenizer.json`` where bytes are not the tokens. Nothing else of it is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nas_bo import temporary
from nas_bo.errors import ExportError, HostError
from nas_bo.export.folder import WEIGHTS, load
from nas_bo.mlflow import artifacts, content, lineage
from nas_bo.mlflow import tags as names
from nas_bo.mlflow import tracking_uri as store
from nas_bo.mlflow.session import Session
from nas_bo.trial import Trial

if TYPE_CHECKING:
    import torch
    from mlflow import MlflowClient

    from nas_bo.model import Decoder

FOLDER = "model"


@dataclass(frozen=True)
class Registered:
    """A version in the registry.

    Attributes:
        aliases: under which it is found.
        trial: the number of the trial whose architecture it is.
        run_id: of the run that has its files.
        values: of the weights, as they were evaluated after training.
    """

    name: str
    version: str
    aliases: tuple[str, ...]
    trial: int | None
    run_id: str
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return f"models:/{self.name}@{self.aliases[0]}" if self.aliases else f"models:/{self.name}/{self.version}"


def publish(
    session: Session,
    name: str,
    trial: Trial,
    aliases: Sequence[str],
    files: Mapping[str, bytes],
    values: Mapping[str, float],
    label: str,
) -> Registered:
    """Log the weights as a run next to the study's trials, register them, and link trial and model both ways.

    Args:
        files: of the model, by their names (`nas_bo.export.folder.files`), with its tokenizer if it has one.
        values: what the weights were evaluated to.
    """
    client, number = session.client, trial.number
    uid = f"{session.subject.name}/model/{trial.architecture.id}"
    measured = Trial(trial.architecture, values, info={n: i for n, i in trial.info.items() if n not in values})
    made = lineage.beside(
        session, f"{number:03d} model" if number is not None else "model", "model", uid, measured, label
    )
    child = session.children.get(number) if number is not None else None
    if child is not None:
        made.tag("nas.of", child.run_id)
    kept = {f"{FOLDER}/{name}": data if name == WEIGHTS else data.decode() for name, data in files.items()}
    run_id = lineage.create(session, made, kept)
    told = ", ".join(f"{key} {value:.5g}" for key, value in values.items())
    said = f"{label}: {told}. Load it with nas_bo.mlflow.load_model."
    tags = {"nas.arch": trial.architecture.id, names.KEY: session.key, "nas.trial": str(number)}
    version = new_version(client, run_id, name, aliases, said, tags)
    if child is not None:
        sentence = f"[Model]({lineage.link(session.experiment, run_id)}) {content.escaped(name)} version {version} ({', '.join(aliases)})"
        lineage.attach(client, child.run_id, "nas.model", f"{name}/{version}", sentence)
    return Registered(name, version, tuple(aliases), number, run_id, dict(values))


def new_version(
    client: MlflowClient, run_id: str, name: str, aliases: Sequence[str], said: str, tags: Mapping[str, str]
) -> str:
    """A version of a registered model, of the files that a run has in its folder `FOLDER`; its number.

    Raises:
        HostError: the registry takes no such name or alias.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, tags={"nas.kind": "model"})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise HostError(f"the registry does not take the model name {name!r} ({error.message})") from error
    source = f"{client.get_run(run_id).info.artifact_uri}/{FOLDER}"
    made = client.create_model_version(name, source, run_id, description=said, tags=dict(tags))
    number = str(made.version)
    for alias in aliases:
        try:
            client.set_registered_model_alias(name, alias, number)
        except MlflowException as error:
            raise HostError(
                f"the registry does not take the alias {alias!r} ({error.message}); version {number} of {name!r} is there without it"
            ) from error
    client.set_tag(run_id, "nas.model", f"{name}/{number}")
    return number


def load_model(
    uri: str, *, tracking_uri: str | Path | None = None, device: torch.device | str | None = None
) -> Decoder:
    """The registered model, in evaluation mode: ``load_model("models:/my-gpt@knee")``.

    It is built from ``arch.json``, and its weights are read with safetensors: nothing that is loaded can run code.

    Args:
        uri: ``models:/name@alias``, ``models:/name/3``, or ``runs:/run id``.
        tracking_uri: the store; default as for `Tracker`.
        device: a torch device; None is CUDA where there is one, else the CPU.

    Raises:
        HostError: there is no such model, its files are not there or not of nas_bo, or they do not fit together.
        MissingExtra: safetensors is not installed.
    """
    where = store.resolve(tracking_uri)
    store.check(where, 5)
    with store.patience(where, 60), store.quietly(), temporary.folder("model") as folder:
        path = _download(where, uri, str(folder))
        return load_folder(path, device)


def load_folder(folder: str | Path, device: torch.device | str | None = None) -> Decoder:
    """The same from a folder with the three files, such as one of `nas-bo train`."""
    if device is None:
        from nas_bo.model.device import pick_device

        device = pick_device(None)
    try:
        return load(folder, device).model
    except ExportError as error:
        raise HostError(str(error)) from error


def _download(where: str, uri: str, folder: str) -> Path:
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    named = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", uri)
    run = re.fullmatch(r"runs:/([0-9a-f]{32})(?:/model)?/?", uri)
    if not (named or run):
        raise HostError(
            f"the model {uri!r} is not named right; write models:/name@alias, models:/name/3 or runs:/run id"
        )
    client = store.connect(where)
    try:
        if named:
            version = client.get_model_version_by_alias(named[1], named[2]).version if named[2] else named[3]
            source = client.get_model_version_download_uri(named[1], str(version))
        else:
            assert run is not None
            source = f"{client.get_run(run[1]).info.artifact_uri}/{FOLDER}"
        artifacts.check(source, where)
        found = get_artifact_repository(source, tracking_uri=where)
        return Path(found.download_artifacts("", folder))
    except MlflowException as error:
        raise HostError(
            f"{uri} is not in {store.redact(where)} ({error.message}); `nas-bo register` puts a model there"
        ) from error
