"""Bringing in what is left: records of a spool, runs that a killed process left running, studies that were never logged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nas_bo.errors import HostError
from nas_bo.mlflow import spool, tracking_uri
from nas_bo.mlflow import tags as names
from nas_bo.mlflow.session import TERMINAL
from nas_bo.mlflow.tracker import Tracker
from nas_bo.mlflow.writer import Open, Writer
from nas_bo.process import is_dead
from nas_bo.report import Summary
from nas_bo.safe_text import printable
from nas_bo.study import source


@dataclass
class Synced:
    """What `sync` did.

    Attributes:
        logged: how many trials were logged or completed.
        ended: runs of (study, trial number) that a killed process left running, with nothing from which to complete
            them; they are FAILED now. A parent run has the number -1 and is KILLED.
        left: (study, trial number, why) of what is not in MLflow, or not whole.
        planned: (study, trial number, store) of what a dry run found to be logged.
    """

    logged: int = 0
    ended: list[tuple[str, int]] = field(default_factory=list)
    left: list[tuple[str, int, str]] = field(default_factory=list)
    planned: list[tuple[str, int, str]] = field(default_factory=list)


def sync(
    where: str | Path = ".", *, uri: str | Path | None = None, timeout: float = 10.0, dry_run: bool = False
) -> Synced:
    """Log everything that is in a spool, and end what killed processes left running.

    Args:
        where: the spool, the folder it is in, or a file next to it.
        uri: the store; default that for which each record was written, if it is a database file next to the spool, or what
            ``MLFLOW_TRACKING_URI`` names. No other store is opened for what a file says, and none gets your login.
        timeout: seconds per request to a server.
        dry_run: only say what there is; nothing is written, and no store is opened.

    Raises:
        HostError: there is no such folder, or `uri` is malformed.
    """
    path = Path(where).expanduser().absolute()
    if not path.exists():
        raise HostError(f"there is no {str(path)!r}; name the spool, the folder that it is in, or the study's file")
    root, made = spool.find(path), Synced()
    if root is None:
        return made
    kept, wanted = spool.Spool(root), None if uri is None else tracking_uri.resolve(uri)
    groups: dict[str, list[spool.Record]] = {}
    for file in kept.left():
        try:
            record, _ = spool.read(file)
        except (OSError, HostError) as error:
            made.left.append((file.parent.name, int(file.stem) if file.stem.isdigit() else -1, str(error)))
            continue
        try:
            address = wanted or _address(record.target.uri, root)
        except HostError as error:
            made.left.append((record.subject.name, record.made.number, str(error)))
            continue
        groups.setdefault(address, []).append(record)
    for address, found in groups.items():
        names = [(record.subject.name, record.made.number) for record in found]
        if dry_run:
            made.planned += [(*name, tracking_uri.redact(address)) for name in names]
            continue
        writer = Writer(address, timeout, kept, background=False)
        for folder in {record.target.folder(record.subject) for record in found}:
            writer.adopt(folder, living=True)
        writer.drain()
        for opened in list(writer.open.values()):
            writer.guarded(_repair, writer, opened, made)
        still = {(job.study, job.number) for job in writer.pending}
        made.logged += sum(name not in still for name in names)
        why = next(iter(writer.reasons.values()), "the store could not be reached")
        made.left += [(*name, writer.reasons.get(name, why)) for name in names if name in still]
    return made


def sync_study(
    tracker: Tracker,
    study: object,
    summary: Summary | None = None,
    files: Mapping[str, str | bytes | Path] | None = None,
) -> Synced:
    """Bring in a study, with what is in the spool of it; write its report when no trial is running.

    Args:
        summary, files: of the report, see `Tracker.finish`.
    """
    made = Synced(max(0, tracker.log_study(study)))
    opened = tracker._guarded(tracker._open, study)
    if opened is not None:
        tracker._guarded(_repair, tracker._writer, opened, made)
        if not source(study).running():
            tracker.finish(study, files, summary=summary)
            made.ended = [name for name in made.ended if name[1] >= 0]
    reasons = tracker._writer.reasons
    made.left = [(*name, reasons.get(name, "the store could not be reached")) for name in tracker.pending]
    if opened is None and not made.left:
        made.left = [(source(study).head().name, -1, "the store could not be written")]
    return made


def _repair(writer: Writer, opened: Open, made: Synced) -> None:
    """End runs that a dead process left running and that nothing here can complete."""
    session = opened.session
    waiting = {job.number for job in writer.pending if job.study == session.subject.name}
    for number, child in sorted(session.children.items()):
        if child.status in TERMINAL or number in waiting:
            continue
        run = session.client.get_run(child.run_id)
        by = names.value(run.data.tags, names.WRITER)
        if run.info.status in TERMINAL or run.info.lifecycle_stage != "active":
            continue
        if not is_dead(by):
            where = by.rsplit(":", 2)[0] or "an unknown machine"
            why = f"its run is being written by a process on {where}; if that was killed, sync there"
            made.left.append((session.subject.name, number, why))
            continue
        session.client.set_tag(child.run_id, "nas.error", "the process that wrote this run was killed before its end")
        session.client.set_terminated(child.run_id, status="FAILED")
        child.status = "FAILED"
        made.ended.append((session.subject.name, number))
    writer.tell(opened, last=True)
    parent = session.client.get_run(session.parent)
    leader = session.progress().get("by", "")
    if (
        not session.guest
        and parent.info.status not in TERMINAL
        and is_dead(names.value(parent.data.tags, names.WRITER))
        and (not leader or is_dead(leader))
    ):
        session.client.set_terminated(session.parent, status="KILLED")
        session.reopen = True
        made.ended.append((session.subject.name, -1))


def _address(kept: str, root: Path) -> str:
    """The store of a record, where it may be used although only the record names it.

    Args:
        kept: as the record has it.
        root: of the spool.

    Raises:
        HostError: the user has to name it.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    if given and tracking_uri.public(tracking_uri.resolve(given)) == kept:
        return tracking_uri.resolve(given)
    file = tracking_uri.database(kept)
    if file is not None and file.resolve().is_relative_to(root.parent.resolve()):
        return kept
    password = ", with its password" if "***@" in kept else ""
    raise HostError(
        f"its record is for {printable(kept)[:200]}, which is not next to it; where that is yours, name it{password}: --mlflow "
        "(uri=), or set MLFLOW_TRACKING_URI"
    )
