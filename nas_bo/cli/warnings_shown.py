"""What the command does with warnings: each once on stderr while it works, all of them in a list at the end.

Whatever nas_bo logs, and Python's warnings that concern the user, come here, also those of worker processes and threads.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nas_bo.cli.output import note, say, shown
from nas_bo.execution.worker_warnings import OURS, Ear, Heard, hearing
from nas_bo.wording import counted

SHORT = 160  # characters of a warning while something else is shown; the whole text is in the list


class Warned(Ear):
    """The warnings of one command. Those that differ in numbers only count as one.

    Attributes:
        listed: a display is shown while they come: they are short then on a terminal, and repeated as a list at the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.listed = False
        self._said: dict[str, tuple[str, int]] = {}

    @property
    def texts(self) -> list[str]:
        """Each warning, with how often something like it came."""
        return [
            text if count == 1 else f"{text} (and {count - 1} more like this)" for text, count in self._said.values()
        ]

    def take(self, heard: Heard) -> None:
        text = shown(" ".join(heard.text.split()))
        kind = re.sub(r"\d[\d.,e+-]*", "#", text)
        first, count = self._said.get(kind, (text, 0))
        self._said[kind] = first, count + 1
        if not count:
            whole = not self.listed or not sys.stderr.isatty()
            short = text if whole or len(text) <= SHORT else text[: SHORT - 1].rstrip() + "…"
            note(f"nas-bo: warning: {short}")

    def say_again(self) -> None:
        """The list at the end, on stderr."""
        texts, self._said = self.texts, {}
        if not (self.listed and texts):
            return
        say(f"\n{counted(len(texts), 'warning')}:", err=True)
        for text in texts:
            say(f"* {text}", err=True)


_current: list[Warned] = []


def current() -> Warned:
    """The warnings of the command that runs; of none when none does."""
    return _current[-1] if _current else Warned()


@contextmanager
def collecting() -> Iterator[Warned]:
    """What warns within this is shown, and listed where it ends."""
    made = Warned()
    _current.append(made)
    try:
        with hearing(made):
            yield made
    finally:
        _current.remove(made)
        made.say_again()


def to_the_end() -> None:
    """For the process of the command: what warns when the process ends is shown as well, and nothing is shown twice."""
    hearing(Warned()).__enter__()
    logging.getLogger(OURS).propagate = False  # a library may have given the root logger a handler that prints


def calm_libraries() -> None:
    """The display tells what these would log line by line."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for name in ("mlflow", "alembic", "nas_bo.workflows.search.trials"):
        logging.getLogger(name).setLevel(logging.ERROR)
