"""Where and from what a search ran: versions, machine, device, the state of the user's repository."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("nas_bo", "torch", "optuna", "numpy", "scipy", "mlflow")


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on, those that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git(folder: str | None = None) -> dict[str, Any]:
    """The commit of the repository around `folder` (default the current one) and whether tracked files differ from it; {}
    where there is none, or no git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit, "dirty": bool(changed)}


def _git(folder: str | None, *words: str) -> str:
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, timeout=5, check=True, env=quiet, stdin=subprocess.DEVNULL
    )  # fmt: skip
    return done.stdout.strip()


def device(conditions: Mapping[str, Mapping[str, Any]]) -> str:
    """What objectives say they measure on, else the processor and the cores of this machine."""
    noted = [str(c["device"]) for c in conditions.values() if c.get("device")]
    return ", ".join(dict.fromkeys(noted)) or f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
