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

    def addition(moments: Tensor, ridge: float, count: float) -> Tensor:
        inner = moments[kept][:, kept]
        missing = whole @ moments[:, kept] - own @ inner  # (R, K)
        damping = ridge / count * inner.diagonal().mean().clamp(min=1e-12)
        damped = inner + damping * torch.eye(len(kept), dtype=inner.dtype, device=inner.device)
        found: Tensor = torch.linalg.solve(damped, missing.t())
        return found.t()

    def left(moments: Tensor, more: Tensor | float) -> float:
        missing = whole.clone()
        missing[:, kept] -= own + more
        return float(((missing @ moments) * missing).sum())

    first, second = halves

    def error(ridge: float) -> float:
        count = tokens / 2
        return left(second, addition(first, ridge, count)) + left(first, addition(second, ridge, count))

    ridge = least(RIDGES, error, left(first, 0.0) + left(second, 0.0))
    made = own if ridge is None else own + addition((first + second) / 2, ridge, tokens)
    return made.to(weight.dtype).contiguous()
