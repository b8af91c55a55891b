"""Where and from what a search ran: versions, machine, device, the state of the user's repository."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import nas_bo

PACKAGES = ("nas_bo", "torch", "optuna", "numpy", "scipy", "mlflow")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Of Python and of `packages`, those that are installed; nas_bo also where it runs from its sources."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = nas_bo.__version__ if package == "nas_bo" else version(package)
        except PackageNotFoundError:
            continue
    return found


def git(folder: str | None = None) -> dict[str, object]:
    """The commit of the repository around `folder` (default the current one) and whether tracked files differ from it; {}
    where there is none, or no git.

    Somebody else may have made that folder, and the configuration of a repository names programs that git runs. None of
    them is run: neither hooks nor a file-system monitor, filters or remote helpers.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(
            folder, *_no_filters(folder), "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit, "dirty": bool(changed)}


RUNS_NOTHING = ("core.fsmonitor=false", "core.hooksPath=" + os.devnull, "protocol.allow=never")


def _git(folder: str | None, *words: str) -> str:
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    nothing = [word for setting in RUNS_NOTHING for word in ("-c", setting)]
    done = subprocess.run(
        ["git", *nothing, *words], cwd=folder, capture_output=True, text=True, errors="replace", timeout=5, check=True,
        env=quiet, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout.strip()


def _no_filters(folder: str | None) -> list[str]:
    """Options of git that switch off the filters of the repository itself; those of the user (git-lfs) stay."""
    words: list[str] = []
    listed = _git(folder, "config", "--list", "--show-scope", "--name-only", "-z").split("\0")
    for scope, name in zip(listed[::2], listed[1::2], strict=False):
        kind, _, rest = name.partition(".")
        driver, _, what = rest.rpartition(".")
        if (
            scope in ("local", "worktree")
            and kind.lower() == "filter"
            and what.lower() in ("clean", "process", "smudge")
        ):
            words += ["-c", f"filter.{driver}.{what}=", "-c", f"filter.{driver}.required=false"]
    return words


def device(conditions: Mapping[str, Mapping[str, object]]) -> str:
    """What objectives say they measure on, else the processor and the cores of this machine."""
    noted = [str(c["device"]) for c in conditions.values() if c.get("device")]
    return ", ".join(dict.fromkeys(noted)) or f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
