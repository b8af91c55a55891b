"""Loss at initialisation: the simplest score of an untrained network, a baseline for the others. It asks only how far
the first predictions are from even ones; with this library's initialisation (see `Decoder.initialise`) that is a
property of the embedding and of the scale of the residual stream."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_bo.objectives.zero_cost.score import ZeroCostScore
from nas_bo.trial import Direction

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.decoder import Decoder


@dataclass(frozen=True)
class InitialLoss(ZeroCostScore):
    """Bits per token of the untrained network on the mini-batch."""

    name: str = "initial_loss"
    unit: str = "bits/token"
    direction: Direction = "minimize"

    def score(self, model: Decoder, tokens: Tensor, targets: Tensor, seed: int) -> float:
        import torch

        with torch.inference_mode():
            return float(model.loss(tokens, targets)[1]) / math.log(2)
