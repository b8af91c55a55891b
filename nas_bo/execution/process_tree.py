"""A process with all that it has started, so that nothing of it is left when it must end.

A worker leads a group of processes of its own; what an evaluation starts is in that group, also when its parent has ended. What
leaves the group (a daemon, a session of its own) is found as a child of one that is in it, as long as its parents live.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

_guards: list[subprocess.Popen[bytes]] = []  # kept, since their pipes close with them


@dataclass(frozen=True)
class Tree:
    """A process that called `lead`, and itself with its children, as they were at this moment."""

    pid: int
    known: Sequence[psutil.Process]

    @staticmethod
    def of(pid: int) -> Tree:
        with suppress(psutil.Error):
            leader = psutil.Process(pid)
            return Tree(pid, [leader, *leader.children(recursive=True)])
        return Tree(pid, ())

    def terminate(self) -> None:
        """Ask all of them to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End all of them, and what they have started since."""
        self._send(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)  # Windows knows one way

    def _send(self, number: int) -> None:
        if os.name == "posix":
            with suppress(OSError):
                os.killpg(self.pid, number)
        for process in self.known:  # those that left the group, and one that has not come to `lead` yet
            with suppress(psutil.Error, OSError):
                process.send_signal(number)  # not to another one that was given the same number


def lead() -> None:
    """From now on this process leads a group of its own."""
    if os.name == "posix":
        with suppress(OSError):  # it leads one already
            os.setpgid(0, 0)


def guard() -> None:
    """From now on the group of this process, which leads it, ends with it, however it ends: nobody else may be there to see to that.

    A shell waits at the end of a pipe that closes with this process. Nothing happens on Windows.
    """
    if os.name != "posix":
        return
    waits = ["/bin/sh", "-c", 'read _; kill -s KILL -- "-$0"', str(os.getpid())]
    with suppress(OSError):
        shell = subprocess.Popen(waits, stdin=subprocess.PIPE, stdout=-3, stderr=-3, start_new_session=True)
        if (pipe := shell.stdin) is not None:
            os.register_at_fork(
                after_in_child=pipe.close
            )  # else the pipe would be open as long as a copy of this process lives
            _guards.append(shell)


def end_all() -> None:
    """End this process and all that it has started, at once."""
    if os.name == "posix" and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
