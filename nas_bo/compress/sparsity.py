"""Weights that are zero, in matrices that keep their size: a share of each row, or two of every four neighbours.

============= =======================================================================================================
``wanda``     those with the least absolute value times norm of the input (Sun et al. 2023, arXiv 2306.11695, eq. 1)
``sparsegpt`` one block of columns after another, the others make up for it (Frantar and Alistarh 2023, arXiv 2301.00774,
              algorithm 1)
``weight``    those with the least absolute value; no text is needed
============= =======================================================================================================

Zeros save nothing where nobody skips them: `worth` says where somebody does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nas_bo.compress.calibration import Calibration, Moments, Passes, matrices, moments, windows
from nas_bo.compress.error_feedback import BLOCK, damping_of, settle
from nas_bo.errors import CompressError
from nas_bo.model.decoder import Decoder
from nas_bo.validated import check_values, number, one_of

PATTERN = "2:4"
METHODS = ("wanda", "sparsegpt", "weight")


@dataclass(frozen=True, eq=False)
class SparseModel:
    """What `sparsify` gave.

    Attributes:
        model: a decoder of the same architecture with zeros.
        sparsity: a share, or "2:4".
        zeros, weights: of the matrices that were looked at.
    """

    model: Decoder
    sparsity: float | str
    method: str
    zeros: int
    weights: int

    def worth(self, device: str = "cpu") -> str:
        """What the zeros save on a device."""
        return worth(self.sparsity, device)


def worth(sparsity: float | str, device: str = "cpu") -> str:
    """What zeros of a pattern save on a torch device, "cpu" or "cuda"; what stock runtimes do, as of 2026."""
    if sparsity == PATTERN and device.startswith("cuda"):
        return (
            "2:4 zeros can be skipped by the tensor cores of NVIDIA GPUs from Ampere on, in float16, bfloat16 and int8, after the weights "
            "were converted (torch.sparse.to_sparse_semi_structured, cuSPARSELt); at most half of the time of large products, and "
            "nothing for a single token, which reads 9/16 of the bytes at best. It was not measured here"
        )
    if device.startswith("cuda"):
        return "zeros without a pattern save no time on a GPU, and no memory unless the file is compressed"
    return (
        "zeros save no time on a CPU with torch, ONNX Runtime or llama.cpp, whose products are dense, and no memory; a compressed file "
        "is smaller. Take channels or heads away instead (prune), which makes every runtime faster"
    )


@torch.no_grad()
def sparsify(
    model: Decoder,
    sparsity: float | Literal["2:4"] = 0.5,
    method: Literal["wanda", "sparsegpt", "weight"] = "wanda",
    calibration: Calibration | None = None,
) -> SparseModel:
    """A copy of a trained decoder whose matrices (embeddings, head and routers aside) have zeros.

    Args:
        sparsity: the share of each row that becomes 0, or "2:4".
        method: see above.
        calibration: a corpus, or windows (B, T + 1) of token ids; not needed by "weight".

    Raises:
        CompressError: a share out of range, a width that is not a multiple of 4, no calibration, or one that is too short.
    """
    check_values("sparsify", CompressError, one_of(*METHODS), method=method)
    if sparsity != PATTERN:
        said = number(above=0, below=1).advise('it is a share of the weights, or "2:4"')
        check_values("sparsify", CompressError, said, sparsity=sparsity)
    tokens = None if method == "weight" else windows(model, calibration, f'sparsify(method="{method}")')
    made = Decoder(model.spec, model.vocab_size).to(model.embedding.weight.device)
    made.load_state_dict(model.state_dict())
    there = {name: weight for name, weight in matrices(made).items() if name != "head.weight"}
    odd = [name for name, weight in there.items() if weight.shape[-1] % 4]
    if sparsity == PATTERN and odd:
        raise CompressError(
            f'sparsify("2:4"): {odd[0]} has {there[odd[0]].shape[-1]} columns, which is not a multiple of 4; give a share such as 0.5'
        )
    passes = None if tokens is None else Passes(made, tokens)
    count = 0 if tokens is None else tokens[:, 1:].numel()
    for index in range(len(made.layers)):
        names = {name: weight for name, weight in there.items() if name.startswith(f"layers.{index}.")}
        seen: Moments = {}
        if passes is not None and names:
            passes.advance(index)
            seen = moments(passes, names, index)[0]
        for name, weight in names.items():
            experts = list(weight.unbind(0)) if weight.dim() == 3 else [weight]
            for number_of, each in enumerate(experts):
                whole = seen.get(name)
                own = None if whole is None else whole[number_of] if weight.dim() == 3 else whole
                each.copy_(_sparse(each.float(), sparsity, method, own, count))
    zeros = sum(int((weight == 0).sum()) for weight in there.values())
    return SparseModel(made.eval(), sparsity, method, zeros, sum(weight.numel() for weight in there.values()))


def _sparse(weight: Tensor, sparsity: float | str, method: str, hessian: Tensor | None, tokens: int) -> Tensor:
    """(R, C) -> (R, C) with zeros."""
    if method == "sparsegpt" and hessian is not None:
        return _sparsegpt(weight, sparsity, hessian, tokens)
    norms = torch.ones(weight.shape[1]) if hessian is None else hessian.diagonal().float().sqrt()
    return weight.masked_fill(_least(weight.abs() * norms.to(weight.device), sparsity), 0.0)


def _least(scores: Tensor, sparsity: float | str) -> Tensor:
    """(R, C) scores -> truth values, true for the least of each row, or of every four."""
    if isinstance(sparsity, str):
        four = scores.view(len(scores), -1, 4)
        least = torch.zeros_like(four, dtype=torch.bool).scatter_(-1, four.argsort(dim=-1, stable=True)[..., :2], True)
        return least.view_as(scores)
    count = round(sparsity * scores.shape[1])
    least = scores.argsort(dim=1, stable=True)[:, :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, least, True)


def _sparsegpt(weight: Tensor, sparsity: float | str, hessian: Tensor, tokens: int) -> Tensor:
    """The mask is chosen before every block, 4 columns of a pattern, from the present weights: w^2 / d^2 (algorithm 1, line 8). Of a
    share the whole block is compared, so rows may differ."""
    goes = torch.zeros_like(weight, dtype=torch.bool)

    def begins(work: Tensor, factor: Tensor, first: int) -> None:
        scores = work.square() / factor.square()
        end = first + work.shape[1]
        if isinstance(sparsity, str):
            goes[:, first:end] = _least(scores, sparsity)
        else:
            count = round(sparsity * scores.numel())
            flat = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
            flat[scores.flatten().argsort(stable=True)[:count]] = True
            goes[:, first:end] = flat.view_as(scores)

    def settled(w: Tensor, column: int) -> Tensor:
        return w.masked_fill(goes[:, column], 0.0)

    every = 4 if isinstance(sparsity, str) else BLOCK
    damping = damping_of(weight.shape[1], tokens)
    return settle(weight, hessian, settled, begins, every=every, damping=damping)
