"""Parts of a trained model in few bits, put together from matrices of the whole model that were quantized once.

GPTQ (Frantar et al. 2022, arXiv 2210.17323) rounds the rows of a matrix independently of each other. So a matrix of a part that keeps
all its inputs, and its weights, is rows of that of the whole model. One that keeps some of its inputs, or was fitted to them
(`nas_bo.pretrained.repair`), is quantized from its own weights, on the second moments of what the whole model gives these inputs. The text is
never run through a part for it, so this stands for what `nas_bo.compress.quantize` gives the part, or for a little less.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nas_bo.compress.levels import Levels
from nas_bo.model.decoder import Decoder
from nas_bo.pretrained.slices import weight_of


class OfTheWhole:
    """What the whole model says about the matrices of a part (`nas_bo.compress.levels.Source`).

    Args:
        whole: the trained model at its levels.
        part: a decoder within it, whose layers are at their places, without blocks of other operators.
    """

    def __init__(self, whole: Levels, part: Decoder) -> None:
        self.whole, self.part = whole, part

    @property
    def count(self) -> int:
        return self.whole.count

    def moments(self, name: str) -> Tensor:
        weight = self.whole.model.get_parameter(name)
        columns = torch.arange(weight.shape[-1], device=weight.device).expand(weight.shape)
        kept = self._of(columns, name).flatten(0, -2)[0]
        return self.whole.moments(name)[..., kept[:, None], kept]

    def made(self, name: str, bits: int) -> Tensor | None:
        whole, own = self.whole.model.get_parameter(name), self.part.get_parameter(name)
        if own.shape[-1] != whole.shape[-1] or not torch.equal(self._of(whole, name), own):
            return None
        return self._of(self.whole.weight(name, bits), name)

    def _of(self, weight: Tensor, name: str) -> Tensor:
        inside = name.startswith("layers.")
        return weight_of(weight, name, self.whole.model.spec, self.part.spec) if inside else weight
