"""Patience with what fails in the middle and may work again: a full disk, a server that restarts, a file that others hold."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from nas_bo import measurement_lock

T = TypeVar("T")
PATIENCE_S = 300.0
FIRST_S, LONGEST_S = 0.1, 10.0  # the pauses between attempts: each is twice as long as the one before
SLICE_S = 0.2  # of a pause, after which somebody may measure who waits for this process
interrupted = threading.Event()  # Ctrl-C has come and is held back until a step is complete: nothing is waited for

_log = logging.getLogger(__name__)


class Exhausted(Exception):
    """What was tried again and again did not work; its cause is the last error."""


@dataclass
class Patience:
    """For how long one thing outside, such as a storage, is tried again.

    When it has failed for that long once, later failures are not waited for: whoever ends then should not wait again.

    Args:
        what: what it is, for warnings.
        seconds: in all, from the first failure of one attempt.
        said: what an error says, in one line.
        clock, sleep: of seconds; tests give their own.
    """

    what: str
    seconds: float = PATIENCE_S
    said: Callable[[BaseException], str] = str
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _hurried: threading.Event = field(default_factory=threading.Event)

    def call(
        self, work: Callable[[], T], passes: Callable[[Exception], bool], again: Callable[[], T] | None = None
    ) -> T:
        """What `work` gives, tried again while it fails by errors of which `passes` says that they may pass.

        Args:
            again: what is tried from the second time on, where the first may have worked without saying so.

        Raises:
            Exhausted: it failed for `seconds`.
        """
        began: float | None = None
        pause, attempt = FIRST_S, work
        while True:
            try:
                found = attempt()
            except Exception as error:
                if not passes(error):
                    raise
                now = self.clock()
                began = now if began is None else began
                if self._hurried.is_set() or interrupted.is_set() or now - began >= self.seconds:
                    if not interrupted.is_set():
                        self.hurry()
                    raise Exhausted(f"{self.what} failed for {now - began:.0f} s") from error
                if pause == 8 * FIRST_S:  # a lock of a moment is not worth a line
                    _log.warning(
                        "%s fails (%s); it is tried again for %s, and nothing of what was evaluated is lost",
                        self.what,
                        self.said(error),
                        duration(self.seconds),
                    )
                self._wait(min(pause, max(FIRST_S, began + self.seconds - now)))
                pause, attempt = min(2 * pause, LONGEST_S), again or work
            else:
                if began is not None and pause > 8 * FIRST_S:
                    _log.warning("%s works again after %.0f s", self.what, self.clock() - began)
                return found

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.what, self.seconds, self.said, self.clock, self.sleep)

    def hurry(self) -> None:
        """From now on nothing is tried again."""
        self._hurried.set()

    def _wait(self, seconds: float) -> None:
        until = self.clock() + seconds
        with measurement_lock.working() as step:
            while (left := until - self.clock()) > 0 and not (self._hurried.is_set() or interrupted.is_set()):
                self.sleep(min(left, SLICE_S))
                step()


def duration(seconds: float) -> str:
    """45 s, 5 min"""
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:.3g} min"
