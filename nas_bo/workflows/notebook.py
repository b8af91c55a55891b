"""The progress of a search in a notebook: a bar, the time left and the front so far, in one output that is written over.

    search(TinyGPT, [...], on_progress=NotebookProgress())

Outside of a notebook the same is a line on stderr after each trial.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nas_bo.report.digits import known
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.workflows.progress import Progress

EVERY_S = 0.5
SHOWN = 8  # members of the front
PHASES = {
    "profile": "measuring this machine", "block scores": "scoring the blocks of the trained model", "baseline": "evaluating what is compared with", "search": "searching",
    "retrain": "training the front again", "measure": "measuring the front side by side", "validate": "validating",
}  # fmt: skip


class NotebookProgress:
    """What to give to ``search(on_progress=)`` in a notebook.

    Args:
        show: what is called with HTML to show, in place of what was shown before; by default the output of the cell.
    """

    def __init__(self, show: Callable[[str], object] | None = None) -> None:
        self._show = _output() if show is None else show
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._show is None:
            print(_line(progress), file=sys.stderr, flush=True)
        elif now - self._last >= EVERY_S or progress.done in (0, progress.total):
            self._last = now
            self._show(progress_html(progress))


def progress_html(progress: Progress) -> str:
    """A bar, a line and the front as a table."""
    rows = []
    for trial in progress.front[:SHOWN]:
        values = [f"{name} {known(value, trial.info.get(name))}" for name, value in trial.values.items()]
        cells = "".join(f"<td>{html.escape(text)}</td>" for text in values)
        rows.append(f"<tr><td>trial {trial.number}</td>{cells}</tr>")
    more = len(progress.front) - SHOWN
    rows += [f"<tr><td>and {more} more</td></tr>"] if more > 0 else []
    table = f"<div>The front so far:</div><table>{''.join(rows)}</table>" if rows else ""
    bar = f'<progress value="{progress.done}" max="{max(1, progress.total)}" style="width:20em"></progress>'
    return f"<div>{bar} {html.escape(_line(progress))}</div>{table}"


def _line(progress: Progress) -> str:
    text = f"{PHASES.get(progress.phase, progress.phase)}: {progress.done} of {progress.total}"
    if progress.seconds_left:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        text += f", {minutes}:{seconds:02d} left"
    if progress.label:
        text += f"; last {progress.label}"
    return text + (f"; front of {counted(len(progress.front), 'architecture')}" if progress.front else "")


def _output() -> Callable[[str], object] | None:
    """What shows HTML in the output of the cell that runs; None outside of a notebook."""
    loaded = sys.modules.get("IPython")
    shell = None if loaded is None else loaded.get_ipython()
    if shell is None or type(shell).__name__ == "TerminalInteractiveShell":
        return None
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)

    def show(text: str) -> None:
        handle.update(HTML(text))

    return show
