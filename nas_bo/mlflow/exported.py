"""An export as a run next to the trial that it comes from, and as a version of a registered model with an alias.

A folder of transformers gets MLflow's flavour of that name, so that ``mlflow.transformers.load_model`` and
``mlflow.pyfunc.load_model`` load it, the latter with what `GENERATION` names as params of `predict`; files of ONNX get that of ONNX. Neither
has a pickle in it. Others are kept as they are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo import temporary
from nas_bo.errors import HostError
from nas_bo.mlflow import content, lineage, parent
from nas_bo.mlflow import tags as names
from nas_bo.mlflow import tracking_uri as store
from nas_bo.mlflow.registry import FOLDER, new_version
from nas_bo.mlflow.session import PARENT
from nas_bo.process import owner

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.models import ModelSignature

GENERATION: Mapping[str, tuple[str, int | float | bool]] = {
    "max_new_tokens": ("integer", 128),
    "do_sample": ("boolean", False),
    "temperature": ("double", 1.0),
    "top_k": ("integer", 50),
    "top_p": ("double", 1.0),
}
"""What ``mlflow.pyfunc`` passes on to the generation of text: its type, and what transformers takes where the model says nothing. A seed is not
among them: transformers takes none there, ``transformers.set_seed`` is the way."""
EXPERIMENT = "nas_bo exports"  # where the trial is in no experiment of the store


@dataclass(frozen=True)
class Logged:
    """Where an export is.

    Attributes:
        run_id: of the run that has its files.
        of: the run of the trial; None where the store has none of its architecture.
        uri: of the registered version.
    """

    run_id: str
    of: str | None
    uri: str


def check_place(track: str | Path | None, name: str, alias: str) -> None:
    """What can be refused before an export is made: a store that cannot be written, and names that the registry does not take (raises
    HostError)."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import (
        _validate_model_alias_name,
        _validate_model_alias_name_reserved,
        _validate_model_name,
    )

    store.check(store.resolve(track), 5)
    rules = (("name", name, _validate_model_name), ("alias", alias, _validate_model_alias_name), ("alias", alias, _validate_model_alias_name_reserved))  # fmt: skip
    for option, value, checked in rules:
        try:
            checked(value)
        except MlflowException as error:
            raise HostError(f"--{option} {value}: the registry of MLflow does not take it ({error.message})") from None


def log_export(
    folder: Path,
    format: str,
    about: Mapping[str, object],
    what: str,
    *,
    track: str | Path | None,
    name: str,
    alias: str,
) -> Logged:
    """Log the folder, register it, and link run, trial and model.

    Args:
        about: what ``model.json`` says, with the id of the architecture.
        what: was written, in a sentence.
        track: a tracking URI or a file; default as for `Tracker`.
        name, alias: in the registry.

    Raises:
        HostError: the store cannot be written, or takes no such name or alias.
    """
    from mlflow.exceptions import MlflowException

    where = store.resolve(track)
    store.check(where, 5)
    with store.patience(where, 60), store.quietly():
        client = store.connect(where)
        try:
            of = newest_trial(client, str(about.get("architecture", "")))
            run = _begun(client, where, of, format, about)
            run_id = str(run.info.run_id)
            with temporary.folder("export") as draft:
                client.log_artifacts(run_id, str(_flavoured(folder, format, draft / FOLDER)), FOLDER)
            tags = {"nas.arch": str(about.get("architecture", "")), "nas.kind": "export"}
            number = new_version(client, run_id, name, [alias], what, tags)
            if of is not None:
                sentence = f"[Export to {format}]({lineage.link(of.info.experiment_id, run_id)}), {content.escaped(name)} version {number}"
                lineage.attach(client, of.info.run_id, "nas.export", run_id, sentence)
            client.set_terminated(run_id)
        except MlflowException as error:
            raise HostError(f"{store.redact(where)} does not take the export ({error.message})") from error
    return Logged(run_id, None if of is None else str(of.info.run_id), f"models:/{name}@{alias}")


def newest_trial(client: MlflowClient, architecture: str, study: str = "") -> Run | None:
    """The newest trial of an architecture in any experiment, of the study of that name where it has one."""
    every = [one.experiment_id for one in client.search_experiments()]
    query = f"tags.`nas.arch` = '{content.clean(architecture)}' AND tags.`nas.kind` = 'trial'"
    for more in ([f" AND tags.`nas.study` = '{study}'"] if study and "'" not in study else []) + [""]:
        found = (
            client.search_runs(every, query + more, max_results=1, order_by=["attributes.start_time DESC"])
            if every
            else []
        )
        if found:
            return found[0]
    return None


def linked_run(
    client: MlflowClient, where: str, of: Run | None, experiment: str, title: str, tags: Mapping[str, str]
) -> Run:
    """A run that has begun, next to that of a trial; in `experiment` where there is none."""
    tags = {names.WRITER: owner(), names.COLOR: names.BESIDE, **tags}
    if of is not None:
        title = f"{of.data.tags.get('nas.trial', '')} {title}".strip()
        tags |= {tag: of.data.tags[tag] for tag in (PARENT, "nas.study", names.KEY) if tag in of.data.tags}
        tags["nas.of"] = of.info.run_id
    found = parent._experiment(client, where, experiment) if of is None else of.info.experiment_id
    return client.create_run(found, tags=tags, run_name=title)


def _begun(client: MlflowClient, where: str, of: Run | None, format: str, about: Mapping[str, Any]) -> Run:
    tags = {"nas.kind": "export", "nas.format": format, "nas.arch": str(about.get("architecture", ""))}
    run = linked_run(client, where, of, EXPERIMENT, f"export {format}", tags)
    for key, value in about.get("values", {}).items():
        client.log_metric(run.info.run_id, f"obj/{content.clean(str(key))}", float(value))
    return run


def _flavoured(folder: Path, format: str, draft: Path) -> Path:
    """The folder with an ``MLmodel`` where there is a flavour for it, else as it is."""
    folder = (
        folder.resolve()
    )  # a relative path reads like the name of a model on a hub, which MLflow would ask for over the network
    if format == "huggingface":
        import mlflow.transformers as flavour
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from nas_bo.export.folder import readable
        from nas_bo.export.huggingface import without_bars

        own = any(folder.glob("*.py"))  # a class that `nas_bo.export.remote` wrote and ran before
        parts = {
            "model": AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=own, dtype="float32"),
            "tokenizer": AutoTokenizer.from_pretrained(folder, trust_remote_code=own),
        }
        integers = "quantization_config" in json.loads((folder / "config.json").read_text())
        packages = _packages("transformers", "torch", "accelerate", *(["compressed-tensors"] if integers else []))
        told = logging.getLogger("mlflow.transformers")
        before = told.level
        told.setLevel(logging.ERROR)  # it looks for a model card and a license where a hub would have them
        try:
            signature = _signature(parts["model"].generation_config.to_dict())
            with without_bars():
                flavour.save_model(
                    parts, str(draft), task="text-generation", pip_requirements=packages, signature=signature
                )
        finally:
            told.setLevel(before)
        for path in folder.iterdir():
            if path.suffix in (".md", ".svg") or path.name == "arch.json":
                (draft / path.name).write_bytes(path.read_bytes())
        readable(draft)
        return draft
    whole = next((folder / one for one in ("model.onnx", "model_with_cache.onnx") if (folder / one).is_file()), None)
    if format == "onnx" and whole is not None:
        import mlflow.onnx
        import onnx

        mlflow.onnx.save_model(onnx.load(str(whole)), str(draft), pip_requirements=_packages("onnx", "onnxruntime"))
        for path in folder.iterdir():
            if path != whole:
                (draft / path.name).write_bytes(path.read_bytes())
        return draft
    return folder


def _signature(said: Mapping[str, object]) -> ModelSignature:
    """Text to text, with params whose defaults are what the generation configuration of the model says."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    given = {name: default if said.get(name) is None else said[name] for name, (_, default) in GENERATION.items()}
    params = [ParamSpec(name, kind, given[name]) for name, (kind, _) in GENERATION.items()]
    return ModelSignature(Schema([ColSpec("string")]), Schema([ColSpec("string")]), ParamSchema(params))


def _packages(*wanted: str) -> list[str]:
    """With the versions that are here, without the part of a build."""
    found = []
    for name in wanted:
        try:
            found.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return found
