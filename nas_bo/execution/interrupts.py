"""Ctrl-C and SIGTERM, held back for as long as something must not be cut in the middle."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, FunctionType

from nas_bo import patience

_held = False  # by the outermost `whole` of the first thread


@contextmanager
def whole() -> Iterator[None]:
    """Ctrl-C and SIGTERM within this come where it ends, a second one at once; also a decorator of functions.

    For steps of a storage: a database session that is cut in the middle refuses what follows, and that is where the
    interrupted search notes what it leaves. In threads other than the first, which never get a signal, this does nothing.
    """
    global _held
    if _held or threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {int(number): handler for number, handler in found.items() if callable(handler)}
    came: list[int] = []

    def later(number: int, frame: FrameType | None) -> None:
        if came:
            before[number](number, frame)
        came.append(number)
        patience.interrupted.set()  # nothing outside is waited for meanwhile

    for number in before:
        signal.signal(number, later)
    _held = True
    try:
        yield
    finally:
        _held = False
        patience.interrupted.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            before[came[0]](came[0], None)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM within this is Ctrl-C: a machine that is taken back, or a cluster's scheduler, asks with it, and what ended is kept. So it is
    where Ctrl-C itself is ignored, as in what a script starts with `&`.

    In threads other than the first, and where the program has a handler of its own, this does nothing. Those of Ray (of `ray.init()`, and of
    a node in this process), behind which a driver ends at once, are not such ones.
    """
    first, before = threading.current_thread() is threading.main_thread(), signal.getsignal(signal.SIGTERM)
    rays = isinstance(before, FunctionType) and before.__module__.startswith("ray.")
    if not first or not (before is signal.SIG_DFL or rays):
        yield
        return
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM within this ends the program with status 143 after what has been opened is closed. For the first thread."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C within this comes where it ends; processes that are started within never get it.

    On Windows, which cannot hold it back, processes get it.
    """
    with whole():  # another thread may take the signal that is blocked in this one
        if sys.platform == "win32":
            yield
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
