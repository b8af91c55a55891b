"""The live display of a search: a bar and the current front on a terminal, one line per trial when piped. To stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nas_bo.cli import warnings_shown
from nas_bo.cli.output import note, shown, spoken
from nas_bo.report import figure
from nas_bo.report.digits import known
from nas_bo.report.table import noted
from nas_bo.space import Space
from nas_bo.trial import State, Trial
from nas_bo.wording import counted, plural
from nas_bo.workflows.nodes import table
from nas_bo.workflows.search import Progress

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.text import Text

SHOWN = 12  # points of the front that a terminal shows while the search runs

MEASURING = {
    "profile": "measuring this machine, so that latencies of different moments can be compared",
    "block scores": "scoring the blocks of the trained model: what it costs to make each of them smaller",
    "measure": "measuring the front once more, side by side",
}
EVERY_S = 30.0  # between two lines of a phase in which no trial ends


@contextmanager
def show(quiet: bool = False) -> Iterator[_Lines | _Live]:
    """What to call with every `Progress`; plain lines unless stderr is a terminal."""
    warnings_shown.calm_libraries()
    warnings_shown.current().listed = True
    spoken()
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
        return passed if left is None or left < 1 else f"{passed}, {clock(left)} left"

    def end(self, left: float | None) -> Callable[[], float | None]:
        """What is left from now on, each time that it is asked."""
        at = time.monotonic()
        return lambda: None if left is None else max(0.0, left - (time.monotonic() - at))


class _Lines:
    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._first: list[str] = []
        self._phase = ""
        self._last = 0.0  # when a line of a phase without trials was printed
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
                now = time.monotonic()
                if progress.phase != self._phase:
                    self._say(MEASURING[progress.phase])
                    self._last = now
                elif now - self._last >= EVERY_S:
                    self._say(f"{progress.phase} {progress.done}/{progress.total}  {self._time.said(None)}")
                    self._last = now
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
        self._live.update(
            _Screen(
                lambda: (
                    f"starting {counted(workers, 'worker')} to search {space.title}, {counted(trials, 'trial')}, "
                    f"{self._time.said(None)}"
                )
            )
        )

    def update(self, progress: Progress) -> None:
        from rich.progress_bar import ProgressBar

        if progress.trial is not None:
            self._labels[progress.trial.architecture.id] = progress.label
        of = {name: n for name, n in progress.counts.items() if name != "ended" and n > (name == "running")}
        done = ", ".join(
            [f"{progress.phase} {progress.done}/{progress.total}", *(f"{n} {name}" for name, n in of.items())]
        )
        ends = self._time.end(progress.seconds_left)
        last = ("", "", "")
        if progress.trial is not None:
            mark = "+" if joined(progress) else " "
            said = f"{outcome(progress.trial, self._bounds)}{NEW if mark == '+' else ''}"
            last = (f"{mark} ", progress.label, f"  {said}")
        bar = ProgressBar(total=progress.total, completed=progress.done, width=60)
        lines = [last, ("", "", ""), *self._front(progress)]
        if progress.nodes:
            lines += [("", "", ""), *((line, "", "") for line in table(progress.nodes))]
        self._live.update(_Screen(lambda: f"{done}, {self._time.said(ends())}", bar, lines))

    def _front(self, progress: Progress) -> list[tuple[str, str, str]]:
        """The lines of a table, each with the name of the architecture between what is before and after it."""
        names = ["trial", *(progress.front[0].values if progress.front else ())]
        heads = [f"{name}{' (bound)' * (name in self._bounds)}" for name in names]
        rows = []
        for t in progress.front[:SHOWN]:
            mark = "+ " if progress.trial is not None and _same(t, progress.trial) else ""
            values = [known(v, t.info.get(name)) for name, v in t.values.items()]
            rows.append([f"{mark}{t.number}", *values])
        for i, head in enumerate(heads):
            self._widths[head] = max([len(head), 7, self._widths.get(head, 0), *(len(row[i]) for row in rows)])
        self._rows = max(self._rows, len(rows))
        labels = [self._labels.get(t.architecture.id, t.architecture.id[:8]) for t in progress.front[:SHOWN]]
        wide = self._widths["architecture"] = max([12, self._widths.get("architecture", 0), *map(len, labels)])
        found = [(f"front so far: {counted(len(progress.front), 'trial')}", "", "")]
        for label, row in zip(["architecture", *labels], [heads, *rows], strict=True):
            first, *values = (cell.rjust(self._widths[head]) for cell, head in zip(row, heads, strict=True))
            found.append((f"{first}  ", label.ljust(wide), "".join(f"  {value}" for value in values)))
        more = len(progress.front) - len(rows)
        found += [("", "", "")] * (self._rows - len(rows))
        return [*found, (f"and {more} more" if more else "", "", "")]


class _Screen:
    """What is drawn again every second: a first line that is computed each time, and lines that fit the terminal, since what is in the middle of
    them is shortened."""

    def __init__(
        self, head: Callable[[], str], bar: ProgressBar | None = None, lines: Sequence[tuple[str, str, str]] = ()
    ) -> None:
        self._head, self._bar, self._lines = head, bar, lines

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[Text | ProgressBar]:
        from rich.text import Text

        wide = options.max_width
        yield Text(fitting((shown(self._head()), "", ""), wide), no_wrap=True)
        if self._bar is not None:
            yield self._bar
            yield Text("")
        for before, middle, after in self._lines:
            yield Text(fitting((shown(before), shown(middle), shown(after)), wide), no_wrap=True)


LEAST = 12  # characters of a name that stay before what is after it is cut as well


def fitting(parts: tuple[str, str, str], wide: int) -> str:
    """The three parts as a line of at most `wide` characters: the middle gives way first."""
    before, middle, after = parts
    room = max(LEAST, wide - len(before) - len(after))
    if len(middle) > room:
        middle = middle[: room - 1] + "…"
    line = before + middle + after
    return line.rstrip() if len(line) <= wide else line[: wide - 1] + "…"


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
