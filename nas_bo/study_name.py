"""Names of studies: what a new one may be called, what its files are called, and how any name is printed.

One rule for all files that are named after a study, an experiment or a space: `file_name`.
"""

from __future__ import annotations

import hashlib

from nas_bo.errors import SearchError
from nas_bo.safe_text import is_printed, printable
from nas_bo.wording import counted

LONGEST = 500  # characters: databases of Optuna hold 512, names of MLflow's experiments 500
LONGEST_FILE = 100  # bytes of a name of a file, so that suffixes and temporary names fit into the 255 of file systems
RESERVED = {
    "con", "prn", "aux", "nul", "conin$", "conout$", "artifacts",
}  # devices of Windows; the dashboard's artifacts  # fmt: skip
RESERVED |= {f"{port}{i}" for port in ("com", "lpt") for i in "0123456789\u00b9\u00b2\u00b3"}
FORBIDDEN = set('/\\:*?"<>|%#')  # in names of files: on some system, in some shell or in a URL


def check(name: object) -> str:
    """The name, where a new study may have it.

    Raises:
        SearchError: no text, an empty one, one that is too long, or one with characters that cannot be printed.
    """
    if not isinstance(name, str):
        raise SearchError(f"the study name {name!r} is {type(name).__name__}, not a text; use another (--study)")
    if not name.strip():
        raise SearchError(
            f"the study name {name!r} is empty; name it (--study), or leave the name out for that of the space"
        )
    if len(name) > LONGEST:
        raise SearchError(
            f"the study name {name[:40]!r}... has {counted(len(name), 'character')}; databases hold {LONGEST}. Use a shorter name (--study)"
        )
    unprintable = [c for c in name if not is_printed(c)]
    if unprintable:
        raise SearchError(
            f"the study name {printable(name)[:80]!r} has the character {unprintable[0]!r}, which cannot be printed; use another "
            "name (--study)"
        )
    return name


def file_name(name: str) -> str:
    """A name for a file or folder: `name` itself where every file system takes it, else one like it with a digest.

    The same for the same name always, and different for different ones.
    """
    safe = "".join("_" if c in FORBIDDEN or not is_printed(c) else c for c in name).rstrip(". ").lstrip(". ")
    if safe and safe == name and name.partition(".")[0].lower() not in RESERVED and len(name.encode()) <= LONGEST_FILE:
        return name
    safe = f"_{safe}" if safe.partition(".")[0].lower() in RESERVED else safe
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    while len(safe.encode()) > LONGEST_FILE - 9:
        safe = safe[: -max(1, (len(safe.encode()) - LONGEST_FILE + 9) // 4)]
    return f"{safe.strip('. ') or 'study'}-{digest}"


__all__ = ["check", "file_name", "printable"]
