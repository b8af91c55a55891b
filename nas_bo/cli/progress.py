"""The live display of a search: a bar and the current front on a terminal, one line per trial when piped. To stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nas_bo.cli import warnings_shown
from nas_bo.cli.output import note, shown
from nas_bo.report import figure
from nas_bo.report.digits import known
from nas_bo.report.table import noted
from nas_bo.space import Space
from nas_bo.trial import State, Trial
from nas_bo.wording import counted, plural
from nas_bo.workflows.search import Progress

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

SHOWN = 12  # points of the front that a terminal shows while the search runs

MEASURING = {
    "profile": "measuring this machine, so that latencies of different moments can be compared",
    "measure": "measuring the front once more, side by side",
}


@contextmanager
def show(quiet: bool = False) -> Iterator[_Lines | _Live]:
    """What to call with every `Progress`; plain lines unless stderr is a terminal."""
    warnings_shown.calm_libraries()
    warnings_shown.current().listed = True
    if quiet or not sys.stderr.isatty():
        yield _Lines(quiet)
        return
    from rich.console import Console
    from rich.live import Live

    # once a second: drawing takes a processor, and somebody may be measuring
    with Live(console=Console(stderr=True), refresh_per_second=1, transient=True) as live:
        yield _Live(live)


class _Time:
    """What has passed since the start, and what is left."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def start(self) -> None:
        self._began = time.monotonic()

    def said(self, left: float | None) -> str:
        """``0:23 elapsed, 2:10 left``"""
        passed = f"{clock(time.monotonic() - self._began)} elapsed"
        return passed if left is None else f"{passed}, {clock(left)} left"


class _Lines:
    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._first: list[str] = []
        self._phase = ""
        self._bounds: Collection[str] = ()
        self._time = _Time()
        self._widths = [12, 24, 32]  # of the count, the time and the name: they grow and never shrink

    def starting(self, space: type[Space], workers: int, trials: int, bounds: Collection[str] = ()) -> None:
        self._bounds = bounds
        self._first = [f"searching {space.title} with {counted(workers, 'worker')}, {counted(trials, 'trial')}"]
        self._time.start()

    def update(self, progress: Progress) -> None:
        for line in self._first:  # only now has everything been checked
            self._say(line)
        self._first = []
        if progress.trial is None:
            if progress.phase in MEASURING:
                if progress.phase != self._phase:
                    self._say(MEASURING[progress.phase])
            elif progress.phase == "retrain":
                self._say(f"re-training the front and a few others: {counted(progress.total, 'architecture')}")
            elif progress.phase == "validate":
                self._say(
                    f"validating: {progress.done} of {counted(progress.total, 'evaluation')} {plural(progress.done, 'is', 'are')} there"
                )
            elif progress.phase == "ladder":
                self._say(
                    f"ladder: {progress.done} of {counted(progress.total, 'training')} {plural(progress.done, 'is', 'are')} there"
                )
            elif progress.done:
                self._say(
                    f"continuing: {progress.done} of {counted(progress.total, 'trial')} {plural(progress.done, 'is', 'are')} there"
                )
            self._phase = progress.phase
            return
        self._phase = progress.phase
        cells = [
            f"{progress.phase} {progress.done}/{progress.total}",
            self._time.said(progress.seconds_left),
            progress.label,
        ]
        self._widths = [max(wide, len(cell)) for wide, cell in zip(self._widths, cells, strict=True)]
        done, passed, name = (cell.ljust(wide) for cell, wide in zip(cells, self._widths, strict=True))
        mark = "+" if joined(progress) else " "
        self._say(
            f"{done}  {passed}  {mark} {name}  {outcome(progress.trial, self._bounds)}{NEW if mark == '+' else ''}"
        )

    def _say(self, text: str) -> None:
        if not self._quiet:
            note(text.rstrip())


class _Live:
    def __init__(self, live: Live) -> None:
        self._live = live
        self._labels: dict[str, str] = {}
        self._widths: dict[str, int] = {}  # of the columns: they grow and never shrink, so that nothing jumps
        self._rows = 0
        self._bounds: Collection[str] = ()
        self._time = _Time()

    def starting(self, space: type[Space], workers: int, trials: int, bounds: Collection[str] = ()) -> None:
        self._bounds = bounds
        self._time.start()
        from rich.text import Text

        text = f"starting {counted(workers, 'worker')} to search {space.title}, {counted(trials, 'trial')} ..."
        self._live.update(Text(shown(text)))

    def update(self, progress: Progress) -> None:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        if progress.trial is not None:
            self._labels[progress.trial.architecture.id] = progress.label
        head = f"{progress.phase} {progress.done}/{progress.total}, {self._time.said(progress.seconds_left)}"
        last = ""
        if progress.trial is not None:
            mark = "+" if joined(progress) else " "
            last = f"{mark} {progress.label}  {outcome(progress.trial, self._bounds)}{NEW if mark == '+' else ''}"
        bar = ProgressBar(total=progress.total, completed=progress.done, width=60)
        self._live.update(Group(head, bar, Text(shown(last), no_wrap=True, overflow="ellipsis"), self._front(progress)))

    def _front(self, progress: Progress) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"front so far: {counted(len(progress.front), 'trial')}", title_justify="left", box=None)
        names = ["trial", "architecture", *(progress.front[0].values if progress.front else ())]
        rows: list[list[str | Text]] = [
            [
                ("+ " if progress.trial is not None and _same(t, progress.trial) else "") + str(t.number),
                Text(shown(self._labels.get(t.architecture.id, t.architecture.id[:8]))),
                *(known(v, t.info.get(name)) for name, v in t.values.items()),
            ]
            for t in progress.front[:SHOWN]
        ]
        self._rows = max(self._rows, len(rows))
        for i, name in enumerate(names):
            wide = max(
                [len(name) + 8 * (name in self._bounds), 4, self._widths.get(name, 0), *(len(row[i]) for row in rows)]
            )
            self._widths[name] = wide
            left = name == "architecture"
            table.add_column(
                Text(shown(f"{name}{' (bound)' * (name in self._bounds)}")),
                justify="left" if left else "right",
                min_width=wide,
                no_wrap=True,
            )
        for row in rows:
            table.add_row(*row)
        for _ in range(self._rows - len(rows)):
            table.add_row()
        more = len(progress.front) - len(rows)
        table.add_row("", f"and {more} more" if more else "")
        return table


NEW = "  joined the front"


def joined(progress: Progress) -> bool:
    """Whether the trial that just ended is on the front of the search."""
    trial = progress.trial
    return progress.phase == "search" and trial is not None and any(_same(t, trial) for t in progress.front)


def _same(member: Trial, trial: Trial) -> bool:
    return member.architecture.id == trial.architecture.id and dict(member.values) == dict(trial.values)


def outcome(trial: Trial, bounds: Collection[str] = ()) -> str:
    """What became of a trial, in one line; `bounds` are the objectives that are roofline bounds, and no times."""
    values = "  ".join(
        f"{name}{' (bound)' * (name in bounds)} {figure(value):>6}" for name, value in trial.values.items()
    )
    if trial.state is State.COMPLETE:
        return values
    broken = (limit.partition("<=")[0].partition(">=")[0] for limit, amount in trial.violations.items() if amount > 0)
    known = {name: trial.values.get(name, noted(trial, name)) for name in broken}
    by = ", ".join(f"{name} is {figure(value)}" for name, value in known.items() if value is not None)
    return f"{trial.state.value}: {trial.reason}" + (f" ({by})" if by else "")


def clock(seconds: float) -> str:
    """3:07, or 1:02:45 from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
