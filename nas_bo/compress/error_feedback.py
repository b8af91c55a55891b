"""Error feedback: when a weight is changed, those that are not settled yet make up for it, as far as the inputs of the matrix say how.

GPTQ rounds so (Frantar et al. 2022, arXiv 2210.17323, algorithm 1), SparseGPT removes so (Frantar and Alistarh 2023, arXiv
2301.00774, algorithm 1). Shapes: R rows and C columns of a weight W, whose inputs have second moments H = X^T X / N, (C, C).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nas_bo.errors import CompressError

BLOCK = 128
"""Columns whose errors are gathered before those behind them are changed."""
DAMPING = 0.01
"""Added to the diagonal of H, as a share of its mean."""
MOST_DAMPING = 1e3


def damping_of(columns: int, tokens: int) -> float:
    """The ridge for second moments of so many inputs as a share of the mean of their diagonal: the number of columns per token (after Hoerl,
    Kennard and Baldwin 1975, "Ridge regression: some simulations", for about as much signal as noise), `DAMPING` at the least. With less of
    it, what few tokens say by chance is taken for what holds for all."""
    return max(DAMPING, columns / tokens)


def ridge(hessian: Tensor, tokens: int) -> Tensor:
    """(C, C) second moments of `tokens` inputs with a ridge (`damping_of`), for a regression on these inputs."""
    made = hessian.clone()
    made.diagonal().add_(damping_of(hessian.shape[-1], tokens) * hessian.diagonal().mean().clamp(min=1e-30))
    return made


def settle(
    weight: Tensor,
    hessian: Tensor,
    settled: Callable[[Tensor, int], Tensor],
    begins: Callable[[Tensor, Tensor, int], None] | None = None,
    *,
    every: int = BLOCK,
    damping: float = DAMPING,
) -> Tensor:
    """The weight with every column settled, one after another.

    Args:
        weight: (R, C) float32.
        hessian: (C, C) float64. A column whose inputs were always 0 is settled as it is, and changes no other.
        settled: (w (R,), column) -> (R,), what the column becomes.
        begins: (W (R, n), d (n,), first) before every `every` columns: their present values, and the diagonal of the factor of
            the inverse of H.
    """
    size = weight.shape[1]
    work = weight.float().t().clone(memory_format=torch.contiguous_format)  # (C, R), so that a column is one piece
    upper = factor(hessian, hessian.diagonal() <= 0, damping)
    made, scale = torch.empty_like(work), upper.diagonal().tolist()
    for first in range(0, size, BLOCK):
        last = min(first + BLOCK, size)
        errors = torch.zeros(last - first, work.shape[1], device=work.device)
        for at in range(first, last):
            if begins is not None and at % every == 0:
                end = min(at + every, last)
                begins(work[at:end].t(), upper.diagonal()[at:end], at)
            w, error = work[at], errors[at - first]
            made[at] = settled(w, at)
            torch.sub(w, made[at], out=error).div_(scale[at])
            work[at + 1 : last].addr_(upper[at, at + 1 : last], error, alpha=-1)
        work[last:] -= upper[first:last, last:].t() @ errors
    return made.t().contiguous()


def factor(hessian: Tensor, dead: Tensor, damping: float = DAMPING) -> Tensor:
    """The upper triangle U with U^T U = H^-1, float32; damped more where H is nearly singular.

    Args:
        dead: (C,) columns whose inputs were always 0.

    Raises:
        CompressError: H has numbers that are not finite.
    """
    h = hessian.clone()
    diagonal = h.diagonal()
    mean = float(diagonal[~dead].mean()) if bool((~dead).any()) else 1.0
    diagonal[dead] = mean
    while True:
        damped = h.clone()
        damped.diagonal().add_(damping * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            inverse = torch.cholesky_inverse(lower)
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not int(failed):
                found: Tensor = upper.float()
                return found
        if not damping < MOST_DAMPING:
            raise CompressError(
                "what a matrix is given on the calibration text has no finite second moments; the model or its text is broken, so "
                "evaluate the trained model first"
            )
        damping *= 10
