"""Who a process is, and whether it lives: so that what a killed one left can be told from what is being written."""

from __future__ import annotations

import os
import platform


def process() -> str:
    """Who this process is: machine, number, and when it began, since numbers are given again."""
    return f"{platform.node()}:{os.getpid()}:{_began(os.getpid())}"


def dead(who: str) -> bool:
    """Whether a process (as `process` says it) has ended for certain; of another machine that cannot be known."""
    node, number, began = (["", "", *who.rsplit(":", 2)])[-3:]
    if node != platform.node() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return began != _began(int(number))


def _began(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""
