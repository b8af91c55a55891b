"""`nas-bo mlflow sync`: what is left in a spool, or a whole study, goes to MLflow."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_bo import database_url
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.help import WIDE, Commands, Grouped
from nas_bo.cli.options import Json
from nas_bo.cli.output import say
from nas_bo.errors import NasBoError
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.mlflow.sync import Synced

app = typer.Typer(
    help="Work on what was tracked in MLflow.",
    no_args_is_help=True,
    cls=Commands,
    context_settings=WIDE,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Work on what was tracked in MLflow."""


@app.command(cls=Grouped, context_settings=WIDE)
def sync(
    where: Annotated[
        str,
        typer.Argument(
            help="A spool or the folder it is in, or the storage of studies (a .db or .log file, or a URL). By default "
            "NAS_BO_SPOOL, else this folder."
        ),
    ] = "",
    study: Annotated[str | None, typer.Option(help="Name of a study of the storage. By default all.")] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(
            help="MLflow tracking URI or a .db file. By default where each trial was meant to go, and for a storage "
            "MLFLOW_TRACKING_URI, else mlflow.db."
        ),
    ] = None,
    metric_name: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of a value of a study that has no names, repeatable, one per value. By default value, or value_0, value_1, ..."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Say what would be logged where, and write nothing, neither here nor there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Log trials that MLflow has not got yet, end runs that a killed process left running, and say what is left.

    Nothing is logged twice. A storage may hold any Optuna study, also one that never was tracked.
    """
    with errors("interrupted; the same command logs what is left"):
        from nas_bo.mlflow.sync import Synced
        from nas_bo.mlflow.sync import sync as spooled

        where = where or os.environ.get("NAS_BO_SPOOL") or "."
        done: list[Synced] = []
        if _is_storage(where) and dry_run:
            done.append(_planned(where, [study] if study else _names(where), mlflow))
        elif _is_storage(where):
            done += [_one(where, name, mlflow, metric_name) for name in ([study] if study else _names(where))]
        else:
            done.append(spooled(where, uri=mlflow, dry_run=dry_run))
    total = Synced(
        sum(s.logged for s in done), [e for s in done for e in s.ended], [left for s in done for left in s.left],
        [plan for s in done for plan in s.planned],
    )  # fmt: skip
    if as_json:
        print_document("synced", vars(total))
    else:
        _say(total, where)
    if total.left:
        raise typer.Exit(1)


def _say(total: Synced, where: str) -> None:
    for (name, store), n in Counter((name, store) for name, _, store in total.planned).items():
        say(f"{counted(n, 'trial')} of {name!r} would be logged to {store}, where it is not there yet")
    if total.logged or (total.left and not total.planned):
        say(f"{counted(total.logged, 'trial')} logged")
    elif not (total.ended or total.planned):
        say(f"nothing is left to be logged in {where}")
    for name, number in total.ended:
        what = f"trial {number} of {name!r} as FAILED" if number >= 0 else f"the parent run of {name!r} as KILLED"
        say(f"ended {what}: the process that wrote it was killed")
    reasons = Counter((name, why) for name, _, why in total.left)
    for (name, why), n in reasons.items():
        numbers = [number for other, number, reason in total.left if (other, reason) == (name, why) and number >= 0]
        shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
        say(f"left: {n} of {name!r}{f' ({shown})' if shown else ''}: {why}", err=True)


def _one(storage: str, name: str, mlflow: str | None, metric_names: list[str] | None) -> Synced:
    from nas_bo.cli import resolve
    from nas_bo.mlflow import Tracker, beside
    from nas_bo.mlflow.sync import sync_study
    from nas_bo.optuna import studies

    tracker = Tracker(uri=mlflow, spool=beside(storage), metric_names=metric_names)
    tracker.check()
    study = studies.load(storage, name)
    summary, files = None, {}
    with suppress(NasBoError):  # a study of nas_bo has a report of its own
        result = resolve.stored(storage, name) if studies.kept(study, "study") else None
        if result is not None:
            summary, files = result.summary(), {"result.json": json.dumps(result.to_dict(), indent=1)}
    return sync_study(tracker, study, summary, files)


def _planned(storage: str, names: list[str], mlflow: str | None) -> Synced:
    """What a storage has that may not be in MLflow yet; both are left as they are."""
    from nas_bo.mlflow import tracking_uri
    from nas_bo.mlflow.sync import Synced
    from nas_bo.optuna import studies

    store = tracking_uri.redact(tracking_uri.resolve(mlflow))
    found = [(name, studies.read(studies.load(storage, name, reading=True))) for name in names]
    return Synced(planned=[(name, t.number, store) for name, record in found for t in record.ended])


def _names(storage: str) -> list[str]:
    from nas_bo.errors import HostError
    from nas_bo.optuna import studies

    found = studies.names(storage)
    if not found:
        raise HostError(f"{storage} holds no study; is it the storage of a search, and not MLflow's own database?")
    return found


def _is_storage(where: str) -> bool:
    return database_url.is_url(where) or (Path(where).is_file() and Path(where).suffix != ".json")
