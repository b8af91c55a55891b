"""Who a process is, and whether it lives: so that what a killed one left can be distinguished from what is being evaluated or written."""

from __future__ import annotations

import os
import platform
import select
import time
from contextlib import suppress
from dataclasses import dataclass

LOOK_EVERY_S = 0.05  # whether a process has ended, where the system does not say so


@dataclass(frozen=True)
class Place:
    """A process of a cluster: the id of its node, the node's name and address, and the number of the process."""

    node: str
    host: str
    address: str
    pid: int

    @staticmethod
    def of(noted: object) -> Place | None:
        """What `noted` gave; None of anything else."""
        if not isinstance(noted, (list, tuple)) or len(noted) != 4:
            return None
        node, host, address, pid = noted
        texts = all(isinstance(part, str) for part in (node, host, address))
        return Place(node, host, address, pid) if texts and type(pid) is int else None

    @property
    def noted(self) -> list[object]:
        """As JSON-safe data."""
        return [self.node, self.host, self.address, self.pid]


def owner() -> str:
    """This process, distinct from every other of any machine: machine, number, and when it began, since numbers are given
    again."""
    return _named(os.getpid())


def parent() -> str:
    """The process that started this one."""
    return _named(os.getppid())


def _named(pid: int) -> str:
    return f"{platform.node()}:{pid}:{_began(pid) or ''}"


def parted(who: str) -> tuple[str, int | None]:
    """Machine and number of a process, as `owner` says it; ("", None) of anything else."""
    machine, number, _ = (["", "", "", *who.rsplit(":", 2)])[-3:]
    return (machine, int(number)) if machine and number.isdigit() else ("", None)


def is_dead(who: str) -> bool:
    """Whether a process (as `owner` says it) has ended for certain; of another machine that cannot be known."""
    import psutil

    machine, pid = parted(who)
    if pid is None or machine != platform.node():
        return False
    if not psutil.pid_exists(pid):
        return True
    now = _began(pid)
    return now is not None and now != who.rpartition(":")[2]  # the number was given to another process since


def wait_for(who: str) -> None:
    """Wait until a process of this machine (as `owner` says it) has ended: on Linux the system wakes who waits."""
    with suppress(OSError, AttributeError):  # no such process any more; a system without this
        seen = os.pidfd_open(parted(who)[1] or -1)
        try:
            ended = select.poll()
            ended.register(seen, select.POLLIN)
            if not is_dead(who):
                ended.poll()
        finally:
            os.close(seen)
    while not is_dead(who):
        time.sleep(LOOK_EVERY_S)


def _began(pid: int) -> str | None:
    """When a process began, where the system tells (Linux), as version 0.1 wrote it; "" of one that has ended and that its
    parent has not noticed yet; None where it cannot be known."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]
