"""Torch devices: which one is meant, and what it calls itself. Loads torch when asked."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from nas_bo.errors import ObjectiveError

if TYPE_CHECKING:
    import torch


def pick_device(device: str | None) -> str:
    """The device that is meant: `None` is CUDA where there is one, else the CPU.

    Raises:
        ObjectiveError: the device is named but not there.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ObjectiveError(
            f"the device {device!r} cannot be used here ({str(error).splitlines()[0]}); leave it out, or use 'cpu'"
        ) from error
    return device


def dtype_of(name: str) -> torch.dtype:
    """torch's data type of a name that was checked, such as "bfloat16"."""
    import torch

    found: torch.dtype = getattr(torch, name)  # torch has no table of them
    return found


@lru_cache
def device_name(kind: str) -> str:
    """What the device calls itself; "cpu", or "cuda" with or without its number."""
    if kind.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(kind))
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def named(device: str) -> str:
    """What the device behind a torch device calls itself."""
    return device_name(device if device.startswith("cuda") else device.partition(":")[0])
