"""optuna-dashboard on studies of nas_bo: with constraints, and with files next to studies and trials.

Dashboards up to 0.21 know constraints only in the form of Optuna 4, one list without names, so that a study of Optuna 5
looks unconstrained there; and Optuna attaches no artifacts to trials that have ended. Both are therefore made up on the
way from the storage to the dashboard: nothing in the study changes, and what is shown is always what is there now.
"""

from __future__ import annotations

import copy
import io
import json
import mimetypes
import threading
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage, get_storage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from nas_bo.errors import HostError, MissingExtra

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

OLD_FORM = "constraints"  # the system attribute in which Optuna 4 kept them
ARTIFACT = "artifacts:"  # prefix of the system attributes that say what artifacts there are
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OURS = "a"  # first part of the ids of artifacts that are made on demand; those of the dashboard are longer


class Files(Protocol):
    """What is shown next to a study and next to its trials, made when somebody looks."""

    def names(self, study_id: int, trial: FrozenTrial | None) -> Sequence[str]:
        """The names of the files of a trial, or of the study itself."""

    def make(self, study_id: int, trial_id: int | None, name: str) -> bytes: ...


class Shown:
    """A storage as the dashboard wants to see it."""

    def __init__(self, storage: BaseStorage, files: Files) -> None:
        self._storage, self._files = storage, files

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [self._told(study_id, t) for t in self._storage.get_all_trials(study_id, deepcopy, states)]

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, object]:
        study_id = self._study_of(trial_id)
        return self._told(study_id, self._storage.get_trial(trial_id)).system_attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, object]:
        return {**self._storage.get_study_system_attrs(study_id), **self._artifacts(study_id, None)}

    def get_all_studies(self) -> list[FrozenStudy]:
        found = [copy.copy(study) for study in self._storage.get_all_studies()]
        for study in found:
            study.system_attrs = {**study.system_attrs, **self._artifacts(study._study_id, None)}
        return sorted(found, key=lambda study: study._study_id)

    def _told(self, study_id: int, trial: FrozenTrial) -> FrozenTrial:
        told = copy.copy(trial)  # what the storage remembers stays as it is
        attributes = {**trial.system_attrs, **self._artifacts(study_id, trial)}
        if trial.constraints:
            attributes.setdefault(OLD_FORM, list(trial.constraints.values()))
        told.system_attrs = attributes
        return told

    def _artifacts(self, study_id: int, trial: FrozenTrial | None) -> dict[str, str]:
        found = {}
        for k, name in enumerate(self._files.names(study_id, trial)):
            where = [study_id, *([] if trial is None else [trial._trial_id]), k]
            key = "-".join([OURS, *(f"{number:x}" for number in where)])
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            about = {"artifact_id": key, "filename": name, "mimetype": kind, "encoding": None}
            found[ARTIFACT + key] = json.dumps(about)
        return found

    def _study_of(self, trial_id: int) -> int:
        for study in self._storage.get_all_studies():
            if any(t._trial_id == trial_id for t in self._storage.get_all_trials(study._study_id, deepcopy=False)):
                return int(study._study_id)
        raise KeyError(trial_id)

    def read(self, artifact_id: str) -> bytes:
        """One of the files, by the id that `_artifacts` gave it."""
        study_id, *trial_id, k = (int(part, 16) for part in artifact_id.split("-")[1:])
        trial = self._storage.get_trial(trial_id[0]) if trial_id else None
        name = self._files.names(study_id, trial)[k]
        return self._files.make(study_id, trial_id[0] if trial_id else None, name)


BaseStorage.register(Shown)


class _Store:
    """The user's artifact store, and in front of it what is made on demand."""

    def __init__(self, shown: Shown, folder: Path) -> None:
        self._shown, self._kept = shown, FileSystemArtifactStore(str(folder))

    def open_reader(self, artifact_id: str) -> BinaryIO:
        if not artifact_id.startswith(f"{OURS}-"):
            return self._kept.open_reader(artifact_id)
        try:
            return io.BytesIO(self._shown.read(artifact_id))
        except (KeyError, ValueError, IndexError) as error:
            raise ArtifactNotFound(f"there is no artifact {artifact_id}") from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self._kept.write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        if not artifact_id.startswith(f"{OURS}-"):
            self._kept.remove(artifact_id)


def loopback_only(application: WSGIApplication) -> WSGIApplication:
    """The application for browsers of this machine: there is no login, so the name in the address must be one of the machine's own
    (a page elsewhere may have its name lead here), and what changes something must come from a page of the application."""

    def guarded(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        why = _refusal(environ)
        if not why:
            return application(environ, start)
        body = f"refused: {why}\n".encode()
        kind, length = ("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))
        start("403 Forbidden", [kind, length])
        return [body]

    return guarded


def _refusal(environ: WSGIEnvironment) -> str:
    host = environ.get("HTTP_HOST", "")
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = None
    if name not in LOOPBACK or "@" in host:
        return "this dashboard is for this machine only; open it as http://127.0.0.1"
    if environ.get("REQUEST_METHOD", "GET") in ("GET", "HEAD"):
        return ""
    origin, site = environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE")
    if origin not in (None, f"http://{host}") or site not in (None, "same-origin", "none"):
        return "another page cannot change a study; use the dashboard's own"
    return ""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(storage: str | BaseStorage, files: Files, folder: Path, port: int = 8080) -> Iterator[str]:
    """The dashboard of all studies in `storage`, on this machine only, while the block runs: its address.

    Args:
        folder: of the artifact store that holds what users attach.
        port: 0 takes a free one.

    Raises:
        HostError: the port is taken, or the folder cannot be written.
        MissingExtra: optuna-dashboard is not installed.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise MissingExtra("optuna-dashboard", "dashboard") from None
    shown = Shown(get_storage(storage), files)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"the folder {str(folder)!r} cannot be made ({error.strerror}); name another") from error
    application = loopback_only(wsgi(shown, artifact_store=_Store(shown, folder)))
    try:
        server = make_server("127.0.0.1", port, application, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise HostError(
            f"port {port} cannot be used ({error.strerror}); choose another, or 0 for a free one"
        ) from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dashboard/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
