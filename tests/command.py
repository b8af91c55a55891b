"""The command `nas-bo` in a process of its own, and a space and objectives that cost nothing."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

from tests.fork_server import SHORT
from tests.processes import python

ROOT = Path(__file__).parent.parent
# Short trainings on the default text take most of their time for its 65,536 held-out tokens; this one has some 10,000.
TEXT = ["--data", argparse.__file__]
QUICK = ["--space", "mine.py:Mine", "--objective", "mine.py:height", "--workers", "1", "--retrain", "0"]

MINE = """
import logging, os, time, warnings
from nas_bo import Space, choice

class Mine(Space):
    a = choice(1, 2, 3)
    b = choice(*"xyz")

def height(arch):
    return float(arch.a)

def complaining(arch):
    warnings.warn(f"the battery of board {arch.a} is low, process {os.getpid()}")
    logging.getLogger("nas_bo.mine").warning("the sensor was read %d times", arch.a)
    logging.getLogger("mine").warning("my own logger complains")
    logging.getLogger("mine").info("nobody wants to know")
    return float(arch.a)

def slow(arch):
    open(f"began-{os.getpid()}", "w").close()
    time.sleep(600 if os.path.exists("slow") else 0)
    return float(arch.a)
"""


def environment(**more: str) -> dict[str, str]:
    known = {k: v for k, v in os.environ.items() if k == "NAS_BO_CACHE" or not k.startswith(("MLFLOW_", "NAS_BO_"))}
    return {**known, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", SHORT: "1", **more}


def nas_bo(*args: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end; `more` are variables of its environment."""
    return python("-m", "nas_bo", *args, cwd=cwd, env=environment(**more))


def mine(folder: Path) -> Path:
    (folder / "mine.py").write_text(MINE)
    return folder
