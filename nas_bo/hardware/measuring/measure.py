"""What every measurement of times needs to be believed: an interval of the median, and a device that nobody else uses."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import lru_cache

from nas_bo.errors import ObjectiveError
from nas_bo.model.device import device_name, named, pick_device

__all__ = ["check_idle", "device_name", "interval", "named", "pick_device"]

MAX_BUSY = 10  # percent
CALM = 3.0  # seconds that a driver's figure, a mean over up to one, has to come down after work of our own


def interval(times: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the median from order statistics: the innermost ranks whose binomial coverage is at
    least that; the smallest and largest where there are too few times for it."""
    ordered = sorted(times)
    rank = _rank(len(ordered))
    return ordered[rank], ordered[-1 - rank]


@lru_cache
def _rank(n: int) -> int:
    """The largest k for which x_(k), x_(n - 1 - k) (from 0) enclose the median with 95 %: P(Bin(n, 1/2) <= k) <= 2.5 %."""
    below, rank = 0.0, 0
    for k in range(n // 2):
        below += math.comb(n, k) / 2**n if n < 1000 else 0.0
        if below > 0.025:
            break
        rank = k
    return rank if n < 1000 else max(0, math.floor(n / 2 - 0.98 * math.sqrt(n)))


def check_idle(device: str, busy_percent: float | None = None) -> None:
    """Raise ObjectiveError when an accelerator is at work for somebody else: its times would be of both.

    Args:
        busy_percent: how busy it is; None asks the driver, where its package (nvidia-ml-py) is installed, and again for
            some seconds, since it counts what this process did a moment ago as well.
    """
    if not device.startswith("cuda"):
        return
    import torch

    until = time.monotonic() + CALM
    while busy_percent is None:
        try:
            told = float(torch.cuda.utilization(device))
        except Exception:  # no package, no driver, or a share of a GPU: its errors have no common base with torch's
            return
        if told <= MAX_BUSY or time.monotonic() > until:
            busy_percent = told
        else:
            time.sleep(0.1)
    if busy_percent > MAX_BUSY:
        raise ObjectiveError(
            f"{device} is {busy_percent:.0f} % busy with other work (at most {MAX_BUSY} %): its times would be of both; end "
            "the other work, or name another device"
        )
