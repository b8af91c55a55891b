"""What the processes of a `Runner` do. Imports no ax, which takes seconds to load in each of them."""

from __future__ import annotations

import os
import pickle
import threading
from multiprocessing import parent_process

from nas_bo.architecture import Architecture
from nas_bo.measurement_lock import join
from nas_bo.problem import Problem
from nas_bo.trial import Trial


def begin(gate: str) -> None:
    """When the driver is killed, so are we. While one process measures none of the others trains."""
    join(gate)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    driver = parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def evaluate(problem: bytes, arch: Architecture) -> Trial:
    read: Problem = pickle.loads(problem)
    return read.evaluate(arch)
