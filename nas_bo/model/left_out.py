"""What of a corpus was not read, and why: nothing is skipped silently."""

from __future__ import annotations

from dataclasses import dataclass, field

SHOWN = 3  # names per reason


@dataclass
class LeftOut:
    """Files and records that were not read.

    Attributes:
        wanted_bytes, wanted_broken: of files that look as if they were meant to be read: bytes on disk, and number of
            links that lead nowhere.
    """

    wanted_bytes: int = 0
    wanted_broken: int = 0
    _files: dict[str, list[tuple[str, int | None]]] = field(default_factory=dict)
    _records: list[str] = field(default_factory=list)

    def file(self, name: str, why: str, size: int | None = None, wanted: bool = False) -> None:
        """Note one file or folder; `size` in bytes, None where it is not known; `wanted`: it looks like data."""
        self._files.setdefault(why, []).append((name, size))
        if wanted:
            self.wanted_bytes += size or 0
            self.wanted_broken += size is None

    def records(self, said: str) -> None:
        """Note records, in one clause."""
        self._records.append(said)

    def __bool__(self) -> bool:
        return bool(self._files or self._records)

    def __str__(self) -> str:
        """One clause per reason: how many, the first names, how large."""
        return "; ".join([*(_clause(why, found) for why, found in self._files.items()), *self._records])


def _clause(why: str, found: list[tuple[str, int | None]]) -> str:
    names = ", ".join(name for name, _ in found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
    known = [size for _, size in found if size is not None]
    return f"{why}: {len(found)} ({names}{'; ' + in_bytes(sum(known)) if known else ''})"


def in_bytes(count: int) -> str:
    """A size for people, as in "12 kB"."""
    size, units = float(count), ["bytes" if count != 1 else "byte", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if size >= 10 or count < 1000 else f"{size:.1f} {units[0]}"
