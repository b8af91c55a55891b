"""Warnings of a worker process, on their way to the process that searches: there they are shown as its own."""

from __future__ import annotations

import logging
import pickle
import platform
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

OURS = "nas_bo"
LIBRARIES = tuple(
    {
        f"{Path(p).resolve()}/"
        for p in (sysconfig.get_path(n) for n in ("stdlib", "platstdlib", "purelib", "platlib"))
        if p
    }
)
OF_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)
HERE = str(Path(__file__).resolve().parent)


@dataclass(frozen=True)
class Heard:
    """One warning: of `logging` (by `logger`, of `level`), or of `warnings` (a `category`); `host` is the machine of who warned."""

    text: str
    file: str
    line: int
    logger: str = ""
    level: int = logging.WARNING
    category: type[Warning] | None = None
    host: str = field(default_factory=lambda: platform.node())


def concerns_user(
    file: str, logger: str = "", level: int = logging.WARNING, category: type[Warning] | None = None
) -> bool:
    """Whether a warning is one that a user of nas_bo can act on: one of nas_bo, one of their own code, or an error of a library.

    Of Python's warnings those of libraries count too, but for those that are meant for who develops them.
    """
    own = logger.partition(".")[0] == OURS or file.startswith(HERE) or not file.startswith(LIBRARIES)
    if category is None:
        return own or level >= logging.ERROR
    return own or not (issubclass(category, OF_DEVELOPERS) or category.__name__ == "ExperimentalWarning")


class Ear(logging.Handler):
    """Takes what is logged by nas_bo, and by anyone who has set up no logging, and Python's warnings; see `hearing`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[Heard] = []

    def take(self, heard: Heard) -> None:
        self.heard.append(heard)

    def emit(self, record: logging.LogRecord) -> None:
        if concerns_user(record.pathname, record.name, record.levelno):
            self.take(Heard(record.getMessage(), record.pathname, record.lineno, record.name, record.levelno))

    def show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """What stands for `warnings.showwarning`."""
        if concerns_user(filename, category=category):
            with self.lock or nullcontext():
                self.take(Heard(str(message), filename, lineno, category=category))


@contextmanager
def hearing(ear: Ear) -> Iterator[None]:
    """Whatever warns within this is taken by `ear`, and not printed."""
    ours = logging.getLogger(OURS)
    before = logging.lastResort, warnings.showwarning
    ours.addHandler(ear)
    logging.lastResort, warnings.showwarning = ear, ear.show
    try:
        yield
    finally:
        ours.removeHandler(ear)
        logging.lastResort, warnings.showwarning = before


def sendable(heard: Sequence[Heard]) -> list[Heard]:
    """The same, without categories that another process cannot import."""
    found = []
    for one in heard:
        try:
            pickle.dumps(one)
        except Exception:
            one = replace(one, category=UserWarning)
        found.append(one)
    return found


def repeat(heard: Sequence[Heard]) -> None:
    """Warn here of what a worker was warned of, by the same loggers and categories; one of another machine is named."""
    for one in heard:
        if one.host != platform.node():
            one = replace(one, text=f"on {one.host}: {one.text}")
        if one.category is None:
            logger = logging.getLogger(one.logger)
            if logger.isEnabledFor(one.level):
                logger.handle(logger.makeRecord(one.logger, one.level, one.file, one.line, one.text, (), None))
        else:
            module = sys.modules.get("__main__")
            registry = vars(module).setdefault("__warningregistry__", {}) if module is not None else {}
            warnings.warn_explicit(one.text, one.category, one.file, one.line, registry=registry)
