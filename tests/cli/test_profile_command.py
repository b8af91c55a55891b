"""`nas-bo profile` as a user runs it: a real kill, then the same command, then a search that asks the file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

from tests.command import TEXT
from tests.processes import Python

COMMAND = [
    "profile", "--context", "16", "--phase", "prefill", "--architectures", "8", "--clock", "cpu", "--name", "box",
]  # fmt: skip


def nas_bo(*args: str, cwd) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return Python("-m", "nas_bo", *args, cwd=cwd, env=env, text=True, **pipes)


def test_killed_it_goes_on_and_a_search_uses_the_file(tmp_path):
    part = tmp_path / "device.json.part"
    first = nas_bo(*COMMAND, "--precision", "0.00001", "--max-seconds", "60", cwd=tmp_path)
    end = time.monotonic() + 600
    while not (part.exists() and part.read_bytes().count(b'"architectures ') >= 3):
        assert first.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    kept = part.read_bytes().count(b'"visits"')
    assert kept >= 3 and not (tmp_path / "device.json").exists()

    other = nas_bo(*COMMAND[:-2], "--seed", "3", cwd=tmp_path)
    assert other.wait(600) == 2 and "keeps an interrupted profile" in other.stderr.read()

    again = nas_bo(*COMMAND, "--precision", "0.1", "--max-seconds", "1", cwd=tmp_path)
    out, err = again.communicate(timeout=600)
    assert again.returncode == 0, err
    assert "on held-out architectures" in out and "learned" in out and "--target device.json" in out
    assert "measuring what the device can do" not in err  # that was kept
    data = json.loads((tmp_path / "device.json").read_text())
    assert len(data["drift"]["sessions"]) == 2 and len(data["measured"]) == 8 and not part.exists()
    assert (tmp_path / "device.png").read_bytes().startswith(b"\x89PNG")


def test_a_search_for_the_profiled_device(tmp_path):
    profiled = nas_bo("profile", "--architectures", "6", "--max-seconds", "0.1", "--name", "box", cwd=tmp_path)
    assert profiled.wait(600) == 0, profiled.stderr.read()
    asked = [
        "search",
        "--trials",
        "3",
        "--budget",
        "2000",
        "--workers",
        "1",
        "--mlflow",
        "none",
        "--retrain",
        "0",
        *TEXT,
    ]
    searched = nas_bo(*asked, "--device", "device.json", "--max-latency-ms", "100", "--json", cwd=tmp_path)
    out, err = searched.communicate(timeout=600)
    assert searched.returncode == 0, err
    assert "latency_ms@box.learned" in out and "torch device" not in err
