"""GPTQ of many matrices at once (see `nas_bo.compress.quantization`): those with as many columns are settled side by side, column after
column, at several widths in one pass.

A column of a small matrix is a dozen operations on a few hundred numbers, so most of the time of one matrix is the overhead of these
operations. Shapes: S matrices in a stack, of R rows, with C columns in G groups; their inputs have second moments H = X^T X / N, (C, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nas_bo.compress.error_feedback import DAMPING, damping_of, factor

SHRUNK = tuple(1 - 0.06 * step for step in range(12))
"""Shares of a group's range that are tried."""
INNER = 32
"""Columns whose errors are gathered before those behind them are changed."""
MOST_NUMBERS = 1 << 22
"""Of a stack: larger ones are settled one after another, and a large matrix alone."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a matrix is given, prepared once for all widths.

    Attributes:
        hessian: (C, C) float64.
        order: (C,) in which columns are settled: the largest inputs first.
        upper: (C, C) float32, in that order: the factor of the inverse of H.
    """

    hessian: Tensor
    order: Tensor
    upper: Tensor

    @staticmethod
    def of(hessian: Tensor, tokens: int) -> Inputs | None:
        """Of the second moments of so many inputs; None where all were 0 (raises CompressError)."""
        diagonal = hessian.diagonal()
        if not bool((diagonal > 0).any()):
            return None
        order = torch.argsort(diagonal, descending=True, stable=True)
        damping = damping_of(len(diagonal), tokens)
        return Inputs(hessian, order, factor(hessian[order][:, order], (diagonal <= 0)[order], damping))


@dataclass(frozen=True, eq=False)
class Job:
    """A matrix (R, C), what it is given, and the bits that it is to have."""

    weight: Tensor
    inputs: Inputs
    bits: int


class Settled(NamedTuple):
    """A matrix in few bits: codes (R, C) from 0 to 2 ** bits - 1; of each group (R, G) the scale and the zero point."""

    codes: Tensor
    scales: Tensor
    zeros: Tensor

    def weight(self, group: int) -> Tensor:
        """(R, C) float32, scale * (code - zero point)."""
        columns = self.codes.shape[1]
        scales, zeros = (of.repeat_interleave(group, 1)[:, :columns] for of in (self.scales, self.zeros))
        return (self.codes - zeros).mul_(scales)


def settled_together(jobs: Sequence[Job], group: int, rounds: int = 1, *, symmetric: bool = False) -> list[Settled]:
    """One for each job.

    Args:
        rounds: of codes, then scales for them.
        symmetric: no zero points; the weight of a group that is farthest from 0 has the code 0, as in llama.cpp's Q4_0.
    """
    found: list[Settled | None] = [None] * len(jobs)
    by_columns: dict[int, list[int]] = {}
    for number, job in enumerate(jobs):
        by_columns.setdefault(job.weight.shape[1], []).append(number)
    for columns, numbers in by_columns.items():
        numbers.sort(key=lambda number: jobs[number].weight.shape[0])
        while numbers:
            rows = jobs[numbers[-1]].weight.shape[0]
            stack = [numbers.pop()]
            while numbers and (len(stack) + 1) * rows * columns <= MOST_NUMBERS:
                stack.append(numbers.pop())
            made = _settle([jobs[number] for number in stack], rows, group, rounds, symmetric)
            for number, *each in zip(stack, *made, strict=True):
                found[number] = Settled(*(of[: jobs[number].weight.shape[0]] for of in each))
    return [one for one in found if one is not None]


def rounded(weight: Tensor, bits: int, group: int, *, symmetric: bool = False) -> Settled:
    """A matrix (R, C) rounded to the nearest, each group in the whole range of its weights."""
    most = torch.tensor([float((1 << bits) - 1)], device=weight.device)
    scales, zeros = _ranges(weight.unsqueeze(0), most, None, group, symmetric)
    parts = _grouped(weight, group) / scales[0].unsqueeze(-1) + zeros[0].unsqueeze(-1)
    codes = parts.round_().clamp_(0, float(most)).flatten(1)[:, : weight.shape[1]]
    return Settled(codes, scales[0], zeros[0])


def _settle(jobs: Sequence[Job], rows: int, group: int, rounds: int, symmetric: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (S, R, C), scales and zero points (S, R, G); of matrices with fewer rows the first ones."""
    columns = jobs[0].weight.shape[1]
    device = jobs[0].weight.device
    weights = torch.zeros(len(jobs), rows, columns, device=device)
    for each, job in zip(weights, jobs, strict=True):
        each[: len(job.weight)] = job.weight.detach()
    most = torch.tensor([float((1 << job.bits) - 1) for job in jobs], device=device)
    hessians = torch.stack([job.inputs.hessian for job in jobs]).float()
    scales, zeros = _ranges(weights, most, hessians.diagonal(dim1=1, dim2=2), group, symmetric)
    wanted = weights @ hessians
    for _ in range(rounds):
        codes = _fed_back(weights, jobs, most, scales, zeros, group)
        parts = codes - zeros.repeat_interleave(group, 2)[:, :, :columns]
        scales = _fitted(wanted, parts, hessians, scales, group)
    return codes, scales, zeros


def _grouped(numbers: Tensor, group: int) -> Tensor:
    """(..., C) -> (..., G, group), the last group filled with zeros."""
    columns = numbers.shape[-1]
    filled = torch.nn.functional.pad(numbers, (0, -columns % group)) if columns % group else numbers
    return filled.reshape(*filled.shape[:-1], -1, group)


def _ranges(
    weights: Tensor, most: Tensor, importance: Tensor | None, group: int, symmetric: bool
) -> tuple[Tensor, Tensor]:
    """Of each group, (S, R, G): scale and zero point with the least squared error among shares of its range, where weights of a column
    count as `importance` (S, C); without it those of the whole range."""
    parts, top = _grouped(weights, group), most.view(-1, 1, 1)
    low = torch.zeros(())
    if symmetric:
        step = parts.gather(-1, parts.abs().argmax(-1, keepdim=True)).squeeze(-1) * (-2 / (top + 1))
    else:
        low = parts.amin(-1).clamp_(max=0)
        step = (parts.amax(-1).clamp_(min=0) - low) / top
    best: tuple[Tensor, Tensor] | None = None
    least = torch.empty(0)
    for share in SHRUNK if importance is not None else (1.0,):
        scales = (step * share).bfloat16().float()
        scales = torch.where(scales == 0, 1.0, scales)
        zeros = ((top + 1) / 2).expand_as(scales) if symmetric else torch.minimum((low * -share / scales).round_(), top)
        if importance is None:
            return scales, zeros
        s, z = scales.unsqueeze(-1), zeros.unsqueeze(-1)
        error = (parts / s).round_()
        error = torch.minimum(torch.maximum(error, -z, out=error), top.unsqueeze(-1) - z, out=error)
        error = error.mul_(s).sub_(parts).square_().mul_(_grouped(importance, group).unsqueeze(1)).sum(-1)
        if best is None:
            best, least = (scales, zeros), error
            continue
        better = error < least
        best = torch.where(better, scales, best[0]), torch.where(better, zeros, best[1])
        least = torch.minimum(least, error)
    assert best is not None
    return best


def _fed_back(weights: Tensor, jobs: Sequence[Job], most: Tensor, scales: Tensor, zeros: Tensor, group: int) -> Tensor:
    """(S, R, C) codes. Inside, columns come first: each is read and written in one piece."""
    stack, rows, columns = weights.shape
    orders = torch.stack([job.inputs.order for job in jobs])
    upper = torch.stack([job.inputs.upper for job in jobs])
    at_column = orders.unsqueeze(1).expand(stack, rows, columns)
    work, scale, zero = (
        of.gather(2, at).permute(2, 0, 1).contiguous()
        for of, at in ((weights, at_column), (scales, at_column // group), (zeros, at_column // group))
    )  # (C, S, R) each
    codes = torch.empty_like(work)
    rest = upper.permute(1, 2, 0).unsqueeze(-1)  # (C, C, S, 1)
    diagonal = upper.diagonal(dim1=1, dim2=2).t().unsqueeze(-1).contiguous()  # (C, S, 1)
    top = most.unsqueeze(-1)
    for first in range(0, columns, INNER):
        last = min(first + INNER, columns)
        errors = torch.empty(last - first, stack, rows, device=work.device)
        for at in range(first, last):
            w, s, z, code, error = work[at], scale[at], zero[at], codes[at], errors[at - first]
            torch.div(w, s, out=code).add_(z).round_().clamp_(min=0)
            torch.minimum(code, top, out=code)
            torch.sub(code, z, out=error).mul_(s)
            torch.sub(w, error, out=error).div_(diagonal[at])
            if at + 1 < last:
                work[at + 1 : last].addcmul_(rest[at, at + 1 : last], error, value=-1)
        if last < columns:
            work[last:] -= torch.einsum("snm,nsr->msr", upper[:, first:last, last:], errors)
    found = torch.empty_like(weights)
    found.scatter_(2, at_column, codes.permute(1, 2, 0))
    return found


def _fitted(wanted: Tensor, parts: Tensor, hessians: Tensor, scales: Tensor, group: int) -> Tensor:
    """(S, R, G) the scales for which the codes without their zero points, `parts` (S, R, C), give the nearest output: they minimise
    (w - s c)^T H (w - s c) for each row, a system of G equations.

    Args:
        wanted: W H (S, R, C).
    """
    groups, columns = scales.shape[2], parts.shape[2]
    inner = torch.empty(*scales.shape, groups, device=parts.device)
    for at in range(groups):
        first, end = at * group, min((at + 1) * group, columns)
        seen = parts[:, :, first:end] @ hessians[:, first:end, first:]
        inner[:, :, at, at:] = inner[:, :, at:, at] = _grouped(seen.mul_(parts[:, :, first:]), group).sum(-1)
    right = _grouped(wanted * parts, group).sum(-1)
    damped = (DAMPING * inner.diagonal(dim1=2, dim2=3).mean(-1, keepdim=True)).clamp_(min=1e-30)
    inner.diagonal(dim1=2, dim2=3).add_(damped)
    found = torch.linalg.solve(inner.double(), (right + damped * scales).double()).float()
    kept = torch.where(found.sign() == scales.sign(), found, scales).bfloat16().float()
    return torch.where(kept == 0, scales, kept)
