"""NASWOT (Mellor et al. 2021, "Neural architecture search without training", arXiv 2006.04647, section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas_bo.objectives.zero_cost.score import ZeroCostScore

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.decoder import Decoder

SAMPLES = 64


@dataclass(frozen=True)
class Naswot(ZeroCostScore):
    """log |det K| of the kernel of Hamming similarities between the binary codes of inputs (eq. 2 and 3): high when
    the units of the untrained network tell the inputs apart.

    Inputs are up to 64 positions of the mini-batch with different tokens. The code of one is the sign of every value
    that enters a block's output matrix: for an MLP with GELU, SiLU or ReLU that is which units are on, as in the paper;
    gated units, heads of attention and convolution channels are coded alike. A mixture of experts is coded by the
    experts it chooses and the signs of what it returns.
    """

    name: str = "naswot"

    def score(self, model: Decoder, tokens: Tensor, targets: Tensor, seed: int) -> float:
        import torch

        from nas_bo.model.blocks import Mixture

        codes: list[Tensor] = []

        def entering(_module: Any, args: tuple[Tensor, ...]) -> None:
            codes.append((args[0] > 0).flatten(0, 1))

        def leaving(_module: Any, _args: Any, output: tuple[Tensor, Any]) -> None:
            codes.append((output[0] > 0).flatten(0, 1))

        for name, module in model.named_modules():
            if isinstance(module, Mixture):
                top_k = module.spec.top_k
                module.register_forward_hook(leaving)
                module.router.register_forward_hook(lambda _m, _a, logits, k=top_k: codes.append(_chosen(logits, k)))
            elif name.endswith(".out"):
                module.register_forward_pre_hook(entering)
        with torch.inference_mode():
            model(tokens)
            if not codes:
                return math.nan
            code = torch.cat(codes, 1)[_distinct(tokens)].double()  # (N, N_A)
            kernel = code @ code.t() + (1 - code) @ (1 - code).t()  # eq. 2: N_A - Hamming distance
            return float(torch.linalg.slogdet(kernel).logabsdet)  # eq. 3


def _chosen(logits: Tensor, top_k: int) -> Tensor:
    """(N, E) of the router -> (N, E) truth values."""
    import torch

    return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, logits.topk(top_k, -1).indices, True)


def _distinct(tokens: Tensor) -> Tensor:
    """Where up to 64 different tokens first occur in the flattened batch: a network that sees only the present token
    answers two equal ones alike, and the kernel of equal codes is singular."""
    import torch

    flat = tokens.flatten().cpu()
    values, inverse = torch.unique(flat, return_inverse=True)
    first = torch.full((len(values),), len(flat), dtype=torch.long)
    first = first.scatter_reduce(0, inverse, torch.arange(len(flat)), "amin")
    return first.sort().values[:SAMPLES].to(tokens.device)
