"""The one way from the command to a terminal or a pipe: texts have no secrets, and no signs that change a terminal.

What is on stdout is the command's answer and nothing else. Objectives, models and libraries may print what they like, from Python, from
C, or in a worker process: while a command works, that goes to stderr.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TextIO

import typer

from nas_bo.cli.folding import folded
from nas_bo.redaction import redacted
from nas_bo.safe_text import lines

SILENT_S = 3.0
_spoken = False
_answer: TextIO | None = None  # where answers go while `answering` lasts


def say(text: object, err: bool = False, fold: bool = True) -> None:
    """Lines of text, or a document of JSON, on stdout; with `err` on stderr. A terminal has them folded to its width, where `fold`."""
    spoken()
    file = sys.stderr if err else _answer or sys.stdout
    told = shown(text)
    typer.echo(folded(told) if fold and file.isatty() else told, file=None if err else _answer, err=err)


@contextmanager
def patient(text: str) -> Iterator[None]:
    """Around what may take long without a word: a terminal shows `text` after some seconds without output."""
    global _spoken
    _spoken = False

    def tell() -> None:
        if not _spoken:
            note(text)

    timer = threading.Timer(SILENT_S, tell)
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def spoken() -> None:
    """There is output: nobody wonders whether the command works."""
    global _spoken
    _spoken = True


def note(text: object) -> None:
    """A line on stderr while a display may be there: it has put something in place of `sys.stderr` that prints above it."""
    spoken()
    print(shown(text), file=sys.stderr, flush=True)


def shown(text: object) -> str:
    """As it may be shown."""
    return redacted(lines(text))


@contextmanager
def answering() -> Iterator[None]:
    """Within this only `say` writes to stdout; whatever else does writes to stderr."""
    global _answer
    if _answer is not None:
        yield
        return
    before = sys.stdout
    before.flush()
    kept = _set_aside(before)
    _answer = before if kept is None else open(kept, "w", encoding=before.encoding, errors=before.errors)  # noqa: SIM115
    sys.stdout = sys.stderr
    failed = True
    try:
        yield
        failed = False
    finally:
        own, _answer, sys.stdout = _answer, None, before
        try:
            with suppress(OSError) if failed else nullcontext():  # what failed is reported once
                own.flush()
        finally:
            if kept is not None:
                _flush_c()
                os.dup2(kept, 1)
                with suppress(OSError, ValueError):  # what could not be written is reported by the flush
                    own.close()


def _set_aside(stream: TextIO) -> int | None:
    """Let the file descriptor 1 lead to stderr, for C and for other processes; another one for where it led."""
    try:
        if stream.fileno() != 1:
            return None
        os.fstat(2)
        kept = os.dup(1)
    except (OSError, ValueError):  # no file behind it, or stderr is closed
        return None
    os.dup2(2, 1)
    return kept


def _flush_c() -> None:
    """Write out what C has printed and not written yet, while that still goes to stderr."""
    if os.name == "posix":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).fflush(None)
