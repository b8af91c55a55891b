"""How a search or a report of it ends: what is printed, the exit code, and what Ctrl-C means at a moment."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from nas_bo import database_url
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import INTERRUPTED, errors
from nas_bo.cli.output import say
from nas_bo.errors import ReportError, SearchError
from nas_bo.study_name import file_name

if TYPE_CHECKING:
    from nas_bo.cli.tracking import Tracking
    from nas_bo.workflows.progress import Progress
    from nas_bo.workflows.result import Result

INCOMPLETE = 4  # exit code of a search that is done and kept, but not in MLflow, or without its report


WORDS = {".png": "picture", ".html": "page", ".json": "data", ".jsonl": "kept", ".txt": "text"}


class Report(Protocol):
    """What `tell` tells."""

    def to_dict(self) -> Mapping[str, object]: ...


class Moment:
    """How far a search has come: passes progress on, and knows by it whether the search has begun.

    Args:
        storage, study: where what has ended is kept.
        update: what is called with every `Progress`.
    """

    def __init__(self, storage: str, study: str | None, update: Callable[[Progress], object]) -> None:
        self._again = f"nas-bo report {shlex.quote(storage)}" + (
            "" if study is None else f" --study {shlex.quote(study)}"
        )
        self._storage, self._update, self._begun = storage, update, False

    def __call__(self, progress: Progress) -> None:
        self._begun = True
        self._update(progress)

    def text(self) -> str:
        """What to say about Ctrl-C now; the first one within the search is not meant, which ends with a report."""
        if not self._begun:
            return "interrupted before the search began; the same command starts it"
        return (
            f"interrupted before the report was complete; every trial that ended is kept in {self._storage}. The same "
            f"command continues the search, and `{self._again}` writes the report of what is there"
        )


def finish(
    result: Result,
    out: Path,
    as_json: bool,
    storage: str,
    tracked: Tracking | None,
    interrupted: str | Callable[[], str],
) -> None:
    """Write the report into a folder of `out`, say where everything is, and leave with the exit code that the result means.

    Args:
        interrupted: what Ctrl-C means now.
    """
    with errors(interrupted):
        missing = "" if tracked is None else tracked.missing()
        written = _written(result, out, storage)
        _say(result, written, as_json, storage, tracked, missing)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    if result.all_failed:
        raise typer.Exit(1)
    if not result.front:
        raise typer.Exit(3)
    if missing:
        raise typer.Exit(INCOMPLETE)


def tell(kind: str, report: Report, written: Sequence[Path], as_json: bool, tracked: Tracking | None) -> None:
    """Say what came of a validation or a ladder and where its files are, and leave with the exit code that this means."""
    missing = "" if tracked is None else tracked.missing()
    if as_json:
        print_document(kind, {**report.to_dict(), "files": [str(path) for path in written]})
    else:
        say(f"\n{report}\n")
        for path in written:
            say(f"{WORDS.get(path.suffix, 'file'):<8} {path}")
    if missing:
        say(f"nas-bo: {missing}", err=True)
        raise typer.Exit(INCOMPLETE)


def _written(result: Result, out: Path, storage: str) -> list[Path]:
    """The files of the report. Where they cannot be written after a search, that is not a failure of the search."""
    try:
        return result.save(out / file_name(result.title))
    except ReportError as error:
        if not result.own:
            raise
        shown = database_url.shown(storage)
        again = f"nas-bo report {shlex.quote(shown)}"
        say(f"nas-bo: the search is done and kept in {shown} ({again}), but {error}", err=True)
        raise typer.Exit(INCOMPLETE) from None


def _trainable(result: Result) -> bool:
    """Whether `nas-bo train` can repeat its runs."""
    from nas_bo.workflows.register import trainable

    with suppress(SearchError):
        trainable(result)
        return True
    return False


def _say(
    result: Result, written: Sequence[Path], as_json: bool, storage: str, tracked: Tracking | None, missing: str
) -> None:
    if as_json:
        more = {"files": [str(p) for p in written]}
        sync = {"not_tracked": {"why": missing, "command": tracked.mend}} if tracked is not None and missing else {}
        print_document("result", {**result.to_dict(), **more, **sync})
    else:
        say(f"\n{result}\n")
        for path in written[:2]:
            say(f"{'picture' if path.suffix == '.png' else 'page':<8} {path}")
        shown = database_url.shown(storage)
        from nas_bo.optuna.storages import several

        named = f" --study {shlex.quote(result.title)}" if several(storage) else ""
        say(f"study    {shown}   (nas-bo report {shlex.quote(shown)}{named})")
        if tracked is not None and (missing or result.url):
            say(f"MLflow   {missing or tracked.address(result)}")
        if result.front and _trainable(result):
            say(
                f"next     nas-bo train {shlex.quote(shown)}{named} --pick knee --to out\n         trains the winner to the end; `nas-bo export` then writes it for other tools"
            )
    if missing:
        say(f"nas-bo: {missing}", err=True)
