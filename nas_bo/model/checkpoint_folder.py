"""Where checkpoints are: a folder of this machine or one that several machines mount, or any URL that fsspec opens (``s3://bucket/runs``), so
that another machine continues what one has begun. Imports fsspec where a URL is used.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from nas_bo.errors import CheckpointError, NasBoError

SUFFIX = ".pt"


class _Files(Protocol):
    """Of fsspec: a file system."""

    def exists(self, path: str) -> bool: ...
    def get_file(self, there: str, here: str) -> object: ...
    def put_file(self, here: str, there: str) -> object: ...
    def mv(self, one: str, other: str) -> object: ...
    def makedirs(self, path: str, exist_ok: bool) -> object: ...
    def pipe_file(self, path: str, value: bytes) -> object: ...
    def rm_file(self, path: str) -> object: ...


def is_url(where: str | Path) -> bool:
    """Whether it is a URL of another file system than that of this machine."""
    return isinstance(where, str) and "://" in where and urlsplit(where).scheme not in ("file", "local")


def local(where: str | Path) -> Path:
    """The path of what is no such URL."""
    return Path(url2pathname(urlsplit(where).path) if isinstance(where, str) and "://" in where else where)


def of(where: str | Path, key: str) -> str | Path:
    """The file of a run: `where` itself, or, in a folder (of URLs all that do not end in ``.pt``), one named after its `key`."""
    if is_url(where):
        url = str(where)
        return url if url.endswith(SUFFIX) else f"{url.rstrip('/')}/{key}{SUFFIX}"
    path = local(where)
    return path / f"{key}{SUFFIX}" if path.is_dir() else path


def check(where: object, who: str, error: type[NasBoError]) -> None:
    """Raises `error` where it is not a path, or a URL that cannot be opened with what is installed; nothing is opened."""
    if not isinstance(where, (str, os.PathLike)) or not os.fspath(where):
        raise error(f"{who}(checkpoints={where!r}): give the path of a folder, a URL such as s3://bucket/runs, or None")
    if is_url(url := os.fspath(where)):
        try:
            _opened(str(url))
        except CheckpointError as found:
            raise error(f"{who}(checkpoints={where!r}): {found}") from None


def make(where: str | Path, who: str, error: type[NasBoError]) -> None:
    """Make the folder, and see that it can be written to (raises `error`)."""
    try:
        if not is_url(where):
            local(where).mkdir(parents=True, exist_ok=True)
            return
        files, inside = _opened(str(where))
        files.makedirs(inside, exist_ok=True)
        probe = f"{inside.rstrip('/')}/.{uuid.uuid4().hex}"
        files.pipe_file(probe, b"")
        files.rm_file(probe)
    except Exception as found:  # every file system has errors of its own
        said = found.strerror if isinstance(found, OSError) and found.strerror else found
        raise error(
            f"{who}(checkpoints={str(where)!r}): it is not a folder that can be written to ({said or type(found).__name__}); give another one"
        ) from None


def fetch(url: str, file: Path) -> bool:
    """Copy what is at a URL to a file; false where nothing is there (raises CheckpointError)."""
    files, inside = _opened(url)
    try:
        if not files.exists(inside):
            return False
        files.get_file(inside, str(file))
    except Exception as error:
        raise CheckpointError(f"the checkpoint {url!r} cannot be read ({_said(error)})") from None
    return True


def store(file: Path, url: str) -> None:
    """Copy a file to a URL, where it is as a whole or not at all (raises CheckpointError)."""
    files, inside = _opened(url)
    draft = f"{inside}.{uuid.uuid4().hex}"
    try:
        files.makedirs(inside.rpartition("/")[0], exist_ok=True)
        try:
            files.put_file(str(file), draft)
            files.mv(draft, inside)
        except BaseException:
            with suppress(Exception):
                files.rm_file(draft)
            raise
    except Exception as error:
        raise CheckpointError(
            f"the checkpoint {url!r} cannot be written ({_said(error)}); give a folder or a URL that can be written to and has space left"
        ) from None


def _opened(url: str) -> tuple[_Files, str]:
    from fsspec.core import url_to_fs

    try:
        files, inside = url_to_fs(url)
    except (ValueError, ImportError) as error:  # no such protocol, or its package is not installed
        raise CheckpointError(
            f"{urlsplit(url).scheme}:// cannot be opened ({_said(error)}); install the package of fsspec for it (s3fs, gcsfs, adlfs, ...) on "
            "every machine, or give a folder"
        ) from None
    return files, str(inside)


def _said(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
