"""Python in a process of its own, forked from one that has the large libraries loaded (`fork_server.py`).

An environment with `PYTHONHASHSEED` starts a new interpreter; what is to be seen to import nothing needs `subprocess`. With
`FORK_SERVER=` in the environment of pytest every process is a new interpreter.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

from tests import fork_server
from tests.fork_server import PLACE, RUN

# The first lines of a program that runs where the package is not installed.
WITHOUT_US = """
import sys
for name in [name for name in sys.modules if name.partition(".")[0] == "nas_bo"]:
    del sys.modules[name]
sys.modules["nas_bo"] = None
"""


class Python(subprocess.Popen[Any]):
    """`subprocess.Popen` of `python ARGUMENTS`, the first of its own group of processes."""

    _connection: socket.socket | None = None

    def __init__(self, *arguments: object, **more: Any) -> None:
        words = [str(word) for word in arguments]
        environment = more.get("env") or os.environ
        self._forked = bool(os.environ.get(PLACE)) and "PYTHONHASHSEED" not in environment
        more["start_new_session"] = True
        super().__init__(words if self._forked else [sys.executable, *words], **more)

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
                       p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *more):  # fmt: skip
        pipes = (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        if not self._forked:
            before = (args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell)
            return super()._execute_child(*before, *pipes, *more)
        with open(os.devnull) as nothing:
            given = ((p2cread, nothing.fileno()), (c2pwrite, 1), (errwrite, 2))
            files = {number: fd if fd != -1 else own for number, (fd, own) in enumerate(given)}
            environment = dict(os.environ if env is None else env) | {k: os.environ[k] for k in (PLACE, RUN)}
            self._connection, self.pid = fork_server.ask(
                args, os.fspath(cwd or os.getcwd()), environment, files, own_group=True
            )
        self._child_created = True
        self._close_pipe_fds(*pipes)

    def _internal_poll(self, _deadstate=None, **more):
        if not self._forked:
            return super()._internal_poll(_deadstate, **more)
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)
            except OSError:  # collected after its connection was; subprocess asks once more
                if _deadstate is None:
                    raise
                self.returncode = _deadstate
            finally:
                self._waitpid_lock.release()
        return self.returncode

    def _try_wait(self, wait_flags):
        if not self._forked:
            return super()._try_wait(wait_flags)
        status = fork_server.ended(self._connection, wait_flags)
        return (0, 0) if status is None else (self.pid, status)


def python(*arguments: object, check: bool = False, input: str | bytes | None = None, timeout: float | None = None, **more: Any) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """`subprocess.run` of `python ARGUMENTS`, with its output as text, or with `text=False` as bytes."""
    pipes = {
        "stdin": subprocess.DEVNULL if input is None else subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    with Python(*arguments, **{"text": True, **pipes, **more}) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, out, err)
    return done


def for_a_shell() -> str:
    """The words of `python` in a shell."""
    forked = f" -I -S {fork_server.__file__} {os.environ[PLACE]}" if os.environ.get(PLACE) else ""
    return f"{sys.executable}{forked}"
