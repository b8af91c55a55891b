"""GraSP (Wang, Zhang and Grosse 2020, "Picking winning tickets before training by preserving gradient flow", arXiv
2002.07376), as a score of a network by Abdelfattah et al. 2021 (arXiv 2101.08134, eq. 1): the sum over its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_bo.objectives.zero_cost.score import ZeroCostScore

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.decoder import Decoder


@dataclass(frozen=True)
class Grasp(ZeroCostScore):
    """asinh of sum -(H g) * w (Wang et al., eq. 8), H the Hessian and g the gradient of the loss.

    The sum has either sign and spans orders of magnitude; asinh is the logarithm that keeps the sign. H g is exact: the
    gradient of g . stop(g), one more backward pass, for which attention runs in its plain form.
    """

    name: str = "grasp"

    def score(self, model: Decoder, tokens: Tensor, targets: Tensor, seed: int) -> float:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        weights = list(model.parameters())
        with sdpa_kernel(SDPBackend.MATH):  # the fused forms have no second derivative
            _, nll = model.loss(tokens, targets)
            gradients = torch.autograd.grad(nll, weights, create_graph=True, allow_unused=True)
            used = [(w, g) for w, g in zip(weights, gradients, strict=True) if g is not None and g.requires_grad]
            if not used:
                return math.nan
            product = torch.stack([(g * g.detach()).sum() for _, g in used]).sum()
            curved = torch.autograd.grad(product, [w for w, _ in used], allow_unused=True)
        parts = [-(h * w).double().sum() for h, (w, _) in zip(curved, used, strict=True) if h is not None]
        return math.asinh(float(torch.stack(parts).detach().sum()))
