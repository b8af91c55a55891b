"""Documents that somebody else may have written: whatever is wrong with one becomes a single error that says so."""

from __future__ import annotations

import errno
import os
import stat
import zipfile
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from nas_bo.errors import NasBoError

P = ParamSpec("P")
R = TypeVar("R")
WRONG = (TypeError, KeyError, AttributeError, ValueError, IndexError, ArithmeticError, RecursionError)
LARGEST = 64 * 2**20  # bytes of a document; what nas_bo writes itself has less than a tenth of it
_AT_ONCE = os.O_NONBLOCK if os.name == "posix" else 0  # a pipe that nobody writes to is opened without waiting


def reading(what: str, error: type[NasBoError]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator of a function that reads `what`: it returns what it has read or raises `error`, and nothing else.

    Args:
        what: with its article, such as "the JSON of an architecture".
    """

    def decorate(read: Callable[P, R]) -> Callable[P, R]:
        @wraps(read)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return read(*args, **kwargs)
            except error:
                raise
            except NasBoError as cause:
                raise error(f"{what} is wrong: {cause}") from cause
            except WRONG as cause:
                raise error(
                    f"this is not {what}, or it is damaged ({type(cause).__name__}: {cause!s:.200}); give one that nas_bo wrote"
                ) from cause

        return wrapped

    return decorate


def regular(path: str | os.PathLike[str], largest: int | None = None, follow: bool = True) -> None:
    """Whether a path is a file that a read neither waits for nor fills the memory from.

    Args:
        largest: bytes that it may have.
        follow: whether it may be a symbolic link.

    Raises:
        OSError: it is not there, is something else (a pipe, a device, a folder, a link), or too long; `strerror` says which.
    """
    _regular(os.stat(path, follow_symlinks=follow), os.fspath(path), largest)


def bytes_of(path: str | os.PathLike[str], largest: int = LARGEST, follow: bool = True) -> bytes:
    """The content of such a file; arguments and errors as of `regular`."""
    regular(path, largest, follow)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _AT_ONCE)) as file:
        _regular(os.fstat(file.fileno()), os.fspath(path), largest)  # another file may have taken its place
        found = file.read(largest + 1)
    if len(found) > largest:
        raise _too_long(os.fspath(path), largest)
    return found


def text_of(path: str | os.PathLike[str], largest: int = LARGEST, follow: bool = True) -> str:
    """The same as text (raises ValueError too, where it is not UTF-8)."""
    return bytes_of(path, largest, follow).decode()


def not_packed(path: str | os.PathLike[str]) -> None:
    """Whether a file of torch takes no more memory than it is long: torch stores the parts of its archives as they are.

    Raises:
        OSError: it is not a regular file, or one of its parts is compressed, which may become a thousand times as long.
    """
    regular(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise OSError(errno.EINVAL, "its parts are compressed, which torch does not do", os.fspath(path))


def _regular(about: os.stat_result, path: str, largest: int | None) -> None:
    if not stat.S_ISREG(about.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(about.st_mode) else "not a regular file"
        raise OSError(errno.EISDIR if stat.S_ISDIR(about.st_mode) else errno.EINVAL, f"it is {kind}", path)
    if largest is not None and about.st_size > largest:
        raise _too_long(path, largest)


def _too_long(path: str, largest: int) -> OSError:
    return OSError(errno.EFBIG, f"it is longer than {largest // 2**20} MiB", path)
