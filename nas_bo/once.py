"""Each architecture once: the values of analytic objectives and of estimates, remembered in this process.

Strategies ask for them again and again, of hundreds of candidates for every trial. What an architecture alone decides is
the same each time, an exception as well, so it is computed once; several problems of one objective share what is known.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from nas_bo.architecture import Architecture

_log = logging.getLogger(__name__)

T = TypeVar("T")
REMEMBERED = 16_384  # values per function and process
DEAR_SECONDS = 1e-3  # an analytic objective that takes longer slows every proposal down
LOOKED_AT = 5  # first calls, the cheapest of which counts: the first load packages, others meet a busy machine


class _Memory:
    """What one function gave: by the id of the architecture, (value, exception)."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Any, Exception | None]] = {}
        self.seconds: list[float] = []

    def keep(self, key: str, value: object, error: Exception | None, seconds: float) -> None:
        with _lock:
            while len(self.known) >= REMEMBERED:
                del self.known[next(iter(self.known))]
            self.known[key] = value, error
            if len(self.seconds) < LOOKED_AT:
                self.seconds.append(seconds)


_lock = threading.Lock()
_memories: dict[tuple[int, str], _Memory] = {}


def once(owner: object, function: Callable[[Architecture], T], arch: Architecture, kind: str = "", name: str = "") -> T:
    """``function(arch)``, called once for each architecture as long as `owner` lives; what it raised is raised again.

    Args:
        owner: whose the function is; values live as long as it does.
        kind: tells several functions of one owner apart.
        name: under which a log warning says, once, that the function is expensive; none where it is "", or where the owner is of
            nas_bo, which nobody can make cheaper.
    """
    memory = _memory(owner, kind)
    if memory is None:
        return function(arch)
    found = memory.known.get(arch.id)
    if found is not None:
        if found[1] is not None:
            raise _plain(found[1])
        given: T = found[0]
        return given
    began = time.perf_counter()
    try:
        value = function(arch)
    except Exception as error:
        memory.keep(arch.id, None, _plain(error), time.perf_counter() - began)
        raise
    memory.keep(arch.id, value, None, time.perf_counter() - began)
    if name and len(memory.seconds) == LOOKED_AT and not type(owner).__module__.startswith("nas_bo."):
        _say_if_dear(memory, name)
    return value


def _plain(error: Exception) -> Exception:
    """The same exception without the frames in which it was raised, which would keep all that they saw."""
    try:
        return copy.copy(error)
    except Exception:  # one that cannot be made from its own arguments
        return error.with_traceback(None)


def _memory(owner: object, kind: str) -> _Memory | None:
    key = id(owner), kind
    memory = _memories.get(key)
    if memory is None:
        try:
            weakref.finalize(owner, _memories.pop, key, None).atexit = False
        except TypeError:  # nothing says when it is gone
            return None
        with _lock:
            memory = _memories.setdefault(key, _Memory())
    return memory


def _say_if_dear(memory: _Memory, name: str) -> None:
    least = min(memory.seconds)
    memory.seconds.append(least)  # reported, or not to be reported: once
    if least > DEAR_SECONDS:
        _log.warning(
            "%s takes %.3g ms per architecture (the least of %d), and strategies ask for hundreds of architectures; each is "
            "computed once. If that is too slow, make it cheaper, or give the objective cost='measured' and a cheap "
            "predict(arch)",
            name,
            1e3 * least,
            LOOKED_AT,
        )
