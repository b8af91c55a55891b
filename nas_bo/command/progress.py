"""The live display of a search: a bar and the current front on a terminal, one line per trial when piped. To stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nas_bo.command import warned
from nas_bo.loop import Progress
from nas_bo.report import figure
from nas_bo.space import Space
from nas_bo.trial import State, Trial

SHOWN = 12  # points of the front that a terminal shows while the search runs

MEASURING = {
    "profile": "measuring this machine, so that latencies of different moments can be compared",
    "measure": "measuring the front once more, side by side",
}


@contextmanager
def show(quiet: bool = False) -> Iterator[_Lines | _Live]:
    """What to call with every `Progress`; plain lines unless stderr is a terminal."""
    warned.calm_libraries()
    warned.current().listed = True
    if quiet or not sys.stderr.isatty():
        yield _Lines(quiet)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
        yield _Live(live)


class _Lines:
    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._first = ""
        self._phase = ""

    def starting(self, space: type[Space], workers: int, trials: int) -> None:
        self._first = f"searching {space.title} with {workers} worker{'s' * (workers > 1)}, {trials} trials"

    def update(self, progress: Progress) -> None:
        if self._first:  # only now has everything been checked
            self._say(self._first)
            self._first = ""
        if progress.trial is None:
            if progress.phase in MEASURING:
                if progress.phase != self._phase:
                    self._say(MEASURING[progress.phase])
            elif progress.phase == "retrain":
                self._say(f"re-training the front and a few others: {progress.total} architectures")
            elif progress.phase == "validate":
                self._say(f"validating: {progress.done} of {progress.total} evaluations are there")
            elif progress.done:
                self._say(f"continuing: {progress.done} of {progress.total} trials are there")
            self._phase = progress.phase
            return
        self._phase = progress.phase
        left = "" if progress.seconds_left is None else f"  {clock(progress.seconds_left)} left"
        self._say(
            f"{progress.phase} {progress.done}/{progress.total}{left}  {progress.label:<32} {outcome(progress.trial)}"
        )

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)


class _Live:
    def __init__(self, live: Any) -> None:
        self._live = live
        self._labels: dict[str, str] = {}

    def starting(self, space: type[Space], workers: int, trials: int) -> None:
        self._live.update(
            f"starting {workers} worker{'s' * (workers > 1)} to search {space.title}, {trials} trials ..."
        )

    def update(self, progress: Progress) -> None:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        if progress.trial is not None:
            self._labels[progress.trial.architecture.id] = progress.label
        left = "" if progress.seconds_left is None else f", {clock(progress.seconds_left)} left"
        head = f"{progress.phase} {progress.done}/{progress.total}{left}"
        last = "" if progress.trial is None else f"last: {progress.label}  {outcome(progress.trial)}"
        table = Table(title=f"front so far ({len(progress.front)})", title_justify="left", box=None)
        if progress.front:
            for name in ("trial", "architecture", *progress.front[0].values):
                table.add_column(name, justify="left" if name == "architecture" else "right")
            for t in progress.front[:SHOWN]:
                name = self._labels.get(t.architecture.id, t.architecture.id[:8])
                table.add_row(str(t.number), name, *(figure(v) for v in t.values.values()))
        bar = ProgressBar(total=progress.total, completed=progress.done, width=60)
        self._live.update(Group(head, bar, last, table))


def outcome(trial: Trial) -> str:
    """What became of a trial, in one line."""
    values = "  ".join(f"{name} {figure(value)}" for name, value in trial.values.items())
    if trial.state is State.COMPLETE:
        return values
    return f"{trial.state.value}: {trial.reason}"


def clock(seconds: float) -> str:
    """3:07, or 1:02:45 from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
