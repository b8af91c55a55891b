"""The MLflow UI on this machine: started, waited for, opened on the front."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from nas_bo.errors import HostError
from nas_bo.mlflow import presentation, tracking_uri

FIRST_PORT = 5000  # of `nas-bo ui`


class UI:
    """A running server. Use it as a context manager, or call `stop`.

    Attributes:
        process: the server; ``process.wait()`` waits until it ends.
        base: its address.
    """

    def __init__(self, process: subprocess.Popen[bytes], base: str, log: IO[bytes]) -> None:
        self.process, self.base, self._log = process, base, log

    def front(self, experiment: str | None = None) -> str:
        """The address that opens on the front of the study reported last (in `experiment`, if named); the base else."""
        found = []
        with suppress(OSError, ValueError, KeyError):
            for item in _experiments(self.base):
                tags = {t["key"]: t["value"] for t in item.get("tags", [])}
                key = tags.get(presentation.LAST)
                if key and experiment in (None, item["name"]):
                    found.append((int(item.get("last_update_time", 0)), item["experiment_id"], key))
        return presentation.address(self.base, *max(found)[1:]) if found else self.base

    def __iter__(self) -> Iterator[Any]:
        """``process, address = open_ui(...)``"""
        return iter((self.process, self.front()))

    def stop(self) -> None:
        """End the server and its workers."""
        if self.process.poll() is None:
            _end(self.process)
        self._log.close()

    def __enter__(self) -> UI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def open_ui(uri: str | Path | None = None, port: int = FIRST_PORT, *, wait: float = 600.0, workers: int = 1) -> UI:
    """Start the MLflow UI for a store on 127.0.0.1 (there is no login: never on another address) and wait for it.

    Args:
        uri: as for `Tracker`; it must be a database, not a server that runs already.
        port: 0 takes a free one.
        wait: seconds until it must answer; where it ends before, that is raised at once.

    Raises:
        HostError: the port is taken, the store cannot be written, or the server ended or did not answer; the message
            has the end of its log.
    """
    uri = tracking_uri.resolve(uri)
    if uri.startswith(("http://", "https://")):
        raise HostError(f"{tracking_uri.redact(uri)} is a server already; open that address in a browser")
    tracking_uri.check(uri, 5)
    port = port or _free_port()
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise HostError(
                f"port {port} is in use; end the program that holds it, or take another with --port {port + 1} (0: any)"
            )
    file = tracking_uri.database(uri)
    artifacts = ["--artifacts-destination", str(file.parent / f"{file.stem}_artifacts")] if file else []
    command = [sys.executable, "-m", "mlflow", "server", *artifacts]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the server)
    process = subprocess.Popen(
        command,
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=os.name == "posix",
        # the address may hold a password: not on the command line
        env={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ, "MLFLOW_BACKEND_STORE_URI": uri},
    )
    ui = UI(process, f"http://127.0.0.1:{port}", log)
    try:
        _wait(ui, log, wait)
    except BaseException:
        ui.stop()
        raise
    return ui


def port_of(experiment: str, key: str) -> int:
    """The port at which `nas-bo ui` shows a study: that of a server on this machine that has it, else the first free one."""
    for port in range(FIRST_PORT, FIRST_PORT + 20):
        with socket.socket() as probe:
            probe.settimeout(0.2)
            taken = probe.connect_ex(("127.0.0.1", port)) == 0
        if taken and _shows(f"http://127.0.0.1:{port}", experiment, key):
            return port
        if not taken:
            return port
    return FIRST_PORT


def _shows(base: str, experiment: str, key: str) -> bool:
    with suppress(OSError, ValueError, KeyError, http.client.HTTPException):
        for item in _experiments(base, 2.0):
            tags = {t["key"]: t["value"] for t in item.get("tags", [])}
            if str(item["experiment_id"]) == str(experiment) and tags.get(presentation.LAST) == key:
                return True
    return False


def _wait(ui: UI, log: IO[bytes], wait: float) -> None:
    until = time.monotonic() + wait
    while time.monotonic() < until:
        if ui.process.poll() is not None:
            raise HostError(
                f"the MLflow server ended at once (exit code {ui.process.returncode}); its log ends: {_tail(log)}"
            )
        try:
            with urllib.request.urlopen(f"{ui.base}/health", timeout=10) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise HostError(
        f"the MLflow server did not answer at {ui.base}/health within {wait:g} s; its log ends: {_tail(log)}"
    )


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return tracking_uri.redact(" / ".join(log.read().decode(errors="replace").strip().splitlines()[-4:])) or "(empty)"


def _experiments(base: str, timeout: float = 10.0) -> list[dict[str, Any]]:
    body = json.dumps({"max_results": 1000}).encode()
    request = urllib.request.Request(
        f"{base}/api/2.0/mlflow/experiments/search", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        found: list[dict[str, object]] = json.load(answer).get("experiments", [])
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    """The server is the leader of its own process group; its workers are in it."""
    for force in (False, True):
        if os.name == "posix":
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)
        else:
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
            if force or os.name != "posix":
                return
            with suppress(ProcessLookupError):  # workers that outlive their leader
                os.killpg(process.pid, signal.SIGKILL)
            return
