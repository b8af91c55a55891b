"""SynFlow (Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic flow",
arXiv 2006.05467), as a score of a network by Abdelfattah et al. 2021 (arXiv 2101.08134, eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas_bo.objectives.zero_cost.score import ZeroCostScore, log_of

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.decoder import Decoder


@dataclass(frozen=True)
class Synflow(ZeroCostScore):
    """log of sum (dR/dw) * w, R the sum of the outputs for an input of ones when every weight is replaced by its
    absolute value (Tanaka et al., section 6, in float64). It sees no data.

    In a decoder the ones take the place of the embedded tokens, so that embeddings count only as a tied head; a
    normalisation divides by a number that is held constant, and subtracts no mean (else the flow through it is zero).
    With one input at every position attention is flat, so queries and keys carry no flow.
    """

    name: str = "synflow"

    def score(self, model: Decoder, tokens: Tensor, targets: Tensor, seed: int) -> float:
        import torch

        model = model.double()
        with torch.no_grad():
            for weight in model.parameters():
                weight.abs_()
        model.embedding.register_forward_hook(lambda _module, _input, output: torch.ones_like(output))
        for module in model.modules():
            if isinstance(module, (torch.nn.RMSNorm, torch.nn.LayerNorm)):
                module.register_forward_hook(_scale_only)
        weights = list(model.parameters())
        flow = model(tokens[:1]).sum()
        gradients = torch.autograd.grad(flow, weights, allow_unused=True)
        parts = [(g * w).abs().sum() for g, w in zip(gradients, weights, strict=True) if g is not None]
        return log_of(float(torch.stack(parts).detach().sum()))


def _scale_only(module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    x = args[0]
    y: Tensor = x / (x.detach().square().mean(-1, keepdim=True) + 1e-6).sqrt() * module.weight
    bias = dict(module.named_parameters(recurse=False)).get("bias")
    return y if bias is None else y + bias
