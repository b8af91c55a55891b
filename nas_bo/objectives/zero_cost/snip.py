"""SNIP (Lee et al. 2019, "SNIP: Single-shot network pruning based on connection sensitivity", arXiv 1810.02340), as a
score of a network by Abdelfattah et al. 2021 (arXiv 2101.08134, eq. 1): the sum over its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_bo.objectives.zero_cost.score import ZeroCostScore, log_of

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.decoder import Decoder


@dataclass(frozen=True)
class Snip(ZeroCostScore):
    """log of sum |g * w|: how much the loss would change if each connection were cut (Lee et al., eq. 4, without the
    normalisation by the network's own total, eq. 5, which would make every network's sum 1)."""

    name: str = "snip"

    def score(self, model: Decoder, tokens: Tensor, targets: Tensor, seed: int) -> float:
        import torch

        weights = list(model.parameters())
        _, nll = model.loss(tokens, targets)
        gradients = torch.autograd.grad(nll, weights, allow_unused=True)
        parts = [(g * w).double().abs().sum() for g, w in zip(gradients, weights, strict=True) if g is not None]
        return log_of(float(torch.stack(parts).detach().sum()))
