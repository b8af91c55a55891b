"""Which GPUs of this machine a local worker sees: each worker its own, so that several do not train on the first."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

VISIBLE = "CUDA_VISIBLE_DEVICES"
NODES = Path("/dev")  # where Linux has a file for each GPU of NVIDIA


@runtime_checkable
class OnDevice(Protocol):
    """An objective that runs on a torch device: "cuda:1" is the second GPU that the process sees."""

    @property
    def device(self) -> str | None: ...


def visible() -> list[str]:
    """The GPUs that this process may use, as the environment names them; no GPU is touched, and torch is not imported for it."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        known = [one.strip() for one in named.split(",")]
        return known[: next((i for i, one in enumerate(known) if not one or one.startswith("-")), len(known))]
    if (torch := sys.modules.get("torch")) is not None:
        return [str(k) for k in range(torch.cuda.device_count())]
    return [str(k) for k in range(sum(bool(re.fullmatch(r"nvidia\d+", one.name)) for one in NODES.glob("nvidia*")))]


def names_one(objectives: Iterable[object]) -> bool:
    """Whether any of these runs on a GPU by its number, which counts those that the process sees now."""
    return any(isinstance(one, OnDevice) and ":" in str(one.device or "") for one in objectives)


def of_worker(place: int, each: int, there: list[str]) -> str | None:
    """What worker number `place` sees, where each needs `each` GPUs (0: one at most) of those that are `there`; None where there is nothing
    to divide. More workers than there are GPUs for share them."""
    size = max(1, each)
    groups = len(there) // size
    if groups < 2:
        return None
    first = place % groups * size
    return ",".join(there[first : first + size])
