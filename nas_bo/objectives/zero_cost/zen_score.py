"""Zen-score (Lin et al. 2021, "Zen-NAS: a zero-shot NAS for high-performance image recognition", arXiv 2102.01063,
algorithm 1), adapted to decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_bo.objectives.zero_cost.score import ZeroCostScore, log_of

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.decoder import Decoder

STEP = 0.01  # alpha of algorithm 1


@dataclass(frozen=True)
class ZenScore(ZeroCostScore):
    """log of the mean change of the features when a Gaussian input is moved by 0.01 z, plus the logarithms of the scales
    that normalisations divided by (algorithm 1). It sees no data.

    The input takes the place of the embedded tokens, the features are those before the last normalisation, matrices and
    taps are drawn from N(0, 1) as in the paper. Unlike there, residual connections stay: without them a decoder is not a
    function of its input at most depths. So the sum over normalisations is only similar in form, which is why it is called "Zen-like".
    """

    name: str = "zen_score"

    def score(self, model: Decoder, tokens: Tensor, targets: Tensor, seed: int) -> float:
        import torch

        generator = torch.Generator().manual_seed(seed % (1 << 63))

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator).to(like)

        with torch.inference_mode():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.copy_(normal(weight))
            model = model.double()
            start = normal(model.embedding(tokens))
            inputs = [start, start + STEP * normal(start)]
            scales: list[Tensor] = []
            features: list[Tensor] = []

            def enter(_module: object, _args: object, _output: Tensor) -> Tensor:
                return inputs[len(features)]

            def scale(_module: object, args: tuple[Tensor, ...], _output: Tensor) -> None:
                scales.append(args[0].square().mean().sqrt().log())

            def keep(_module: object, args: tuple[Tensor, ...]) -> None:
                features.append(args[0])

            model.embedding.register_forward_hook(enter)
            norms = [
                layer_norm
                for name, layer_norm in model.named_modules()
                if name.endswith(("mixer_norm", "mlp_norm", "_out_norm"))
            ]
            handles = [norm.register_forward_hook(scale) for norm in norms]
            model.norm.register_forward_pre_hook(keep)
            model(tokens)
            for handle in handles:
                handle.remove()
            model(tokens)
            change = (features[1] - features[0]).flatten(0, 1).norm(dim=1).mean()
            return log_of(float(change)) + float(sum(scales, start=torch.zeros((), dtype=torch.float64)))
