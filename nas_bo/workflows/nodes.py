"""The nodes of a cluster, as far as trials of a study say where they are evaluated: a row for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nas_bo.process import Place


@dataclass(frozen=True)
class Node:
    """A row of the table.

    Attributes:
        id, host, address: of the node; "" where nobody noted it.
        workers: processes that have evaluated there, those included that were replaced.
        running, lost: trials that are evaluated there now, and those whose search died meanwhile.
        ended, failed: trials, and how many of them failed.
    """

    id: str
    host: str
    address: str
    workers: int
    running: int
    ended: int
    failed: int
    lost: int


@dataclass
class _Counts:
    processes: set[int] = field(default_factory=set)
    ended: int = 0
    failed: int = 0


class Nodes:
    """Counts trials that have ended, each once."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], _Counts] = {}

    def ended(self, place: Place | None, failed: bool) -> None:
        """A trial has ended; without a place it is in no row."""
        if place is not None:
            counts = self._counts.setdefault((place.node, place.host, place.address), _Counts())
            counts.processes.add(place.pid)
            counts.ended += 1
            counts.failed += failed

    def rows(self, running: Iterable[tuple[Place, bool]] = ()) -> list[Node]:
        """In the order of hosts.

        Args:
            running: where a trial is evaluated, and whether its search has died.
        """
        now: dict[tuple[str, str, str], list[tuple[int, bool]]] = {}
        for place, gone in running:
            now.setdefault((place.node, place.host, place.address), []).append((place.pid, gone))
        found = []
        for key in sorted({*self._counts, *now}, key=lambda key: (key[1], key[2], key[0])):
            counts, here = self._counts.get(key, _Counts()), now.get(key, [])
            processes = counts.processes | {pid for pid, _ in here}
            lost = sum(is_lost for _, is_lost in here)
            found.append(Node(*key, len(processes), len(here) - lost, counts.ended, counts.failed, lost))
        return found


def table(rows: Iterable[Node]) -> list[str]:
    """As lines of text, with a head."""
    heads = ("node", "address", "workers", "running", "ended", "of them failed", "lost")
    cells = [
        (f"{n.host} {n.id[:8]}".strip(), n.address, *map(str, (n.workers, n.running, n.ended, n.failed, n.lost)))
        for n in rows
    ]
    wide = [max(len(line[i]) for line in (heads, *cells)) for i in range(len(heads))]
    return [
        "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, wide, strict=True)))
        for line in (heads, *cells)
    ]
