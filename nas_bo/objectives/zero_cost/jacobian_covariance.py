"""Jacobian covariance (Mellor et al., "Neural architecture search without training", arXiv 2006.04647, first version,
section 3; "jacob_cov" of Abdelfattah et al. 2021, arXiv 2101.08134)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_bo.objectives.zero_cost.score import ZeroCostScore

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.decoder import Decoder

SMALL = 1e-5  # k of eq. 4


@dataclass(frozen=True)
class JacobianCovariance(ZeroCostScore):
    """-sum_i (log(s_i + k) + 1 / (s_i + k)) over the eigenvalues s of the correlation of the Jacobians of the windows of
    the mini-batch (eq. 2 to 4): highest when the network answers each of them in its own way.

    The Jacobian of a window is the gradient of the sum of its logits with respect to its embedded tokens.
    """

    name: str = "jacobian_covariance"

    def score(self, model: Decoder, tokens: Tensor, targets: Tensor, seed: int) -> float:
        import torch

        inputs: list[Tensor] = []

        def leaf(_module: object, _args: object, output: Tensor) -> Tensor:
            inputs.append(output.detach().requires_grad_())
            return inputs[0]

        model.embedding.register_forward_hook(leaf)
        logits = model(tokens)
        (jacobian,) = torch.autograd.grad(logits.sum(), inputs)  # (N, T, C)
        rows = jacobian.flatten(1).double()  # (N, T * C)
        rows = rows - rows.mean(1, keepdim=True)  # eq. 2, the covariance over the entries of the Jacobian
        rows = rows / rows.norm(dim=1, keepdim=True)  # eq. 3, the correlation
        values = torch.linalg.eigvalsh(rows @ rows.t()).clamp_min(0) + SMALL
        return -float((values.log() + 1 / values).sum())  # eq. 4
