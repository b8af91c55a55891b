"""`nas-bo status`: what runs in a storage, who evaluates it and since when. Reads only."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_bo.cli import completion
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json
from nas_bo.cli.output import say
from nas_bo.errors import HostError
from nas_bo.foreign_document import reading
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.optuna.reading import Study

MOST_SHOWN = 20  # running trials of one study; --json has all


def status(
    storage: Annotated[str, typer.Argument(help="The storage of one or several studies.")] = "nas-bo.db",
    study: Annotated[
        str | None,
        typer.Option(
            help="Name of one study. By default all that the storage holds.", autocompletion=completion.studies
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how many trials have ended, run and wait, which process evaluates them and since when; nothing in the storage is changed."""
    with errors():
        import optuna

        from nas_bo.optuna import storages

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        backend = storages.opened(storage, reading=True)
        names = [study] if study is not None else sorted(optuna.get_all_study_names(backend))
        found = [described(storages.load(backend, name, reading=True)) for name in names]
    if as_json:
        print_document("status", {"storage": _shown(storage), "studies": found})
        return
    if not found:
        say(f"{_shown(storage)} holds no study")
    for one in found:
        say(told(one))


@reading("a study that can be read", HostError)
def described(study: Study) -> dict[str, object]:
    """A study as JSON-safe data: how many trials are in which state, and every running one."""
    from optuna.trial import TrialState

    from nas_bo import process
    from nas_bo.optuna import heartbeat, running, studies
    from nas_bo.trial import State
    from nas_bo.workflows.nodes import Nodes

    record = studies.read(study)
    silent = heartbeat.silent(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
    machines: dict[str, dict[str, int]] = {}
    lost, nodes, placed = 0, Nodes(), []
    for trial in record.trials:
        by = running.of(trial)
        gone = trial.state is State.RUNNING and (by.alive is False or trial.owner in silent - {running.RELEASED})
        lost += gone
        if trial.ended:
            nodes.ended(trial.place, trial.state is State.FAILED)
        elif trial.place is not None:
            placed.append((trial.place, gone))
        machine = process.parted(trial.owner)[0] if by.by == "process" else ""
        if machine:
            own = machines.setdefault(machine, dict.fromkeys(("ended", "failed", "running", "lost"), 0))
            own["lost" if gone else "running" if trial.state is State.RUNNING else "ended"] += 1
            own["failed"] += trial.state is State.FAILED
    ended = [t.finished for t in record.trials if t.finished is not None]
    return {
        "study": record.name,
        "made_by_nas_bo": bool(record.about),
        "objectives": [{"name": c.name, "direction": c.direction} for c in record.columns],
        "trials": len(record.trials),
        **record.counts(),
        "lost": lost,
        "machines": [{"machine": name, **own} for name, own in sorted(machines.items())],
        "nodes": [asdict(node) for node in nodes.rows(placed)],
        "last_ended": None if not ended else max(ended).astimezone(UTC).isoformat(timespec="seconds"),
        "evaluated": [running.of(t).to_dict() for t in record.trials if t.state is State.RUNNING],
    }


def told(one: dict[str, Any]) -> str:
    """The same as text."""
    from nas_bo.safe_text import printable

    wanted = ", ".join(c["name"] for c in one["objectives"])
    states = ", ".join(f"{one[name]} {name}" for name in ("finished", "pruned", "failed", "running", "waiting"))
    lines = [f"{printable(one['study'])}: {counted(one['trials'], 'trial')}, {states} ({wanted})"]
    if one["lost"]:
        lines.append(
            f"  lost: {one['lost']} of the running ones, whose process is dead or gave no sign of life for ten minutes"
        )
    if len(one["machines"]) > 1:
        wide = max(len(printable(m["machine"])) for m in one["machines"])
        lines.append(f"  {'machine':<{wide}}  ended  of them failed  running  lost")
        for m in one["machines"]:
            lines.append(
                f"  {printable(m['machine']):<{wide}}  {m['ended']:>5}  {m['failed']:>14}  {m['running']:>7}  {m['lost']:>4}"
            )
    if one["nodes"]:
        from nas_bo.workflows.nodes import Node, table

        lines += [f"  {printable(line)}" for line in table(Node(**node) for node in one["nodes"])]
        unknown = one["running"] - sum(node["running"] + node["lost"] for node in one["nodes"])
        if unknown:
            lines.append(f"  {unknown} of the running ones have no node yet: it is noted within half a minute")
    for trial in one["evaluated"][:MOST_SHOWN]:
        began = (
            ""
            if trial["since"] is None
            else f" since {trial['since'][:16].replace('T', ' ')} UTC ({_ago(trial['since'])})"
        )
        lines.append(f"  trial {trial['trial']:<5} {_who(trial)}{began}")
    if len(one["evaluated"]) > MOST_SHOWN:
        lines.append(f"  and {len(one['evaluated']) - MOST_SHOWN} more (--json lists all)")
    return "\n".join(lines)


def _who(trial: dict[str, Any]) -> str:
    if trial["by"] == "process":
        alive = {True: "", False: ", which is dead: the next search on that machine evaluates it again", None: ""}
        return f"on {trial['machine']}, process {trial['process']}{alive[trial['alive']]},"
    return {
        "asked": "was asked for and waits for its result,",
        "released": "was left by an interrupted search, the next one evaluates it again,",
    }.get(trial["by"], "by a process that nas_bo does not know,")


def _ago(since: str) -> str:
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _shown(storage: str) -> str:
    from nas_bo.database_url import shown

    return shown(storage)
