"""Files of runs. Where they lie says the store, which may be somebody else's: a login goes to the store's own server only, and
on this machine a run has files nowhere but in a folder of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from nas_bo import temporary
from nas_bo.errors import HostError
from nas_bo.foreign_document import text_of
from nas_bo.mlflow import tracking_uri
from nas_bo.safe_text import printable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def put(client: MlflowClient, run: Run, files: Mapping[str, str | bytes | Path]) -> None:
    """Write files of a run that was just created or read: one request for each on a server, and no other.

    Raises:
        HostError: a name leaves the run's folder, or the folder is not a run's own; see `check`.
    """
    if not files:
        return
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    root, tracking = run.info.artifact_uri, client.tracking_uri
    check(root, tracking)
    with temporary.folder("files") as folder:
        for name, data in files.items():
            path = folder / inside(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, Path):
                path.write_bytes(data.read_bytes())
            else:
                path.write_bytes(data.encode(errors="backslashreplace") if isinstance(data, str) else data)
        if "databricks" in f"{root} {tracking}":  # these need what only the client knows
            client.log_artifacts(run.info.run_id, str(folder))
            return
        target = get_artifact_repository(root, tracking_uri=tracking)
        for name in files:
            below = PurePosixPath(name).parent
            target.log_artifact(str(folder / name), None if str(below) == "." else str(below))


def text(client: MlflowClient, run: Run, name: str) -> str:
    """A file of a run.

    Raises:
        HostError: see `check`.
        Exception: what MLflow raises where it is not there; OSError where it is not a file of a bounded size.
    """
    place = run.info.artifact_uri
    check(place, client.tracking_uri)
    if (folder := _folder(place)) is not None:  # a copy of it would wait for a pipe, and never end of a device
        return text_of(folder / inside(name))
    with tracking_uri.quietly(), temporary.folder("files") as into:
        return text_of(client.download_artifacts(run.info.run_id, name, str(into)))


def check(place: str, tracking: str) -> None:
    """Whether the files of a run may be at `place`, as a store says.

    Raises:
        HostError: it is another server than that of the store, or a folder of this machine that is not a run's own.
    """
    parts = urlsplit(place)
    if parts.scheme in ("http", "https", "mlflow-artifacts") and parts.hostname:
        named = (tracking, os.environ.get("MLFLOW_TRACKING_URI", ""))
        if not any((parts.hostname, _port(place, tracking)) == (urlsplit(n).hostname, _port(n, n)) for n in named):
            raise HostError(
                f"the MLflow store {tracking_uri.redact(tracking)} keeps files of a run on another server, "
                f"{printable(parts.hostname)}, which would get your login; if that is right, name the server itself (--mlflow, or "
                "MLFLOW_TRACKING_URI)"
            )
    elif (path := _folder(place)) is not None:
        own = re.search(r"/[0-9a-f]{32}/artifacts(/model)?/?$", path.as_posix())
        run = path.parents[1 if own and own[1] else 0] if own else path
        if not own or ".." in path.parts or path.resolve() != run.parent.resolve() / path.relative_to(run.parent):
            raise HostError(
                f"the MLflow store {tracking_uri.redact(tracking)} keeps files of a run in {printable(str(path))[:200]!r}, which is "
                "no folder of a run alone; use a store whose experiments have a folder of their own"
            )


def _folder(place: str) -> Path | None:
    """The folder of this machine that a place is; None of a place elsewhere."""
    parts = urlsplit(place)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else place)


def inside(name: str) -> PurePosixPath:
    """The name of a file of a run, which may be below folders (raises HostError where it would be elsewhere)."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
        raise HostError(f"the artifact name {name!r} leaves the run's folder; give a relative name without '..'")
    return path


def _port(place: str, tracking: str) -> int | None:
    """The port of a server; of one whose place does not say how it is spoken to, as the tracker is."""
    scheme = urlsplit(place).scheme
    scheme = urlsplit(tracking).scheme if scheme == "mlflow-artifacts" else scheme
    return urlsplit(place).port or {"http": 80, "https": 443}.get(scheme)
