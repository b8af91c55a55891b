"""A process that is asked to end (SIGTERM, Ctrl-C) in the middle of a training: the step is brought to its end and a checkpoint written first.

Schedulers and clouds send SIGTERM some seconds before they take a machine back. What a signal does here, it does after the checkpoint; a
second one does it at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from nas_bo.objective import Resumable

GRACE_S = 20.0  # for a step and a checkpoint, before a process that was asked to end is killed


@contextmanager
def deferred(save: Callable[[], None] | None) -> Iterator[Callable[[], None]]:
    """What this gives is called between steps: when a signal has come it saves, and then lets the signal do what it does here.

    Args:
        save: writes the checkpoint; None where there is none: signals are not held back. Nor are they in threads other than the first,
            which get none.
    """
    if save is None or threading.current_thread() is not threading.main_thread():
        yield _nothing
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    held = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}

    def later(number: int, frame: FrameType | None) -> None:
        if came:
            back()
            signal.raise_signal(number)
        came.append(number)

    def back() -> None:
        for number, handler in held.items():
            signal.signal(number, handler)

    def leave_when_asked() -> None:
        if came:
            save()
            back()
            signal.raise_signal(came[0])

    for number in held:
        signal.signal(number, later)
    try:
        yield leave_when_asked
    finally:
        back()
        if came:  # after the last step: what follows does not train, so it need not wait
            signal.raise_signal(came.pop(0))


def _nothing() -> None:
    """Nobody waits for a checkpoint."""


def resumable(objectives: Iterable[object]) -> bool:
    """Whether a training of one of these leaves a checkpoint when it is asked to end."""
    return any(isinstance(one, Resumable) and one.checkpoints is not None for one in objectives)
