"""The user's cache folder: what can be made again, and is kept so that it need not be. Loads no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from nas_bo import temporary


def cache_folder() -> Path:
    """``$NAS_BO_CACHE``, else ``nas_bo`` in the user's cache folder as the system has it."""
    asked = os.environ.get("NAS_BO_CACHE")
    if asked:
        return Path(asked)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    with suppress(RuntimeError):  # no home
        return (Path(base) if base else Path.home() / ".cache") / "nas_bo"
    return (temporary.private() or Path(os.devnull)) / "cache"  # of this user alone, or none that can be written


def make_room(folder: Path, most_bytes: float, coming_bytes: float = 0, keep: Collection[Path] = ()) -> None:
    """Delete the files of `folder` that were used the longest ago, until the rest and `coming_bytes` are at most `most_bytes`.

    Locks (``.lock``) and the files in `keep` stay. A file that somebody else deletes meanwhile is not a fault.
    """
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                if path.is_file() and path.suffix != ".lock":
                    found.append((path.stat().st_mtime, path.stat().st_size, path))
    total = coming_bytes + sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most_bytes:
            return
        if path not in keep:
            with suppress(OSError):
                path.unlink()
                total -= size


def used_now(path: Path) -> None:
    """Note that a file is still of use, for `make_room`."""
    with suppress(OSError):
        os.utime(path)
