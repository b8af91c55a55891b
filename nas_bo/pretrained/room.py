"""Whether a trained model fits in memory, said before it is read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from nas_bo.errors import ModelError

BYTES = {"float32": 4, "bfloat16": 2}
SPARE = 1.1  # of the weights: one tensor more while they are read, and activations
TRAINED = 4  # times the weights: gradients and the two moments of the optimiser

_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def free_bytes() -> float:
    """Memory that this process may still take: of the machine, and of the limit of its container where it has one."""
    free = float(psutil.virtual_memory().available)
    for most, used in _LIMITS:
        with suppress(OSError, ValueError):  # "max": without a limit
            free = min(free, float(most.read_text()) - float(used.read_text()))
    return max(0.0, free)


def check_room(name: str, parameters: int, dtype: str, free: float, copies: int = 1) -> None:
    """See that the weights of a model fit.

    Args:
        dtype: of the weights in memory, a key of `BYTES`.
        free: bytes.
        copies: that are in memory at once while it is read.

    Raises:
        ModelError: they do not; the message says what would.
    """
    needed = SPARE * parameters * BYTES[dtype] * copies
    if needed <= free:
        return
    fits = [one for one in BYTES if SPARE * parameters * BYTES[one] * copies <= free]
    most = free / SPARE / copies / min(BYTES.values())
    advice = (
        f'Pretrained(..., dtype="{fits[0]}") takes {_gb(SPARE * parameters * BYTES[fits[0]] * copies)} and would fit'
        if fits
        else f"in {min(BYTES, key=lambda one: BYTES[one])} it takes {_gb(SPARE * parameters * min(BYTES.values()) * copies)}; what fits is a model of at most {most / 1e6:,.0f}M parameters"
    )
    raise ModelError(
        f"{name} has {parameters / 1e6:,.1f}M parameters, which take {_gb(needed)} as {dtype}, and {_gb(free)} of memory are free. All of it is kept in memory "
        f'while its parts are judged: {advice}. Else keep it on disk and one block at a time in memory, with Pretrained(..., device_map="disk") '
        f"(--device-map disk), free memory, or take a machine with more; training a part on needs about {TRAINED} times its weights in addition"
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"
