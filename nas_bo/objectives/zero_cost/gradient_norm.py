"""Gradient norm at initialisation (Abdelfattah et al. 2021, "Zero-Cost Proxies for Lightweight NAS", arXiv 2101.08134,
section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_bo.objectives.zero_cost.score import ZeroCostScore, log_of

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.decoder import Decoder


@dataclass(frozen=True)
class GradientNorm(ZeroCostScore):
    """log of the Euclidean norm of the gradient of the loss with respect to all weights."""

    name: str = "gradient_norm"

    def score(self, model: Decoder, tokens: Tensor, targets: Tensor, seed: int) -> float:
        import torch

        weights = list(model.parameters())
        _, nll = model.loss(tokens, targets)
        gradients = torch.autograd.grad(nll, weights, allow_unused=True)
        total = torch.stack([g.double().square().sum() for g in gradients if g is not None]).sum()
        return log_of(float(total.sqrt()))
