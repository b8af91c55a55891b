"""`nas-bo dashboard`: optuna-dashboard on the studies of a storage, with the report and the architectures next to them."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json
from nas_bo.cli.output import say
from nas_bo.cli.typed_options import within
from nas_bo.execution.interrupts import ended_by_sigterm

if TYPE_CHECKING:
    from nas_bo.space import Space

OF_TRIAL = ("architecture.svg", "architecture.json")
OF_STUDY = ("front.png", "front.html")  # of the report


class Shown:
    """Report and drawings of the studies that nas_bo made (`nas_bo.optuna.dashboard.Files`); of others nothing."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._spaces: dict[int, type[Space] | None] = {}

    def names(self, study_id: int, trial: Any) -> Sequence[str]:
        if self._space(study_id) is None:
            return ()
        if trial is None:
            return OF_STUDY
        return OF_TRIAL if trial.state.is_finished() and trial.params else ()

    def make(self, study_id: int, trial_id: int | None, name: str) -> bytes:
        from nas_bo.cli import resolve
        from nas_bo.optuna import architecture
        from nas_bo.report import vocabulary
        from nas_bo.report.drawing import drawing

        if trial_id is None:
            study = self._backend.get_study_name_from_id(study_id)
            return resolve.stored(self._backend, study).files()[name]
        space = self._space(study_id)
        assert space is not None
        arch = architecture(space, self._backend.get_trial(trial_id).params)
        vocab = vocabulary(self._about(study_id))
        return (
            drawing(arch, vocab_size=vocab) if name.endswith(".svg") else json.dumps(arch.to_dict(), indent=1)
        ).encode()

    def _space(self, study_id: int) -> type[Space] | None:
        from nas_bo.study import space_of

        if study_id not in self._spaces:
            self._spaces[study_id] = space_of(self._about(study_id))
        return self._spaces[study_id]

    def _about(self, study_id: int) -> Mapping[str, Any]:
        from nas_bo.study import PREFIX, STUDY, read_attributes

        return read_attributes(self._backend.get_study_user_attrs(study_id), PREFIX + STUDY) or {}


def opened(storage: str) -> tuple[Any, Shown]:
    """The storage, and what is shown next to its studies (raises HostError where there is none)."""
    import optuna

    from nas_bo.optuna import studies

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    backend = studies.opened(storage)
    return backend, Shown(backend)


def dashboard(
    storage: Annotated[str, typer.Argument(help="The storage of one or several studies.")] = "nas-bo.db",
    port: Annotated[
        int, typer.Option(help="Port on this machine. 0 takes a free one.", callback=within(0, 65535))
    ] = 8080,
    artifacts: Annotated[Path, typer.Option(help="Folder that keeps the files attached in the dashboard.")] = Path(
        "nas-bo-out/artifacts"
    ),
    as_json: Json = False,
) -> None:
    """Open optuna-dashboard on this machine only, with constraints, reports and architectures of our studies."""
    with errors():
        from nas_bo.optuna.dashboard import serve

        with (
            ended_by_sigterm(),
            serve(*opened(storage), artifacts, port) as address,
            contextlib.suppress(KeyboardInterrupt),
        ):
            if as_json:
                print_document("page", {"url": address})
            else:
                say(f"{address}\nPress Ctrl-C to stop.")
            signal.pause()
