"""The module of `nas_bo.model.blocks.moe`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.model.blocks.dense import MlpSpec
from nas_bo.model.layers.common import Linear, at_least_float32
from nas_bo.model.layers.dense import hidden


class Mixture(nn.Module):
    """Mixture of experts: each token goes to its `top_k` experts, none is dropped. With one active expert its weight
    is the router's probability (Fedus et al. 2021, arXiv 2101.03961, eq. 2); with more, the probabilities are divided
    by their sum (Jiang et al. 2024, arXiv 2401.04088). `renormalise` says which, whatever the number: OLMoE (Muennighoff et al.
    2024, arXiv 2409.02060) does not divide.

    Rows are sorted by expert, so that every expert is one matrix product. On CUDA the split sizes come to the host:
    the one synchronisation in a forward pass. On the meta device rows are split evenly; the FLOPs do not depend on it.
    """

    def __init__(self, spec: MlpSpec, width: int, bias: bool) -> None:
        super().__init__()
        self.spec = spec
        self.renormalise = spec.top_k > 1 if spec.renormalise is None else spec.renormalise
        wide = spec.hidden * (2 if spec.gated else 1)
        self.router = Linear(width, spec.experts, bias=False)
        self.up = nn.Parameter(torch.empty(spec.experts, wide, width))
        self.out = nn.Parameter(torch.empty(spec.experts, width, spec.hidden))
        self.up_bias = nn.Parameter(torch.empty(spec.experts, wide)) if bias else None
        self.out_bias = nn.Parameter(torch.empty(spec.experts, width)) if bias else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x (B, T, C) -> (B, T, C) and the balance loss, E * sum_e (share of rows of e) * (mean probability of e),
        which is 1 when the load is even (Fedus et al. 2021, eq. 4)."""
        experts, top_k = self.spec.experts, self.spec.top_k
        rows = x.reshape(-1, x.shape[-1])  # (N, C)
        probabilities = at_least_float32(self.router(rows)).softmax(-1)
        weights, chosen = probabilities.topk(top_k, -1)  # (N, k)
        if self.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        order = chosen.flatten().argsort(stable=True)  # (N * k,)
        count = (chosen.flatten().unsqueeze(1) == torch.arange(experts, device=x.device)).sum(0)  # (E,)
        sizes = _even(len(order), experts) if x.is_meta else count.tolist()
        nothing = [None] * experts
        parts = []
        for part, up, out, up_bias, out_bias in zip(
            torch.split(rows[order // top_k], sizes),
            self.up.unbind(0),
            self.out.unbind(0),
            nothing if self.up_bias is None else self.up_bias.unbind(0),
            nothing if self.out_bias is None else self.out_bias.unbind(0),
            strict=True,
        ):
            parts.append(F.linear(hidden(F.linear(part, up, up_bias), self.spec), out, out_bias))
        mixed = torch.cat(parts)[order.argsort()].view(-1, top_k, x.shape[-1])
        y = (mixed * weights.unsqueeze(-1).to(mixed.dtype)).sum(1)
        balance = experts * (count.to(probabilities.dtype) / len(order) * probabilities.mean(0)).sum()
        return y.view(x.shape), balance


def _even(rows: int, experts: int) -> list[int]:
    return [rows // experts + (index < rows % experts) for index in range(experts)]
