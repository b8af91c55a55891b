"""How far a search has come: what Ctrl-C means at that moment."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from nas_bo.workflows.progress import Progress


class Moment:
    """Passes progress on, and knows by it whether the search has begun.

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
