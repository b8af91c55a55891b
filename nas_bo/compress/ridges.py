"""How far a regression on a calibration text is trusted: as far as one half of the text predicts the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

RIDGES = tuple(128.0 * 4.0**step for step in range(-2, 5))
"""Pull each matrix to what it was, as strongly as so many tokens of mean size would that say it was right."""


def least(ridges: Sequence[float], error: Callable[[float], float], without: float) -> float | None:
    """The one of least error, looked for from the middle upwards, then downwards; None where that is not below `without`."""
    at = len(ridges) // 2
    lowest, best = error(ridges[at]), at
    for step in (1, -1):
        while 0 <= best + step < len(ridges) and (next_one := error(ridges[best + step])) < lowest:
            lowest, best = next_one, best + step
        if best != at:
            break
    return ridges[best] if lowest < without else None


def without_columns(weight: Tensor, halves: Sequence[Tensor], tokens: int, kept: Tensor) -> Tensor:
    """W (R, C) -> W' (R, K): the columns that are kept, and what these can tell about the others, so that the mean square of W x - W' x[kept]
    is nearly the least. The ridge on that addition is that with which each half of the text predicts the other best; nothing is added
    where no ridge does better than none of it.

    Args:
        halves: (C, C) second moments X^T X / N of x, of two halves of a text.
        tokens: 2 N, of both.
        kept: (K,) int, columns.
    """
    whole = weight.double()
    own = whole[:, kept]
    inner = [moments[kept][:, kept] for moments in halves]
    missing = [whole @ moments[:, kept] - own @ one for moments, one in zip(halves, inner, strict=True)]  # (R, K)

    def addition(of: Tensor, wanted: Tensor, ridge: float, count: float) -> Tensor:
        damping = ridge / count * of.diagonal().mean().clamp(min=1e-12)
        damped = of + damping * torch.eye(len(kept), dtype=of.dtype, device=of.device)
        found: Tensor = torch.linalg.solve(damped, wanted.t())
        return found.t()

    def error(ridge: float) -> float:
        """By how much the mean squares of both halves grow when each has the addition of the other."""
        grown = 0.0
        for other in (1, 0):
            more = addition(inner[1 - other], missing[1 - other], ridge, tokens / 2)
            grown += float(((more @ inner[other] - 2 * missing[other]) * more).sum())
        return grown

    ridge = least(RIDGES, error, 0.0)
    if ridge is None:
        return own.to(weight.dtype).contiguous()
    made = own + addition(torch.stack(inner).mean(0), torch.stack(missing).mean(0), ridge, tokens)
    return made.to(weight.dtype).contiguous()
