"""Which GPUs local workers see: by the variable that CUDA reads, so no GPU is needed."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass

import pytest

from nas_bo.errors import SearchError
from nas_bo.execution import Processes, gpus
from nas_bo.execution.selection import executor_of
from nas_bo.objective import Value
from nas_bo.problem import Problem
from nas_bo.testing.evaluations import Small, at


@dataclass(frozen=True)
class Sees:
    """Waits until all have begun, so that no worker evaluates two; the first evaluation of one of width 16 kills its process."""

    folder: str
    all: int
    device: str | None = None
    gpus_needed: int = 0
    name: str = "sees"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "trained"

    def __call__(self, arch):
        with open(f"{self.folder}/{arch.id}", "a") as log:
            log.write("x")
        if arch.width == 16 and os.path.getsize(f"{self.folder}/{arch.id}") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        until = time.monotonic() + 600
        while len(os.listdir(self.folder)) < self.all and time.monotonic() < until:
            time.sleep(0.02)
        return Value(1.0, seen=os.environ.get("CUDA_VISIBLE_DEVICES"))


@pytest.fixture
def processes():
    made = Processes(2)
    yield made
    made.close()


def seen(processes, folder, archs, **more):
    folder.mkdir()
    problem = Problem(Small, [Sees(str(folder), len(archs), **more)])
    processes.check_problem(problem)
    for key, arch in enumerate(archs):
        processes.submit(key, problem, arch)
    return sorted(processes.take()[1].info["sees"]["seen"] for _ in archs)


def test_each_worker_has_a_gpu_of_its_own_also_when_its_process_was_killed(processes, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7f,-1,9")
    assert set(seen(processes, tmp_path / "killed", [at(1), at(2, width=16)])) <= {"4", "GPU-7f"}
    assert seen(processes, tmp_path / "again", [at(1), at(2)]) == ["4", "GPU-7f"]


def test_a_gpu_that_an_objective_names_is_counted_as_before(processes, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert seen(processes, tmp_path / "named", [at(1), at(2)], device="cuda:1") == ["0,1", "0,1"]


@pytest.mark.parametrize(
    ("each", "there", "sees"),
    [
        (0, "0,1", ["0", "1", "0"]),  # more workers than GPUs share them
        (1, "0,1,2", ["0", "1", "2"]),
        (2, "0,1,2,3,4,5,6", ["0,1", "2,3", "4,5"]),
        (2, "0,1,2", [None] * 3),
        (0, "0", [None] * 3),
        (0, "", [None] * 3),
    ],
)
def test_what_there_is_is_divided(each, there, sees, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", there)
    assert [gpus.of_worker(place, each, gpus.visible()) for place in range(3)] == sees


def test_what_there_is_without_the_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "NODES", tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for name in ("nvidia0", "nvidia1", "nvidia-uvm", "nvidiactl"):
        (tmp_path / name).touch()
    assert gpus.visible() == ["0", "1"] and "torch" not in sys.modules


def test_workers_that_need_more_gpus_than_there_are_are_refused(tmp_path):
    problem = Problem(Small, [Sees(str(tmp_path), 1, gpus_needed=2)])
    with pytest.raises(SearchError, match="so 3 local processes need 6, and this process sees"):
        executor_of(None, 3, problem, "search")
