"""What the command says when something is wrong or it is interrupted, and its exit code."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import Any

import typer

from nas_bo.cli.output import patient, say
from nas_bo.cli.typed_options import by_option
from nas_bo.errors import EverythingFailed, NasBoError, SearchError, StorageUnavailable
from nas_bo.safe_text import printable

INTERRUPTED = 130
WORKING = "working: libraries are loaded, and what was asked for is read and checked"
UsageError: Any = typer.BadParameter.__base__  # typer has a click of its own, and gives it no name
WHAT = {"valid number": "a number", "valid integer": "a whole number"}  # as the parser says it, and as we do


@contextmanager
def errors(interrupted: str | Callable[[], str] = "interrupted") -> Iterator[None]:
    """One clear paragraph on stderr and the right exit code, for every error that is the library's own.

    Args:
        interrupted: what Ctrl-C within this means, or what says so then.
    """
    try:
        with patient(WORKING):
            yield
    except SearchError as error:
        say(f"nas-bo: {printable(by_option(str(error)))}", err=True)
        raise typer.Exit(1 if isinstance(error, EverythingFailed) else 2) from None
    except NasBoError as error:
        say(f"nas-bo: {printable(by_option(str(error)))}", err=True)
        raise typer.Exit(1 if isinstance(error, StorageUnavailable) else 2) from None
    except EOFError as error:
        if not (damaged := _damaged(error)):
            raise
        say(
            f"nas-bo: the compiled Python file {printable(damaged)!r} is damaged ({error}), as a disk that was full leaves it; remove that file",
            err=True,
        )
        raise typer.Exit(2) from None
    except (MemoryError, ImportError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            name = printable(str(error.filename))[:60]
            say(f"nas-bo: {name!r}... is longer than the name of a file may be; give a shorter one", err=True)
            raise typer.Exit(2) from None
        if isinstance(error, OSError) and not _no_memory(error) and (error.filename or error.errno in FULL):
            place = printable(str(error.filename or "the output"))
            say(
                f"nas-bo: {place!r}: {error.strerror}. {'Free space or give' if error.errno in FULL else 'Give'} another place, then start the same command again",
                err=True,
            )
            raise typer.Exit(2) from None
        if not _no_memory(error):
            raise
        say(
            f"nas-bo: there is no memory left ({type(error).__name__}: {printable(str(error))[:120] or 'it has no text'}). What has ended is kept, "
            "and the same command continues; use fewer --workers, end other programs, or raise the limit of this one (ulimit -v)",
            err=True,
        )
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        _hurry()
        say(f"nas-bo: {interrupted if isinstance(interrupted, str) else interrupted()}", err=True)
        raise typer.Exit(INTERRUPTED) from None


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _damaged(error: EOFError) -> str:
    """The compiled file that Python could not read; "" where it is another end of a file."""
    found, at = "", error.__traceback__
    while at is not None:
        found, at = str(at.tb_frame.f_locals.get("bytecode_path") or found), at.tb_next
    return found if "marshal" in str(error) else ""


def _no_memory(error: Exception) -> bool:
    """Also where a library could not be loaded for that reason, or a process not be started."""
    text = str(error)
    mapped = isinstance(error, ImportError) and (
        "failed to map segment" in text or "cannot allocate memory" in text.lower()
    )
    return isinstance(error, MemoryError) or mapped or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


EXAMPLES = {"--budget": 200_000}  # of options whose default depends on others


@contextmanager
def parsed(arguments: Sequence[str]) -> Iterator[None]:
    """What the parser refuses of these arguments is a SearchError, in a paragraph like all others."""
    try:
        yield
    except typer.BadParameter as error:
        param: Any = error.param
        if param is None:
            raise SearchError(f"{error.format_message()}{_help(error)}") from None
        name = next((o for o in param.opts if _typed(o, arguments) is not None), param.opts[0])
        value, kind = _typed(name, arguments), next((k for said, k in WHAT.items() if said in error.message), None)
        if value is None or kind is None:
            raise SearchError(f"{_plain(error)}{_help(error)}") from None
        default = EXAMPLES.get(name, param.default)
        such = f" such as {default:g}" if isinstance(default, (int, float)) and not isinstance(default, bool) else ""
        raise SearchError(f"{name} {value!r}: it must be {kind}{such}{_help(error)}") from None
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        raise SearchError(f"{_plain(error)}{_help(error)}") from None


def _typed(option: str, arguments: Sequence[str]) -> str | None:
    for at, text in enumerate(arguments):
        if text == option and at + 1 < len(arguments):
            return arguments[at + 1]
        if text.startswith(f"{option}="):
            return text.partition("=")[2]
    return None


def _plain(error: Any) -> str:
    said = str(error.format_message()).rstrip(".").replace(". Did you mean ", "; did you mean ")
    return said[0].lower() + said[1:]


def _help(error: Any) -> str:
    if error.ctx is None:
        return ""
    see = f"; see `{error.ctx.command_path} --help`"
    by_option = any("--storage" in p.opts for p in error.ctx.command.params)
    if by_option and "unexpected extra argument" in error.format_message():
        return f"; a storage is given with --storage here{see}"
    return see


def refuse_empty(arguments: Sequence[str]) -> None:
    """Raise SearchError where an option or argument is empty, which a variable of a shell easily is."""
    for at, text in enumerate(arguments):
        name, equals, value = text.partition("=")
        if text.strip() and not (equals and name.startswith("--") and not value.strip()):
            continue
        before = arguments[at - 1] if at else ""
        what = name if text.strip() else before if before.startswith("-") else f"the argument after {before!r}"
        raise SearchError(f"{what} is empty; give a value{', or leave the option out' if what.startswith('-') else ''}")


def leave_at_once() -> None:
    """From now on Ctrl-C, where it is not ignored, ends the process without a traceback, while it waits for what runs when it exits."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


WRITTEN = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def end(code: int) -> None:
    """End the process once threads have ended, what was registered for this has run, and all files are written out.

    Python itself would then take every object apart, for seconds where torch and MLflow are loaded, and nobody knows what is waited for.
    Returns where the output cannot be written, so that Python ends and reports that.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # the order is Python's own
    _run_exit_functions()
    for one in gc.get_objects():  # also files that nobody closed, as Python's end would
        if issubclass(type(one), WRITTEN) and one not in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                one.flush()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        return
    os._exit(code)


def _run_exit_functions() -> None:
    """What was registered with `atexit`. A thread that is not waited for may make temporary folders and the like while `weakref.finalize` lists
    what is to be done at exit: Python's own loop ends there with an error, and the rest is done here, from a copy of the list."""
    last = weakref.finalize._exitfunc  # type: ignore[attr-defined]
    before, failed = sys.unraisablehook, []

    def hook(found: sys.UnraisableHookArgs) -> None:
        if isinstance(found.exc_value, RuntimeError) and found.object == last:
            failed.append(found.exc_value)
        else:
            before(found)

    sys.unraisablehook = hook
    try:
        atexit._run_exitfuncs()
    finally:
        sys.unraisablehook = before
    if failed:
        weakref.finalize._shutdown = False  # type: ignore[attr-defined]
        known = list(weakref.finalize._registry.items())  # type: ignore[attr-defined]
        listed = [(info.index, one) for one, info in known if info.atexit]
        for _, one in sorted(listed, key=itemgetter(0), reverse=True):
            one()


def _leave(*_: object) -> None:
    sys.stdout.flush()
    os._exit(INTERRUPTED)


def _hurry() -> None:
    """What waits for MLflow is on the disk: the end of the process need not wait for it."""
    tracker = sys.modules.get("nas_bo.mlflow.tracker")
    if tracker is not None:
        tracker.hurry()
