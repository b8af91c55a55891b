"""`Pretrained`: a trained model, the space of its parts, and the objectives on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from nas_bo.pretrained.block_scores import BlockScores
from nas_bo.pretrained.checkpoint import TrainedDecoder
from nas_bo.pretrained.loss import SubModelLoss
from nas_bo.pretrained.space import Parts, space_around
from nas_bo.space import Space


class PartsGiven(TypedDict, total=False):
    """The fields of `nas_bo.pretrained.space.Parts`."""

    depth: bool | tuple[int, ...]
    mlp: bool | tuple[int, ...]
    heads: bool | tuple[int, ...]
    width: bool | tuple[int, ...]
    experts: bool | tuple[int, ...]
    windows: tuple[int, ...]
    keep: tuple[int, ...]
    multiple: int | None
    operators: tuple[str, ...]
    bits: tuple[int, ...]


@dataclass(frozen=True)
class Pretrained(TrainedDecoder):
    """A trained decoder (`TrainedDecoder` says from which files), the space of its parts, and the objectives on them."""

    def space(self, parts: Parts | None = None, **given: Unpack[PartsGiven]) -> type[Space]:
        """The space of its parts; what may be made smaller as one value or by name (`nas_bo.pretrained.space.Parts`)."""
        return space_around(self.name, self.arch, replace(parts or Parts(), **given))

    def loss(self, **given: Any) -> SubModelLoss:
        """The loss of a part of it, an objective (`nas_bo.pretrained.loss.SubModelLoss`)."""
        return SubModelLoss(self, **given)

    def block_scores(self, loss: SubModelLoss | None = None, **given: Any) -> BlockScores:
        """An estimate of `loss`, for `proxies=` and for `Knapsack` (`nas_bo.pretrained.block_scores.BlockScores`)."""
        return BlockScores(loss or self.loss(), **given)
