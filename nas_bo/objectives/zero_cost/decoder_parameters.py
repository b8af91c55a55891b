"""Decoder parameter count (Javaheripi et al. 2022, "LiteTransformerSearch: training-free neural architecture search for
efficient language models", arXiv 2203.02094, section 4.1): the parameters of the layers, without the embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nas_bo.architecture import Architecture
from nas_bo.model import counts
from nas_bo.objective import Value
from nas_bo.trial import Direction


@dataclass(frozen=True)
class DecoderParameters:
    """Parameters of mixers, MLPs and normalisations; exact, from the architecture alone. More is taken to be better."""

    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    name: str = "decoder_parameters"
    unit: str = ""
    direction: Direction = "maximize"
    cost: Literal["analytic"] = "analytic"

    def conditions(self) -> dict[str, object]:
        return {}

    def __call__(self, arch: Architecture, /) -> Value:
        return Value(float(counts.parameters(arch, 0, self.ignore)), how="zero-cost", seeds=0, spread=0.0)
